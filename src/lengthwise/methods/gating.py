"""The gate as an option of methods whose reward has a length term: which answers it pays by length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lengthwise.config.definition import again, setting
from lengthwise.engine.gates import Gate, own_groups
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods._parts import GroupRelative, group_relative
from lengthwise.objectives import group_normalised
from lengthwise.objectives._wide import wide_dtype

Kind = Literal["none", "right", "solved", "rate", "rate-right"]
RIGHT_ALONE = ("right", "rate-right")
"""Gates behind which no wrong answer's length may move anything."""
OFF = "off"
FLOOR = 0.1
"""The floor that comes with a gate *(ours)*."""
CENTRED = partial(group_normalised, divide_by_std=False)
"""The advantage that leaves the size of a length term as it is."""


class Gated(GroupRelative):
    """Options of a method on GRPO whose reward has a length term; its paper's formula by default."""

    gate: Kind = setting("none", help="Which answers are paid by length: see docs/gates.md.")
    floor: float | Literal["off"] = setting(
        ge=0, le=1, default_text=f"{FLOOR} with a gate, else off",
        help="Least lead of a right answer over the wrong ones of its group, as a share of what being right is worth.",
    )  # fmt: skip
    min_right: int = setting(1, ge=1, help="Right answers in a group below which its gate is shut.")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The floor comes with a gate."""
        kind = given.get("gate", cls.entries()["gate"].default)
        return {**super().dependent_defaults(given), "floor": OFF if kind == "none" else FLOOR}

    def counted(self, rollouts: Rollouts) -> Tensor | None:
        """The rows that a statistic of lengths is taken over, bool [B]; None for all."""
        return rollouts.correct if self.gate in RIGHT_ALONE else None


class GatedFirst(Gated):
    """The same for methods of this package's own time: right answers alone are paid by length, unless asked for."""

    gate: Kind = again(Gated, "gate", "right")


def gated(
    options: Gated,
    *,
    reward: Callable[[Rollouts, State], Tensor],
    base: tuple[float, float] = (1.0, 0.0),
    groups: Callable[[Rollouts], Tensor] = own_groups,
    loudest: State | None = None,
    **parts: Any,
) -> Method:
    """`group_relative` with a reward whose length term stands behind the gate of the options.

    `base`: what a right and a wrong answer earn without that term. `groups`: the rows that are compared. `loudest`:
    the state under which length is paid most, where the reward has one.
    """
    gate = Gate(
        shaped=reward, base=partial(verdict_reward, values=base), kind=options.gate, min_right=options.min_right,
        floor=None if options.floor == OFF else float(options.floor), groups=groups, loudest=loudest,
    )  # fmt: skip
    return group_relative(options, reward=gate.paid, gate=gate, **parts)


def verdict_reward(rollouts: Rollouts, *, values: tuple[float, float] = (1.0, 0.0)) -> Tensor:
    """What a verdict alone earns, right and wrong, float64 [B] (float32 on `mps`)."""
    device = rollouts.correct.device
    right, wrong = (torch.tensor(value, dtype=wide_dtype(device), device=device) for value in values)
    return torch.where(rollouts.correct, right, wrong)
