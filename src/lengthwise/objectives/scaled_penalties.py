"""Length terms of production trainers with a scale of their own: a cap, a budget, a quantile, a pass rate.

Shapes: B rows (rollouts). ``rewards`` are those of the task, graded or 0 and 1; pass them as ``base`` to
`lengthwise.objectives.gate` beside what comes out here. ``correct`` is right **and** finished. Results are float64.
"""

from __future__ import annotations

import math

import torch

from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import (
    counted_extreme,
    counted_mean,
    group_extreme,
    group_index,
    group_share,
    group_sum,
    in_group_order,
)
from lengthwise.objectives._wide import wide


def linear_length(
    rewards: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    max_tokens: int | torch.Tensor,
    coef: float = 0.25,
    by_reward: bool = False,
    allow_negative: bool = False,
) -> torch.Tensor:
    """Reward minus a price for the share of the cap that was used, scaled by the group's mean reward (prime-rl).

    r'_i = r_i − coef·r̄·n_i/max_tokens,  r̄ the mean reward of the group; ``by_reward``: the price also times r_i.

    prime-rl's "linear" of 2026-06-19; no paper. Its ``gate_by_correctness`` is ``by_reward``: a factor, so a gate
    for rewards of 0 and 1 only (`lengthwise.objectives.gate` asks the verdict).

    Args:
        rewards: float [B], at least 0.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        max_tokens: the cap, at least 1: an int, or an integer tensor [B].
        coef: price of a response as long as the cap in a group whose mean reward is 1, at least 0.
        by_reward: multiply the price by the row's reward.
        allow_negative: accept rewards below 0 as their code does; a mean below 0 then pays for length.

    Returns:
        float64 [B]. All-wrong groups (0) stay 0; all-correct ones and a right group of one pay in full; in mixed
        groups wrong rows pay too, unless ``by_reward``. A wrong row (0) earns more than a right one (1) only if
        coef·r̄ > 1. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count or reward, a cap below 1 in a tensor, or a reward that is not finite.
        ConfigError: ``max_tokens`` or ``coef`` out of range.
    """
    checks.rewarded(rewards, num_tokens, group_ids, negative=allow_negative)
    checks.tokens("max_tokens", max_tokens, num_tokens)
    checks.number("coef", coef, low=0.0)

    index, sizes = group_index(group_ids)
    r = wide(rewards.detach())
    price = coef * counted_mean(r, index, len(sizes), None)[index] * wide(num_tokens) / max_tokens
    return r - (price * r if by_reward else price)


def effort_reward(
    rewards: torch.Tensor,
    num_tokens: torch.Tensor,
    *,
    budget: int | torch.Tensor,
    weight: float = 0.1,
    penalty: float = 1.0,
    marked: torch.Tensor | None = None,
    allow_negative: bool = False,
) -> torch.Tensor:
    """Bonus for a response within the budget of an asked effort, a fine beyond it (NeMo-RL's effort levels).

    e_i = min(1, weight·(1 − n_i/budget));  r'_i = r_i + r_i·max(e_i, 0) + penalty·min(e_i, 0) on marked rows.

    NVIDIA NeMo-RL; no paper. Differs from the authors' code: n counts the response's tokens, theirs those of the
    last message, and 0 if that is not the model's. 0.1 and 1 with a budget of 15,000 is a published setting; their
    default weight is 0.

    Args:
        rewards: float [B], at least 0.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        budget: tokens, at least 1: an int, or an integer tensor [B].
        weight: strength on both sides, at least 0; 0 switches both off.
        penalty: factor of the fine, at least 0.
        marked: bool [B], rows whose prompt asked for the effort; None for all.
        allow_negative: accept rewards below 0 as their code does; within the budget the shorter of two wrong
            answers is then worse.

    Returns:
        float64 [B]. Wrong rows pay beyond the budget, so a right answer of more than budget·(1 + 1/(weight·penalty))
        tokens earns less than a short wrong one; gate it. No group enters, so a group of one, all-correct and
        all-wrong are nothing special. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count or reward, a budget below 1 in a tensor, or a reward that is not finite.
        ConfigError: an option out of range.
    """
    checks.rewarded(rewards, num_tokens, num_tokens, negative=allow_negative)
    checks.tokens("budget", budget, num_tokens)
    checks.number("weight", weight, low=0.0)
    checks.number("penalty", penalty, low=0.0)
    if marked is not None:
        checks.flags("marked", marked)
        checks.same_rows(rewards=rewards, marked=marked)

    r = wide(rewards.detach())
    effort = (weight * (1 - wide(num_tokens) / budget)).clamp(max=1.0)
    changed = r + r * effort.clamp(min=0.0) + penalty * effort.clamp(max=0.0)
    return changed if marked is None else torch.where(marked, changed, r)


