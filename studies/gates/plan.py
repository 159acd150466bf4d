"""The runs of the gate study: arms, fines and seeds, those that the registered effects need most first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

SEEDS = (0, 1, 2)
FINE, OTHER_FINES = 0.3, (0.1, 0.5)
ARMS = ("none", "shaped", "verdicts", "right", "solved", "rate-right", "reversed")
PUBLISHED = ("none", "shaped", "verdicts")
"""The arms of verl-recipe #125, which are run with its other two fines, too."""
LEVELS = (6, 7)
"""Of chains: the untouched reasoner solves 70 and 66 % of them; of 8, which it was not taught, 4 %."""
CAP = 270
START_TOKENS = 117.0
"""The untouched reasoner's mean length on these levels, in the pilot; the fine is full there."""
TRAIN = {"steps": 40, "prompts": 16, "group_size": 5, "updates": 2, "lr": 2e-4, "warmup_steps": 5}


@dataclass(frozen=True)
class Trial:
    """One run: an arm with a fine and a seed."""

    arm: str
    fine: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.arm}-fine{self.fine}-seed{self.seed}"


def trials() -> list[Trial]:
    """Every run: the fine of all effects but one in every seed, then the dose."""
    first = [Trial(arm, FINE, seed) for seed, arm in itertools.product(SEEDS, ARMS)]
    return first + [Trial(arm, fine, seed) for seed, fine, arm in itertools.product(SEEDS, OTHER_FINES, PUBLISHED)]
