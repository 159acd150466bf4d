"""Losses: per-token log-probabilities and advantages in, one scalar and its counts out.

Shapes: B rows (rollouts), T response tokens. The gradients are written by hand: one [B,T] buffer is kept for
backward instead of one for every intermediate, and what stands in the padding can never reach it.
"""

from __future__ import annotations

import math

import torch

from lengthwise.errors import ConfigError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._gradients import LOG_RATIO_BOUND, log_difference, with_gradient
from lengthwise.objectives._wide import wide
from lengthwise.objectives.critic import clipped_value as clipped_value
from lengthwise.objectives.critic import explained_variance as explained_variance
from lengthwise.objectives.decoupled import drpo as drpo
from lengthwise.objectives.decoupled import drpo_questions as drpo_questions
from lengthwise.objectives.decoupled import drpo_weights as drpo_weights
from lengthwise.objectives.likelihood import filtered_likelihood as filtered_likelihood
from lengthwise.objectives.likelihood import filtered_normaliser as filtered_normaliser
from lengthwise.objectives.likelihood import mode_switch as mode_switch
from lengthwise.objectives.likelihood import positive_lm as positive_lm

AGGREGATES = ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")
KL_KINDS = ("k1", "k2", "k3")


def loss_normaliser(mask: torch.Tensor, *, aggregate: str = "token-mean", max_tokens: int | None = None) -> int:
    """Return the denominator of a whole mini-batch, to be passed to the loss of each of its micro-batches.

    ``token-mean``: Σ mask, the tokens.  ``seq-mean-token-mean`` and ``seq-mean-token-sum``: B, the rows.
    ``seq-mean-token-sum-norm``: B · max_tokens.

    Args:
        mask: bool [B,T] of the whole mini-batch, at least one token in each row.
        aggregate: how the loss averages, see `clipped_surrogate`.
        max_tokens: tokens, at least 1; needed and read by ``seq-mean-token-sum-norm`` only.

    Returns:
        A positive int.

    Raises:
        ShapeError: ``mask`` is not bool [B,T].
        InputError: a row without a token, or no row.
        ConfigError: an unknown ``aggregate``, or ``max_tokens`` missing or out of range.
    """
    checks.choice("aggregate", aggregate, AGGREGATES)
    return _normaliser(checks.mask_tokens(mask), aggregate, max_tokens)


def _normaliser(num_tokens: torch.Tensor, aggregate: str, max_tokens: int | None) -> int:
    if aggregate == "token-mean":
        return int(num_tokens.sum())
    if aggregate != "seq-mean-token-sum-norm":
        return len(num_tokens)
    if max_tokens is None:
        raise ConfigError("max_tokens is None; seq-mean-token-sum-norm needs the longest cap of the run")
    checks.whole("max_tokens", max_tokens, low=1)
    return len(num_tokens) * max_tokens


def _row_weights(
    num_tokens: torch.Tensor, aggregate: str, normaliser: float | None, max_tokens: int | None
) -> torch.Tensor:
    """Return what one token of each row weighs in the loss, float64 [B]; every aggregate is such a column."""
    if normaliser is None:
        normaliser = _normaliser(num_tokens, aggregate, max_tokens)
    else:
        checks.number("normaliser", normaliser, above=0.0)
    tokens = wide(num_tokens) if aggregate == "seq-mean-token-mean" else wide(torch.ones_like(num_tokens))
    return 1 / (tokens * normaliser)


