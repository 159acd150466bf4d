"""A record of the rows that `lengthwise grade --out` wrote: two graded logs can be compared as they are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from lengthwise.data import UNREADABLE
from lengthwise.errors import InputError
from lengthwise.json_types import JsonObject
from lengthwise.statistics.graded_problems import Graded, GradedProblem, record_of
from lengthwise.statistics.records import Record

NEEDED = ("problem_id", "answer_correct", "finished", "num_tokens")
LONGEST = "the longest response"
"""What a context says of a cap that was not given (``cap_from``)."""


def is_graded_log(path: Path) -> bool:
    """Whether a file's first line is a graded row."""
    with path.open(encoding="utf-8", errors="replace") as file:
        try:
            first = json.loads(file.readline())
        except UNREADABLE:
            return False
    return isinstance(first, dict) and all(name in first for name in NEEDED)


def record_of_graded_log(path: Path) -> Record:
    """The record of a graded log; of its context only the cap is known, taken for the longest response.

    Raises:
        InputError: a line that is no graded row.
    """
    rows = sorted(_rows(path), key=lambda row: (str(row["problem_id"]), str(row.get("sample"))))
    problems = [
        _problem(str(name), list(of_problem)) for name, of_problem in groupby(rows, key=lambda row: row["problem_id"])
    ]
    longest = max((one.num_tokens for problem in problems for one in problem.responses), default=1)
    return record_of(path.stem, {"cap": max(longest, 1), "cap_from": LONGEST}, problems)


def with_open_caps(records: Sequence[Record]) -> list[Record]:
    """Records whose cap is only their longest response, and of which nothing was cut, under the largest cap of all.

    What ended by itself would have ended so under any larger cap.
    """
    largest = max(record.cap for record in records)
    return [
        dataclasses.replace(record, context={**record.context, "cap": largest, "cap_from": "nothing was cut"})
        if record.context.get("cap_from") == LONGEST and all(map(all, record.finished))
        else record
        for record in records
    ]


def _rows(path: Path) -> Iterator[JsonObject]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except UNREADABLE as error:
                raise InputError(f"{path}, line {number}: no JSON ({error}); grade the log again") from error
            if not isinstance(row, dict) or not _usable(row):
                raise InputError(
                    f"{path}, line {number}: no row that `lengthwise grade --out` writes; grade the log again"
                )
            yield row


def _usable(row: JsonObject) -> bool:
    tokens = row.get("num_tokens")
    flags = isinstance(row.get("answer_correct"), bool) and isinstance(row.get("finished"), bool)
    return flags and isinstance(row.get("problem_id"), str) and isinstance(tokens, int) and tokens >= 0


def _problem(name: str, rows: Sequence[JsonObject]) -> GradedProblem:
    named = sorted({str(row["category"]) for row in rows if row.get("category") is not None})
    graded = [
        Graded(row["answer_correct"] is True, row["finished"] is True, tokens)
        for row in rows
        if isinstance(tokens := row["num_tokens"], int)
    ]
    return GradedProblem(name, " + ".join(named) or None, graded)
