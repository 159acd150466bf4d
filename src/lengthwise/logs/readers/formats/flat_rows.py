"""Flat rows: a response and what belongs to it, each in a column of its own, under the names that people give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lengthwise.logs.readers.flat_values import (
    named_problem,
    read_answer,
    read_counts,
    read_end,
    read_response,
    read_thinking,
    response_text,
)
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import ROW_FORMS, LogFormat, Reading, fits_any, read_rows
from lengthwise.logs.readers.log_row import LogRow, Row
from lengthwise.logs.readers.names import CATEGORY, ID, RESPONSE, ROW_ID, SAMPLE, THINKING, VERDICT, first_of, there
from lengthwise.logs.readers.openings import Opening
from lengthwise.logs.readers.row_values import asked_in, at, clean, label_of, sample_of, verdict_of


def _fits(opening: Opening) -> bool:
    return opening.form in ROW_FORMS and fits_any(opening, fits_row)


def fits_row(row: Row) -> bool:
    """Whether a row has a column that is called as a response is, or as its thinking."""
    return any(name in row and response_text(row, name) is not None for name in (*RESPONSE, *THINKING[:2]))


def read_flat(row: Row, fields: Fields) -> Iterator[LogRow]:
    """The response of a flat row.

    Raises `TwoReadingsError` where two columns could both be meant and say different things.
    """
    thinking, apart = read_thinking(row, fields)
    response, of_response = read_response(row, fields, thinking)
    answer, of_answer = read_answer(row, fields)
    tokens, thought = read_counts(row, fields)
    end, reason = read_end(row, fields)
    asked = next(named_problem(row), None)
    named, of_id = _problem_id(row, asked)
    kind = first_of(row, CATEGORY)
    sample = next((name for name in there(row, SAMPLE) if name not in RESPONSE or isinstance(row[name], int)), None)
    notes = [f"thinking is read from {apart}"] if apart not in (None, THINKING[0]) else []
    yield LogRow(
        response=response,
        answer=answer,
        reasoning=thinking,
        num_tokens=tokens,
        reasoning_tokens=thought,
        end=end,
        finish_reason=reason,
        problem_id=named,
        problem=None if asked is None else asked_in(at(row, asked)),
        sample=None if sample is None else sample_of(row[sample], sample),
        category=None if kind is None else clean(str(row[kind])),
        verdicts={name: value for name in there(row, VERDICT) if (value := verdict_of(at(row, name))) is not None},
        notes=(*notes, *of_response, *of_answer, *of_id),
    )


def _problem_id(row: Row, asked: str | None) -> tuple[str | None, list[str]]:
    """A name of the problem. ``id`` and ``index`` may be of the row, so the problem's text goes before them."""
    name = first_of(row, ID)
    if name is not None:
        return label_of(row[name], name), []
    weak = first_of(row, ROW_ID)
    if weak is None or asked is not None:
        return None, []
    return label_of(row[weak], weak), [f"{weak} is taken for the problem's name"]


def read_flat_rows(openings: Sequence[Opening], fields: Fields) -> Reading:
    """Flat rows of any form; the head says which column is the response."""

    return Reading(_says(openings[0], fields), lambda: read_rows(openings, fields, read_flat))


def _says(opening: Opening, fields: Fields) -> tuple[str, ...]:
    row = opening.first[0] if opening.first else {}
    column = fields.response or first_of(row, RESPONSE)
    return (f"the response in {column}",) if column is not None else ()


FORMAT = LogFormat(
    "flat", "flat rows", "a column called response, completion, output or the like", _fits, read_flat_rows, general=True
)
