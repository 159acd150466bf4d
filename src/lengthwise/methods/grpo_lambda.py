"""GRPO-lambda: the length penalty only for the groups that are solved best. arXiv 2505.18086.

Read from a secondary source: `fraction` is its example, `alpha` ours *(inferred)*.
"""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import selective_length_penalty


def grpo_lambda(
    *, cap: int, fraction: float = 0.2, alpha: float = 0.2, min_accuracy: float = 0.0, **common: Any
) -> Method:
    """The best-solved `fraction` of groups pays up to `alpha` for length, the others nothing."""
    return group_relative(
        name="grpo-lambda",
        paper="Stable Reinforcement Learning for Efficient Reasoning, arXiv 2505.18086",
        summary="a length penalty for the best-solved share of groups only",
        cap=cap,
        reward=lambda r, state: selective_length_penalty(
            r.correct, r.num_tokens, r.group_ids, fraction=fraction, alpha=alpha, min_accuracy=min_accuracy
        ),
        options={"fraction": fraction, "alpha": alpha, "min_accuracy": min_accuracy},
        **common,
    )
