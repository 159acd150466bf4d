"""SIRI: the response cap goes down and up in cycles; no length term. arXiv 2509.25176; its code was not available."""

from __future__ import annotations

import dataclasses
from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import cap_schedule, group_relative


def siri(
    *,
    cap: int,
    shape: str = "cosine",
    shortest: int | None = None,
    cycle: int = 640,
    clip_high: float = 0.28,
    **common: Any,
) -> Method:
    """GRPO under a moving cap, from `cap` to `shortest` (default: half) and back every `cycle` steps.

    `shape`: cosine, stair *(order of its halves inferred)* or stair-cosine.
    """
    least = shortest or -(-cap // 2)
    plain = group_relative(
        name="siri",
        paper="SIRI: Scaling Iterative Reinforcement Learning with Interleaved Compression, arXiv 2509.25176",
        summary="correctness alone under a cap that falls and rises in cycles",
        cap=cap,
        reward=lambda rollouts, state: rollouts.correct.float(),
        options={"shape": shape, "shortest": least, "cycle": cycle},
        clip_high=clip_high,
        **common,
    )
    return dataclasses.replace(plain, cap=cap_schedule(shape, longest=cap, shortest=least, cycle=cycle))
