"""DRPO: right answers are weighted among themselves by length and contrasted with the wrong ones (base: DisCO).

Shapes: B rows (rollouts), T response tokens, Q questions (groups). The loss couples the rows of a group, so a
micro-batch holds whole groups. Gradients are written by hand, as in `losses`.

A mini-batch in parts: each part holds whole groups. Pass Q of the whole as ``normaliser`` (`drpo_questions`); the
parts' contrasts then add up exactly. The hinge needs the KL of all tokens together: with
``batch_kl=(float(kl_penalty(old_logp, logp, mask, kind=kl_kind)), tokens)`` of the whole mini-batch, from a forward
pass without gradient, value and gradient are the same for every such split. Without it each part uses **its own** KL,
weighted by its share of the questions.

`drpo` returns detached 0-d sums beside the loss, which add up over micro-batches: ``tokens``, ``kl_sum``
(old_logp − logp), ``approx_kl_sum`` (s − 1 − log s), ``questions``, ``valid_questions``, ``unlike_questions`` (valid,
right rows of unlike length) and ``uniform_questions`` (those whose weights differ by less than 1 %: lam is too large
for these lengths).

It differs from the authors' code: the true value of the objective (theirs is a surrogate with the same gradient), a
hinge squared (so the paper's β0 is kl_coef/2) instead of a detached slope times KL, groups of any size, C as an
argument. The paper's equations were read through the code and secondary notes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._gradients import LOG_RATIO_BOUND, log_difference, with_gradient
from lengthwise.objectives._groups import group_extreme, group_index, group_sum
from lengthwise.objectives._wide import wide

SCORES = ("log", "ratio")
LENGTH_REWARDS = ("linear", "quadratic", "cosine")
# Weights of a group that differ by less than this factor are as good as uniform.
_UNIFORM = 1.01


def _length_reward(kind: str | torch.Tensor, num_tokens: torch.Tensor, max_tokens: int) -> torch.Tensor:
    if isinstance(kind, torch.Tensor):
        checks.row_values("length_reward", kind)
        checks.same_rows(num_tokens=num_tokens, length_reward=kind)
        return wide(kind.detach())
    checks.choice("length_reward", kind, LENGTH_REWARDS)
    share = wide(num_tokens) / max_tokens
    if kind == "cosine":
        return 0.5 + 0.5 * torch.cos(math.pi * share)
    return 1 - (share if kind == "linear" else share.square())


def drpo_weights(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    lam: float,
    max_tokens: int,
    length_reward: str | torch.Tensor = "linear",
    allow_over_cap: bool = False,
) -> torch.Tensor:
    """Weights of the right answers of each group: a softmax of their length reward, shorter is heavier.

    w_i = softmax over S+ of r_i/lam,  r_i = 1 − n_i/C;  so w_i/w_j = exp((n_j − n_i)/(C·lam)).

    DRPO: Efficient Reasoning via Decoupled Reward Policy Optimization, arXiv 2510.04474. Differs from the
    authors' code: C is an argument; theirs is the padded width of the batch. Unverified, from secondary notes:
    ``quadratic`` 1 − (n/C)² and ``cosine`` ½ + ½·cos(π·n/C) are rewards that the paper ablates.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.
        lam: temperature, above 0; ``math.inf`` weighs all alike (DisCO). A finite one so large that even the
            shortest and the longest possible answer would weigh the same within 1 % is refused.
        max_tokens: C, the longest response cap of the run, at least 1; never the padded width.
        length_reward: ``linear``, ``quadratic``, ``cosine``, or float [B] of one's own.
        allow_over_cap: accept rows longer than C.

    Returns:
        float64 [B], without gradient: above 0 on right rows, where they sum to 1 in each group; 0 on wrong
        ones. A single right row and a group of one get 1 (0 if wrong), equal lengths equal weights; all-wrong
        groups get zeros, all-correct ones are nothing special. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or one above C.
        ConfigError: an option out of range or unknown.
    """
    checks.grouped(correct, num_tokens, group_ids)
    checks.positive("lam", lam)
    checks.whole("max_tokens", max_tokens, low=1)
    if lam < math.inf and lam * math.log(_UNIFORM) > 1 and not isinstance(length_reward, torch.Tensor):
        raise ConfigError(
            f"lam is {lam}, so large that all lengths weigh the same within 1 %; "
            "pass math.inf if that is wanted (DisCO), or a smaller one (the paper's are 0.1 to 0.5)"
        )
    over = num_tokens > max_tokens
    if over.any() and not allow_over_cap:
        row = int(over.nonzero()[0])
        raise InputError(
            f"num_tokens[{row}] is {int(num_tokens[row])} but max_tokens is {max_tokens}; "
            "pass the longest cap of the run, or allow_over_cap=True"
        )

    index, sizes = group_index(group_ids)
    scaled = torch.where(correct, _length_reward(length_reward, num_tokens, max_tokens) / lam, -math.inf)
    top = group_extreme(scaled, index, len(sizes), "amax")
    weight = torch.where(correct, (scaled - top[index]).exp(), 0.0)
    return torch.where(correct, weight / group_sum(weight, index, len(sizes))[index], 0.0)


def _valid_questions(correct: torch.Tensor, group_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each row's group position, the wrong rows of each group, and which groups have both kinds."""
    index, sizes = group_index(group_ids)
    wrong = group_sum((~correct).long(), index, len(sizes))
    return index, wrong, (wrong > 0) & (wrong < sizes)


