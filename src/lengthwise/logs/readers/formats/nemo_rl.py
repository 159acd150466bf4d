"""NeMo-RL's ``train_data_step*.jsonl`` and ``val_data_step*.jsonl`` (read in its source, NVIDIA-NeMo/RL@7ea279a).

Every value is a list of one. A training row has prompt and response as one text, rendered by the chat template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.row_values import asked_in, at, clean, list_at, message_text, verdict_of

HEADS = re.compile(
    r"<\|im_start\|>assistant\n|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n|<\|assistant\|>\n?|<\|Assistant\|>|"
    r"<｜Assistant｜>|<start_of_turn>model\n|\[/INST\]|<\|start\|>assistant|<SPECIAL_11>Assistant\n|<extra_id_1>Assistant\n"
)
"""What opens the assistant's turn in the chat templates in use."""
ENDS = re.compile(r"(<\|im_end\|>|<\|eot_id\|>|<\|endoftext\|>|<\|end\|>|</s>|<end_of_turn>|<｜end▁of▁sentence｜>)\s*$")
ONE_TEXT = "prompt and response are one text without a head of the assistant's turn that is known; all of it is read"


def _only(row: Row, name: str) -> object:
    """The value in a list of one, or the value."""
    value = at(row, name)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _fits(row: Row) -> bool:
    if "content" not in row or "idx" not in row:
        return False
    return "rewards" in row or "input_lengths" in row


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    content = _only(row, "content")
    asked, text, thinking, notes = _parts(content)
    rewards = {name: verdict_of(_only(row, name)) for name in ("rewards", "filtered_rewards")}
    yield LogRow(
        response=text,
        reasoning=thinking,
        num_tokens=_tokens(row),
        problem=asked,
        verdicts={name: value for name, value in rewards.items() if value is not None},
        notes=notes,
    )


def _parts(content: object) -> tuple[str | None, str, str | None, tuple[str, ...]]:
    """Problem, response, its thinking, and notes."""
    if isinstance(content, str):
        heads = list(HEADS.finditer(content))
        if not heads:
            return None, clean(content), None, (ONE_TEXT,)
        text = ENDS.sub("", content[heads[-1].end() :])
        return clean(content[: heads[-1].start()]), clean(text), None, ()
    messages = content if isinstance(content, list) else [content]
    written = [one for one in messages if at(one, "role") == "assistant"]
    if not written:
        raise UnusableError("no message of the assistant in content", f"it is a {type(content).__name__}")
    text, thinking = message_text(at(written[-1], "content"))
    return asked_in(messages), ENDS.sub("", text), thinking, ()


def _tokens(row: Row) -> int | None:
    """Tokens that the model wrote: the ones of the mask. ``input_lengths`` counts the prompt, too."""
    mask = list_at(row, "token_loss_mask")
    inner = mask[0] if len(mask) == 1 and isinstance(mask[0], list) else mask
    flags = [one for one in inner if one in (0, 1)] if isinstance(inner, list | tuple) else []
    return sum(one == 1 for one in flags) if flags and len(flags) == len(inner) else None


FORMAT = row_format("nemo-rl", "NeMo-RL step data", "content, and rewards or input_lengths", _fits, _read)
