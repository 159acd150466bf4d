"""TRL's ``completions_STEP.parquet`` (``log_completions=True``; written by 1.16.0 in the tests)."""

from __future__ import annotations

from collections.abc import Iterator

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.names import ANSWER, first_of
from lengthwise.logs.readers.row_values import asked_in, at, message_text, step_of, text_of, verdicts_in

OWN = ("step", "prompt", "completion", "advantage", *ANSWER)
"""Columns that are no reward."""


def _fits(row: Row) -> bool:
    return row.keys() >= {"step", "prompt", "completion", "advantage"}


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    text, thinking = _completion(row.get("completion"))
    gold = first_of(row, ANSWER)
    yield LogRow(
        response=text,
        answer=None if gold is None else row[gold],
        reasoning=thinking,
        problem=asked_in(row.get("prompt")),
        category=step_of(row),
        verdicts=verdicts_in(row, OWN),
    )


def _completion(value: object) -> tuple[str, str | None]:
    """A completion is text, or the messages that were written; of several (calls of tools) the last one counts."""
    if not isinstance(value, list):
        text = text_of(value, "completion")
        if text is None:
            raise UnusableError("no completion", "it is null")
        return text, None
    written = [one for one in value if at(one, "role") == "assistant"]
    if not written:
        raise UnusableError("no message of the assistant in completion", f"it has {len(value)} messages")
    text, thinking = message_text(at(written[-1], "content"))
    apart = at(written[-1], "reasoning_content") or at(written[-1], "thinking")
    return text, thinking or text_of(apart, "reasoning_content")


FORMAT = row_format("trl", "TRL completions", "step, prompt, completion and advantage", _fits, _read)
