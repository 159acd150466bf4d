"""GRPO: group-normalised 0/1 reward and a clipped surrogate. DeepSeekMath, arXiv 2402.03300. Dr. GRPO, 2503.20783.

No length term: an answer that is cut is wrong because it is not finished. The baseline of every method here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import group_normalised


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
    return group_relative(
        name="grpo",
        paper="DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, arXiv 2402.03300",
        summary="group-normalised correctness, no length term",
        cap=cap,
        reward=lambda rollouts, state: rollouts.correct.float(),
        options={"divide_by_std": divide_by_std},
        advantage=partial(group_normalised, divide_by_std=divide_by_std),
        clip_low=clip_low,
        clip_high=clip_high,
        aggregate=aggregate,
        kl_coef=kl_coef,
    )


def dr_grpo(*, cap: int, aggregate: str = "seq-mean-token-sum-norm", **common: Any) -> Method:
    """GRPO without division by the group's standard deviation or by the response's length, by `cap` instead."""
    return group_relative(
        name="dr-grpo",
        paper="Understanding R1-Zero-Like Training: A Critical Perspective, arXiv 2503.20783",
        summary="centred correctness, sums divided by the cap: no bias by length or difficulty",
        cap=cap,
        reward=lambda rollouts, state: rollouts.correct.float(),
        options={},
        advantage=partial(group_normalised, divide_by_std=False),
        aggregate=aggregate,
        **common,
    )
