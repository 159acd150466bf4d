"""The lab study's runs by name and setting, and means over seeds of what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any

from lengthwise.lab import witnesses
from studies.lab.condense import correlation
from studies.summary import Numbers, Summary

MOST_READINGS = witnesses.MOST_READINGS
PAPER_METHODS = ("dler", "da-dler", "drpo", "siri", "grpo-lambda", "t-ppo", "adaptive")


class MissingRunError(Exception):
    """A run that a statistic needs is not there."""


@dataclass(frozen=True)
class Study:
    """The runs by name, and the untouched models by world."""

    runs: dict[str, Numbers]
    bases: dict[str, Numbers]

    @classmethod
    def of_summary(cls, summary: Summary) -> Study:
        bases = {run["world"]: run for run in summary.runs.values() if run["suite"] == "base"}
        return cls({name: run for name, run in summary.runs.items() if run["suite"] != "base"}, bases)

    def of(self, suite: str, world: str, method: str, setting: str = "") -> list[Numbers]:
        """Runs in order of settings and seeds; raises `MissingRunError` where there is none."""
        found = {
            name: run
            for name, run in self.runs.items()
            if (run["suite"], run["world"], run["method"]) == (suite, world, method) and setting in ("", run["setting"])
        }
        if not found:
            raise MissingRunError(f"{suite}-{world}-{method}-{setting}")
        return sorted(found.values(), key=lambda run: (run["setting"], run["seed"]))

    def settings(self, suite: str, world: str, method: str) -> list[str]:
        """Settings that were run, in the order of the plan's names as far as they carry a number."""
        wanted = (suite, world, method)
        found = {r["setting"] for r in self.runs.values() if (r["suite"], r["world"], r["method"]) == wanted}
        return sorted(found, key=lambda name: (number_in(name), name))

    def base(self, world: str) -> Numbers:
        """The untouched model's measurement."""
        if world not in self.bases:
            raise MissingRunError(f"base-{world}")
        measured: Numbers = self.bases[world]["measured"]
        return measured


def number_in(text: str) -> float:
    """The last number of a setting's name; infinite where there is none."""
    digits = "".join(c if c.isdigit() or c == "." else " " for c in text).split()
    return float(digits[-1]) if digits else math.inf


def of_three(held: Iterable[bool]) -> float:
    """In how many of three seeds something held; where fewer were run, their share of three."""
    return 3 * mean(map(float, held))


@cache
def curves() -> tuple[list[witnesses.Point], list[witnesses.Point]]:
    """The exact frontier of witnesses, and the best that a fixed number of readings can do."""
    fixed = map(witnesses.fixed_readings, range(MOST_READINGS + 1))
    return witnesses.frontier(), witnesses.concave(fixed)


def test(run: Numbers) -> Numbers:
    """What was measured on the test set."""
    found: Numbers = run["measured"]["test"]
    return found


def average(runs: Sequence[Numbers], field: str) -> float:
    """Mean over seeds of a number of the test set."""
    return mean(test(run)[field] for run in runs)


def regret(runs: Sequence[Numbers]) -> float:
    """Mean regret to the exact frontier."""
    return mean(test(run)["distance"]["regret"] for run in runs)


def readings(runs: Sequence[Numbers]) -> float:
    """Mean number of readings."""
    return mean(test(run)["distance"]["readings"] for run in runs)


def removable(runs: Sequence[Numbers], base: Numbers) -> float:
    """Share of the removable tokens that are gone: those above one pass."""
    oracle = base["test"]["distance"]["oracle_tokens"]
    spent = base["test"]["tokens"]
    return (spent - average(runs, "tokens")) / (spent - oracle)


def gap(runs: Sequence[Numbers], easy: str, hard: str) -> float:
    """How much more often the hard level is opened long than the easy one."""
    return mean(test(run)["levels"][hard]["opens_long"] - test(run)["levels"][easy]["opens_long"] for run in runs)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, where no two values are equal."""
    return correlation(ranks(first), ranks(second))


def ranks(values: Sequence[float]) -> list[float]:
    """Places in rising order."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for place, index in enumerate(order):
        found[index] = float(place)
    return found


@dataclass(frozen=True)
class Group:
    """The runs of one setting, by seed."""

    suite: str
    method: str
    setting: str
    runs: list[Numbers]

    @property
    def world(self) -> str:
        return str(self.runs[0]["world"])


def grouped(study: Study, world: str) -> list[Group]:
    """The settings of a world with their runs by seed, the papers' methods first."""
    found: dict[tuple[str, str, str], list[Numbers]] = {}
    for run in study.runs.values():
        if run["world"] == world and run["suite"] != "ablation":
            found.setdefault((run["suite"], run["method"], run["setting"]), []).append(run)

    def place(key: tuple[str, str, str]) -> tuple[Any, ...]:
        suite, method, setting = key
        order = PAPER_METHODS.index(method) if method in PAPER_METHODS else len(PAPER_METHODS)
        return suite != "methods", order, method, study.settings(suite, world, method).index(setting)

    return [Group(*key, sorted(found[key], key=lambda run: run["seed"])) for key in sorted(found, key=place)]
