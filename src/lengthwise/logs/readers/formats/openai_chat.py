"""Chat and plain completions of OpenAI's API, one a row, also as vLLM, SGLang, llama.cpp and others give them.

By itself (``choices`` at the top), or as the response in a row that has the request and what else is known beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lengthwise.logs.readers.chat_outputs import choices_in
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.names import ANSWER, CATEGORY, ID, PROBLEM, first_of
from lengthwise.logs.readers.row_values import asked_in, at, label_of, sample_of

UNDER = ("response", "completion", "output", "response.body", "result")
"""Where a row keeps the completion, unless it is one itself."""
ASKED = ("messages", "request.messages", "request.body.messages", "body.messages", "request.prompt")
EACH = "the log has no prompts: each request counts as a problem of its own"


def completion_in(row: Row) -> Mapping[str, object] | None:
    """The completion that a row is or holds."""
    for output in (row, *(at(row, path) for path in UNDER)):
        if isinstance(output, Mapping) and isinstance(at(output, "choices"), list):
            return output
    return None


def _fits(row: Row) -> bool:
    output = completion_in(row)
    first = at(output, "choices.0")
    if output is not None and not output["choices"]:
        return "custom_id" not in row
    if "custom_id" in row or not isinstance(first, Mapping) or not {"message", "text"} & first.keys():
        return False
    return "finish_reason" in first or "stop_reason" not in first  # tools of their own have stop_reason alone


def of_completion(row: Row, output: Mapping[str, object], named: str | None) -> Iterator[LogRow]:
    """The choices of a completion as samples of one problem, with what its row says beside it."""
    gold, kind = first_of(row, ANSWER), first_of(row, CATEGORY)
    asked = next((text for path in (*PROBLEM, *ASKED) if (text := asked_in(at(row, path))) is not None), None)
    sample = sample_of(row.get("sample"))
    own = label_of(at(output, "id"), "id") if asked is None else None
    for choice in choices_in(output):
        alone = len(at_choices(output)) == 1
        yield LogRow(
            response=choice.text,
            answer=None if gold is None else row[gold],
            reasoning=choice.thinking,
            num_tokens=choice.num_tokens,
            reasoning_tokens=choice.reasoning_tokens,
            shared_tokens=choice.shared,
            end=choice.end,
            finish_reason=choice.reason,
            problem_id=named or own,
            problem=asked,
            sample=sample if alone else choice.place if sample is None else f"{sample}.{choice.place}",
            category=None if kind is None else label_of(row[kind], kind),
            notes=choice.notes if named or asked else (*choice.notes, EACH),
        )


def at_choices(output: Mapping[str, object]) -> list[object]:
    """The choices of a completion."""
    choices = output.get("choices")
    return choices if isinstance(choices, list) else []


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    output = completion_in(row)
    if output is None:
        error = at(row, "error.message") or at(row, "response.error.message") or at(row, "error")
        raise UnusableError("a request that failed" if error else "no choices", str(error or "")[:80])
    named = first_of(row, ID)
    yield from of_completion(row, output, None if named is None else label_of(row[named], named))


FORMAT = row_format(
    "openai-chat", "OpenAI chat completions", "choices with a message or text", _fits, _read, holds_answers=False
)
