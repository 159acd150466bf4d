"""Rewards with a memory, each as a pure pair: the reward from what is known, and the function that learns more.

Shapes: B rows (rollouts). The caller keeps what is known between batches (and in its checkpoint): score the
whole batch with the old memory first, then update it. ``correct`` is right **and** finished.
"""

from __future__ import annotations

import math

import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import group_extreme, group_index, group_share
from lengthwise.objectives._wide import wide
from lengthwise.objectives.row_rewards import linear_price

# more tokens than any response has; stands for "no length known" while taking a minimum
_NONE_KNOWN = torch.iinfo(torch.int64).max
_WORST_CORRECT = -0.7


def history_length(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    shortest: torch.Tensor,
    *,
    weight: float = 1.0,
    form: str = "cosine",
    tolerance: float = 0.1,
) -> torch.Tensor:
    """Correctness plus how the length compares with the shortest right answer seen before (HAPO).

    h the shortest known, w the weight. R_i = c_i + w·part, part 0 where no h is known.
    ``cosine``: q = cos(π/2 · n/h) if n < 2h, else −1; part max(q, −0.7) if correct, min(q, 0) if wrong.
    ``linear``: below h: 1 − n/h if correct, 0 if wrong; up to (1 + tolerance)·h: 0; above:
    −(n − (1 + tolerance)·h)/h, at least −0.7 if correct and −1 if wrong.

    HAPO: Training Language Models to Reason Concisely via History-Aware Policy Optimization, arXiv 2505.11225.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        shortest: integer [B], the shortest right answer to the row's problem in **earlier** batches; 0 for
            none. Afterwards call `updated_history`.
        weight: w, at least 0; up to 1, a right answer never earns less than a wrong one.
        form: ``cosine`` or ``linear``.
        tolerance: share above h that costs nothing, at least 0; read by ``linear`` only.

    Returns:
        float64 [B] in [−w, 1 + w]. Groups do not enter, so all-correct, all-wrong and groups of one are
        nothing special. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative count.
        ConfigError: an option out of range or unknown.
    """
    checks.answers(correct, num_tokens)
    checks.counts("shortest", shortest)
    checks.same_rows(num_tokens=num_tokens, shortest=shortest)
    checks.number("weight", weight, low=0.0)
    checks.choice("form", form, ("cosine", "linear"))
    checks.number("tolerance", tolerance, low=0.0)

    ratio = wide(num_tokens) / shortest.clamp(min=1)
    if form == "cosine":
        curve = torch.where(ratio < 2, torch.cos(math.pi / 2 * ratio), -1.0)
        right, wrong = curve.clamp(min=_WORST_CORRECT), curve.clamp(max=0.0)
    else:
        late = (1 + tolerance - ratio).clamp(max=0.0)
        right = torch.where(ratio < 1, 1 - ratio, late.clamp(min=_WORST_CORRECT))
        wrong = late.clamp(min=-1.0)
    part = torch.where(shortest > 0, torch.where(correct, right, wrong), 0.0)
    return wide(correct) + weight * part


def updated_history(
    shortest: torch.Tensor, correct: torch.Tensor, num_tokens: torch.Tensor, problem_ids: torch.Tensor
) -> torch.Tensor:
    """Return the shortest right answer known to each row's problem once this batch is seen (HAPO).

    h ← min(h, the lengths of the correct rows of the problem).  HAPO, arXiv 2505.11225.

    Args:
        shortest: integer [B], what was known before; 0 for nothing. Where rows of a problem disagree (several
            workers) the smallest counts.
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0; a right answer of no token is left out.
        problem_ids: integer [B], the problem for ever, also across groups.

    Returns:
        int64 [B], equal for all rows of a problem, never above a known ``shortest``; still 0 where all rows are
        wrong and nothing was known. A group of one is nothing special. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative count.
    """
    checks.answers(correct, num_tokens)
    checks.counts("shortest", shortest)
    checks.ids("problem_ids", problem_ids)
    checks.same_rows(num_tokens=num_tokens, shortest=shortest, problem_ids=problem_ids)

    index, sizes = group_index(problem_ids)
    known = torch.where(shortest > 0, shortest.long(), _NONE_KNOWN)
    seen = torch.where(correct & (num_tokens > 0), num_tokens.long(), _NONE_KNOWN)
    best = group_extreme(torch.minimum(known, seen), index, len(sizes), "amin")[index]
    return torch.where(best == _NONE_KNOWN, 0, best)


