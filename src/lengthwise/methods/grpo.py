"""GRPO: group-normalised 0/1 reward and a clipped surrogate. DeepSeekMath, arXiv 2402.03300.

No length term: an answer that is cut is wrong because it is not finished. The baseline of every method here.
"""

from __future__ import annotations

from functools import partial

from lengthwise.engine.method import Method
from lengthwise.methods._parts import surrogate, surrogate_normaliser
from lengthwise.objectives import constant_cap, group_normalised


def grpo(
    *,
    cap: int,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregate: str = "seq-mean-token-mean",
    divide_by_std: bool = True,
    kl_coef: float = 0.0,
) -> Method:
    """Group-relative policy optimisation with a constant response cap of `cap` tokens."""
    return Method(
        name="grpo",
        paper="DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, arXiv 2402.03300",
        summary="group-normalised correctness, no length term",
        options={
            "cap": cap,
            "clip_low": clip_low,
            "clip_high": clip_high,
            "aggregate": aggregate,
            "divide_by_std": divide_by_std,
            "kl_coef": kl_coef,
        },
        cap=lambda step, state: constant_cap(step, cap=cap),
        reward=lambda rollouts, state: rollouts.correct.float(),
        advantage=lambda rewards, rollouts: group_normalised(rewards, rollouts.group_ids, divide_by_std=divide_by_std),
        loss=partial(surrogate, clip_low=clip_low, clip_high=clip_high, dual_clip=None, aggregate=aggregate, cap=cap),
        normaliser=partial(surrogate_normaliser, aggregate=aggregate, cap=cap),
        kl_coef=kl_coef,
        kl_kind="k3",
    )
