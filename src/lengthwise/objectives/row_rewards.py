"""Length rewards that look at one row at a time: budgets, prices and schedules of the length.

Shapes: B rows (rollouts). ``correct`` is right **and** finished: an answer that was cut counts as wrong.
"""

from __future__ import annotations

import math

import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._wide import wide
from lengthwise.objectives.advantages import group_normalised


def soft_overlong(num_tokens: torch.Tensor, *, limit: int, cache: int, floor: bool = True) -> torch.Tensor:
    """Penalty that falls from 0 to −1 over the last ``cache`` tokens before the limit; a term to be added.

    0 if n ≤ limit − cache;  (limit − cache − n)/cache if n ≤ limit;  −1 above.

    DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv 2503.14476 (20480 and 4096 there).
    Differs from the authors' code: verl goes on falling above the limit; ``floor=False`` is theirs.

    Args:
        num_tokens: integer [B], response tokens with EOS, at least 0.
        limit: tokens from which the penalty is full, at least 1.
        cache: tokens over which it grows, from 0 to ``limit``; 0 makes a step: 0 up to the limit, −1 above.
        floor: stop at −1.

    Returns:
        float64 [B] in [−1, 0], or (−inf, 0] without the floor. No group and no verdict enters, so all-correct,
        all-wrong and groups of one are nothing special. Empty input gives an empty tensor.

    Raises:
        ShapeError: wrong type, rank or dtype.
        InputError: a negative token count.
        ConfigError: ``limit`` or ``cache`` out of range, or ``cache=0`` without the floor.
    """
    checks.counts("num_tokens", num_tokens)
    checks.whole("limit", limit, low=1)
    checks.whole("cache", cache, low=0)
    if cache > limit:
        raise ConfigError(f"cache is {cache} but limit is {limit}; pass a cache of at most the limit")
    if cache == 0:
        if not floor:
            raise ConfigError("cache is 0 with floor=False, a slope without end; pass a cache of at least 1")
        return -wide(num_tokens > limit)
    slope = (limit - cache - wide(num_tokens)) / cache
    return slope.clamp(min=-1.0 if floor else None, max=0.0)


def cosine_length(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    *,
    limit: int | torch.Tensor,
    correct_range: tuple[float, float] = (0.5, 1.0),
    wrong_range: tuple[float, float] = (-0.5, -1.0),
    clamp: bool = True,
) -> torch.Tensor:
    """Reward on half a cosine of the length: right answers earn less with length, wrong ones lose less.

    R_i = lo + (hi − lo)/2 · (1 + cos(π·min(n_i/limit, 1))), with (lo, hi) by the verdict.

    Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373. Differs from the authors' code:
    open-r1 counts characters (never offered here) and does not clamp, so that above the limit the cosine
    comes back up; ``clamp=False`` is that.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        limit: tokens at which the cosine ends, at least 1: an int, or an integer tensor [B].
        correct_range: (lo, hi) of a right answer, what it earns at the limit and with no token.
        wrong_range: the same of a wrong answer.
        clamp: keep what the limit earns for every longer answer.

    Returns:
        float64 [B] between the smallest and the largest of the four ends. No group enters. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a limit below 1 in a tensor.
        ConfigError: ``limit`` below 1, or a range that is not two finite numbers.
    """
    checks.answers(correct, num_tokens)
    checks.tokens("limit", limit, num_tokens)
    checks.pair("correct_range", correct_range)
    checks.pair("wrong_range", wrong_range)

    share = wide(num_tokens) / limit
    wave = (1 + torch.cos(math.pi * (share.clamp(max=1.0) if clamp else share))) / 2
    right, wrong = (lo + (hi - lo) * wave for lo, hi in (correct_range, wrong_range))
    return torch.where(correct, right, wrong)


def budget_exact(
    correct: torch.Tensor, num_tokens: torch.Tensor, target_tokens: int | torch.Tensor, *, alpha: float = 3e-4
) -> torch.Tensor:
    """Correctness minus a price for every token off the asked length (L1-Exact).

    R_i = c_i − alpha·|n_t − n_i|.

    L1: Controlling How Long A Reasoning Model Thinks With Reinforcement Learning, arXiv 2503.04697.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        target_tokens: the asked length n_t, at least 1: an int, or an integer tensor [B].
        alpha: price of a token, at least 0.

    Returns:
        float64 [B] in (−inf, 1]; a right answer far from the target can earn less than a wrong one at it. No
        group enters. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a target below 1 in a tensor.
        ConfigError: a target below 1, or ``alpha`` out of range.
    """
    _check_budget(correct, num_tokens, target_tokens, alpha)
    return wide(correct) - alpha * (target_tokens - wide(num_tokens)).abs()


