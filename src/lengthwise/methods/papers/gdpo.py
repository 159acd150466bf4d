"""GDPO: every reward is normalised in its group before they are added. arXiv 2601.05242."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lengthwise.config.definition import again, setting
from lengthwise.engine.gates import Gate
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import Aggregate, GroupRelative, Targeted, group_relative
from lengthwise.methods.declaration import CAPS, Knob, declare
from lengthwise.methods.gating import verdict_reward
from lengthwise.objectives import decoupled_advantage, mixed_groups
from lengthwise.objectives._wide import wide

REWARDS = ("right", "short", "spare")


class GdpoOptions(Targeted, GroupRelative):
    """Options of GDPO: which rewards there are, and what each weighs once it is normalised."""

    weight_right: float = setting(1.0, ge=0, help="Weight of being right.")
    weight_short: float = setting(1.0, ge=0, help="Weight of keeping within the target.")
    weight_spare: float = setting(0.0, ge=0, help="Weight of the share of the cap that is not used.")
    when_right: bool = setting(True, help="Count the two rewards of length where the answer is right, 0 elsewhere.")
    whiten: Literal["rows", "tokens"] = setting("rows", help="What the batch's spread is taken over: rows, or tokens.")
    dynamic_sampling: bool = setting(True, help="Draw prompts again whose answers are all right or all wrong.")
    clip_high: float = again(GroupRelative, "clip_high", 0.28)
    aggregate: Aggregate = again(GroupRelative, "aggregate", "token-mean")

    def check(self) -> None:
        """At least one reward."""
        super().check()
        if not any(self.weights.values()):
            raise ConfigError("weight_right, weight_short and weight_spare are all 0; give at least one above 0")

    @property
    def weights(self) -> dict[str, float]:
        """The rewards that count, by name."""
        found = dict(zip(REWARDS, (self.weight_right, self.weight_short, self.weight_spare), strict=True))
        return {name: weight for name, weight in found.items() if weight}


@declare(
    "gdpo",
    GdpoOptions,
    paper="GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization, "
    "arXiv 2601.05242",
    summary="right and short are rewards of their own, each normalised in its group before they are added",
    knob=Knob("target", CAPS.values),
    one_cap="its target and the unused share are of one cap",
)
def gdpo(options: GdpoOptions) -> Method:
    """Rewards right, short (within `target`) and spare (unused share of the cap), each by its own mean and spread.

    Their weighted sum is whitened over the batch. `when_right` conditions the rewards of length on being right; without
    it short wrong answers earn, and no model of the paper keeps its accuracy on AIME. Dynamic sampling looks at
    verdicts alone. The reward in the log is the weighted sum before normalisation.
    """
    rewards = partial(named_rewards, options=options)
    gate = Gate(
        shaped=lambda r, state: sum_of(rewards(r), options),
        base=lambda r: options.weight_right * verdict_reward(r),
        way_out="give --option when_right=true, or weigh the rewards of length less",
    )

    def advantage(_: Tensor, r: Rollouts) -> Tensor:
        return decoupled_advantage(
            torch.stack(list(rewards(r).values())), r.correct, r.group_ids, weights=list(options.weights.values()),
            when_right=[options.when_right and name != "right" for name in options.weights], whiten=options.whiten,
            num_tokens=r.num_tokens,
        )  # fmt: skip

    method = group_relative(
        options,
        reward=gate.paid,
        gate=gate,
        keep=(lambda r: mixed_groups(r.correct, r.group_ids)) if options.dynamic_sampling else None,
        measure=partial(_measured, options=options),
    )
    return dataclasses.replace(method, advantage=advantage)


def named_rewards(rollouts: Rollouts, options: GdpoOptions) -> dict[str, Tensor]:
    """The rewards that count, by name, float64 [B] each, conditioned where that is asked for."""
    lengths = wide(rollouts.num_tokens)
    found = {
        "right": verdict_reward(rollouts),
        "short": wide(lengths <= options.target),
        "spare": (1 - lengths / options.cap).clamp(min=0.0),
    }
    if options.when_right:
        found = {name: torch.where(rollouts.correct, reward, 0.0) for name, reward in found.items()}
    return {name: found[name] for name in options.weights}


def sum_of(rewards: Mapping[str, Tensor], options: GdpoOptions) -> Tensor:
    """The weighted sum before any normalisation, float64 [B]."""
    return torch.stack([options.weights[name] * reward for name, reward in rewards.items()]).sum(0)


def _measured(rollouts: Rollouts, state: State, advantages: Tensor, *, options: GdpoOptions) -> dict[str, float]:
    """Of each reward its mean and the share of groups in which it differs; wrong rows above a right one."""
    rewards = named_rewards(rollouts, options)
    groups = rollouts.group_ids[None] == rollouts.group_ids.unique()[:, None]
    found = {}
    for name, reward in rewards.items():
        differs = [bool(reward[group].max() > reward[group].min()) for group in groups]
        found[f"reward_{name}"] = float(reward.mean())
        found[f"spread_{name}"] = sum(differs) / len(differs)
    lowest = torch.full_like(advantages, torch.inf)
    for group in groups:
        right = group & rollouts.correct
        if bool(right.any()):
            lowest[group] = advantages[right].min()
    above = ~rollouts.correct & (advantages > lowest)
    found["wrong_above_right"] = float(above.sum()) / max(int((~rollouts.correct).sum()), 1)
    return found
