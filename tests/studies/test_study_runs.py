"""Making a study's runs: once each, side by side, whole or not at all; and what is run is what the summaries hold."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from studies import summary
from studies.running import Choice, Place, Run, make_all

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = {"adaptive": "first-chains-"}
"""Runs on a base that was taught anew after them."""


def counted(calls: list[str], name: str, place: Place) -> dict[str, Any]:
    calls.append(name)
    return {"seed": 0, "value": len(calls)}


def broken(place: Place) -> dict[str, Any]:
    raise ValueError("no such thing")


def test_a_run_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    calls: list[str] = []
    runs = [Run(name, partial(counted, calls, name)) for name in ("a", "b")]
    for _ in range(2):
        assert make_all(runs, Place(tmp_path), Choice()) == 0
    assert calls == ["a", "b"]
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["value"] == 1 and {"command", "commit", "torch", "processor", "device", "seconds"} <= found.keys()


def test_what_another_process_is_at_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    with FileLock(tmp_path / ".a.lock"):
        assert make_all([Run("a", partial(counted, calls, "a"))], Place(tmp_path), Choice()) == 0
    assert calls == [] and "another process" in capsys.readouterr().out


def test_a_run_that_fails_leaves_the_others_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    assert make_all([Run("a", broken), Run("b", partial(counted, calls, "b"))], Place(tmp_path), Choice()) == 1
    assert calls == ["b"] and not (tmp_path / "a.json").exists()
    assert "no such thing" in capsys.readouterr().out


def test_a_run_waits_for_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []
    runs = [Run("b", partial(counted, calls, "b"), needs=("a",)), Run("a", partial(counted, calls, "a"))]
    make_all(runs, Place(tmp_path), Choice())
    assert calls == ["a"] and "b: needs a" in capsys.readouterr().out
    make_all(runs, Place(tmp_path), Choice())
    assert calls == ["a", "b"]


def test_parts_share_the_runs() -> None:
    runs = [Run(f"r{n}", broken) for n in range(5)]
    parts = [{run.name for run in Choice(part=(i, 2)).of(runs)} for i in (1, 2)]
    assert parts == [{"r0", "r2", "r4"}, {"r1", "r3"}]
    assert [run.name for run in Choice(only=("r3", "r1")).of(runs)] == ["r1", "r3"]


@pytest.mark.parametrize("study", summary.STUDIES)
def test_every_run_of_a_summary_is_in_the_plan(study: str) -> None:
    names = [run.name for run in import_module(f"studies.{study}.run").runs()]
    assert len(set(names)) == len(names)
    kept = [name for name in summary.load(study).runs if not name.startswith(NOT_SHIPPED.get(study, " "))]
    assert set(kept) <= set(names)


def test_a_summary_is_not_written_over_by_fewer_runs(tmp_path: Path) -> None:
    before = summary.path_of("trl_chains").read_bytes()
    command = [sys.executable, "-m", "studies", "condense", "trl_chains", "--raw", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "8 results that the summary has are missing" in done.stderr
    assert summary.path_of("trl_chains").read_bytes() == before