def quantile_slack(
    rewards: torch.Tensor,
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    quantile: float = 0.25,
    slack: float = 0.1,
    margin: int = 16,
    rate: float = 0.1,
    most: float = 0.2,
    least: float = 0.8,
) -> torch.Tensor:
    """Fine for right answers that are longer than a low quantile of the group's right lengths allows (miles).

    ref = max(1, linear quantile of the right rows' lengths),  allowed = (1 + slack)·ref + margin; right rows above:
    r'_i = max(min(least, r_i), r_i − min(most, rate·(n_i − allowed)/ref)). Groups with fewer than 2 right rows, and
    wrong rows, keep r_i.

    radixark/miles #1573 (open), with these values; no paper. It divides by the spread afterwards, which makes the
    scale meaningless in all-right groups.

    Args:
        rewards: float [B], of the task.
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        quantile: in [0, 1].
        slack: share of ref that costs nothing, at least 0.
        margin: tokens that cost nothing, at least 0.
        rate: fine for one ref beyond what is allowed, at least 0.
        most: the largest fine, at least 0.
        least: no right reward is fined below it (nor lifted to it), a finite number.

    Returns:
        float64 [B]. A group of one and all-wrong groups keep their rewards. No wrong row is paid by length; one of
        ``least`` or more could earn more than a fined right one. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a reward that is not finite.
        ConfigError: an option out of range.
    """
    checks.rewarded(rewards, num_tokens, group_ids, negative=True)
    checks.flags("correct", correct)
    checks.same_rows(rewards=rewards, correct=correct)
    checks.number("quantile", quantile, low=0.0, high=1.0)
    checks.whole("margin", margin, low=0)
    for name, value in (("slack", slack), ("rate", rate), ("most", most)):
        checks.number(name, value, low=0.0)
    checks.number("least", least)

    index, sizes = group_index(group_ids)
    r, n = wide(rewards.detach()), wide(num_tokens)
    right = group_sum(wide(correct), index, len(sizes))
    reference = _right_quantile(n, correct, index, sizes, quantile).clamp(min=1.0)[index]
    over = n - ((1 + slack) * reference + margin)
    fine = (rate * over / reference).clamp(max=most)
    fined = torch.maximum(r.clamp(max=least), r - fine)
    return torch.where(correct & (right >= 2)[index] & (over > 0), fined, r)


def _right_quantile(
    lengths: torch.Tensor, correct: torch.Tensor, index: torch.Tensor, sizes: torch.Tensor, quantile: float
) -> torch.Tensor:
    """Return the linear quantile of the right rows' lengths, [G]; 0 in a group without one."""
    if len(sizes) == 0:
        return lengths
    # wrong rows come last in their group
    ordered, starts = in_group_order(torch.where(correct, lengths, math.inf), index, sizes)
    last = (group_sum(correct.long(), index, len(sizes)) - 1).clamp(min=0)
    place = quantile * wide(last)
    low, high = ordered[starts + place.floor().long()], ordered[starts + place.ceil().long()]
    return torch.where(torch.isfinite(low), torch.lerp(low, high, place - place.floor()), 0.0)


def gated_decay(
    rewards: torch.Tensor,
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    beta: float = 0.5,
    reference_tokens: int = 32768,
) -> torch.Tensor:
    """Decay of right rewards with their excess over the shortest right one, the less the harder the prompt (NeMo-RL).

    d = 1 − ρ_g,  f_i = d + (1 − d)·exp(−beta·(n_i − min right n)/reference_tokens);  right rows of groups:
    r'_i = max(r_i·f_i, best wrong reward of the group). Wrong rows keep r_i.

    NVIDIA NeMo-RL #4225 (open), with these values; no paper. It counts the tokens of the whole context: pass them
    as ``num_tokens`` for its numbers. Differs from the authors' code: groups by id, not by position.

    Args:
        rewards: float [B], at least 0.
        correct: bool [B], right and finished.
        num_tokens: integer [B], tokens of the response or of the context, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        beta: rate of decay, at least 0.
        reference_tokens: tokens by which an excess is measured, at least 1.

    Returns:
        float64 [B]. A group of one, all-wrong groups and the shortest right answer keep their rewards; all-correct
        groups decay in full. No wrong row earns more than a right one, but ties can arise; a right reward that is
        below a wrong one is lifted to it. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count or reward, or a reward that is not finite.
        ConfigError: an option out of range.
    """
    checks.rewarded(rewards, num_tokens, group_ids, negative=False)
    checks.flags("correct", correct)
    checks.same_rows(rewards=rewards, correct=correct)
    checks.number("beta", beta, low=0.0)
    checks.whole("reference_tokens", reference_tokens, low=1)

    index, sizes = group_index(group_ids)
    r, n = wide(rewards.detach()), wide(num_tokens)
    share = group_share(correct, group_ids)
    shortest = counted_extreme(n, index, len(sizes), "amin", correct)[index]
    factor = 1 - share + share * torch.exp(-beta * (n - shortest) / reference_tokens)
    best_wrong = group_extreme(torch.where(correct, -math.inf, r), index, len(sizes), "amax")[index]
    return torch.where(correct, torch.maximum(r * factor, best_wrong), r)
