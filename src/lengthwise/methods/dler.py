"""DLER: a plain truncation reward, done right by the optimiser. arXiv 2510.15110.

An answer that is not finished within the cap is worth 0. Rewards are centred in their group and whitened over
the batch's tokens, ratios are clipped higher upwards than downwards, and prompts whose rollouts all agree are
drawn again.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, Literal

from lengthwise.engine.method import Method
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import surrogate, surrogate_normaliser
from lengthwise.objectives import batch_normalised, constant_cap, difficulty_truncation, mixed_groups, truncation


def dler(
    *,
    cap: int,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = 10.0,
    aggregate: str = "token-mean",
    cut_reward: float = 0.0,
    weights: Literal["tokens", "sequence"] = "tokens",
    dynamic_sampling: bool = True,
    kl_coef: float = 5e-4,
) -> Method:
    """Doing Length pEnalty Right, with a target of `cap` response tokens.

    Differs from the authors' code: correct but cut earns `cut_reward` 0 (theirs 0.1), a group of one has
    advantage 0.
    """
    return Method(
        name="dler",
        paper="DLER: Doing Length pEnalty Right, arXiv 2510.15110",
        summary="truncation reward, batch-normalised, clip-higher, dynamic sampling",
        options={
            "cap": cap,
            "clip_low": clip_low,
            "clip_high": clip_high,
            "dual_clip": dual_clip,
            "aggregate": aggregate,
            "cut_reward": cut_reward,
            "weights": weights,
            "dynamic_sampling": dynamic_sampling,
            "kl_coef": kl_coef,
        },
        cap=lambda step, state: constant_cap(step, cap=cap),
        keep=(lambda rollouts: mixed_groups(rollouts.answer_correct, rollouts.group_ids)) if dynamic_sampling else None,
        reward=lambda rollouts, state: truncation(
            rollouts.answer_correct, rollouts.num_tokens, rollouts.finished, limit=rollouts.cap, cut_reward=cut_reward
        ),
        advantage=lambda rewards, rollouts: batch_normalised(
            rewards, rollouts.group_ids, rollouts.mask, weights=weights
        ),
        loss=partial(
            surrogate,
            clip_low=clip_low,
            clip_high=clip_high,
            dual_clip=dual_clip,
            aggregate=aggregate,
            cap=cap,
        ),
        normaliser=partial(surrogate_normaliser, aggregate=aggregate, cap=cap),
        kl_coef=kl_coef,
        kl_kind="k2",
    )


def da_dler(*, cap: int, easy_cap: int | None = None, threshold: float = 0.5, **options: Any) -> Method:
    """DLER with the target `easy_cap` (default: half the cap) for prompts solved more often than `threshold`.

    How often is measured within `cap`; answers are then scored again at the shorter target *(inferred)*. Other options
    are `dler`'s. The paper starts it from a DLER checkpoint.
    """
    easy = easy_cap or -(-cap // 2)
    if not 1 <= easy <= cap:
        raise ConfigError(f"easy_cap is {easy} and cap {cap}; the target of easy prompts is from 1 to the cap")
    base = dler(cap=cap, **options)
    return dataclasses.replace(
        base,
        name="da-dler",
        summary="DLER with a shorter target for prompts that are solved often",
        options={**base.options, "easy_cap": easy, "threshold": threshold},
        reward=lambda r, state: difficulty_truncation(
            r.answer_correct, r.num_tokens, r.group_ids, r.finished,
            limits=(cap, easy), thresholds=(threshold,), cut_reward=base.options["cut_reward"],
        ),
    )  # fmt: skip
