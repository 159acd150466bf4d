"""DLER: a plain truncation reward, done right by the optimiser. arXiv 2510.15110.

An answer that is not finished within the cap is worth 0. Rewards are centred in their group and whitened over
the batch's tokens, ratios are clipped higher upwards than downwards, and prompts whose rollouts all agree are
drawn again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Literal

from lengthwise.config.definition import again, setting
from lengthwise.engine.method import Method
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import Aggregate, DualClip, GroupRelative, part_of, surrogate, surrogate_normaliser
from lengthwise.methods.declaration import CAPS, declare
from lengthwise.objectives import batch_normalised, constant_cap, difficulty_truncation, mixed_groups, truncation

PAPER = "DLER: Doing Length pEnalty Right, arXiv 2510.15110"


class DlerOptions(GroupRelative, DualClip):
    """Options of DLER."""

    clip_high: float = again(GroupRelative, "clip_high", 0.28)
    aggregate: Aggregate = again(GroupRelative, "aggregate", "token-mean")
    kl_coef: float = again(GroupRelative, "kl_coef", 5e-4)
    cut_reward: float = setting(0.0, ge=0, le=1, help="What an answer earns that is right but cut.")
    weights: Literal["tokens", "sequence"] = setting(
        "tokens", help="Whether advantages are whitened over tokens or over responses."
    )  # fmt: skip
    dynamic_sampling: bool = setting(True, help="Draw prompts again whose answers are all right or all wrong.")


class DaDlerOptions(DlerOptions):
    """Options of difficulty-aware DLER."""

    easy_cap: int = setting(ge=1, help="Target for prompts that are solved often.", default_text="half the cap")
    threshold: float = setting(0.5, ge=0, le=1, help="Share of right answers above which a prompt is easy.")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The target of easy prompts is half the cap."""
        return {"easy_cap": part_of(given["cap"], 2)}

    def check(self) -> None:
        """The easy target lies within the cap."""
        super().check()
        if self.easy_cap > self.cap:
            raise ConfigError(
                f"easy_cap is {self.easy_cap} and cap {self.cap}; the target of easy prompts is from 1 to the cap"
            )


@declare(
    "dler",
    DlerOptions,
    paper=PAPER,
    summary="truncation reward, batch-normalised, clip-higher, dynamic sampling",
    knob=CAPS,
)
def dler(options: DlerOptions) -> Method:
    """Doing Length pEnalty Right, with a target of `cap` response tokens.

    Differs from the authors' code: correct but cut earns `cut_reward` 0 (theirs 0.1), a group of one has
    advantage 0.
    """
    return _truncating(options)


@declare(
    "da-dler",
    DaDlerOptions,
    paper=PAPER,
    summary="DLER with a shorter target for prompts that are solved often",
    knob=CAPS,
    one_cap="its easy target is a part of one fixed cap",
)
def da_dler(options: DaDlerOptions) -> Method:
    """DLER with the target `easy_cap` for prompts solved more often than `threshold`.

    How often is measured within `cap`; answers are then scored again at the shorter target *(inferred)*. Other options
    are `dler`'s. The paper starts it from a DLER checkpoint.
    """
    limits, thresholds = (options.cap, options.easy_cap), (options.threshold,)
    return dataclasses.replace(
        _truncating(options),
        reward=lambda r, state: difficulty_truncation(
            r.answer_correct, r.num_tokens, r.group_ids, r.finished,
            limits=limits, thresholds=thresholds, cut_reward=options.cut_reward,
        ),
    )  # fmt: skip


def _truncating(options: DlerOptions) -> Method:
    cap, aggregate = options.cap, options.aggregate
    return Method(
        cap=lambda step, state: constant_cap(step, cap=cap),
        keep=(lambda r: mixed_groups(r.answer_correct, r.group_ids)) if options.dynamic_sampling else None,
        reward=lambda r, state: truncation(
            r.answer_correct, r.num_tokens, r.finished, limit=r.cap, cut_reward=options.cut_reward
        ),
        advantage=lambda rewards, r: batch_normalised(rewards, r.group_ids, r.mask, weights=options.weights),
        loss=partial(
            surrogate, clip_low=options.clip_low, clip_high=options.clip_high, dual_clip=options.dual_clip,
            aggregate=aggregate, cap=cap,
        ),
        normaliser=partial(surrogate_normaliser, aggregate=aggregate, cap=cap),
        kl_coef=options.kl_coef,
        kl_kind="k2",
    )  # fmt: skip
