"""Length terms of production trainers that compare a row with the lengths of its prompt's other rollouts.

Shapes: B rows (rollouts). ``rewards`` are those of the task, graded or 0 and 1; pass them as ``base`` to
`lengthwise.objectives.gate` beside what comes out here. Statistics use the rows of one group, in float64. In the
trainers the advantage that follows is centred and not divided: ``group_normalised(..., divide_by_std=False)``.
"""

from __future__ import annotations

import math

import torch

from lengthwise.errors import ConfigError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import counted_extreme, counted_mean, group_extreme, group_index, in_group_order
from lengthwise.objectives._wide import wide


def relative_length(
    rewards: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    alpha: float = 0.3,
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Reward divided by one plus its length relative to the group's mean (GR3).

    r'_i = r_i / (1 + alpha·n_i/n̄),  n̄ the mean length of the group, wrong rows too.

    GR3, arXiv 2603.10535, by its abstract and a secondary account; certain only as prime-rl shipped it. 0.3 is that
    account's value: as large as possible while a typical right answer keeps a positive advantage.

    Args:
        rewards: float [B], at least 0.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        alpha: strength, at least 0.
        counted: bool [B], the rows that enter n̄; None for all. With right rows only, no wrong row's length moves a
            right row's pay.

    Returns:
        float64 [B]; with all rows counted a factor in (1/(1 + alpha·K), 1] on r. A group of one and equal lengths
        get 1/(1 + alpha); all-wrong (0) stays 0; all-correct is ordered by length. Without a counted token the
        factor is 1. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count or reward (longer would be better), or one that is not finite.
        ConfigError: ``alpha`` out of range.
    """
    checks.rewarded(rewards, num_tokens, group_ids, negative=False)
    checks.number("alpha", alpha, low=0.0)
    checks.counted(counted, num_tokens)

    index, sizes = group_index(group_ids)
    n = wide(num_tokens)
    mean = counted_mean(n, index, len(sizes), counted)[index]
    relative = torch.where(mean > 0, n / mean, 0.0)
    return wide(rewards.detach()) / (1 + alpha * relative)


def efficiency_bonus(rewards: torch.Tensor, num_tokens: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Up to double the reward for the best answers of a group that are shorter than their mean (prime-rl, April 2026).

    r'_i = r_i·(1 + clamp(1 − n_i/n̄, 0, 1)) on rows with the group's best reward, if that is above 0; n̄ the mean
    length of these rows. Others keep r_i.

    prime-rl's "efficiency" of 2026-04-13; no paper. Their n̄ of 0 gave NaN at first; here it adds nothing.

    Args:
        rewards: float [B]; rows at the group's best are "right", so with graded rewards only the top ones.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.

    Returns:
        float64 [B]. A group of one and equal lengths keep their rewards, and so do all-wrong groups (0 or less); in
        an all-correct group the shorter half earns more. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a reward that is not finite.
    """
    checks.rewarded(rewards, num_tokens, group_ids, negative=True)

    index, sizes = group_index(group_ids)
    r, n = wide(rewards.detach()), wide(num_tokens)
    best = (r > 0) & (r == group_extreme(r, index, len(sizes), "amax")[index])
    mean = counted_mean(n, index, len(sizes), best)[index]
    bonus = torch.where(best & (mean > 0), 1 - n / mean, 0.0).clamp(0.0, 1.0)
    return r * (1 + bonus)


def group_length_bonus(
    rewards: torch.Tensor,
    thinking_tokens: torch.Tensor,
    answer_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    thinking_weight: float = 0.1,
    answer_weight: float = 0.1,
    thinking_bonus: float = 0.0,
    answer_bonus: float = 0.0,
    top_share: float = 0.2,
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bonus for short thinking and a short answer, apart, by their place between the group's extremes (Nemotron).

    r'_i = r_i + thinking_weight·w_i(thinking) + answer_weight·w_i(answer),  w_i = v_i − mean v,
    v_i = 1 − (n_i − min)/(max − min); 0 where all are equal. The shortest non-empty thinking (answer) of the group
    earns its flat bonus if its reward is at least that of rank max(0, ⌊K·top_share⌋ − 1), counted from the best.

    NVIDIA NeMo-Gym; Nemotron 3 Nano report, arXiv 2512.20848 (secondary). Differs from the authors' code: tokens, not
    characters after stripping; equally short rows all earn the flat bonus (ours); weights of 0.1 as in one of their
    published stages (their default is 0, others go to 0.5).

    Args:
        rewards: float [B], of the task.
        thinking_tokens, answer_tokens: integer [B], the two parts of each response, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        thinking_weight, answer_weight: at least 0.
        thinking_bonus, answer_bonus: flat bonuses, at least 0.
        top_share: share of the group whose lowest reward is the threshold, in [0, 1].
        counted: bool [B], the rows that extremes and mean of w are taken over, and that flat bonuses are for; None for
            all. v is then kept in [0, 1], and a group without such a row has no w.

    Returns:
        float64 [B]. All rows are paid, wrong ones too: all-wrong groups train on length alone without a gate, and a
        wrong row can earn more than a right one if the weights exceed the gap of the rewards. A group of one gets
        the flat bonuses only; all-correct is a pure length signal. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a reward that is not finite.
        ConfigError: an option out of range.
    """
    checks.rewarded(rewards, thinking_tokens, group_ids, negative=True, name="thinking_tokens")
    checks.counts("answer_tokens", answer_tokens)
    checks.same_rows(rewards=rewards, answer_tokens=answer_tokens)
    for name, value in (("thinking_weight", thinking_weight), ("answer_weight", answer_weight)):
        checks.number(name, value, low=0.0)
    for name, value in (("thinking_bonus", thinking_bonus), ("answer_bonus", answer_bonus)):
        checks.number(name, value, low=0.0)
    checks.number("top_share", top_share, low=0.0, high=1.0)
    checks.counted(counted, thinking_tokens)

    r = wide(rewards.detach())
    top = r >= _top_reward(r, group_ids, top_share)
    thinking = thinking_weight * _place(thinking_tokens, group_ids, counted)
    answer = answer_weight * _place(answer_tokens, group_ids, counted)
    flat = thinking_bonus * (top & _shortest(thinking_tokens, group_ids, counted))
    return r + thinking + answer + flat + answer_bonus * (top & _shortest(answer_tokens, group_ids, counted))


def _place(lengths: torch.Tensor, group_ids: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    """Return w: 1 for the group's shortest to 0 for its longest, less its mean over the counted rows."""
    index, sizes = group_index(group_ids)
    n = wide(lengths)
    low, high = (counted_extreme(n, index, len(sizes), which, counted)[index] for which in ("amin", "amax"))
    spread = high > low
    place = torch.where(spread, 1 - (n - low) / (high - low).clamp(min=1), 0.0).clamp(0.0, 1.0)
    return torch.where(spread, place - counted_mean(place, index, len(sizes), counted)[index], 0.0)


def _top_reward(rewards: torch.Tensor, group_ids: torch.Tensor, share: float) -> torch.Tensor:
    """Return for each row the reward of rank max(0, ⌊K·share⌋ − 1) of its group, from the best."""
    index, sizes = group_index(group_ids)
    ordered, starts = in_group_order(-rewards, index, sizes)
    # 0.2 of 15 is 3, whatever the product in floating point
    rank = ((wide(sizes) * share + 1e-9).floor().long() - 1).clamp(min=0)
    return -ordered[starts + rank][index]


def _shortest(lengths: torch.Tensor, group_ids: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    """Return which counted rows are the shortest non-empty ones of their group."""
    index, sizes = group_index(group_ids)
    there = lengths > 0 if counted is None else (lengths > 0) & counted
    n = torch.where(there, wide(lengths), math.inf)
    return there & (n == group_extreme(n, index, len(sizes), "amin")[index])


def max_share_penalty(
    rewards: torch.Tensor,
    lengths: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    weights: tuple[float, ...] | list[float] = (0.1,),
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Price of each kind of length by its share of the group's largest, times the group's mean reward (prime-rl).

    r'_i = r_i − r̄·Σ_k weights_k·x_ki / max(1, max over the group of x_k),  r̄ the mean reward of the group.

    prime-rl of 2026-08-21: output tokens .25, input tokens .1, turns .1; no paper. With one row of tokens and 0.1 it
    is our ``relative`` form.

    Args:
        rewards: float [B], at least 0.
        lengths: integer [K,B], K kinds of length of the same rows, each at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        weights: K numbers of at least 0; while their sum is below 1 a wrong answer (0) never earns what a right one
            (1) does.
        counted: bool [B], the rows that the largest lengths are taken over; None for all. Shares are then cut at 1.

    Returns:
        float64 [B]. Wrong rows pay too; all-wrong groups (0) stay 0; a group of one pays all weights times its
        reward; all-correct groups pay in full. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative length or reward, or a reward that is not finite.
        ConfigError: other than K weights, or one out of range.
    """
    if not isinstance(weights, (tuple, list)):
        raise ConfigError(f"weights is {weights!r}; pass a tuple or a list")
    checks.kinds("lengths", lengths, len(weights))
    for position, weight in enumerate(weights):
        checks.number(f"weights[{position}]", weight, low=0.0)
        checks.rewarded(rewards, lengths[position], group_ids, negative=False, name=f"lengths[{position}]")
    checks.counted(counted, lengths[0])

    index, sizes = group_index(group_ids)
    r, price = wide(rewards.detach()), torch.zeros_like(wide(rewards.detach()))
    for weight, length in zip(weights, lengths, strict=True):
        n = wide(length)
        largest = counted_extreme(n, index, len(sizes), "amax", counted).clamp(min=1)[index]
        price += weight * (n / largest).clamp(max=1.0)
    return r - counted_mean(r, index, len(sizes), None)[index] * price
