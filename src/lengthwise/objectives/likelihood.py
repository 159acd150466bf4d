"""Losses on likelihood itself, added with a weight to a policy loss: imitation, and the choice of a mode.

Shapes: B rows (rollouts), T response tokens, P prompts, V vocabulary.
"""

from __future__ import annotations

import torch

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._gradients import with_gradient
from lengthwise.objectives._wide import wide
from lengthwise.objectives.mode_rewards import LONG, NO_MODE

DIVISORS = ("longest", "token-mean", "row")


def positive_lm(
    logp: torch.Tensor, mask: torch.Tensor, positive: torch.Tensor, *, normaliser: float | None = None
) -> torch.Tensor:
    """Negative log-likelihood of the tokens of rewarded responses.

    −Σ_it mask·positive_i·logp / N, N the tokens so summed; 0 if there are none.

    VAPO, arXiv 2504.05118; T-PPO, arXiv 2506.15050 (weight 0.1 there, by its public code).

    Args:
        logp: float [B,T], log-probabilities under the weights that learn; the only argument with a gradient.
        mask: bool [B,T], all tokens of the response; rows without any are allowed. Padding may hold anything.
        positive: bool [B], done with a score above 0.
        normaliser: N of the whole mini-batch, to be passed with each of its micro-batches so that their losses
            add up; None counts the tokens of this mask.

    Returns:
        A 0-d tensor of at least 0; without a positive row exactly 0, with gradient 0. Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: a log-probability inside the mask of a positive row that is not finite.
        ConfigError: ``normaliser`` not above 0.
    """
    checks.token_mask(mask)
    checks.token_values(mask, logp=logp)
    checks.flags("positive", positive)
    checks.same_rows(mask=mask, positive=positive)
    if normaliser is not None:
        checks.number("normaliser", normaliser, above=0.0)

    used = mask & positive[:, None]
    weight = 1.0 / (max(int(torch.count_nonzero(used)), 1) if normaliser is None else normaliser)
    value = checks.masked("logp", logp, used).sum() * -weight
    return with_gradient(logp, value, used.to(logp.dtype).mul_(-weight))


def filtered_normaliser(mask: torch.Tensor, kept: torch.Tensor, *, divisor: str = "longest") -> int:
    """Return the denominator of a whole mini-batch for `filtered_likelihood`, to be passed with its micro-batches.

    K the kept rows: ``longest``: rows of K times its longest;  ``token-mean``: tokens of K;  ``row``: rows of K.

    Args:
        mask: bool [B,T] of the whole mini-batch, all tokens of each response.
        kept: bool [B], the rows that are learned from.
        divisor: one of the three words above.

    Returns:
        An int of at least 1, which it is without a kept row (their loss is 0). Groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        ConfigError: an unknown ``divisor``.
    """
    checks.choice("divisor", divisor, DIVISORS)
    checks.token_mask(mask)
    checks.flags("kept", kept)
    checks.same_rows(mask=mask, kept=kept)

    lengths = mask.sum(dim=1, dtype=torch.int32).long()[kept]
    if divisor == "row" or len(lengths) == 0:
        return max(len(lengths), 1)
    return max(int(lengths.sum()) if divisor == "token-mean" else int(lengths.max()) * len(lengths), 1)


def filtered_likelihood(
    logp: torch.Tensor,
    mask: torch.Tensor,
    kept: torch.Tensor,
    *,
    divisor: str = "longest",
    normaliser: float | None = None,
) -> torch.Tensor:
    """Negative log-likelihood of the model's own answers that were right within the cap, and of nothing else.

    −Σ_{i kept} (1/N)·Σ_t mask·logp / (number of kept rows),  N the longest kept response: one divisor for all, so every
    kept token pulls alike. ``token-mean``: all tokens of kept rows;  ``row``: each row's own length in N's place.

    On-Policy Supervised Fine-Tuning for Efficient Reasoning, arXiv 2602.13407, read through a secondary account.
    Differs from the authors' code: that takes the token mean of micro-batches of 4 rows and averages these, keeps
    answers that were cut, and trims the kept rows to a multiple of its workers. By the paper ``row`` collapses: a
    short answer's tokens weigh more. Sample, and compute ``logp``, at temperature 1.

    Args:
        logp: float [B,T], log-probabilities under the weights that learn; the only argument with a gradient.
        mask: bool [B,T], all tokens of the response; rows without any are allowed. Padding may hold anything.
        kept: bool [B], right, finished and within the limit: where `truncation` pays 1.
        divisor: ``longest``, ``token-mean`` or ``row``.
        normaliser: `filtered_normaliser` of the whole mini-batch, to be passed with each of its micro-batches so that
            their losses add up; None takes it from these rows.

    Returns:
        A 0-d tensor of at least 0; without a kept row exactly 0, with gradient 0. All-correct is plain likelihood of
        all that was sampled, all-wrong adds nothing (wrong answers are never pushed down), and a group of one is
        learned like any other: groups do not enter.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: a log-probability inside the mask of a kept row that is not finite.
        ConfigError: an unknown ``divisor``, or ``normaliser`` not above 0.
    """
    checks.choice("divisor", divisor, DIVISORS)
    checks.token_mask(mask)
    checks.token_values(mask, logp=logp)
    checks.flags("kept", kept)
    checks.same_rows(mask=mask, kept=kept)
    if normaliser is None:
        normaliser = filtered_normaliser(mask, kept, divisor=divisor)
    checks.number("normaliser", normaliser, above=0.0)

    used = mask & kept[:, None]
    tokens = used.sum(dim=1, dtype=torch.int32).clamp(min=1) if divisor == "row" else torch.ones_like(kept)
    weight = (-1.0 / (wide(tokens) * normaliser)).to(logp.dtype)[:, None]
    value = (checks.masked("logp", logp, used).sum(dim=1, keepdim=True) * weight).sum()
    return with_gradient(logp, value, used.to(logp.dtype).mul_(weight))


