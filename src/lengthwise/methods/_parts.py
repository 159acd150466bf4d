"""Parts that several methods name: the objectives, fed from the engine's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import LossInputs, Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods.declaration import Options
from lengthwise.objectives import (
    clipped_surrogate,
    constant_cap,
    cosine_cap,
    group_normalised,
    loss_normaliser,
    stair_cap,
    stair_cosine_cap,
)

SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": cosine_cap,
    "stair": stair_cap,
    "stair-cosine": stair_cosine_cap,
}


def surrogate(
    inputs: LossInputs,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    aggregate: str,
    cap: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`clipped_surrogate` over one micro-batch, divided as its mini-batch is."""
    return clipped_surrogate(
        inputs.logp,
        inputs.old_logp,
        inputs.advantages,
        inputs.mask,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        aggregate=aggregate,
        max_tokens=cap,
        normaliser=inputs.normaliser,
    )


def surrogate_normaliser(rollouts: Rollouts, *, aggregate: str, cap: int) -> float:
    """What the surrogate of a mini-batch is divided by."""
    return loss_normaliser(rollouts.train_mask, aggregate=aggregate, max_tokens=cap)


def cap_schedule(shape: str, *, longest: int, shortest: int, cycle: int) -> Callable[[int, State], float]:
    """The cap of every step by the name of its shape: cosine, stair or stair-cosine.

    Raises:
        ConfigError: no such shape, or lengths and cycle that the schedule refuses.
    """
    if shape not in SCHEDULES:
        raise ConfigError(f"shape is {shape!r}; choose one of {', '.join(SCHEDULES)}")
    schedule = partial(SCHEDULES[shape], longest=longest, shortest=shortest, cycle=cycle)
    schedule(0)
    return lambda step, state: schedule(step)


Aggregate = Literal["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]


class Clips(Options):
    """How far a ratio counts."""

    clip_low: float = setting(0.2, ge=0, le=1, help="Lower clip of the ratio, as a distance from 1.")
    clip_high: float = setting(0.2, ge=0, help="Upper clip of the ratio, as a distance from 1.")


class DualClip(Options):
    """How far the loss of a wrong answer counts."""

    dual_clip: float | None = setting(10.0, gt=1, help="Bound of the loss where the advantage is negative.")


class GroupRelative(Clips):
    """Options of all that stands on GRPO."""

    aggregate: Aggregate = setting("seq-mean-token-mean", help="How the loss is averaged over tokens and responses.")
    kl_coef: float = setting(0.0, ge=0, help="Weight of the KL penalty against the starting weights.")


class Targeted(Options):
    """The option of methods that aim at a length."""

    target: int = setting(ge=1, help="Response tokens that are aimed at.", default_text="half the cap")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The target is half the cap."""
        return {**super().dependent_defaults(given), "target": part_of(given["cap"], 2)}


def part_of(cap: object, parts: int) -> int:
    """One of so many equal parts of a cap, rounded up; 1 of what is no cap and will be refused."""
    return -(-cap // parts) if isinstance(cap, int) and cap > 0 else 1


def group_relative(
    options: GroupRelative,
    *,
    reward: Callable[[Rollouts, State], Tensor],
    advantage: Callable[[Tensor, Tensor], Tensor] = group_normalised,
    cap: int | None = None,
    **parts: Any,
) -> Method:
    """A method that differs from GRPO in its reward: what every length reward of the literature stands on.

    `advantage` takes rewards and group ids. `cap` is what is sampled, where that is not the cap of the options.
    """
    longest = options.cap if cap is None else cap
    return Method(
        cap=lambda step, state: constant_cap(step, cap=longest),
        reward=reward,
        advantage=lambda rewards, rollouts: advantage(rewards, rollouts.group_ids),
        loss=partial(
            surrogate, clip_low=options.clip_low, clip_high=options.clip_high, dual_clip=None,
            aggregate=options.aggregate, cap=longest,
        ),
        normaliser=partial(surrogate_normaliser, aggregate=options.aggregate, cap=longest),
        kl_coef=options.kl_coef,
        kl_kind="k3",
        **parts,
    )  # fmt: skip


REPEATED_SPAN, REPEATED_SHARE = 4, 0.5


def repeats_itself(rollouts: Rollouts) -> Tensor:
    """Whether a response is repetitive, bool [B]: fewer than half of its runs of four tokens are distinct.

    *(ours: the paper does not say how it finds repetition)*
    """
    found = []
    for row in range(len(rollouts)):
        tokens = rollouts.response(row)
        spans = [tuple(tokens[i : i + REPEATED_SPAN]) for i in range(len(tokens) - REPEATED_SPAN + 1)]
        found.append(len(set(spans)) < REPEATED_SHARE * len(spans))
    return torch.tensor(found, device=rollouts.num_tokens.device)
