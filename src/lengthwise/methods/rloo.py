"""RLOO (Back to Basics, arXiv 2402.14740) and its length penalty (arXiv 2502.04463).

The advantage of a rollout is its reward less the mean of the others of its group.
"""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import leave_one_out, normalised_length


def rloo(*, cap: int, **common: Any) -> Method:
    """Leave-one-out correctness, no length term."""
    return group_relative(
        name="rloo",
        paper="Back to Basics: Revisiting REINFORCE Style Optimization, arXiv 2402.14740",
        summary="correctness less the mean of the group's others, no length term",
        cap=cap,
        reward=lambda rollouts, state: rollouts.correct.float(),
        options={},
        advantage=leave_one_out,
        **common,
    )


def rloo_lp(*, cap: int, alpha: float = 0.1, **common: Any) -> Method:
    """Right answers lose up to `alpha` by their length relative to the group's right answers."""
    return group_relative(
        name="rloo-lp",
        paper="Training Language Models to Reason Efficiently, arXiv 2502.04463",
        summary="right answers pay for length relative to the group's right ones; leave-one-out",
        cap=cap,
        reward=lambda r, state: normalised_length(r.correct, r.num_tokens, r.group_ids, alpha=alpha),
        options={"alpha": alpha},
        advantage=leave_one_out,
        **common,
    )
