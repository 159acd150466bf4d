"""`lengthwise compare` with real processes: killed, continued, grown by a method that fails, reported."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from held_folder import held_by_another

from lengthwise.config.commands import CompareSettings
from lengthwise.config.files import load, merged
from lengthwise.errors import ConfigError, LengthwiseWarning
from lengthwise.files import read_json
from lengthwise.runs.compare.arenas import open_arena
from lengthwise.runs.compare.arms import Arm
from lengthwise.runs.compare.compare_methods import compare_methods
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.comparison_result import ComparisonResult
from lengthwise.runs.compare.folder import is_done, run_folder
from lengthwise.runs.compare.plan import dry_run, facts_of, make_plan
from lengthwise.runs.compare.result import result_of
from lengthwise.runs.compare.worker import carry_out, measure_base

SMALL = (
    "--steps", "2", "--prompts", "4", "--group-size", "4", "--checkpoint-every", "1", "--seeds", "1", "--settings", "1",
    "--test-limit", "12", "--validation-limit", "16", "--no-baselines", "--jobs", "2",
)  # fmt: skip
DLER, DRPO = Arm("dler", "dler", "cap", ("0.6L",)), Arm("drpo", "drpo", "lam", (0.1,))
ANSWERS = ("answer_correct", "finished", "num_tokens")


def asked(out: Path, **changes: Any) -> Comparison:
    given = {
        "model": "lab:chains", "methods": "dler,drpo", "out": out, "steps": 2, "prompts": 4, "group_size": 4,
        "checkpoint_every": 1, "seeds": 1, "validation_limit": 16, "test_limit": 12, "baselines": False, "jobs": 2,
    }  # fmt: skip
    arms = changes.pop("arms", [DLER, DRPO])
    return Comparison(CompareSettings.from_dict(given | changes), arms)


def start(out: Path) -> subprocess.Popen[bytes]:
    words = ["compare", "lab:chains", "--methods", "dler", "--out", str(out), *SMALL]
    return subprocess.Popen(
        [sys.executable, "-c", "from lengthwise.cli import main; main()", *words], stderr=subprocess.PIPE
    )


def workers_of(out: Path) -> list[int]:
    """Processes that work in the folder, by their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"lengthwise.runs.compare.worker" in words and str(out).encode() in words:
            found.append(int(entry.parent.name))
    return found


