"""Numbers of the lab's study, from its raw JSON: means over seeds, and the statistic of every registered claim."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from lengthwise.lab import witnesses

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "lab_study"
MOST_READINGS, LAST = witnesses.MOST_READINGS, 10

Outcome = dict[str, Any]


class MissingRunError(Exception):
    """A run that a statistic needs is not there."""


@dataclass(frozen=True)
class Study:
    """All raw results: `runs` by name, and the untouched models by world; `used` names what was asked for since."""

    runs: dict[str, dict[str, Any]]
    bases: dict[str, Outcome]
    used: set[str] = field(default_factory=set)

    def of(self, suite: str, world: str, method: str, setting: str = "") -> list[Outcome]:
        """Outcomes in order of seeds; raises `MissingRunError` where there is none."""
        found = [
            (name, document)
            for name, document in self.runs.items()
            if document["run"]["suite"] == suite
            and document["run"]["world"] == world
            and document["run"]["method"] == method
            and setting in ("", document["run"]["setting"])
        ]
        if not found:
            raise MissingRunError(f"{suite}-{world}-{method}-{setting}")
        self.used.update(name for name, _ in found)
        ordered = sorted(found, key=lambda pair: (pair[1]["run"]["setting"], pair[1]["run"]["seed"]))
        return [document["outcome"] for _, document in ordered]

    def settings(self, suite: str, world: str, method: str) -> list[str]:
        """Settings that were run, in the order of the plan's names as far as they carry a number."""
        found = {
            document["run"]["setting"]
            for document in self.runs.values()
            if (document["run"]["suite"], document["run"]["world"], document["run"]["method"]) == (suite, world, method)
        }
        return sorted(found, key=lambda name: (number_in(name), name))

    def base(self, world: str) -> Outcome:
        """The untouched model's measurement."""
        if world not in self.bases:
            raise MissingRunError(f"base-{world}")
        return self.bases[world]["measured"]


def load(folder: Path = RESULTS) -> Study:
    """Read every raw result."""
    documents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    bases = {d["run"]["world"]: d["outcome"] for d in documents.values() if d["run"]["suite"] == "base"}
    return Study({name: d for name, d in documents.items() if d["run"]["suite"] != "base"}, bases)


def number_in(text: str) -> float:
    """The last number of a setting's name; infinite where there is none."""
    digits = "".join(c if c.isdigit() or c == "." else " " for c in text).split()
    return float(digits[-1]) if digits else math.inf


# ------------------------------------------------------------------------------------------------ small parts


def of_three(held: Iterable[bool]) -> float:
    """In how many of three seeds something held; where fewer were run, their share of three."""
    return 3 * mean(map(float, held))


@cache
def curves() -> tuple[list[witnesses.Point], list[witnesses.Point]]:
    """The exact frontier of witnesses, and the best that a fixed number of readings can do."""
    fixed = map(witnesses.fixed_readings, range(MOST_READINGS + 1))
    return witnesses.frontier(), witnesses.concave(fixed)


def test(outcome: Outcome) -> dict[str, Any]:
    """What was measured on the test set."""
    found: dict[str, Any] = outcome["measured"]["test"]
    return found


def average(outcomes: Sequence[Outcome], field: str) -> float:
    """Mean over seeds of a number of the test set."""
    return mean(test(outcome)[field] for outcome in outcomes)


def regret(outcomes: Sequence[Outcome]) -> float:
    """Mean regret to the exact frontier."""
    return mean(test(outcome)["distance"]["regret"] for outcome in outcomes)


def readings(outcomes: Sequence[Outcome]) -> float:
    """Mean number of readings."""
    return mean(test(outcome)["distance"]["readings"] for outcome in outcomes)


def last(outcome: Outcome, field: str, count: int = LAST) -> float:
    """Mean of a training metric over the last steps that have it."""
    return mean([step[field] for step in outcome["steps"] if step.get(field) is not None][-count:])


def removable(outcomes: Sequence[Outcome], base: dict[str, Any]) -> float:
    """Share of the removable tokens that are gone: those above one pass."""
    oracle = base["test"]["distance"]["oracle_tokens"]
    spent = base["test"]["tokens"]
    return (spent - average(outcomes, "tokens")) / (spent - oracle)


def breaking_step(outcome: Outcome, share: float = 0.9, width: int = 5) -> int | None:
    """The first step at which accuracy, over 5 steps, is below 90 % of its best so far; None if it never is."""
    shown = [step["accuracy"] for step in outcome["steps"] if step.get("accuracy") is not None]
    best = 0.0
    for end in range(width, len(shown) + 1):
        now = mean(shown[end - width : end])
        if now < share * best:
            return end
        best = max(best, now)
    return None


def gap(outcomes: Sequence[Outcome], easy: str, hard: str) -> float:
    """How much more often the hard level is opened long than the easy one."""
    return mean(test(o)["levels"][hard]["opens_long"] - test(o)["levels"][easy]["opens_long"] for o in outcomes)


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's; 0 where one does not vary."""
    a, b = mean(first), mean(second)
    above = sum((x - a) * (y - b) for x, y in zip(first, second, strict=True))
    below = math.sqrt(sum((x - a) ** 2 for x in first) * sum((y - b) ** 2 for y in second))
    return above / below if below > 0 else 0.0


def ranks(values: Sequence[float]) -> list[float]:
    """Places in rising order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for place, index in enumerate(order):
        found[index] = float(place)
    return found
