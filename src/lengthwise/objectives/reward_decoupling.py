"""Several rewards in one advantage: each is normalised in its group before they are added (GDPO).

Shapes: K rewards, B rows (rollouts). Statistics are computed in float64 and returned in the dtype of the rewards. Call
it on the whole batch, before it is split into micro-batches.
"""

from __future__ import annotations

import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import centred, group_extreme, group_index, group_sum
from lengthwise.objectives._wide import wide

WHITENINGS = ("rows", "tokens", "none")
# A spread below this share of max(1, |mean|) is the rounding of equal rewards.
_EQUAL = 1e-6


def decoupled_advantage(
    rewards: torch.Tensor,
    correct: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    weights: tuple[float, ...] | list[float] | None = None,
    when_right: bool | tuple[bool, ...] | list[bool] = True,
    whiten: str = "rows",
    num_tokens: torch.Tensor | None = None,
    group_eps: float = 1e-4,
    batch_eps: float = 1e-4,
) -> torch.Tensor:
    """Advantage of several rewards, each by its own mean and spread in the group, added and whitened (GDPO).

    A_k = (r_k − mean_g r_k)/(std_g r_k + group_eps),  S = Σ_k weights_k·A_k,  A = (S − mean S)/(std S + batch_eps),
    sample standard deviations. A conditioned r_k counts where the row is right, and is 0 elsewhere.

    GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization, arXiv 2601.05242.
    Implementations differ: epsilons of 1e-4 as in TRL (1e-6 and 1e-8 elsewhere; the paper prints none); whitening by
    rows as in TRL, NeMo-RL and ms-swift, ``tokens`` is verl's; a group of one gets 0 (verl: its raw reward); a spread
    below 1e-6·max(1, abs(mean)) counts as none, where others turn the rounding of a constant reward into advantages.

    Args:
        rewards: float [K,B], one row for each reward.
        correct: bool [B], right and finished: what conditioned rewards are conditioned on.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.
        weights: K numbers of at least 0, not all 0, on the *normalised* rewards: a factor on a raw one is divided
            away. None for all 1.
        when_right: which rewards are conditioned: all, none, or K flags. A conditioned reward must be at least 0,
            else a wrong row's 0 would be above it.
        whiten: ``rows``, ``tokens`` (each row counts ``num_tokens`` times) or ``none`` (returns S).
        num_tokens: integer [B], read by ``tokens`` only.
        group_eps, batch_eps: added to the standard deviations, above 0.

    Returns:
        Float [B] of mean 0 and standard deviation 1 (weighted by tokens there), or exactly 0 where nothing differs.
        A group of one, and one in which no reward differs, has S = 0. All-wrong: silent where all are conditioned;
        an unconditioned length reward trains on length alone there, and a wrong row can be above a right one.
        All-correct: the other rewards decide. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a reward that is not finite, a conditioned one below 0, or fewer than 2 tokens to whiten over.
        ConfigError: weights out of range or all 0, an unknown ``whiten``, or another option out of range.
    """
    factors, conditioned = _check(rewards, correct, group_ids, weights, when_right)
    checks.choice("whiten", whiten, WHITENINGS)
    checks.number("group_eps", group_eps, above=0.0)
    checks.number("batch_eps", batch_eps, above=0.0)
    weight = _row_weights(correct, num_tokens, whiten)

    index, sizes = group_index(group_ids)
    total = torch.zeros_like(wide(rewards[0].detach()))
    for factor, only_right, reward in zip(factors, conditioned, rewards, strict=True):
        r = wide(reward.detach())
        total += factor * _normalised(torch.where(correct, r, 0.0) if only_right else r, index, sizes, group_eps)
    if whiten != "none" and len(total):
        total = _whitened(total, weight, batch_eps)
    return total.to(rewards.dtype)


def _check(
    rewards: torch.Tensor,
    correct: torch.Tensor,
    group_ids: torch.Tensor,
    weights: tuple[float, ...] | list[float] | None,
    when_right: bool | tuple[bool, ...] | list[bool],
) -> tuple[list[float], list[bool]]:
    """Check the inputs, and return a weight and a condition for each reward."""
    checks.flags("correct", correct)
    checks.ids("group_ids", group_ids)
    checks.same_rows(correct=correct, group_ids=group_ids)
    if weights is not None and not isinstance(weights, (tuple, list)):
        raise ConfigError(f"weights is {weights!r}; pass a tuple or a list")
    checks.kinds("rewards", rewards, None if weights is None else len(weights))
    factors = [1.0] * len(rewards) if weights is None else list(weights)
    conditioned = [when_right] * len(factors) if isinstance(when_right, bool) else list(when_right)
    if len(conditioned) != len(factors) or not all(isinstance(flag, bool) for flag in conditioned):
        raise ConfigError(
            f"when_right is {when_right!r}; pass True, False or one bool for each of {len(factors)} rewards"
        )
    for position, (factor, only_right) in enumerate(zip(factors, conditioned, strict=True)):
        checks.number(f"weights[{position}]", factor, low=0.0)
        _check_reward(f"rewards[{position}]", rewards[position], correct, only_right)
    if not any(factors):
        raise ConfigError(f"weights is {weights!r}, which switches every reward off; pass at least one above 0")
    return factors, conditioned


def _check_reward(name: str, reward: torch.Tensor, correct: torch.Tensor, only_right: bool) -> None:
    checks.row_values(name, reward)
    checks.same_rows(correct=correct, **{name: reward})
    below = correct & (reward < 0)
    if only_right and below.any():
        row = int(below.nonzero()[0])
        raise InputError(
            f"{name}[{row}] is {float(reward[row])} and counts only where the answer is right, so a wrong answer's 0 "
            "would be above it; pass rewards of at least 0, or leave this one out of when_right"
        )


def _row_weights(correct: torch.Tensor, num_tokens: torch.Tensor | None, whiten: str) -> torch.Tensor:
    if whiten != "tokens":
        return torch.ones_like(wide(correct))
    if num_tokens is None:
        raise ConfigError("num_tokens is None; whiten='tokens' counts each row by its tokens, so pass them")
    checks.answers(correct, num_tokens)
    if len(num_tokens) and int(num_tokens.sum()) < 2:
        raise InputError("num_tokens counts fewer than 2 tokens in the batch, too few for a variance; pass at least 2")
    return wide(num_tokens)


def _normalised(values: torch.Tensor, index: torch.Tensor, sizes: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the group-normalised values [B]; 0 in groups whose spread is that of rounding."""
    groups = len(sizes)
    mean = group_sum(values, index, groups) / sizes
    spread = group_extreme(values, index, groups, "amax") - group_extreme(values, index, groups, "amin")
    differs = spread > _EQUAL * mean.abs().clamp(min=1.0)
    centre = centred(values, index, groups, 0.0)
    deviation = (group_sum(centre.square(), index, groups) / (sizes - 1).clamp(min=1)).sqrt()
    return torch.where(differs[index], centre / (deviation[index] + eps), 0.0)


def _whitened(values: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    total = weight.sum()
    mean = (weight * values).sum() / total
    if values.max() - values.min() <= _EQUAL * max(1.0, float(mean.abs())):
        return torch.zeros_like(values)
    centre = values - mean
    deviation = ((weight * centre.square()).sum() / (total - 1)).sqrt()
    return centre / (deviation + eps)
