"""A mean length to be met: a cost beyond the target, and the multiplier that moves until it is met (LACONIC).

Shapes: B rows (rollouts). The caller keeps the multiplier between batches (and in its checkpoint): score the whole
batch with the old one first, then update it once, however many optimizer steps the batch gives.
"""

from __future__ import annotations

import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._wide import wide


def constrained_cost(
    rewards: torch.Tensor,
    num_tokens: torch.Tensor,
    *,
    target: int,
    multiplier: float,
    max_tokens: int | torch.Tensor,
    most: float = 0.4,
    hit: float = 0.1,
) -> torch.Tensor:
    """Reward minus a price for the excess over a target length, which `updated_multiplier` moves (LACONIC).

    R_i = r_i − min(λ·u_i, most) − hit·[n_i ≥ max_tokens],  u_i = max(0, n_i/target − 1).

    LACONIC, arXiv 2602.14468, by a secondary account, its README and its scripts; the released trainer was not read.
    Inferred: that ``hit`` is not inside ``most``, and the order of the two. Differs from development versions of the
    code, which price n/target instead of the excess, or right rows alone. The scripts have 0.4 and 0.1 beside a task
    reward of 0.9 for right: while most + hit is below what right earns more, a long right answer stays above a short
    wrong one.

    Args:
        rewards: float [B], of the task.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        target: mean length to be met, at least 1 and below the cap: else nothing would ever cost.
        multiplier: λ from before this batch, at least 0.
        max_tokens: the cap, at least 1: an int, or an integer tensor [B].
        most: the largest price of the excess, at least 0.
        hit: what a response costs that reaches the cap, at least 0.

    Returns:
        float64 [B], at most ``rewards`` and at least that − most − hit; equal to it up to ``target``, and for λ = 0
        but for ``hit``. Wrong rows pay too: an all-wrong group trains on length alone without a `gate`. No group
        enters, so a group of one and all-correct are nothing special. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, a cap below 1 in a tensor, or a reward that is not finite.
        ConfigError: an option out of range, or a target that is not below every cap.
    """
    checks.rewarded(rewards, num_tokens, num_tokens, negative=True)
    checks.whole("target", target, low=1)
    checks.tokens("max_tokens", max_tokens, num_tokens)
    _check_target(target, max_tokens)
    for name, value in (("multiplier", multiplier), ("most", most), ("hit", hit)):
        checks.number(name, value, low=0.0)

    excess = (wide(num_tokens) / target - 1).clamp(min=0.0)
    price = (multiplier * excess).clamp(max=most)
    return wide(rewards.detach()) - price - hit * wide(num_tokens.long() >= max_tokens)


def _check_target(target: int, max_tokens: int | torch.Tensor) -> None:
    if isinstance(max_tokens, torch.Tensor) and len(max_tokens) == 0:
        return
    smallest = int(max_tokens.min()) if isinstance(max_tokens, torch.Tensor) else max_tokens
    if target >= smallest:
        raise ConfigError(
            f"target is {target} but the cap is {smallest}, so no length would ever cost; pass a target below the cap"
        )


def updated_multiplier(
    multiplier: float,
    num_tokens: torch.Tensor,
    *,
    target: int,
    rate: float,
    low: float = 0.0,
    high: float,
    form: str = "signed",
) -> float:
    """Return the multiplier for the next batch: up where the mean length is above the target, else down (LACONIC).

    λ ← clip(λ + rate·(mean n/target − 1), low, high);  ``excess``: the mean of max(0, n/target − 1) instead, with
    which λ can never fall.

    LACONIC, arXiv 2602.14468, by its README and development versions of its code; one of these mixes 0.9 of the new
    value with 0.1 of the old (not offered). Its scripts have a rate of 0.001 or 0.002 and ``high`` of 0.1 or 0.5.

    Args:
        multiplier: λ, in [low, high].
        num_tokens: integer [B], lengths of the batch that was just scored, wrong answers too, at least one row.
        target: at least 1.
        rate: step size, at least 0.
        low, high: bounds of λ, 0 ≤ low ≤ high. At ``high`` with a mean above the target the target is not met:
            report it.
        form: ``signed`` or ``excess``.

    Returns:
        A float in [low, high]; λ itself where the mean is the target. No verdict and no group enters, so a group of
        one, all-correct and all-wrong are nothing special.

    Raises:
        ShapeError: ``num_tokens`` is not integer [B].
        InputError: an empty batch, which has no mean, or a negative token count.
        ConfigError: an option out of range or unknown.
    """
    checks.counts("num_tokens", num_tokens)
    if len(num_tokens) == 0:
        raise InputError("num_tokens has no row, and an empty batch has no mean; keep the old multiplier instead")
    checks.whole("target", target, low=1)
    checks.number("rate", rate, low=0.0)
    checks.number("low", low, low=0.0)
    checks.number("high", high, low=low)
    checks.number("multiplier", multiplier, low=low, high=high)
    checks.choice("form", form, ("signed", "excess"))

    n = wide(num_tokens)
    # the mean first, so that a mean at the target is a step of exactly 0
    step = float(n.mean() / target - 1 if form == "signed" else (n / target - 1).clamp(min=0.0).mean())
    return min(max(multiplier + rate * step, low), high)
