"""What is kept of a run of the gate study: its measurement, and of its steps what the effects are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from studies.summary import Numbers, pick

WIDTH = 5
"""Steps over which a training metric is smoothed."""
SHOWN = 8
"""Every so many steps the page shows one."""


def condense(raw: Numbers) -> Numbers:
    """The untouched reasoner has no training."""
    found = {**pick(raw["run"], "arm", "mix", "fine", "seed"), "measured": raw["outcome"]["measured"]}
    if "steps" not in raw["outcome"]:
        return found
    steps = raw["outcome"]["steps"]
    return found | {
        "ended": raw["outcome"]["ended"],
        "steps": len(steps),
        "kept_share": mean(step["kept_share"] for step in steps),
        "all_wrong": mean(step["all_wrong"] for step in steps),
        "halved": {name: halved(steps, name) for name in ("accuracy", "wrong_tokens", "wrong_decile")},
        "course": {
            name: [rounded(step.get(name)) for step in steps[::SHOWN]]
            for name in ("accuracy", "wrong_tokens", "wrong_decile", "all_wrong")
        },
    }


def rounded(value: float | None) -> float | None:
    """To three digits; pages show no more."""
    return None if value is None else float(f"{value:.3g}")


def halved(steps: Sequence[Numbers], field: str) -> int | None:
    """The first step at which a metric, over `WIDTH` steps, is below half of its first `WIDTH`; None: never.

    Steps without the metric, as the length of wrong answers where there is none, do not count.
    """
    shown = [(step["step"], step[field]) for step in steps if step.get(field) is not None]
    values = [value for _, value in shown]
    start = mean(values[:WIDTH]) if len(values) >= WIDTH else math.nan
    for end in range(WIDTH + 1, len(values) + 1):
        if mean(values[end - WIDTH : end]) < start / 2:
            return int(shown[end - 1][0])
    return None
