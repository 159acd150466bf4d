"""How responses are cut into windows, and what the critic that judges unfinished ones learns."""

from __future__ import annotations

from dataclasses import dataclass

from lengthwise.errors import ConfigError


@dataclass(frozen=True)
class Windows:
    """How the loop cuts responses into windows and what its critic learns.

    `window` is the most tokens that a response gets in one step. `gamma` discounts; the policy's lambda is
    `max(lam_floor, 1 - 1 / (alpha * n_eff))`, the critic's targets take `lam_critic` (1: Monte Carlo). The last
    `tail_ignore` tokens of a window that is not done are not learnt from. The critic learns at `critic_lr` times
    the policy's rate, alone for the first `critic_warmup` steps, its values clipped `value_clip_low` below and
    `value_clip_high` above the old ones. `lm_weight` weighs the likelihood of rewarded responses.
    """

    window: int
    gamma: float = 1.0
    lam_floor: float = 0.95
    alpha: float = 0.05
    lam_critic: float = 1.0
    tail_ignore: int = 0
    critic_lr: float = 2.5
    critic_warmup: int = 10
    value_clip_low: float = 0.5
    value_clip_high: float = 0.6
    lm_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"window is {self.window}; a window has at least 1 token")
        if not 0 <= self.tail_ignore < self.window:
            raise ConfigError(
                f"tail_ignore is {self.tail_ignore} in a window of {self.window}; give 0 or more, and less than the "
                "window, or nothing is left to learn from"
            )
        for name in ("gamma", "lam_floor", "lam_critic"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a number from 0 to 1")
        for name in ("alpha", "critic_lr"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a positive number")
        for name in ("critic_warmup", "value_clip_low", "value_clip_high", "lm_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 0 or more")
