"""The min-max length term of Kimi k1.5. arXiv 2501.12599."""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import min_max_length


def kimi(*, cap: int, weight: float = 1.0, **common: Any) -> Method:
    """Correctness plus `weight` times the place between the group's shortest (+.5) and longest (-.5) answer."""
    if not weight >= 0:
        raise ConfigError(f"weight is {weight}; give 0 or a positive number, or long answers are paid for")
    return group_relative(
        name="kimi",
        paper="Kimi k1.5: Scaling Reinforcement Learning with LLMs, arXiv 2501.12599",
        summary="adds the place of the length between the group's shortest and longest answer",
        cap=cap,
        reward=lambda r, state: r.correct.float() + weight * min_max_length(r.correct, r.num_tokens, r.group_ids),
        options={"weight": weight},
        **common,
    )
