"""The runs of the gate study: arms, fines and seeds, those that the registered effects need most first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

SEEDS = (0, 1, 2)
FINE, OTHER_FINES = 0.3, (0.1, 0.5)
ARMS = ("none", "shaped", "verdicts", "right", "solved", "rate-right", "reversed")
PUBLISHED = ("none", "shaped", "verdicts")
"""The arms of verl-recipe #125, which are run with its other two fines, too."""
BEYOND, TAUGHT = "beyond", "taught"
LEVELS = {BEYOND: (6, 7, 8), TAUGHT: (6, 7)}
"""Of chains: the untouched reasoner solves 70, 66 and 4 % of them; it was taught the first two."""
START_TOKENS = {BEYOND: 105.0, TAUGHT: 117.0}
"""The untouched reasoner's mean length on them, in the pilot; the fine is full there."""
CAP = 270
TRAIN: dict[str, Any] = {"steps": 40, "prompts": 16, "group_size": 5, "updates": 2, "lr": 2e-4, "warmup_steps": 5}


@dataclass(frozen=True)
class Trial:
    """One run: an arm with a fine and a seed, on some levels."""

    arm: str
    fine: float
    seed: int
    mix: str = BEYOND

    @property
    def name(self) -> str:
        """The name of its file; none is a part of another."""
        return f"fine{self.fine}-{self.arm}-{self.mix}-seed{self.seed}"


def trials() -> list[Trial]:
    """Every run: the fine of all effects but two in every seed, the levels that were taught, then the dose."""
    first = [Trial(arm, FINE, seed) for seed, arm in itertools.product(SEEDS, ARMS)]
    first += [Trial(arm, FINE, seed, TAUGHT) for seed, arm in itertools.product(SEEDS, PUBLISHED)]
    return first + [Trial(arm, fine, seed) for seed, fine, arm in itertools.product(SEEDS, OTHER_FINES, PUBLISHED)]
