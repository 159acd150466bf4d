"""ALP: a price per token that rises with how often the prompt is solved. Just Enough Thinking, arXiv 2506.05256."""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import adaptive_penalty


def alp(*, cap: int, beta: float = 1e-7, **common: Any) -> Method:
    """Correctness less `beta` per token, times the group's share of right answers.

    Right and wrong answers pay alike *(unverified)*. Division by the group's std hides the scale of `beta` in groups
    that are all right.
    """
    return group_relative(
        name="alp",
        paper="Just Enough Thinking: Efficient Reasoning with Adaptive Length Penalties, arXiv 2506.05256",
        summary="a price per token that rises with the share of right answers to the prompt",
        cap=cap,
        reward=lambda r, state: adaptive_penalty(r.correct, r.num_tokens, r.group_ids, beta=beta),
        options={"beta": beta},
        **common,
    )
