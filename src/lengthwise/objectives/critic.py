"""The value model's loss and how well its values fit. Shapes: B rows (rollouts), T response tokens."""

from __future__ import annotations

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._gradients import with_gradient
from lengthwise.objectives._wide import wide


def clipped_value(
    values: torch.Tensor,
    old_values: torch.Tensor,
    returns: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip_low: float = 0.5,
    clip_high: float = 0.6,
    normaliser: float | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Squared error of the values with a pessimistic clip around the old ones, a mean over responses.

    l = max((V − G)², (clip(V, V_old − clip_low, V_old + clip_high) − G)²);
    loss ½ · mean over rows with a token of the mean of l over the row's tokens.

    Truncated Proximal Policy Optimization, arXiv 2506.15050; bounds from its public code (not the authors').
    Differs from that code: rows without a token do not enter the mean, whose scale would follow their number.

    Args:
        values: float [B,T], V under the weights that learn; the only argument with a gradient.
        old_values: float [B,T], same dtype, V when each token was new.
        returns: float [B,T], same dtype, `returns_to_go`.
        mask: bool [B,T], all tokens of done responses; an unfinished row has none. Padding may hold anything.
        clip_low, clip_high: distances from the old value, at least 0.
        normaliser: done rows of the whole mini-batch, to be passed with each of its micro-batches so that
            their losses add up; None counts those of this mask.

    Returns:
        The loss (0-d), and a dict of detached 0-d sums over tokens that add up over micro-batches:
        ``value_clipped`` (tokens whose gradient the clip made 0), ``value_error_sum`` ((V − G)²),
        ``value_tokens``. Without a done row the loss and its gradient are exactly 0. Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: a number inside the mask that is not finite, or more rows than ``normaliser``.
        ConfigError: an option out of range.
    """
    checks.token_mask(mask)
    checks.token_values(mask, values=values, old_values=old_values, returns=returns)
    checks.number("clip_low", clip_low, low=0.0)
    checks.number("clip_high", clip_high, low=0.0)
    num_tokens = mask.sum(dim=1, dtype=torch.int32)
    rows = int(torch.count_nonzero(num_tokens))
    if normaliser is not None:
        checks.number("normaliser", normaliser, above=0.0)
        if rows > normaliser:
            raise InputError(f"normaliser is {normaliser} but {rows} rows have a token; count the whole mini-batch")
    weight = 1 / (wide(num_tokens.clamp(min=1)) * (max(rows, 1) if normaliser is None else normaliser))
    weight = weight.to(values.dtype)

    goal = checks.masked("returns", returns, mask)
    error = checks.masked("values", values, mask).sub_(goal)
    old_error = checks.masked("old_values", old_values, mask).sub_(goal)
    # clip(V, lo, hi) − G = clip(V − G, lo − G, hi − G)
    bounded = torch.maximum(error, old_error - clip_low)
    bounded = torch.minimum(bounded, old_error.add_(clip_high), out=bounded).abs_()
    clipped = (bounded > error.abs()) & mask
    error_sum = error.square().sum()
    worst = torch.where(clipped, bounded, error)
    value = 0.5 * (worst.square_().sum(dim=1) * weight).sum()
    gradient = error.masked_fill_(clipped, 0.0).mul_(weight[:, None])
    stats = {
        "value_clipped": torch.count_nonzero(clipped).to(error.dtype),
        "value_error_sum": error_sum,
        "value_tokens": num_tokens.sum().to(error.dtype),
    }
    return with_gradient(values, value, gradient), stats


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float | None:
    """Return which share of the variance of the targets the values explain: 1 perfect, 0 no better than a constant.

    1 − Var(G − V)/Var(G) over the masked tokens.

    Args:
        values: float [B,T], the value model's predictions.
        returns: float [B,T], same dtype, their targets.
        mask: bool [B,T], the tokens that count; rows without any are allowed.

    Returns:
        A float of at most 1, or None where it is not defined: fewer than two tokens, or constant targets (all
        answers right or all wrong). Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: a number inside the mask that is not finite.
    """
    checks.token_mask(mask)
    checks.token_values(mask, values=values, returns=returns)
    checks.masked("values", values, mask)
    checks.masked("returns", returns, mask)

    goal = wide(returns.detach()[mask])
    if goal.numel() < 2 or goal.max() == goal.min():
        return None
    return 1.0 - float((goal - wide(values.detach()[mask])).var() / goal.var())
