"""DAPO's soft overlong punishment. arXiv 2503.14476."""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import soft_overlong as punishment


def soft_overlong(
    *, cap: int, cache: int | None = None, clip_high: float = 0.28, aggregate: str = "token-mean", **common: Any
) -> Method:
    """Correctness less a fine that rises from 0 to 1 over the last `cache` tokens (default: a fifth of the cap)."""
    width = -(-cap // 5) if cache is None else cache
    return group_relative(
        name="soft-overlong",
        paper="DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv 2503.14476",
        summary="a fine that rises over the last tokens before the cap",
        cap=cap,
        reward=lambda r, state: r.correct.float() + punishment(r.num_tokens, limit=cap, cache=width),
        options={"cache": width},
        clip_high=clip_high,
        aggregate=aggregate,
        **common,
    )
