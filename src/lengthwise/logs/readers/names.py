"""What people call the columns of flat rows, the most specific name first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lengthwise.logs.readers.row_values import BLANK, at

RESPONSE = (
    "response", "completion", "generated_text", "model_output", "model_response", "prediction", "generation", "output",
    "content", "text",
)  # fmt: skip
THINKING = ("reasoning", "reasoning_content", "thinking", "thought")
ANSWER = (
    "answer", "target", "gold", "gold_answer", "ground_truth", "gts", "label", "reference", "reference_answer",
    "expected_answer", "correct_answer",
)  # fmt: skip
TOKENS = ("num_tokens", "completion_tokens", "output_tokens", "usage.completion_tokens", "usage.output_tokens")
THINKING_TOKENS = (
    "reasoning_tokens", "thinking_tokens", "usage.completion_tokens_details.reasoning_tokens", "usage.reasoning_tokens",
)  # fmt: skip
PROBLEM = ("problem", "question", "query", "prompt", "input", "messages")
ID = ("problem_id", "doc_id", "custom_id")
ROW_ID = ("id", "index")
"""May be of the problem, or of the row."""
SAMPLE = ("sample", "epoch", "generation", "generation_id", "sample_id")
"""A ``generation`` is a sample where it is a whole number, and else a response."""
END = ("finished", "finish_reason", "stop_reason")
CATEGORY = ("category", "subject", "task", "level", "type", "problem_type")
VERDICT = ("correct", "is_correct", "acc", "accuracy", "exact_match", "score", "reward", "passed", "verdict")


def there(row: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """Which of the names stand in a row with a value."""
    # Most names are missing from most rows, and a name without a dot is missing where it is no key.
    return [name for name in names if (name in row or "." in name) and at(row, name) not in BLANK]


def first_of(row: Mapping[str, object], names: Sequence[str]) -> str | None:
    """The most specific of the names that a row has with a value."""
    return next(iter(there(row, names)), None)
