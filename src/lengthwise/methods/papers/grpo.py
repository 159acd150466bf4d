"""GRPO: group-normalised 0/1 reward and a clipped surrogate. DeepSeekMath, arXiv 2402.03300. Dr. GRPO, 2503.20783.

No length term: an answer that is cut is wrong because it is not finished. The baseline of every method here.
"""

from __future__ import annotations

from functools import partial

from lengthwise.config.definition import again, setting
from lengthwise.engine.method import Method
from lengthwise.methods._parts import Aggregate, GroupRelative, group_relative
from lengthwise.methods.declaration import CAPS, declare
from lengthwise.objectives import group_normalised


class GrpoOptions(GroupRelative):
    """Options of GRPO."""

    divide_by_std: bool = setting(True, help="Divide advantages by the group's standard deviation.")


class DrGrpoOptions(GroupRelative):
    """Options of Dr. GRPO."""

    aggregate: Aggregate = again(GroupRelative, "aggregate", "seq-mean-token-sum-norm")


@declare(
    "grpo",
    GrpoOptions,
    paper="DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, arXiv 2402.03300",
    summary="group-normalised correctness, no length term",
    knob=CAPS,
    baseline=True,
)
def grpo(options: GrpoOptions) -> Method:
    """Group-relative policy optimisation with a constant response cap of `cap` tokens."""
    return group_relative(
        options,
        reward=lambda rollouts, state: rollouts.correct.float(),
        advantage=partial(group_normalised, divide_by_std=options.divide_by_std),
    )


@declare(
    "dr-grpo",
    DrGrpoOptions,
    paper="Understanding R1-Zero-Like Training: A Critical Perspective, arXiv 2503.20783",
    summary="centred correctness, sums divided by the cap: no bias by length or difficulty",
    knob=CAPS,
    baseline=True,
)
def dr_grpo(options: DrGrpoOptions) -> Method:
    """GRPO without division by the group's standard deviation or by the response's length, by `cap` instead."""
    return group_relative(
        options,
        reward=lambda rollouts, state: rollouts.correct.float(),
        advantage=partial(group_normalised, divide_by_std=False),
    )
