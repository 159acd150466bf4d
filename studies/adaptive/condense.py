"""What is kept of a run of the adaptive study."""

from __future__ import annotations

from statistics import mean

from studies.summary import Numbers, pick

EASY = {"chains": ("1",), "first-chains": ("1", "2"), "witnesses": ("0.97",)}
HARD = ("5", "6", "7", "0.6", "0.7")
"""Levels of either setting; those between are neither."""
Levels = dict[str, dict[str, float]]


def condense(raw: Numbers) -> Numbers:
    """Easy, hard and all levels: the untouched model, the trained one, and how often it opened short on its way."""
    easy = EASY[raw["setting"]]
    return {
        **pick(raw, "setting", "arm", "seed", "steps"),
        "base": {asked: by_ease(levels, easy) for asked, levels in raw["base"].items()},
        "last": by_ease(raw["curve"][-1]["levels"], easy),
        "curve": [
            {"step": point["step"], **{ease: found["short"] for ease, found in by_ease(point["levels"], easy).items()}}
            for point in raw["curve"]
        ],
    }


def by_ease(levels: Levels, easy: tuple[str, ...]) -> dict[str, Numbers]:
    """Means over levels, each counting the same: how often answers open short, accuracy and tokens."""
    parts = {"easy": easy, "hard": HARD, "all": tuple(levels)}
    return {
        part: {
            name: mean(found[name] for level, found in levels.items() if level in which)
            for name in ("short", "accuracy", "tokens")
        }
        for part, which in parts.items()
    }
