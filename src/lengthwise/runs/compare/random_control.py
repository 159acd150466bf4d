"""Controls that are trained: what the protocol does by itself when the reward says nothing about the answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lengthwise.engine.method import State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods.declaration import Value
from lengthwise.runs.compare.arms import Arm

CONTROLS = {"random": ("random-reward", f"{__name__}:coin")}
"""What ``--controls`` names: the control's name in tables and folders, and its reward, on top of GRPO."""


def coin(rollouts: Rollouts, state: State) -> Tensor:
    """A fair coin per response, float [B] of 0 and 1, thrown alike for the same batch."""
    generator = torch.Generator().manual_seed(int(rollouts.completion_ids.sum()))
    thrown = torch.randint(0, 2, (len(rollouts),), generator=generator)
    return thrown.float().to(rollouts.num_tokens.device)


def control_arms(names: Sequence[str], cap: Value) -> tuple[Arm, ...]:
    """An arm of one setting, the cap that methods with another knob train under, for every control.

    Raises:
        ConfigError: no such control, or one that is named twice.
    """
    for name in names:
        if name not in CONTROLS:
            raise ConfigError(f"controls names {name!r}; choose {' or '.join(CONTROLS)}, or leave it out")
        if list(names).count(name) > 1:
            raise ConfigError(f"controls names {name!r} twice; name each once")
    return tuple(Arm(arm, reward, "cap", (cap,)) for arm, reward in (CONTROLS[name] for name in names))
