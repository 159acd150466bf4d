"""Rows as open-r1's data sets have them (OpenR1-Math-220k and its like): one problem with many generations."""

from __future__ import annotations

from collections.abc import Iterator

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.names import ANSWER, CATEGORY, ID, PROBLEM, first_of
from lengthwise.logs.readers.response_ends import end_of
from lengthwise.logs.readers.row_values import (
    asked_in,
    at,
    count_of,
    label_of,
    list_at,
    message_text,
    text_of,
    verdict_of,
)

LISTS = ("generations", "responses", "completions", "outputs", "samples")
"""What the list of generations is called."""
TOKENS = ("num_tokens", "token_counts", "completion_tokens", "generation_tokens")
ENDS = ("finish_reasons", "finish_reason", "finished")
NO_VERDICT = ("is_reasoning_complete",)
IDS = ("problem_id", "uuid", *ID)


def _list_of(row: Row) -> str | None:
    for name in LISTS:
        entries = list_at(row, name)
        if entries and all(isinstance(one, str) or isinstance(at(one, "content"), str) for one in entries):
            return name
    return None


def _fits(row: Row) -> bool:
    return (_list_of(row) is not None or row.get(LISTS[0]) == []) and first_of(row, PROBLEM) is not None


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    name = _list_of(row)
    if name is None:
        raise UnusableError("no generations", "the list is missing or empty")
    texts = list_at(row, name)
    gold, problem, named, kind = (first_of(row, names) for names in (ANSWER, PROBLEM, IDS, CATEGORY))
    tokens, ends = (next((one for one in names if list_at(row, one)), "") for names in (TOKENS, ENDS))
    verdicts = [
        one for one in row if len(list_at(row, one)) == len(texts) and one not in (name, tokens, ends, *NO_VERDICT)
    ]
    for place, text in enumerate(texts):
        end, reason = end_of(at(row, f"{ends}.{place}"))
        own = {one: value for one in verdicts if (value := verdict_of(at(row, f"{one}.{place}"))) is not None}
        yield LogRow(
            response=text_of(text, name) or "" if isinstance(text, str) else message_text(at(text, "content"))[0],
            answer=None if gold is None else row[gold],
            num_tokens=count_of(at(row, f"{tokens}.{place}"), tokens),
            end=end,
            finish_reason=reason,
            problem_id=None if named is None else label_of(row[named], named),
            problem=None if problem is None else asked_in(row[problem]),
            sample=place,
            category=None if kind is None else label_of(row[kind], kind),
            verdicts=own,
        )


FORMAT = row_format("openr1", "rows of many generations", "problem, answer and generations (a list)", _fits, _read)
