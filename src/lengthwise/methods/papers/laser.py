"""Laser, Laser-D, Laser-DE: a bonus for right answers within a target length. arXiv 2505.15612.

In Laser-D the target depends on how often the prompt is solved and is chosen anew from a watched set; Laser-DE also
pays for long wrong answers that do not repeat themselves (exploration).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method, Observation, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods._parts import Targeted, repeats_itself
from lengthwise.methods.declaration import BONUSES, CAPS, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import difficulty_tier, step_bonus, tier_targets

PAPER = "Learn to Reason Efficiently with Adaptive Length-based Reward Shaping, arXiv 2505.15612"


ONE_CAP = "its targets are chosen from a set that is sampled under one fixed cap"


class Bonus(Gated):
    """What all three share."""

    bonus: float = setting(0.5, ge=0, help="What a right answer within the target earns besides.")


class LaserOptions(Targeted, Bonus):
    """Options of Laser."""


class LaserDOptions(Bonus):
    """Options of Laser-D and Laser-DE."""

    every: int = setting(20, ge=1, help="Steps between two looks at the watched problems.")
    watched: int = setting(32, ge=1, help="Problems that are watched to choose the targets.")


@declare(
    "laser",
    LaserOptions,
    paper=PAPER,
    summary="a bonus for right answers within a fixed target length",
    knob=Knob("target", CAPS.values),
    baseline=True,
)
def laser(options: LaserOptions) -> Method:
    """Correctness plus `bonus` for right answers of at most `target` tokens."""
    return gated(
        options,
        reward=lambda r, state: step_bonus(
            r.correct, r.num_tokens, r.finished, target=options.target, bonus=options.bonus
        ),
    )


@declare(
    "laser-d",
    LaserDOptions,
    paper=PAPER,
    summary="a bonus within a target length by difficulty",
    knob=Knob("bonus", BONUSES),
    one_cap=ONE_CAP,
    baseline=True,
)
def laser_d(options: LaserDOptions) -> Method:
    """Laser with a target per difficulty tier, from `watched` problems every `every` steps."""
    return _by_tier(options, explore=False)


@declare(
    "laser-de",
    LaserDOptions,
    paper=PAPER,
    summary="a bonus within a target length by difficulty, and for exploring",
    wrong="beyond the target longer is better, which is meant",
    knob=Knob("bonus", BONUSES),
    one_cap=ONE_CAP,
    baseline=True,
)
def laser_de(options: LaserDOptions) -> Method:
    """Laser-D that also pays for long wrong answers which do not repeat themselves."""
    return _by_tier(options, explore=True)


def _by_tier(options: LaserDOptions, *, explore: bool) -> Method:
    cap, bonus = options.cap, options.bonus

    def reward(r: Rollouts, state: State) -> Tensor:
        targets = torch.tensor(state["targets"], device=r.num_tokens.device)[difficulty_tier(r.correct, r.group_ids)]
        repetitive = _repetitive(r, targets) if explore else None
        return step_bonus(r.correct, r.num_tokens, r.finished, target=targets, bonus=bonus, repetitive=repetitive)

    def look(state: State, r: Rollouts) -> dict[str, object]:
        size = int(torch.unique(r.group_ids, return_counts=True)[1].max())  # a group may lack a row that was aborted
        thresholds = sorted({-(-cap * part // 16) for part in range(1, 16)})
        tiers = difficulty_tier(r.correct, r.group_ids)
        found = tier_targets(r.num_tokens, tiers, thresholds=thresholds, group_size=size, fallback=cap)
        return {"targets": found.tolist()}

    return gated(
        options,
        reward=reward,
        initial_state=lambda: {"targets": [cap, cap, cap]},
        observe=Observation(options.every, options.watched, look),
    )


def _repetitive(r: Rollouts, targets: Tensor) -> Tensor:
    """Whether a response repeats itself, bool [B]; looked for only where it is paid: wrong ones beyond the target."""
    asked = ~r.correct & (r.num_tokens > targets)
    found = torch.zeros_like(asked)
    if bool(asked.any()):
        found[asked] = repeats_itself(r.select(asked))
    return found