def step_bonus(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    finished: torch.Tensor,
    *,
    target: int | torch.Tensor,
    bonus: float = 0.5,
    base: tuple[float, float, float] = (1.0, 0.0, 0.0),
    repetitive: torch.Tensor | None = None,
) -> torch.Tensor:
    """Reward with a bonus for right answers within a target length (Laser, Laser-D, Laser-DE).

    R_i = base + bonus·c_i·[n_i ≤ target_i];  with ``repetitive`` (Laser-DE) also + bonus where the answer is
    wrong, not cut, longer than the target and not repetitive.

    Learn to Reason Efficiently with Adaptive Length-based Reward Shaping, arXiv 2505.15612 (target 4096 in
    Laser). Laser-D takes its target by tier: ``tier_targets(...)[difficulty_tier(correct, group_ids)]``.
    Differs from the authors' code: their base is 1 and −0.5, and another value for cut answers.

    Args:
        correct: bool [B], right and finished; a right answer that was cut counts as cut.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        finished: bool [B], ended by EOS.
        target: tokens, at least 1: an int, or an integer tensor [B].
        bonus: at least 0.
        base: what a right, a wrong and a cut answer earn.
        repetitive: bool [B], the caller's verdict that a text repeats itself; None leaves exploration unpaid.

    Returns:
        float32 [B]. A right answer never earns less than a wrong one, but for Laser-DE with a bonus above the
        gap of its base. Groups enter through the tier alone. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a target below 1 in a tensor.
        ConfigError: an option out of range.
    """
    checks.answers(correct, num_tokens)
    checks.flags("finished", finished)
    checks.same_rows(correct=correct, finished=finished)
    checks.tokens("target", target, num_tokens)
    checks.number("bonus", bonus, low=0.0)
    if not isinstance(base, (tuple, list)) or len(base) != 3:
        raise ConfigError(f"base is {base!r}; pass what a right, a wrong and a cut answer earn")
    for position, value in enumerate(base):
        checks.number(f"base[{position}]", value)

    within = num_tokens.long() <= target
    earned = correct & finished & within
    if repetitive is not None:
        checks.flags("repetitive", repetitive)
        checks.same_rows(correct=correct, repetitive=repetitive)
        earned = earned | (~correct & finished & ~within & ~repetitive)
    right, wrong, cut = base
    start = torch.full_like(num_tokens, cut, dtype=torch.float32)
    start = start.masked_fill(finished, wrong).masked_fill(correct & finished, right)
    return start + bonus * earned.float()


