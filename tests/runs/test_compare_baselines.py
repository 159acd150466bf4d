"""Free baselines go on after a kill, and rows are rendered once, for `shorten` and for `compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.config.commands import CompareSettings, ShortenSettings
from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine.model_folders import load_policy
from lengthwise.generation import measurement
from lengthwise.generation.measurement import measure
from lengthwise.grading import problems as grading_problems
from lengthwise.lab import chains
from lengthwise.runs import chains_demo
from lengthwise.runs.compare import free_baselines
from lengthwise.runs.compare.arenas import open_arena
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.shortening.resolve import resolve


def compared(tmp_path: Path, **changes: object) -> Comparison:
    given = {"model": "lab:chains", "methods": "dler", "out": tmp_path / "out", "validation_limit": 4, "test_limit": 12}
    return Comparison(CompareSettings.from_dict(given | changes))


def write_rows(path: Path, count: int, split: str) -> int:
    rows = [chain.row for chain in chains.problems(count, split=split, seed=0, levels=(2, 3))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


@pytest.mark.parametrize(("name", "rows"), [("first pass", 4), ("temperature 0.6", 4), ("first of 4 to finish", 16)])
def test_a_baseline_that_was_killed_goes_on(
    tmp_path: Path, name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log loses the last part and half a line: drawn on, it is the same to the byte, and so is the record."""
    for module in (free_baselines, chains_demo):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
    arena, log = open_arena(compared(tmp_path)), tmp_path / "log.jsonl"
    policy = load_policy(arena.folder, device="cpu")
    before = measure(
        policy, arena.test, Sampling(cap=arena.eval_cap, seed=0), tmp_path / "before.jsonl", name="before", data="d"
    ).record
    record = arena.baselines[name](policy, arena.test, before, log)
    whole, lines = log.read_bytes(), log.read_bytes().splitlines(keepends=True)
    assert len(lines) == 12
    log.write_bytes(b"".join(lines[:8]) + lines[8][:20])
    drawn: list[int] = []
    inner = measurement.complete_all
    monkeypatch.setattr(
        measurement, "complete_all",
        lambda *given, tell, **named: inner(*given, tell=lambda found: drawn.append(len(found)), **named),
    )  # fmt: skip
    assert arena.baselines[name](policy, arena.test, before, log) == record
    assert log.read_bytes() == whole
    assert drawn == [4]


def test_rows_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[object] = []
    inner = grading_problems.render
    monkeypatch.setattr(
        grading_problems, "render", lambda *given: (rendered.append(given[2]["problem"]), inner(*given))[1]
    )
    rows = write_rows(tmp_path / "rows.jsonl", 60, "train")
    shared = {"model": "lab:chains", "data": str(tmp_path / "rows.jsonl"), "preset": "lab", "out": tmp_path / "out"}
    shared["eval_cap"] = 60
    resolve(ShortenSettings.from_dict({**shared, "method": "dler", "cap": 40}))
    assert len(rendered) == len(set(map(str, rendered))) == rows
    rendered.clear()
    open_arena(compared(tmp_path, **shared, test_limit=99, validation_limit=99))
    assert len(rendered) == len(set(map(str, rendered))) == rows
