"""Parts that several methods name: the objectives, fed from the engine's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.method import LossInputs, Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
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


def group_relative(
    *,
    name: str,
    paper: str,
    summary: str,
    cap: int,
    reward: Callable[[Rollouts, State], Tensor],
    options: Mapping[str, Any],
    advantage: Callable[[Tensor, Tensor], Tensor] = group_normalised,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregate: str = "seq-mean-token-mean",
    kl_coef: float = 0.0,
    **parts: Any,
) -> Method:
    """A method that differs from GRPO in its reward: what every length reward of the literature stands on.

    `advantage` takes rewards and group ids. `options` are the method's own; what is said here is added to them.
    """
    return Method(
        name=name,
        paper=paper,
        summary=summary,
        options={
            "cap": cap,
            **options,
            "clip_low": clip_low,
            "clip_high": clip_high,
            "aggregate": aggregate,
            "kl_coef": kl_coef,
        },
        cap=lambda step, state: constant_cap(step, cap=cap),
        reward=reward,
        advantage=lambda rewards, rollouts: advantage(rewards, rollouts.group_ids),
        loss=partial(surrogate, clip_low=clip_low, clip_high=clip_high, dual_clip=None, aggregate=aggregate, cap=cap),
        normaliser=partial(surrogate_normaliser, aggregate=aggregate, cap=cap),
        kl_coef=kl_coef,
        kl_kind="k3",
        **parts,
    )


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