def _token_credit(advantages: torch.Tensor, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return advantages as [B,1], or as [B,T] with 0 in the padding; refuse what is not finite elsewhere."""
    checks.credit(advantages, mask)
    if advantages.dim() == 1:
        checks.row_values("advantages", advantages)
        return advantages.detach().to(dtype)[:, None]
    return checks.masked("advantages", advantages, mask).to(dtype)


def _surrogate(
    log_ratio: torch.Tensor,
    credit: torch.Tensor,
    padding: torch.Tensor,
    row_weight: torch.Tensor,
    bounds: tuple[float, float, float],
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss, its gradient by logp [B,T] and the counts. Uses up ``log_ratio``."""
    lowest, highest, dual = bounds
    frozen = (log_ratio < -LOG_RATIO_BOUND) | (log_ratio > LOG_RATIO_BOUND)
    log_ratio.clamp_(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    ratio = log_ratio.exp()
    # expm1(d) − d keeps its digits near d = 0, where exp(d) − 1 − d loses all of them
    approx_kl = torch.expm1(log_ratio).sub_(log_ratio).sum()
    gains, harms = credit > 0, credit < 0
    high = gains & (ratio > highest)
    low = harms & (ratio < lowest)
    dual_low = harms & (ratio > dual)
    # the ratio is 1 in the padding, where nothing is clipped; 0 from here on
    ratio.masked_fill_(padding, 0.0)
    # count_nonzero, because sum() of a bool tensor first copies it to int64, twice the size of a float buffer
    stats = {
        "clipped_high": torch.count_nonzero(high),
        "clipped_low": torch.count_nonzero(low),
        "dual_clipped": torch.count_nonzero(dual_low),
        "tokens": padding.numel() - torch.count_nonzero(padding),
        "ratio_sum": ratio.sum(),
        "ratio_max": ratio.max(),
        "approx_kl_sum": approx_kl,
    }
    frozen.logical_or_(high).logical_or_(low).logical_or_(dual_low)
    bounded = log_ratio.copy_(ratio).masked_fill_(high, highest).masked_fill_(low, lowest)
    bounded.masked_fill_(dual_low, dual).mul_(credit)
    value = -(row_weight * bounded.sum(dim=1)).sum()
    gradient = ratio.masked_fill_(frozen, 0.0).mul_(credit).mul_(-row_weight[:, None])
    return value, gradient, {name: stat.to(ratio.dtype) for name, stat in stats.items()}


def clipped_surrogate(
    logp: torch.Tensor,
    old_logp: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = 10.0,
    aggregate: str = "token-mean",
    normaliser: float | None = None,
    max_tokens: int | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Clipped policy-gradient loss with its own bound on each side and a dual clip for negative advantages.

    s = exp(clamp(logp − old_logp, −20, 20));  l = max(−A·s, −A·clip(s, 1 − clip_low, 1 + clip_high));
    where A < 0 also l = min(l, −A·dual_clip).  Loss Σ_it mask·l/N, where N is the number of tokens for
    ``token-mean``, rows for ``seq-mean-token-sum``, rows · max_tokens for ``seq-mean-token-sum-norm``, and
    for ``seq-mean-token-mean`` the number of rows, after each row was divided by its own tokens.

    DLER, arXiv 2510.15110; clip-higher: DAPO, arXiv 2503.14476; dual clip: arXiv 1912.09729; division by a
    constant length: Understanding R1-Zero-Like Training (Dr. GRPO), arXiv 2503.20783. The token mean is that
    of DLER's code; their paper averages over each sequence, then over rows.

    Args:
        logp: float [B,T], log-probabilities under the weights that learn; the only argument with a gradient.
        old_logp: float [B,T], same dtype, taken as a constant.
        advantages: float [B] or [B,T], taken as a constant.
        mask: bool [B,T], the tokens to learn from, at least one in each row. Padding may hold anything.
        clip_low, clip_high: distances of the bounds from 1, in [0, 1] and at least 0.
        dual_clip: largest ratio that counts where A < 0, above 1; None turns it off.
        aggregate: one of the four words above.
        normaliser: N of the whole mini-batch (`loss_normaliser`); None takes it from this mask.
        max_tokens: the longest cap of the run, read by ``seq-mean-token-sum-norm`` without a normaliser only.

    Returns:
        The loss (0-d), and a dict of detached 0-d sums that add up over micro-batches: ``clipped_high``,
        ``clipped_low``, ``dual_clipped`` (tokens whose gradient that clip made 0), ``tokens``, ``ratio_sum``,
        ``approx_kl_sum`` (s − 1 − log s); only ``ratio_max`` is joined by max. Rows with A = 0 (a group of
        one, all correct, all wrong) add loss 0 and gradient 0.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: no row, a row without a token, or a token inside the mask that is not finite.
        ConfigError: an option out of range or unknown.
    """
    _check_clips(clip_low, clip_high, dual_clip)
    checks.choice("aggregate", aggregate, AGGREGATES)
    num_tokens = checks.mask_tokens(mask)
    checks.token_values(mask, logp=logp, old_logp=old_logp)
    row_weight = _row_weights(num_tokens, aggregate, normaliser, max_tokens).to(logp.dtype)
    credit = _token_credit(advantages, mask, logp.dtype)

    padding = ~mask
    bounds = (1 - clip_low, 1 + clip_high, math.inf if dual_clip is None else dual_clip)
    log_ratio = log_difference(logp.detach(), old_logp.detach(), "old_logp", padding)
    value, gradient, stats = _surrogate(log_ratio, credit, padding, row_weight, bounds)
    return with_gradient(logp, value, gradient), stats


def _check_clips(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    checks.number("clip_low", clip_low, low=0.0, high=1.0)
    checks.number("clip_high", clip_high, low=0.0)
    if dual_clip is not None:
        checks.number("dual_clip", dual_clip, above=1.0)


def _kl_terms(log_ratio: torch.Tensor, kind: str, padding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed penalty and its gradient by logp [B,T]. Uses up ``log_ratio``."""
    if kind == "k1":
        return log_ratio.sum(), log_ratio.copy_(~padding)
    if kind == "k2":
        return 0.5 * log_ratio.square().sum(), log_ratio
    frozen = (log_ratio < -LOG_RATIO_BOUND) | (log_ratio > LOG_RATIO_BOUND)
    log_ratio.clamp_(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
    inverse = torch.expm1(-log_ratio)
    value = log_ratio.add_(inverse).sum()
    return value, inverse.neg_().masked_fill_(frozen, 0.0)


def kl_penalty(
    logp: torch.Tensor,
    ref_logp: torch.Tensor,
    mask: torch.Tensor,
    *,
    kind: str = "k2",
    normaliser: float | None = None,
) -> torch.Tensor:
    """Token mean of an estimate of KL(policy || reference) from tokens that the policy sampled.

    d = logp − ref_logp.  ``k1``: d;  ``k2``: d²/2;  ``k3``: exp(−d) − 1 + d, with d clamped to [−20, 20].
    Result Σ_it mask·k / N, N = Σ mask.

    DLER, arXiv 2510.15110 (coefficient 5e-4 there); k3 as in DeepSeekMath (GRPO), arXiv 2402.03300. Differs
    from the authors' code: k2 is the default, as in the paper; one of their scripts leaves k3. As a loss, k2
    has the gradient of the KL in expectation; k1's is 0 in expectation, so it is a measure rather than a
    penalty.

    Args:
        logp: float [B,T], log-probabilities under the weights that learn; the only argument with a gradient.
        ref_logp: float [B,T], same dtype, taken as a constant.
        mask: bool [B,T], the tokens that count, at least one in each row. Padding may hold anything.
        kind: ``k1``, ``k2`` or ``k3``.
        normaliser: tokens of the whole mini-batch (`loss_normaliser`); None takes them from this mask.

    Returns:
        A 0-d tensor, at least 0 for k2 and k3. Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: no row, a row without a token, or a token inside the mask that is not finite.
        ConfigError: an unknown ``kind``, or ``normaliser`` not above 0.
    """
    checks.choice("kind", kind, KL_KINDS)
    num_tokens = checks.mask_tokens(mask)
    checks.token_values(mask, logp=logp, ref_logp=ref_logp)
    weight = float(_row_weights(num_tokens, "token-mean", normaliser, None)[0])

    padding = ~mask
    log_ratio = log_difference(logp.detach(), ref_logp.detach(), "ref_logp", padding)
    total, gradient = _kl_terms(log_ratio, kind, padding)
    return with_gradient(logp, total * weight, gradient.mul_(weight))
