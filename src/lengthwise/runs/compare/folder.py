"""Where a comparison keeps what: one folder for the untouched model by seed, one for every run."""

from __future__ import annotations

import re
from pathlib import Path

from lengthwise.engine.metrics_log import read_metrics
from lengthwise.errors import ConfigError
from lengthwise.folder_lock import is_lock
from lengthwise.runs.compare.arms import Arm
from lengthwise.runs.run_folder import OUTCOME, RECORDS, RESPONSES
from lengthwise.statistics.records import Record

SHARED, REQUEST, PLAN, RESULT = "comparison.json", "request.json", "plan.json", "result.json"
REPORT, LOGS, FAILED = "report.html", "logs", "failed.json"
BASELINE = "baseline-"


def check_folder(out: Path) -> None:
    """Refuse a folder of something else.

    Raises:
        ConfigError: it holds files, and none of them is a comparison's.
    """
    there = [path for path in out.iterdir() if not is_lock(path)] if out.is_dir() else []
    if there and not (out / SHARED).is_file():
        raise ConfigError(f"out is {str(out)!r}, which holds files but no comparison; name an empty or new folder")


def base_folder(out: Path, seed: int) -> Path:
    """Where the untouched model is measured with one seed."""
    return out / "base" / f"seed-{seed}"


def run_folder(out: Path, arm: Arm, setting: int, seed: int) -> Path:
    """The run folder of one setting of an arm with one seed, named by what was set."""
    value = re.sub(r"[^\w.+-]", "_", str(arm.values[setting]))
    return out / "runs" / arm.name / f"{arm.knob}={value}" / f"seed-{seed}"


def baseline_file(out: Path, seed: int, name: str) -> Path:
    """The record of a free baseline."""
    return base_folder(out, seed) / RECORDS / f"{BASELINE}{name.replace(' ', '-')}.json"


def baseline_log(out: Path, seed: int, name: str) -> Path:
    """The responses that a free baseline's record is of."""
    return base_folder(out, seed) / RESPONSES / f"{baseline_file(out, seed, name).stem}.jsonl"


def is_done(folder: Path) -> bool:
    """Whether a run has its outcome, or the reason why it has none."""
    return (folder / OUTCOME).is_file() or (folder / FAILED).is_file()


def load_record(folder: Path, name: str) -> Record:
    """One record of a run's folder."""
    return Record.load(folder / RECORDS / f"{name}.json")


def sampled_tokens(out: Path) -> int:
    """Tokens that the runs of a comparison have sampled so far."""
    last = (next(iter(read_metrics(path.parent)[-1:]), {}) for path in out.glob("runs/*/*/*/metrics.jsonl"))
    return sum(int(str(row.get("sampled_tokens", 0))) for row in last)
