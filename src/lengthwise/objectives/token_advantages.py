"""Advantages of single tokens from a value model, for whole responses and for windows of them (PPO, T-PPO).

Shapes: B rows (rollouts), T tokens of the current window (or of the response). No gradient flows through these.
What T-PPO's paper leaves out is taken from its ancestors VC-PPO (arXiv 2503.01491) and VAPO (arXiv 2504.05118)
and from public work-in-progress code; the paper's own hyper-parameters were not available.
"""

from __future__ import annotations

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._wide import wide, wide_dtype

# Columns walked at a time: small enough to stay in the cache once transposed.
_CHUNK = 64


def _row_lambda(lam: float | torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if not isinstance(lam, torch.Tensor):
        checks.number("lam", lam, low=0.0, high=1.0)
        return torch.full((len(mask),), lam, dtype=wide_dtype(mask.device), device=mask.device)
    checks.row_values("lam", lam)
    checks.same_rows(mask=mask, lam=lam)
    outside = (lam < 0) | (lam > 1)
    if outside.any():
        row = int(outside.nonzero()[0])
        raise InputError(f"lam[{row}] is {float(lam[row])}; pass one number in [0, 1] per row")
    return wide(lam)


def _discounted_sums(terms: torch.Tensor, decay: torch.Tensor) -> None:
    """Turn ``terms`` [B,T] into x_t = terms_t + decay·x_{t+1}, in place; decay [B]."""
    carry = torch.zeros_like(decay)
    for stop in range(terms.shape[1], 0, -_CHUNK):
        chunk = terms[:, max(0, stop - _CHUNK) : stop]
        columns = chunk.t().contiguous()
        for column in reversed(columns.unbind()):
            carry = column.addcmul_(decay, carry)
        chunk.copy_(columns.t())


def egae(
    token_rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    done: torch.Tensor,
    *,
    gamma: float = 1.0,
    lam: float | torch.Tensor = 0.95,
) -> torch.Tensor:
    """Extended generalised advantage estimate of a window: needs no ending (T-PPO).

    n tokens in the row's window:  δ_t = r_t + γ·V_next(t) − V_t,  V_next(t) = V_{t+1} for t < n − 1,
    V_next(n − 1) = 0 if done, V_{n−1} if not;  A_t = Σ_{k=0}^{n−t−1} (γ·lam)^k · δ_{t+k}.
    The value after a cut is not seen; the last known one stands for it.

    Truncated Proximal Policy Optimization, arXiv 2506.15050. Differs from the public code (not the authors'): a
    reward on the last token of an unfinished window is kept, and flags are booleans (it negates integers).

    Args:
        token_rewards: float [B,T], mostly 0, the verdict on the last token of a done response.
        values: float [B,T], same dtype, V before each token.
        mask: bool [B,T], the window's tokens, from the first column on, at least one in each row.
        done: bool [B], ended by EOS **or** at the response cap.
        gamma: discount, in [0, 1].
        lam: in [0, 1], one number or float [B] (`length_adaptive_lambda`).

    Returns:
        Float [B,T] in the dtype of ``values``, 0 outside the mask. Groups do not enter, so all-correct,
        all-wrong and groups of one are nothing special. At gamma 1, an unfinished row without reward ends in
        exactly 0, and a constant V gives exact zeros.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: no row, a row without a token or with a gap, a number inside the mask that is not finite.
        ConfigError: ``gamma`` or ``lam`` out of range.
    """
    checks.number("gamma", gamma, low=0.0, high=1.0)
    num_tokens = checks.mask_tokens(mask)
    checks.token_values(mask, token_rewards=token_rewards, values=values)
    checks.flags("done", done)
    checks.same_rows(mask=mask, done=done)
    checks.unbroken(mask)
    decay = (gamma * _row_lambda(lam, mask)).to(values.dtype)

    known = checks.masked("values", values, mask)
    result = checks.masked("token_rewards", token_rewards, mask)
    last = (num_tokens - 1)[:, None]
    unseen = known.gather(1, last).masked_fill(done[:, None], 0.0)
    result.sub_(known)
    result[:, :-1].add_(known[:, 1:], alpha=gamma)
    result.scatter_add_(1, last, gamma * unseen)
    _discounted_sums(result, decay)
    return result


def gae(
    token_rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    *,
    gamma: float = 1.0,
    lam: float | torch.Tensor = 0.95,
) -> torch.Tensor:
    """Generalised advantage estimate of whole responses: `egae` with every row done.

    δ_t = r_t + γ·V_{t+1} − V_t with V = 0 after the last token;  A_t = Σ_k (γ·lam)^k · δ_{t+k}.

    High-Dimensional Continuous Control Using Generalized Advantage Estimation, arXiv 1506.02438.

    Args:
        token_rewards: float [B,T], mostly 0, the verdict on the last token.
        values: float [B,T], same dtype, V before each token.
        mask: bool [B,T], the response tokens, from the first column on, at least one in each row.
        gamma: discount, in [0, 1].
        lam: in [0, 1], one number or float [B].

    Returns:
        Float [B,T], 0 outside the mask; with lam 1, gamma 1 and one reward R at the end, R − V_t. Groups do
        not enter.

    Raises:
        ShapeError, InputError, ConfigError: as in `egae`.
    """
    checks.token_mask(mask)
    done = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
    return egae(token_rewards, values, mask, done, gamma=gamma, lam=lam)


def returns_to_go(token_rewards: torch.Tensor, mask: torch.Tensor, *, gamma: float = 1.0) -> torch.Tensor:
    """Discounted sum of the rewards from each token on: the value model's target, for done responses only.

    G_t = Σ_{k≥t} γ^{k−t}·r_k over the **whole** response (λ_critic = 1).

    VC-PPO, arXiv 2503.01491; T-PPO, arXiv 2506.15050. Differs from the public code (not the authors'): that is
    undiscounted, which is the same at gamma 1.

    Args:
        token_rewards: float [B,T] of whole responses.
        mask: bool [B,T], the response tokens, from the first column on, at least one in each row.
        gamma: discount, in [0, 1].

    Returns:
        Float [B,T], 0 outside the mask; the verdict R at every token when gamma is 1 and R is the only reward.
        Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: no row, a row without a token or with a gap, a reward inside the mask that is not finite.
        ConfigError: ``gamma`` out of range.
    """
    checks.number("gamma", gamma, low=0.0, high=1.0)
    checks.mask_tokens(mask)
    checks.token_values(mask, token_rewards=token_rewards)
    checks.unbroken(mask)

    result = checks.masked("token_rewards", token_rewards, mask)
    _discounted_sums(result, torch.full_like(result[:, 0], gamma))
    return result


def length_adaptive_lambda(
    num_tokens: torch.Tensor, done: torch.Tensor, *, window: int, alpha: float = 0.05, floor: float = 0.95
) -> torch.Tensor:
    """Return λ of the policy's advantages, closer to 1 the longer the response.

    λ = max(floor, 1 − 1/(alpha·n_eff)),  n_eff = n if done, n + ⌊window/2⌋ if not: an unfinished response is
    expected to go on.

    VAPO, arXiv 2504.05118; for windows T-PPO, arXiv 2506.15050.

    Args:
        num_tokens: integer [B], tokens of the whole response so far, at least 0.
        done: bool [B], ended by EOS or at the response cap.
        window: tokens generated per iteration, at least 1.
        alpha: above 0; the floor binds up to n_eff = 1/(alpha·(1 − floor)), 400 at the defaults.
        floor: in [0, 1].

    Returns:
        float64 [B] in [floor, 1], never negative. Groups do not enter. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: an option out of range.
    """
    checks.counts("num_tokens", num_tokens)
    checks.flags("done", done)
    checks.same_rows(num_tokens=num_tokens, done=done)
    checks.whole("window", window, low=1)
    checks.number("alpha", alpha, above=0.0)
    checks.number("floor", floor, low=0.0, high=1.0)

    expected = wide(num_tokens + torch.where(done, 0, window // 2))
    # no token at all gives 1 − 1/0 = −inf, which the floor lifts
    return (1 - 1 / (alpha * expected)).clamp(min=floor)


def window_mask(mask: torch.Tensor, done: torch.Tensor, *, window: int, tail_ignore: int = 0) -> torch.Tensor:
    """Mark the tokens of the current window that the policy learns from (T-PPO).

    All n tokens of the window, but for the last ``tail_ignore`` of an unfinished one.

    T-PPO, arXiv 2506.15050. Differs from the public code (not the authors'), which ignores 8: every token is
    used by default, as reviews of the paper report.

    Args:
        mask: bool [B,T], the tokens of the current window, from the first column on, at least one in each row.
        done: bool [B], ended by EOS or at the response cap. An unfinished row fills its window.
        window: tokens generated per iteration, at least 1.
        tail_ignore: from 0 to ``window`` − 1.

    Returns:
        Bool [B,T]. Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: no row, a row without a token or with a gap, a row longer than the window, or an unfinished
            row that is shorter.
        ConfigError: ``window`` or ``tail_ignore`` out of range.
    """
    checks.whole("window", window, low=1)
    checks.whole("tail_ignore", tail_ignore, low=0)
    checks.number("tail_ignore", tail_ignore, low=0, high=window - 1)
    num_tokens = checks.mask_tokens(mask)
    checks.flags("done", done)
    checks.same_rows(mask=mask, done=done)
    checks.unbroken(mask)
    odd = (num_tokens > window) | (~done & (num_tokens != window))
    if odd.any():
        row = int(odd.nonzero()[0])
        state = "done" if done[row] else "unfinished"
        raise InputError(
            f"mask row {row} is {state} with {int(num_tokens[row])} tokens in a window of {window}; "
            "pass at most the window, and all of it where a response goes on"
        )
    early = torch.arange(mask.shape[1], device=mask.device) < window - tail_ignore
    return mask & (done[:, None] | early)


def whitened(
    advantages: torch.Tensor, mask: torch.Tensor, *, clamp: float | None = 10.0, eps: float = 1e-8
) -> torch.Tensor:
    """Advantages with mean 0 and variance 1 over the masked tokens of the whole batch, clamped.

    A' = (A − mean)/√(var + eps), variance with N − 1, clamped to [−clamp, clamp]; 0 outside the mask.

    T-PPO, arXiv 2506.15050, by its public code (not the authors').

    Args:
        advantages: float [B,T] of the whole batch, before it is split into micro-batches.
        mask: bool [B,T], the tokens that the policy learns from; rows without any are allowed.
        clamp: above 0, or None.
        eps: added to the variance, above 0.

    Returns:
        Float [B,T]; all zeros when fewer than two tokens count. Groups do not enter. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: a number inside the mask that is not finite.
        ConfigError: an option out of range.
    """
    checks.token_mask(mask)
    checks.token_values(mask, advantages=advantages)
    checks.number("eps", eps, above=0.0)
    if clamp is not None:
        checks.number("clamp", clamp, above=0.0)

    tokens = int(torch.count_nonzero(mask))
    result = checks.masked("advantages", advantages, mask)
    if tokens < 2:
        return result.zero_()
    padding = ~mask
    result.sub_(result.sum() / tokens).masked_fill_(padding, 0.0)
    result.div_((result.square().sum() / (tokens - 1) + eps).sqrt())
    return result if clamp is None else result.clamp_(-clamp, clamp)
