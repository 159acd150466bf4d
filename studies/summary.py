"""A study's committed numbers: one file, condensed from the raw results of its runs.

Raw results, one JSON file a run with every step in it, lie under ``runs/studies/NAME`` and stay out of the tree; the
summary keeps the numbers that pages, pictures and tests need, and says how to make the rest again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RAW = ROOT / "runs" / "studies"
STUDIES = ("lab", "chains", "adaptive", "ada_r1", "merge_back", "guarded", "giraffe", "lambda_attention", "trl_chains")
UNDER_WAY = ("gates", "recent")
"""Studies whose runs are not all made: no summary, no page."""
MADE = ("command", "commit", "python", "torch", "transformers", "trl", "cores", "processor", "device", "threads")
"""What a raw result says of how it was made, and with what."""
LIMIT = 500_000
"""Bytes of all summaries together."""

Numbers = dict[str, Any]
Condense = Callable[[Numbers], Numbers]


@dataclass(frozen=True)
class Summary:
    """`runs` by name, each with the place of its entry in `made`; `across` what was computed over several runs.

    `plan` is what was registered before the runs, empty where nothing was.
    """

    study: str
    made: list[Numbers]
    runs: dict[str, Numbers]
    across: Numbers = field(default_factory=dict)
    plan: Numbers = field(default_factory=dict)

    def made_by(self, run: str) -> Numbers:
        """Command, commit, versions and machine of a run."""
        return self.made[self.runs[run]["made"]]


def path_of(study: str) -> Path:
    return HERE / study / "summary.json"


def plan_of(study: str) -> Path:
    """What was registered before the runs; not every study has it."""
    return HERE / study / "registered.json"


def load(study: str) -> Summary:
    """The committed summary, with what was registered."""
    found, plan = json.loads(path_of(study).read_text(encoding="utf-8")), plan_of(study)
    registered = json.loads(plan.read_text(encoding="utf-8")) if plan.is_file() else {}
    return Summary(study, found["made"], found["runs"], found["across"], registered)


def read_raw(folder: Path) -> dict[str, Numbers]:
    """Raw results by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def condensed(study: str, raw: Mapping[str, Numbers]) -> Summary:
    """The summary of raw results."""
    rules = import_module(f"studies.{study}.condense")
    made: list[Numbers] = []
    runs = {}
    for name, result in raw.items():
        by = {key: result[key] for key in MADE if result.get(key) is not None}
        if by not in made:
            made.append(by)
        cost = {"seconds": result["seconds"]} if "seconds" in result else {}
        runs[name] = {"made": made.index(by), **cost, **rules.condense(result)}
    across = rules.across(raw) if hasattr(rules, "across") else {}
    return Summary(study, made, runs, across)


def write(summary: Summary, path: Path) -> None:
    """One line a run, so that a change of one is a change of one line."""
    study, seeds = summary.study, sorted({run["seed"] for run in summary.runs.values() if "seed" in run})
    made = ",\n".join(f" {_text(by)}" for by in summary.made)
    runs = ",\n".join(f" {_text(name)}: {_text(run)}" for name, run in summary.runs.items())
    path.write_text(
        f'{{\n"study": {_text(study)},\n"again": {_text(again(study))},\n"seeds": {_text(seeds)},\n'
        f'"made": [\n{made}\n],\n"runs": {{\n{runs}\n}},\n"across": {_text(summary.across)}\n}}\n',
        encoding="utf-8",
    )


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def again(study: str) -> list[str]:
    """The commands that make a study again."""
    return [f"python -m studies {verb} {study}" for verb in ("run", "condense")] + ["python -m studies build"]


def pick(numbers: Mapping[str, Any], *names: str) -> Numbers:
    """The named entries that are there."""
    return {name: numbers[name] for name in names if name in numbers}