def budget_max(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    target_tokens: int | torch.Tensor,
    *,
    alpha: float = 3e-4,
    form: str = "paper",
) -> torch.Tensor:
    """Reward of a right answer that falls as it runs over the asked length (L1-Max).

    ``paper``: R_i = c_i · clip(alpha·(n_t − n_i) + 0.5, 0, 1);
    ``code``: R_i = c_i · (clip(alpha·(n_t − n_i), −1, 1) + 1)/2, half the slope.

    L1: Controlling How Long A Reasoning Model Thinks With Reinforcement Learning, arXiv 2503.04697. Differs
    from the authors' code: theirs is ``form="code"``; their published run script sets no reward flag, so that
    no length term is active in it.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        target_tokens: the asked length n_t, at least 1: an int, or an integer tensor [B].
        alpha: slope per token, at least 0.
        form: ``paper`` or ``code``.

    Returns:
        float64 [B] in [0, 1], 0.5 for a right answer at the target and 0 for every wrong one. No group enters.
        Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a target below 1 in a tensor.
        ConfigError: a target below 1, ``alpha`` out of range or an unknown ``form``.
    """
    _check_budget(correct, num_tokens, target_tokens, alpha)
    checks.choice("form", form, ("paper", "code"))

    left = alpha * (target_tokens - wide(num_tokens))
    share = (left + 0.5).clamp(0.0, 1.0) if form == "paper" else (left.clamp(-1.0, 1.0) + 1) / 2
    return torch.where(correct, share, 0.0)


def _check_budget(
    correct: torch.Tensor, num_tokens: torch.Tensor, target_tokens: int | torch.Tensor, alpha: float
) -> None:
    checks.answers(correct, num_tokens)
    checks.tokens("target_tokens", target_tokens, num_tokens)
    checks.number("alpha", alpha, low=0.0)


def linear_price(correct: torch.Tensor, num_tokens: torch.Tensor, *, price: float) -> torch.Tensor:
    """Correctness minus a fixed price per token: the Lagrangian of accuracy at a mean length (ours).

    R_i = c_i − price·n_i.

    No paper: a baseline of this project. With an advantage that is centred in the group and **not** divided by
    its standard deviation, its expectation is highest on the frontier of accuracy against length.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        price: what one token costs in units of one right answer, at least 0.

    Returns:
        float64 [B] in (−inf, 1]; wrong answers pay too, so a long right answer can earn less than a short
        wrong one. No group enters. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: ``price`` out of range.
    """
    checks.answers(correct, num_tokens)
    checks.number("price", price, low=0.0)
    return wide(correct) - price * wide(num_tokens)


def reference_ratio(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    reference_tokens: torch.Tensor,
    reference_accuracy: torch.Tensor,
    *,
    lam: float = 2.0,
    clip: tuple[float, float] | None = None,
    standardise: bool = False,
) -> torch.Tensor:
    """How much shorter and how much more often right than the reference model on the same prompt.

    R_i = mean_ref(n)/n_i − 1 + lam·(c_i − mean_ref(c)), both means over samples of the reference model.

    O1-Pruner: Length-Harmonizing Fine-Tuning for O1-Like Reasoning Pruning, arXiv 2501.12570. Differs from the
    authors' code: it also clips to [−2, 4] and then z-scores over the data set (``clip=(-2, 4)`` and
    ``standardise=True``), and uses the number as an offline weight, not as a reward. It divides by the
    population's standard deviation; the sample's + 1e-6 is ours.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 1: the formula divides by them.
        reference_tokens: float [B], mean tokens of the reference's samples for the row's prompt, above 0.
        reference_accuracy: float [B], share of right ones among those samples, in [0, 1].
        lam: what one right answer weighs, at least 0.
        clip: lowest and highest value, or None.
        standardise: subtract the mean over all rows and divide by their standard deviation.

    Returns:
        float64 [B] in (−1 − lam, inf) without the options. No group enters. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a token count below 1, or reference numbers out of range.
        ConfigError: ``lam`` or ``clip`` out of range.
    """
    checks.answers(correct, num_tokens)
    for name, value in (("reference_tokens", reference_tokens), ("reference_accuracy", reference_accuracy)):
        checks.row_values(name, value)
        checks.same_rows(**{"num_tokens": num_tokens, name: value})
    _check_rows("num_tokens", num_tokens, num_tokens < 1, "at least 1 token, because the formula divides by it")
    _check_rows("reference_tokens", reference_tokens, reference_tokens <= 0, "a mean length above 0")
    outside = (reference_accuracy < 0) | (reference_accuracy > 1)
    _check_rows("reference_accuracy", reference_accuracy, outside, "a share in [0, 1]")
    checks.number("lam", lam, low=0.0)
    if clip is not None:
        checks.pair("clip", clip)
        if clip[0] > clip[1]:
            raise ConfigError(f"clip is {clip!r}; pass the lower bound first")

    gain = wide(correct) - wide(reference_accuracy)
    reward = wide(reference_tokens) / wide(num_tokens) - 1 + lam * gain
    if clip is not None:
        reward = reward.clamp(*clip)
    return group_normalised(reward, torch.zeros_like(num_tokens)) if standardise else reward


def _check_rows(name: str, values: torch.Tensor, bad: torch.Tensor, wanted: str) -> None:
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(f"{name}[{row}] is {values[row].item()}; pass {wanted}")