def drpo_questions(correct: torch.Tensor, group_ids: torch.Tensor, *, divide_by: str = "all") -> int:
    """Return the questions that `drpo` divides by: pass it for a whole mini-batch to each of its micro-batches.

    ``all``: every group;  ``valid``: those with both right and wrong rows.

    Args:
        correct: bool [B] of the whole mini-batch, right and finished.
        group_ids: integer [B], equal for the rollouts of one prompt.
        divide_by: ``all`` or ``valid``.

    Returns:
        An int; a group of one, an all-correct and an all-wrong group count for ``all`` only. Empty gives 0.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        ConfigError: an unknown ``divide_by``.
    """
    checks.flags("correct", correct)
    checks.ids("group_ids", group_ids)
    checks.same_rows(correct=correct, group_ids=group_ids)
    checks.choice("divide_by", divide_by, ("all", "valid"))
    _, _, valid = _valid_questions(correct, group_ids)
    return len(valid) if divide_by == "all" else int(valid.sum())


def _contrast(
    scores: torch.Tensor, correct: torch.Tensor, group_ids: torch.Tensor, weights: torch.Tensor, tau: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return Σ_q J_q, its gradient by the scores, and which groups are valid; all float64."""
    index, wrong, valid = _valid_questions(correct, group_ids)
    groups = len(valid)
    negative = valid[index] & ~correct
    top = group_extreme(torch.where(correct, -math.inf, scores), index, groups, "amax")[index]
    pull = torch.where(negative, ((scores - top) / tau).exp(), 0.0)
    total = group_sum(pull, index, groups)
    push = torch.where(negative, pull / total[index], 0.0)
    if tau == math.inf:
        against = (push * scores).sum()
    else:
        peak = torch.where(negative, top * push, 0.0).sum()
        against = peak + tau * torch.where(valid, (total / wrong.clamp(min=1)).log(), 0.0).sum()
    pushed = torch.where(valid[index], weights, 0.0)
    return (pushed * scores).sum() - against, pushed - push, valid


def _right_range(
    column: torch.Tensor, correct: torch.Tensor, index: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor]:
    low = group_extreme(torch.where(correct, column, math.inf), index, groups, "amin")
    high = group_extreme(torch.where(correct, column, -math.inf), index, groups, "amax")
    return low, high


def _question_counts(
    weights: torch.Tensor, correct: torch.Tensor, num_tokens: torch.Tensor, group_ids: torch.Tensor, valid: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return how many questions there are, are valid, could prefer a length, and do not although they could."""
    index, _ = group_index(group_ids)
    shortest, longest = _right_range(wide(num_tokens), correct, index, len(valid))
    lightest, heaviest = _right_range(weights, correct, index, len(valid))
    unlike = valid & (longest > shortest)
    return {
        "questions": torch.tensor(len(valid)),
        "valid_questions": valid.sum(),
        "unlike_questions": unlike.sum(),
        "uniform_questions": (unlike & (heaviest < _UNIFORM * lightest)).sum(),
    }


def _check_split(
    group_ids: torch.Tensor,
    group_sizes: torch.Tensor | None,
    questions: int,
    tokens: int,
    normaliser: float | None,
    batch_kl: tuple[float, int] | None,
) -> None:
    if group_sizes is not None:
        checks.ids("group_sizes", group_sizes)
        checks.same_rows(group_ids=group_ids, group_sizes=group_sizes)
        index, sizes = group_index(group_ids)
        split = sizes[index] != group_sizes
        if split.any():
            row = int(split.nonzero()[0])
            raise InputError(
                f"group {int(group_ids[row])} has {int(sizes[index[row]])} of its {int(group_sizes[row])} rows in this "
                "part; a loss that couples a group needs all of them in one micro-batch"
            )
    if normaliser is not None:
        checks.number("normaliser", normaliser, above=0.0)
        if questions > normaliser:
            raise InputError(
                f"normaliser is {normaliser} but this part has {questions} questions; pass drpo_questions of the "
                "whole mini-batch, groups kept whole"
            )
    if batch_kl is not None:
        checks.pair("batch_kl", batch_kl)
        if normaliser is None or batch_kl[1] < tokens:
            raise ConfigError(
                f"batch_kl is {batch_kl!r} with normaliser {normaliser} for a part of {tokens} tokens; pass "
                "(KL, tokens) of the whole mini-batch beside its normaliser"
            )


@dataclass(frozen=True)
class _Ratios:
    """exp(logp − old_logp) of each token [B,T], as far as it may go, and the two sums of the KL."""

    excess: torch.Tensor  # ratio − 1, 0 in the padding
    frozen: torch.Tensor  # beyond the bound: without a slope
    padding: torch.Tensor
    kl_sum: torch.Tensor
    k3_sum: torch.Tensor

    @classmethod
    def of(cls, logp: torch.Tensor, old_logp: torch.Tensor, mask: torch.Tensor) -> _Ratios:
        padding = ~mask
        log_ratio = log_difference(logp, old_logp, "old_logp", padding)
        kl_sum = -log_ratio.sum()
        frozen = (log_ratio < -LOG_RATIO_BOUND) | (log_ratio > LOG_RATIO_BOUND)
        excess = torch.expm1(log_ratio.clamp_(-LOG_RATIO_BOUND, LOG_RATIO_BOUND))
        return cls(excess, frozen, padding, kl_sum, k3_sum=log_ratio.neg_().add_(excess).sum())

    def gradient(self, by_row: torch.Tensor, pull: torch.Tensor, score: str, kl_kind: str) -> torch.Tensor:
        """Return the gradient by logp [B,T]: ``by_row`` times that of the score plus ``pull`` times that of the KL.

        The score's is 1 (``log``) or the ratio, 0 where frozen; the KL's is −1 (``k1``) or ratio − 1, 0 where frozen.
        Made in place: the ratios are used up.
        """
        rows = by_row[:, None]
        level = -pull if kl_kind == "k1" else torch.zeros_like(pull)
        steep = rows * (score == "ratio") + pull * (kl_kind == "k3")
        gradient = self.excess.masked_fill_(self.frozen, 0.0).mul_(steep).add_(level + rows)
        if score == "ratio":
            torch.where(self.frozen, level, gradient, out=gradient)
        return gradient.masked_fill_(self.padding, 0.0)


def _scores(logp: torch.Tensor, excess: torch.Tensor, mask: torch.Tensor, score: str) -> torch.Tensor:
    """Return each row's sum of what `drpo` scores a token by, float64 [B]."""
    if score == "log":
        return wide(torch.where(mask, logp, 0.0).sum(dim=1))
    return wide(excess.sum(dim=1)) + mask.sum(dim=1)


def _check_options(score: str, kl_kind: str, tau: float, kl_limit: float, kl_coef: float) -> None:
    checks.choice("score", score, SCORES)
    checks.choice("kl_kind", kl_kind, ("k1", "k3"))
    checks.positive("tau", tau)
    checks.number("kl_limit", kl_limit, low=0.0)
    checks.number("kl_coef", kl_coef, low=0.0)


def drpo(
    logp: torch.Tensor,
    old_logp: torch.Tensor,
    mask: torch.Tensor,
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    lam: float,
    max_tokens: int,
    tau: float = 10.0,
    kl_limit: float = 1e-4,
    kl_coef: float = 1e3,
    score: str = "log",
    kl_kind: str = "k1",
    length_reward: str | torch.Tensor = "linear",
    divide_by: str = "all",
    allow_over_cap: bool = False,
    normaliser: float | None = None,
    batch_kl: tuple[float, int] | None = None,
    group_sizes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Decoupled reward policy optimisation: raise right answers, shorter ones more, against the wrong ones.

    s_i the mean over the row's tokens of logp (``log``) or exp(logp − old_logp) (``ratio``);
    J_q = Σ_{S+} w_i·s_i − tau·log((1/|S−|)·Σ_{S−} exp(s_j/tau)) where a question has both kinds, else 0;
    KL the token mean of old_logp − logp (``k1``) or of exp(d) − 1 − d, d = logp − old_logp (``k3``);
    loss = −(1/Q)·Σ_q J_q + (kl_coef/2)·max(KL − kl_limit, 0)².  w from `drpo_weights`, without gradient.
    No right answer is ever pushed down, no wrong one up. lam = inf is DisCO; tau = inf besides is DisCO-b,
    with the plain mean of the wrong ones.

    DRPO, arXiv 2510.04474; DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained
    Optimization, arXiv 2505.12366. The module says how a mini-batch goes in parts, and what differs from their code.

    Args:
        logp: float [B,T], log-probabilities under the weights that learn; the only argument with a gradient.
        old_logp: float [B,T], same dtype, taken as a constant.
        mask: bool [B,T], the tokens to learn from, at least one in each row. Padding may hold anything.
        correct, num_tokens, group_ids, lam, max_tokens, length_reward, allow_over_cap: see `drpo_weights`.
        tau: temperature of the wrong rows, above 0, inf allowed; 10 for ``log``, 1 for ``ratio`` in the scripts.
        kl_limit, kl_coef: δ and β, each at least 0.
        score, kl_kind: ``log`` or ``ratio``, ``k1`` or ``k3``.
        divide_by: Q counts ``all`` questions or the ``valid`` ones.
        normaliser, batch_kl: Q, and KL and tokens, of the whole mini-batch; None takes them from this call.
        group_sizes: integer [B], the rows of each row's whole group; given, a split group is an error.

    Returns:
        The loss (0-d), and the sums that the module names, for logs. A group of one, an all-correct and an all-wrong
        one add no contrast, but count in Q and in the KL.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: no row, a row without a token, a token inside the mask that is not finite, a length above C,
            a split group, or more questions than ``normaliser``.
        ConfigError: an option out of range or unknown.
    """
    _check_options(score, kl_kind, tau, kl_limit, kl_coef)
    row_tokens = checks.mask_tokens(mask)
    checks.token_values(mask, logp=logp, old_logp=old_logp)
    weights = drpo_weights(
        correct, num_tokens, group_ids,
        lam=lam, max_tokens=max_tokens, length_reward=length_reward, allow_over_cap=allow_over_cap,
    )  # fmt: skip
    checks.same_rows(mask=mask, correct=correct)
    questions, tokens = drpo_questions(correct, group_ids, divide_by=divide_by), int(row_tokens.sum())
    _check_split(group_ids, group_sizes, questions, tokens, normaliser, batch_kl)

    ratios = _Ratios.of(logp.detach(), old_logp.detach(), mask)
    scores = _scores(logp.detach(), ratios.excess, mask, score) / row_tokens
    contrast, by_score, valid = _contrast(scores, correct, group_ids, weights, tau)

    divisor, share = (max(questions, 1), 1.0) if normaliser is None else (normaliser, questions / normaliser)
    kl = (ratios.k3_sum if kl_kind == "k3" else ratios.kl_sum) / tokens
    hinge, pull = _hinge(kl, tokens, share, batch_kl, kl_limit, kl_coef)
    value = -contrast / divisor + hinge
    by_row = -by_score / row_tokens / divisor
    gradient = ratios.gradient(by_row.to(logp.dtype), pull.to(logp.dtype), score, kl_kind)
    stats = {"tokens": row_tokens.sum(), "kl_sum": ratios.kl_sum, "approx_kl_sum": ratios.k3_sum}
    stats |= _question_counts(weights, correct, num_tokens, group_ids, valid)
    return with_gradient(logp, value.to(logp.dtype), gradient), {k: v.to(logp) for k, v in stats.items()}


def _hinge(
    kl: torch.Tensor, tokens: int, share: float, batch_kl: tuple[float, int] | None, limit: float, coef: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this part's (coef/2)·max(KL − limit, 0)² and what a token's KL is weighted by in the gradient.

    ``kl``, ``tokens`` and ``share`` of the questions are the part's, ``batch_kl`` is of the whole mini-batch.
    """
    if batch_kl is not None:
        over = (wide(kl.new_tensor(batch_kl[0])) - limit).clamp(min=0.0)
        return tokens / batch_kl[1] * coef / 2 * over.square(), coef * over / batch_kl[1]
    over = (wide(kl) - limit).clamp(min=0.0)
    return share * coef / 2 * over.square(), coef * over / tokens * share
