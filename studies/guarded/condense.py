"""What is kept of an attack and its repairs."""

from __future__ import annotations

from studies.summary import Numbers, pick

KNOBS = ("fraction", "gamma", "threshold")


def condense(raw: Numbers) -> Numbers:
    """Harm and accuracy in percent of every stage and of every way to repair, at each setting of its knob."""
    return {
        **pick(raw, "kind", "seed", "overlaps_at_0.1"),
        "stages": {stage: point(found) for stage, found in raw["stages"].items()},
        "arms": {arm: [point(found) for found in points] for arm, points in raw["arms"].items()},
    }


def point(found: Numbers) -> Numbers:
    return pick(found, "draw", *KNOBS) | {
        "harm": found["harm"]["percent"],
        "accuracy": found["accuracy"]["percent"],
        **pick(found["accuracy_by_level"], "sort", "next"),
    }
