"""RLOO (Back to Basics, arXiv 2402.14740) and its length penalty (arXiv 2502.04463).

The advantage of a rollout is its reward less the mean of the others of its group.
"""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods._parts import GroupRelative, group_relative
from lengthwise.methods.declaration import CAPS, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import leave_one_out, normalised_length


class RlooLpOptions(Gated):
    """Options of RLOO's length penalty."""

    alpha: float = setting(0.1, ge=0, lt=1, help="The most that a right answer loses by its length.")


@declare(
    "rloo",
    GroupRelative,
    paper="Back to Basics: Revisiting REINFORCE Style Optimization, arXiv 2402.14740",
    summary="correctness less the mean of the group's others, no length term",
    knob=CAPS,
    baseline=True,
)
def rloo(options: GroupRelative) -> Method:
    """Leave-one-out correctness, no length term."""
    return group_relative(options, reward=lambda rollouts, state: rollouts.correct.float(), advantage=leave_one_out)


@declare(
    "rloo-lp",
    RlooLpOptions,
    paper="Training Language Models to Reason Efficiently, arXiv 2502.04463",
    summary="right answers pay for length relative to the group's right ones; leave-one-out",
    knob=Knob("alpha", (0.1, 0.2, 0.05, 0.4)),
    baseline=True,
)
def rloo_lp(options: RlooLpOptions) -> Method:
    """Right answers lose up to `alpha` by their length relative to the group's right answers."""
    return gated(
        options,
        reward=lambda r, state: normalised_length(r.correct, r.num_tokens, r.group_ids, alpha=options.alpha),
        advantage=leave_one_out,
    )