def difficulty_tier(correct: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Return how often each row's group solves its prompt: 0 low, 1 medium, 2 high (Laser-D).

    p the share of correct rows: 2 if p ≥ 2/3, 1 if p ≥ 1/3, else 0.  Laser-D, arXiv 2505.15612.

    Args:
        correct: bool [B], right and finished.
        group_ids: integer [B], equal for the rollouts of one prompt.

    Returns:
        int64 [B]; all-correct groups are 2, all-wrong ones 0, a group of one is 0 or 2. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
    """
    checks.flags("correct", correct)
    checks.ids("group_ids", group_ids)
    checks.same_rows(correct=correct, group_ids=group_ids)

    share = group_share(correct, group_ids)
    return (share >= 1 / 3).long() + (share >= 2 / 3).long()


def tier_targets(
    num_tokens: torch.Tensor,
    tiers: torch.Tensor,
    *,
    thresholds: tuple[int, ...] | list[int],
    group_size: int,
    fallback: int,
) -> torch.Tensor:
    """Return the target length of each tier from the lengths of a monitored set (Laser-D).

    The smallest threshold l < fallback with ⌊cov(tier, l)·k⌋ ≥ 1, else the fallback; cov the share of the
    tier's monitored responses with n ≤ l; k = ⌊2K/3⌋, ⌊K/3⌋, 1 for the high, the medium and the low tier.

    Laser-D, arXiv 2505.15612. Differs from the authors' code: the fallback is the caller's cap, theirs is the
    longest response of the batch. By the floor rule the low tier moves only where every response is within l.

    Args:
        num_tokens: integer [B], lengths of the monitored responses, EOS included, at least 0.
        tiers: integer [B], their `difficulty_tier`: 0, 1 or 2.
        thresholds: strictly rising lengths to choose from, each at least 1.
        group_size: K, responses per monitored prompt, at least 1.
        fallback: tokens, at least 1.

    Returns:
        int64 [3], indexed by tier. A tier without responses, and an empty set, get the fallback; so do the
        high and the medium tier where K is too small for a k of 1 (a group of one).

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a tier that is not 0, 1 or 2.
        ConfigError: an option out of range or order.
    """
    checks.counts("num_tokens", num_tokens)
    checks.ids("tiers", tiers)
    checks.same_rows(num_tokens=num_tokens, tiers=tiers)
    unknown = (tiers < 0) | (tiers > 2)
    if unknown.any():
        row = int(unknown.nonzero()[0])
        raise InputError(f"tiers[{row}] is {int(tiers[row])}; pass 0 (low), 1 (medium) or 2 (high)")
    for position, threshold in enumerate(thresholds):
        checks.whole(f"thresholds[{position}]", threshold, low=1)
    if list(thresholds) != sorted(set(thresholds)):
        raise ConfigError(f"thresholds is {thresholds!r}; pass strictly rising lengths")
    checks.whole("group_size", group_size, low=1)
    checks.whole("fallback", fallback, low=1)

    targets = torch.full((3,), fallback, device=num_tokens.device)
    for tier, least in enumerate((1, group_size // 3, 2 * group_size // 3)):
        lengths = num_tokens[tiers == tier]
        for threshold in thresholds:
            # integers, because 1/3 of 3 must be 1
            covered = int((lengths <= threshold).sum()) * least
            if threshold < fallback and covered >= len(lengths) > 0:
                targets[tier] = threshold
                break
    return targets


def adaptive_weight(correct: torch.Tensor, num_tokens: torch.Tensor, *, weight: float) -> torch.Tensor:
    """Correctness minus a price per token that `updated_weight` moves from batch to batch (A-DLP).

    R_i = c_i − λ_t·n_i: `linear_price` at the price of the step.

    Thinking Fast and Right: Balancing Accuracy and Reasoning Length with Adaptive Rewards, arXiv 2505.18298.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        weight: λ_t from before this batch, at least 0.

    Returns:
        float64 [B] in (−inf, 1]; a right answer can earn less than a wrong one. No group enters, so
        all-correct, all-wrong and groups of one are nothing special. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: ``weight`` out of range.
    """
    checks.number("weight", weight, low=0.0)
    return linear_price(correct, num_tokens, price=weight)


def updated_weight(weight: float, correct: torch.Tensor, *, rate: float, reference_accuracy: float) -> float:
    """Return the price per token for the next batch (A-DLP).

    λ ← max(0, λ + rate·(acc − acc_ref)), acc the share of correct rows of the batch that was just scored.

    Thinking Fast and Right, arXiv 2505.18298.

    Args:
        weight: λ, at least 0.
        correct: bool [B], right and finished, at least one row.
        rate: step size (the paper's η), at least 0.
        reference_accuracy: acc_ref, in [0, 1].

    Returns:
        A float of at least 0; it rises where the batch is better than the reference. All-correct and all-wrong
        batches have accuracy 1 and 0.

    Raises:
        ShapeError: ``correct`` is not bool [B].
        InputError: an empty batch, which has no accuracy.
        ConfigError: an option out of range.
    """
    checks.number("weight", weight, low=0.0)
    checks.flags("correct", correct)
    if len(correct) == 0:
        raise InputError("correct has no row, and an empty batch has no accuracy; keep the old weight instead")
    checks.number("rate", rate, low=0.0)
    checks.number("reference_accuracy", reference_accuracy, low=0.0, high=1.0)
    return max(0.0, weight + rate * (float(wide(correct).mean()) - reference_accuracy))
