"""ShorterBetter: the group's shortest right answer is the target. arXiv 2504.21370."""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import shortest_correct


def shorter_better(*, cap: int, alpha: float = 2.0, beta: float = 1e-3, **common: Any) -> Method:
    """`alpha` for a right answer, less `beta` per token of distance to the group's shortest right one."""
    return group_relative(
        name="shorter-better",
        paper="ShorterBetter: Guiding Reasoning Models to Find Optimal Inference Length, arXiv 2504.21370",
        summary="pays for distance to the group's shortest right answer",
        cap=cap,
        reward=lambda r, state: shortest_correct(r.correct, r.num_tokens, r.group_ids, alpha=alpha, beta=beta),
        options={"alpha": alpha, "beta": beta},
        **common,
    )
