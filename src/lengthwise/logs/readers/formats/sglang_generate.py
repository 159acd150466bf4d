"""SGLang's own answers of ``/generate`` and of its engine: ``text`` and ``meta_info``, one a row."""

from __future__ import annotations

from collections.abc import Iterator

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.names import ANSWER, CATEGORY, ID, PROBLEM, first_of
from lengthwise.logs.readers.response_ends import end_of
from lengthwise.logs.readers.row_values import asked_in, at, count_of, label_of, sample_of, text_of


def _fits(row: Row) -> bool:
    return "text" in row and at(row, "meta_info.finish_reason") is not None


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    text = text_of(row.get("text"), "text")
    if text is None:
        raise UnusableError("no text", "it is null")
    gold, problem, named, kind = (first_of(row, names) for names in (ANSWER, PROBLEM, ID, CATEGORY))
    end, reason = end_of(at(row, "meta_info.finish_reason"))
    own = label_of(at(row, "meta_info.id"), "id") if problem is None else None
    yield LogRow(
        response=text,
        answer=None if gold is None else row[gold],
        num_tokens=count_of(at(row, "meta_info.completion_tokens"), "completion_tokens"),
        reasoning_tokens=count_of(at(row, "meta_info.reasoning_tokens"), "reasoning_tokens"),
        end=end,
        finish_reason=reason,
        problem_id=own if named is None else label_of(row[named], named),
        problem=None if problem is None else asked_in(row[problem]),
        sample=sample_of(row.get("sample")),
        category=None if kind is None else label_of(row[kind], kind),
    )


FORMAT = row_format(
    "sglang", "SGLang's own answers", "text and meta_info.finish_reason", _fits, _read, holds_answers=False
)