def mode_switch(
    first_logits: torch.Tensor,
    mode: torch.Tensor,
    *,
    long_token: int,
    short_token: int,
    kind: str = "ce",
    margin: float = 1.0,
    normaliser: float | None = None,
) -> torch.Tensor:
    """Loss that lifts the opening token of the preferred mode over the other one's, on the bare prompt.

    d = z[preferred opener] − z[other opener];  ``ce``: log(1 + exp(−d));  ``hinge``: max(0, margin − d);
    ``nll``: −log softmax(z)[preferred opener], which lifts it over all other tokens as well.
    Mean over the prompts that have a preferred mode; 0 if there are none.

    Adaptive Deep Reasoning, arXiv 2505.20101. Reconstruction of this project: the paper states that such a
    loss acts on the first output token; its formula and weight are not available (0.1 is ours).

    Args:
        first_logits: float [P,V], what predicts the first output token after the prompt without instruction,
            once per prompt; the only argument with a gradient.
        mode: int64 [P], −1 none, 0 short, 1 long (`preferred_mode`, one entry per group).
        long_token, short_token: different token ids that open a long and a short answer.
        kind: ``ce``, ``hinge`` or ``nll``.
        margin: lead that ends the hinge's pull, at least 0; read by ``hinge`` only.
        normaliser: prompts with a mode in the whole mini-batch, to be passed with each of its micro-batches so
            that their losses add up; None counts those given here.

    Returns:
        A 0-d tensor of at least 0. Its gradient is 0 for prompts without a mode (all wrong) and, but for ``nll``,
        for every other token; it sums to 0 over the openers, with ``nll`` over all tokens. No prompt gives 0.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a mode that is not −1, 0 or 1, or an opener's logit that is not finite.
        ConfigError: equal or unknown tokens, or an option out of range or unknown.
    """
    _check_openers(first_logits, mode, long_token, short_token)
    checks.choice("kind", kind, ("ce", "hinge", "nll"))
    checks.number("margin", margin, low=0.0)
    if normaliser is not None:
        checks.number("normaliser", normaliser, above=0.0)

    chosen = mode != NO_MODE
    z, is_long = first_logits[chosen], mode[chosen] == LONG
    if not torch.isfinite(z[:, [long_token, short_token]]).all():
        raise InputError("first_logits of an opener is NaN or infinite; look for an overflow in the forward pass")
    if kind == "nll":
        opener = torch.where(is_long, long_token, short_token)
        losses = torch.nn.functional.cross_entropy(z, opener, reduction="none")
    else:
        lead = torch.where(is_long, 1, -1) * (z[:, long_token] - z[:, short_token])
        losses = -torch.nn.functional.logsigmoid(lead) if kind == "ce" else torch.relu(margin - lead)
    return losses.sum() / (max(len(losses), 1) if normaliser is None else normaliser)


def _check_openers(first_logits: torch.Tensor, mode: torch.Tensor, long_token: int, short_token: int) -> None:
    checks.logits("first_logits", first_logits)
    checks.ids("mode", mode)
    checks.same_rows(first_logits=first_logits, mode=mode)
    unknown = (mode < NO_MODE) | (mode > LONG)
    if unknown.any():
        row = int(unknown.nonzero()[0])
        raise InputError(f"mode[{row}] is {int(mode[row])}; pass -1 (none), 0 (short) or 1 (long)")
    for name, token in (("long_token", long_token), ("short_token", short_token)):
        checks.whole(name, token, low=0)
        if token >= first_logits.shape[1]:
            raise ConfigError(
                f"{name} is {token} but first_logits has {first_logits.shape[1]} entries per prompt; "
                "pass a token of that vocabulary"
            )
    if long_token == short_token:
        raise ConfigError(f"long_token and short_token are both {long_token}; pass two different openers")
