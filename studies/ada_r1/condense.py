"""What is kept of a run of the Ada-R1 study, and the intervals that need every problem's answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lengthwise.statistics.bootstrap import mean_interval
from studies.summary import Numbers, pick

REGISTERED = Path(__file__).resolve().parent / "registered.json"
SEEDS = (0, 1, 2)
SAMPLED, GREEDY = "measured", "measured_greedy"
TRAINED = ("dpo-only", "group", "ada-r1", "narrow")
"""The arms that either round trained for itself."""
FIRST = "first-"
"""Runs of the first round: their arms carry it before their names."""
Values = NDArray[np.float64]


def condense(raw: Numbers) -> Numbers:
    """A pilot's accuracy and tokens; of an arm the sums by level, and what its samples said of the problems."""
    if "pilot" in raw:
        return pick(raw, "pilot", "lr", "beta", "epsilon", "accuracy", "mean_tokens")
    found = {**pick(raw, "arm", "seed", "train_problems"), "levels": by_level(raw)}
    if "stages" in raw:
        found["pairs"] = pick(raw["stages"]["pairs"], "problems", "long_is", "preferred", "pairs", "left_out_as_equal")
        found["dpo"] = pick(raw["stages"]["dpo"], "steps", "loss_last")
    return found


def by_level(raw: Numbers) -> dict[str, Numbers]:
    """By level: the number of problems, and sums of right answers, one-pass answers and tokens, both ways to sample."""
    at = np.array(raw["levels"])
    found = {}
    for level in sorted(set(raw["levels"])):
        found[str(level)] = {"problems": int((at == level).sum())} | {
            how: {name: int(values[at == level].sum()) for name, values in of_problems(raw[how]).items()}
            for how in (SAMPLED, GREEDY)
            if how in raw
        }
    return found


def of_problems(measured: Numbers) -> dict[str, Values]:
    """Every problem's mark, style and tokens."""
    marks = {name: np.array([float(mark) for mark in measured[name]]) for name in ("right", "one_pass")}
    return {**marks, "tokens": np.array(measured["tokens"], dtype=float)}


def across(raw: Mapping[str, Numbers]) -> Numbers:
    """Accuracy of one arm less another's in points, paired over problems: estimate and 95 % interval, by round."""
    return {"second": differences(raw, ""), "first": differences(raw, FIRST)}


def differences(raw: Mapping[str, Numbers], prefix: str) -> dict[str, list[float]]:
    """Each arm of a round against the long model, and each registered pair; arms that it has not are the other's."""
    arms = {result["arm"] for result in raw.values() if "arm" in result}

    def of_round(arm: str) -> list[Numbers] | None:
        for name in (prefix + arm, *(() if arm in TRAINED else (arm,))):
            if all(f"{name}-{seed}" in raw for seed in SEEDS):
                return [raw[f"{name}-{seed}"] for seed in SEEDS]
        return None

    pairs = {(arm, "long") for arm in arms if arm != "long"}
    pairs |= {(e["arm"], e["against"]) for e in json.loads(REGISTERED.read_text())["effects"] if "against" in e}
    found = {}
    for arm, against in sorted(pairs):
        one, other = of_round(arm), of_round(against)
        if one and other:
            found[f"{arm} less {against}"] = interval(one, other)
    return found


def interval(one: Sequence[Numbers], other: Sequence[Numbers]) -> list[float]:
    """Paired over problems, whose answers are averaged over seeds first."""
    means = [np.mean([of_problems(run[SAMPLED])["right"] for run in runs], axis=0) for runs in (one, other)]
    found = mean_interval(100 * (means[0] - means[1]), rng=np.random.default_rng(0))
    return [float(value) for value in (found.estimate, found.low, found.high) if value is not None]
