"""verl's dumps of rollouts and of validation, ``STEP.jsonl`` (``rollout_data_dir``; written by 0.9.1 in the tests)."""

from __future__ import annotations

from collections.abc import Iterator

from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_format import row_format
from lengthwise.logs.readers.log_row import LogRow, Row, UnusableError
from lengthwise.logs.readers.row_values import step_of, text_of, verdicts_in

OWN = ("input", "output", "gts", "step", "request_id", "uid", "data_source")
"""Columns that are no verdict."""
SHAPED = "verl's score is a reward, which may be shaped; acc, where it is there, is the verdict"


def _fits(row: Row) -> bool:
    return row.keys() >= {"input", "output", "score", "step"}


def _read(row: Row, _: Fields) -> Iterator[LogRow]:
    output = text_of(row.get("output"), "output")
    if output is None:
        raise UnusableError("no output", "it is null")
    yield LogRow(
        response=output,
        answer=row.get("gts"),
        problem=text_of(row.get("input"), "input"),
        category=step_of(row),
        verdicts=verdicts_in(row, OWN),
        notes=() if "acc" in row else (SHAPED,),
    )


FORMAT = row_format("verl", "verl rollouts", "input, output, gts, score and step", _fits, _read)