def until(true: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison whose process was killed while its method trained, and whose worker left with it."""
    out = tmp_path_factory.mktemp("compare") / "all"
    process = start(out)
    steps = run_folder(out, DLER, 0, 0) / "metrics.jsonl"
    until(lambda: process.poll() is not None or (steps.is_file() and steps.stat().st_size > 0))
    assert process.poll() is None, process.stderr.read().decode()[-2000:] if process.stderr else ""
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not workers_of(out), 30.0)
    return out


@pytest.fixture(scope="module")
def result(killed: Path) -> ComparisonResult:
    """The same comparison continued, with a second method and a control."""
    said: list[tuple[str, int]] = []
    found = compare_methods(
        asked(killed, controls=["random"]),
        listener=lambda event, facts: said.append((facts["name"], facts.get("done", 0)))
        if event != "tick" else None,
    )  # fmt: skip
    # What the killed one had measured is not measured again.
    assert said[:2] == [("evaluation: at most 260 response tokens", 0), ("measuring the untouched model", 1)]
    return found


def test_after_a_kill_the_same_command_gives_what_it_would_have_given(
    killed: Path, result: ComparisonResult, tmp_path: Path
) -> None:
    whole = asked(tmp_path / "whole", arms=[DLER])
    whole.out.mkdir()
    arena = open_arena(whole)
    measure_base(whole, arena, 0)
    (whole.out / "plan.json").write_text(json.dumps(make_plan(whole, arena, facts_of(whole)).to_dict()))
    carry_out(whole, arena, "dler", 0, 0)
    for name in ("base/seed-0/records/before-test", "runs/dler/cap=0.6L/seed-0/records/after-test"):
        there, here = (read_json(folder / f"{name}.json") for folder in (killed, whole.out))
        assert {k: there[k] for k in ANSWERS} == {k: here[k] for k in ANSWERS}, name


def test_the_result_holds_every_part(killed: Path, result: ComparisonResult) -> None:
    assert [(arm.name, arm.chosen) for arm in result.arms] == [("dler", 0), ("drpo", 0)]
    assert [side.name for side in result.table.sides] == ["base", "dler", "drpo", "random-reward"]
    one = result.arms[0].settings[0]
    assert one.sampled_tokens >= result.plan.token_budget
    assert one.options["cap"] == round(0.6 * result.plan.mean_tokens)
    assert [(pair.a, pair.b) for pair in result.pairs] == [("dler", "drpo")]
    assert result.to_dict() == read_json(killed / "result.json")
    control = result.controls[0]
    assert (control.chosen, control.settings[0].options) == (0, {"cap": result.plan.cap})
    assert [(pair.a, pair.b) for pair in result.control_pairs] == [
        ("random-reward", "dler"), ("random-reward", "drpo"),
    ]  # fmt: skip
    assert any(text.startswith("The control random-reward") for text in result.findings)
    page = (killed / "report.html").read_text()
    words = html.unescape(re.sub("<[^>]*>", "", page))  # glosses stand around words
    assert all(text.split(" (")[0] in words for text in result.findings)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (killed / "report.png").stat().st_size > 10_000
    assert not list(killed.glob("runs/*/*/*/checkpoints"))
    # Its folder is a config, with what makes it grow; now that the untouched model is measured, the plan is exact.
    assert Comparison(merged(CompareSettings, load(killed), {"out": killed})).seed_numbers == [0]
    assert dry_run(asked(killed)).token_budget == result.plan.token_budget


@pytest.mark.filterwarnings("ignore:step .* skipped, kept 0 of:lengthwise.errors.LengthwiseWarning")
def test_a_method_that_fails_is_a_result_among_the_others(killed: Path, result: ComparisonResult) -> None:
    doomed = Arm("doomed", "dler", "cap", (1,))  # every answer is cut: all groups are alike
    wanted = asked(killed, arms=[DRPO, doomed])
    arena = open_arena(wanted)
    plan = make_plan(wanted, arena, facts_of(wanted))
    (killed / "plan.json").write_text(json.dumps(plan.to_dict()))
    with pytest.warns(LengthwiseWarning, match="the cap is 1 tokens, below the shortest"):
        carry_out(wanted, arena, "doomed", 0, 0)
    assert is_done(run_folder(killed, doomed, 0, 0))
    found = result_of(wanted, arena, plan)
    arm = found.arms[1]
    assert arm.chosen is None
    assert "kept 0 of" in arm.settings[0].failed["0"].reason
    assert [side.name for side in found.table.sides] == ["base", "drpo"]
    assert "Runs that ended early, with nothing left to learn from: doomed at cap 1, seed 0 (step 8)." in found.findings


def test_a_folder_is_never_mixed(killed: Path, result: ComparisonResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test_limit: 12 there, 11 now"):
        compare_methods(asked(killed, test_limit=11))
    with pytest.raises(ConfigError, match="clip_high: 0.28 there, 0.4 now"):
        compare_methods(asked(killed, arms=[Arm("dler", "dler", "cap", ("0.6L",), {"clip_high": 0.4})]))
    with held_by_another(killed), pytest.raises(ConfigError, match="another process is writing to it"):
        compare_methods(asked(killed))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files but no comparison"):
        compare_methods(asked(tmp_path))
    with pytest.raises(ConfigError, match="holds files but no comparison"):
        dry_run(asked(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_wrong_input_is_one_line_and_exit_2(tmp_path: Path) -> None:
    words = ["compare", "lab:chains", "--methods", "dlre", "--out", str(tmp_path / "x")]
    command = [sys.executable, "-c", "from lengthwise.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean dler" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_the_workers_are_one_thread_each(killed: Path, result: ComparisonResult) -> None:
    config = read_json(run_folder(killed, DLER, 0, 0) / "config.json")
    assert config["environment"]["threads"] == 1
    assert os.environ.get("OMP_NUM_THREADS") == "1"
