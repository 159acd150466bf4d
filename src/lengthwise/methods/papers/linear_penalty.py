"""prime-rl's linear length penalty of 2026-06-19: a price that the group's pass rate scales. No paper."""

from __future__ import annotations

import dataclasses
from typing import Literal

from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import CENTRED, GatedFirst, gated, verdict_reward
from lengthwise.objectives import length_weighted_baseline, linear_length


class LinearPenaltyOptions(GatedFirst):
    """Options of the linear penalty."""

    coef: float = setting(0.25, ge=0, help="Price of a response as long as the cap where every answer is right.")
    baseline: Literal["rows", "tokens"] = setting(
        "rows", help="Whether the mean that advantages are taken from counts responses or their tokens."
    )  # fmt: skip


@declare(
    "linear-penalty",
    LinearPenaltyOptions,
    paper="prime-rl's linear length penalty (no paper: PrimeIntellect-ai/prime-rl of 2026-06-19)",
    summary="a price for the used share of the cap, times the share of right answers to the prompt",
    knob=Knob("coef", (0.25, 0.5, 0.1, 1.0)),
    wrong="in mixed groups shorter is better",
)
def linear_penalty(options: LinearPenaltyOptions) -> Method:
    """Correctness less `coef` times pass rate times tokens over `cap`, centred and not divided by the spread.

    `baseline` ``tokens`` is their ``length_weighted_baseline``: every token's credit then has mean 0. With gate none
    wrong answers of mixed groups pay too, as there.
    """
    method = gated(
        options,
        reward=lambda r, state: linear_length(
            verdict_reward(r), r.num_tokens, r.group_ids, max_tokens=options.cap, coef=options.coef
        ),
        advantage=CENTRED,
    )
    return method if options.baseline == "rows" else dataclasses.replace(method, advantage=_by_tokens)


def _by_tokens(rewards: Tensor, rollouts: Rollouts) -> Tensor:
    return length_weighted_baseline(rewards, rollouts.num_tokens, rollouts.group_ids)
