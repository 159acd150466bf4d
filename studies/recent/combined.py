"""Combinations that nobody has published, on witnesses: what is trained in turn.

The first ones are put together from methods as they are; the last ones ask what the frontier's own gradient needs. That
gradient is of accuracy less a price per token, summed over a response's tokens: no division by the spread, none by the
response's own length, and as little noise as can be had.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.method import Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.lab import witnesses
from lengthwise.lab.words import ASK_SHORT
from lengthwise.methods import build_method
from lengthwise.methods.moving_cap import under_schedule
from lengthwise.objectives import leave_one_out, mixed_groups
from lengthwise.objectives._wide import wide
from studies.lab.worlds import World

PRICE = 0.002
"""That of the plain price's long runs."""
SUMMED = "seq-mean-token-sum-norm"
FAST = {"lr": 4e-4, "warmup_steps": 20}
PRIOR_ROWS = 2.0
"""How many rows the mean of a prompt counts for in the mean of a state."""
Make = Callable[[World], Method]


@dataclass(frozen=True)
class Combination:
    """What is trained in turn, each phase a method and its share of the batches.

    `train` are settings other than the plain price's; `world` is witnesses, with two modes or without.
    """

    phases: tuple[tuple[Make, float], ...]
    train: Mapping[str, Any] = field(default_factory=dict)
    world: str = "witnesses"

    def __post_init__(self) -> None:
        if abs(sum(share for _, share in self.phases) - 1) > 1e-9:
            raise ConfigError("the shares of the phases do not add up to 1; give each its share of the batches")


def loop_of(method: str, world: World, **options: Any) -> Method:
    """A method's training loop; the cap is the world's longest unless it is given."""
    found = build_method(method, **{"cap": world.longest, **options}).loop
    if found is None:
        raise ConfigError(f"{method} has no training loop")
    return dataclasses.replace(found, prepare=(), finish=())


def priced(world: World, **options: Any) -> Method:
    """The plain price, summed over tokens."""
    return loop_of("linear-price", world, price=PRICE, aggregate=SUMMED, **options)


def budget_met(world: World) -> Method:
    """LACONIC's multiplier behind the gate that is shut where a prompt is not solved and half open where half is."""
    return loop_of("laconic", world, target=30, rate=0.01, high=0.3, gate="rate-right", aggregate=SUMMED)


def asked_short(world: World) -> Method:
    """CRISP towards the short mode, of a reasoner that has two."""
    return loop_of("crisp", world, instruction=ASK_SHORT, instruction_sep="", every=50)


def capped(world: World) -> Method:
    """DLER under the cap that lost least in the lab's study."""
    return loop_of("dler", world, cap=66, kl_coef=0.0)


def drpo_siri(world: World) -> Method:
    """DRPO's loss under SIRI's cap; T-PPO's windows, the third part, refuse a loss that couples a group."""
    return under_schedule(loop_of("drpo", world, lam=0.2), "cosine", longest=world.longest, shortest=39, cycle=80)


def sft_filtered(world: World) -> Method:
    """On-Policy SFT on the groups that DLER keeps."""
    plain = loop_of("on-policy-sft", world, cap=66)
    return dataclasses.replace(plain, keep=lambda r: mixed_groups(r.correct, r.group_ids))


def stated(world: World) -> Method:
    """The price, each token's credit less the mean reward of the batch's other rows that stood where it stands."""
    ids = world.sets["test"].problems.tokenizer.get_vocab()
    most = witnesses.MOST_READINGS
    tallies = torch.tensor([ids[f"={tally}"] for tally in range(-most, most + 1)])
    return dataclasses.replace(priced(world), advantage=partial(by_state, tallies=tallies))


def states(rollouts: Rollouts, tallies: Tensor) -> Tensor:
    """Where each token was written, int [B, T]: one for tokens behind the same prompt, readings, tally and word."""
    words = rollouts.completion_ids
    is_tally = torch.isin(words, tallies) & rollouts.mask
    places = torch.arange(words.shape[1], device=words.device)
    last = torch.where(is_tally, places, -1).cummax(1).values.roll(1, 1)
    last[:, 0] = -1
    tally = torch.where(last >= 0, words.gather(1, last.clamp(min=0)), -1)
    readings = is_tally.long().cumsum(1).roll(1, 1)
    readings[:, 0] = 0
    before = words.roll(1, 1)
    before[:, 0] = -1
    prompt = torch.unique(rollouts.prompt_ids, dim=0, return_inverse=True)[1]
    key = torch.stack([prompt[:, None].expand_as(words), readings, tally, before], -1)
    return torch.unique(key.reshape(-1, 4), dim=0, return_inverse=True)[1].view_as(words)


def by_state(rewards: Tensor, rollouts: Rollouts, *, tallies: Tensor) -> Tensor:
    """Reward less the mean of other rows in the same state, float64 [B, T]; few rows are helped by the prompt's mean.

    A baseline that depends on what stands before a token alone leaves the gradient unbiased, and takes from it the luck
    of the readings before.
    """
    prompt = torch.unique(rollouts.prompt_ids, dim=0, return_inverse=True)[1]
    reward = wide(rewards)
    others = reward - leave_one_out(reward, prompt)
    index = states(rollouts, tallies)
    mask = rollouts.train_mask
    there, own, prior = index[mask], reward[:, None].expand_as(mask)[mask], others[:, None].expand_as(mask)[mask]
    sums = reward.new_zeros(int(index.max()) + 1).index_add(0, there, own)
    rows = torch.bincount(there, minlength=len(sums)).to(reward)
    baseline = (sums[there] - own + PRIOR_ROWS * prior) / (rows[there] - 1 + PRIOR_ROWS)
    found = reward.new_zeros(mask.shape)
    found[mask] = own - baseline
    return found


COMBINED: Mapping[str, Combination] = {
    "crisp-dler": Combination(((asked_short, 0.5), (capped, 0.5)), world="witnesses-modes"),
    "drpo-siri": Combination(((drpo_siri, 1.0),)),
    "price-laconic": Combination(((budget_met, 1.0),)),
    "sft-dler-filter": Combination(((sft_filtered, 1.0),), {"updates": 1}),
    "price-summed": Combination(((priced, 1.0),)),
    "price-fast": Combination(((priced, 1.0),), FAST),
    "price-hot": Combination(((priced, 1.0),), {**FAST, "temperature": 1.3}),
    "price-stated": Combination(((stated, 1.0),)),
}
