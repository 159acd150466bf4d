"""Renaming, splitting, reordering, packing and converting a log changes no row of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from log_forms import CONVERSIONS, FORMS, Rows, as_inspect, lines, made

from lengthwise.data import Defect
from lengthwise.logs.readers import LogRow, recognise


def read(log: Any) -> list[LogRow]:
    found = [item for _, item in recognise(log).rows()]
    assert not [item for item in found if isinstance(item, Defect)], found
    return found  # type: ignore[return-value]


def in_order(rows: list[LogRow]) -> list[LogRow]:
    return sorted(rows, key=lambda row: (str(row.problem_id), str(row.sample)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_no_form_changes_a_row(tmp_path: Path, form: Callable[[Path, Rows], Path], seed: int) -> None:
    rows = made(seed)
    whole = read(lines(tmp_path / "whole" / "log.jsonl", rows))
    assert in_order(read(form(tmp_path, rows))) == in_order(whole)


# ---- one log, many formats -------------------------------------------------------------------------------------


def core(rows: list[LogRow]) -> Iterator[tuple[Any, ...]]:
    """What every one of these formats can say; evalscope's problems have their subset before them."""
    for row in in_order(rows):
        yield (
            str(row.problem_id).removeprefix("log/"), row.sample, row.response, row.reasoning, row.num_tokens,
            row.reasoning_tokens, row.end, row.answer, row.problem,
        )  # fmt: skip


@pytest.mark.parametrize("convert", CONVERSIONS)
@pytest.mark.parametrize("seed", range(3))
def test_no_format_changes_what_a_row_says(tmp_path: Path, convert: Callable[[Path, Rows], Path], seed: int) -> None:
    rows = made(seed)
    whole = read(lines(tmp_path / "whole" / "log.jsonl", rows))
    assert list(core(read(convert(tmp_path, rows)))) == list(core(whole))


def test_numbers_of_the_page(tmp_path: Path) -> None:
    # Chat completion with n = 2 and usage 300: two samples of unknown own length, total 300 stated.
    choice = {"message": {"content": "7"}, "finish_reason": "stop"}
    row = {"id": "x", "choices": [choice, choice], "usage": {"completion_tokens": 300}}
    found = read(lines(tmp_path / "log.jsonl", [row]))
    assert [(one.num_tokens, one.shared_tokens) for one in found] == [(None, 300)] * 2
    # Inspect, 2 epochs x 5 samples: 5 problems, 10 responses.
    rows = [made(0)[0] | {"problem_id": f"p{problem}", "sample": epoch} for epoch in (1, 2) for problem in range(5)]
    found = read(as_inspect(tmp_path, rows))
    assert (len(found), len({one.problem_id for one in found})) == (10, 5)
