"""Laser, Laser-D, Laser-DE: a bonus for right answers within a target length. arXiv 2505.15612.

In Laser-D the target depends on how often the prompt is solved and is chosen anew from a watched set; Laser-DE also
pays for long wrong answers that do not repeat themselves (exploration).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.method import Method, Observation, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods._parts import group_relative, repeats_itself
from lengthwise.objectives import difficulty_tier, step_bonus, tier_targets

PAPER = "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping, arXiv 2505.15612"


def laser(*, cap: int, target: int | None = None, bonus: float = 0.5, **common: Any) -> Method:
    """Correctness plus `bonus` for right answers of at most `target` tokens (default: half the cap)."""
    goal = target or -(-cap // 2)
    return group_relative(
        name="laser",
        paper=PAPER,
        summary="a bonus for right answers within a fixed target length",
        cap=cap,
        reward=lambda r, state: step_bonus(r.correct, r.num_tokens, r.finished, target=goal, bonus=bonus),
        options={"target": goal, "bonus": bonus},
        **common,
    )


def laser_d(*, cap: int, bonus: float = 0.5, every: int = 20, watched: int = 32, **common: Any) -> Method:
    """Laser with a target per difficulty tier, from `watched` problems every `every` steps."""
    return _by_tier("laser-d", cap, bonus, every, watched, common, explore=False)


def laser_de(*, cap: int, bonus: float = 0.5, every: int = 20, watched: int = 32, **common: Any) -> Method:
    """Laser-D that also pays for long wrong answers which do not repeat themselves."""
    return _by_tier("laser-de", cap, bonus, every, watched, common, explore=True)


def _by_tier(
    name: str, cap: int, bonus: float, every: int, watched: int, common: dict[str, Any], *, explore: bool
) -> Method:
    def reward(r: Rollouts, state: State) -> Tensor:
        targets = torch.tensor(state["targets"], device=r.num_tokens.device)[difficulty_tier(r.correct, r.group_ids)]
        repetitive = repeats_itself(r) if explore else None
        return step_bonus(r.correct, r.num_tokens, r.finished, target=targets, bonus=bonus, repetitive=repetitive)

    def look(state: State, r: Rollouts) -> dict[str, Any]:
        size = int(torch.unique(r.group_ids, return_counts=True)[1].max())  # a group may lack a row that was aborted
        thresholds = sorted({-(-cap * part // 16) for part in range(1, 16)})
        tiers = difficulty_tier(r.correct, r.group_ids)
        found = tier_targets(r.num_tokens, tiers, thresholds=thresholds, group_size=size, fallback=cap)
        return {"targets": found.tolist()}

    return group_relative(
        name=name,
        paper=PAPER,
        summary="a bonus within a target length by difficulty" + (", and for exploring" if explore else ""),
        cap=cap,
        reward=reward,
        options={"bonus": bonus, "every": every, "watched": watched},
        **common,
        initial_state=lambda: {"targets": [cap, cap, cap]},
        observe=Observation(every, watched, look),
    )
