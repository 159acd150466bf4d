"""Advantages: rewards of whole groups in, the credit of each row or token out.

Shapes: B rows (rollouts), T response tokens. Statistics are computed in float64 (float32 on `mps`, which has no other)
and returned in the dtype of the rewards; no gradient flows through them. Call these on the whole batch, before it is
split into micro-batches.
"""

from __future__ import annotations

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import centred, group_index, group_share, group_sum
from lengthwise.objectives._wide import wide, wide_dtype
from lengthwise.objectives.token_advantages import egae as egae
from lengthwise.objectives.token_advantages import gae as gae
from lengthwise.objectives.token_advantages import length_adaptive_lambda as length_adaptive_lambda
from lengthwise.objectives.token_advantages import returns_to_go as returns_to_go
from lengthwise.objectives.token_advantages import whitened as whitened
from lengthwise.objectives.token_advantages import window_mask as window_mask

# A few roundings: the same reward summed in another order differs by less, a real difference by more.
_EQUAL_ULPS = 4


def _check_rewards(rewards: torch.Tensor, group_ids: torch.Tensor) -> None:
    checks.row_values("rewards", rewards)
    checks.ids("group_ids", group_ids)
    checks.same_rows(rewards=rewards, group_ids=group_ids)


def _tolerance(rewards: torch.Tensor) -> float:
    return _EQUAL_ULPS * torch.finfo(rewards.dtype).eps


def group_normalised(
    rewards: torch.Tensor, group_ids: torch.Tensor, *, divide_by_std: bool = True, eps: float = 1e-6
) -> torch.Tensor:
    """Advantage inside the group, as in GRPO; without the division, as in Dr. GRPO.

    A_i = (R_i − mean_g(R)) / (std_g(R) + eps), sample standard deviation (K − 1);
    with ``divide_by_std=False``: A_i = R_i − mean_g(R).

    DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models, arXiv 2402.03300;
    Understanding R1-Zero-Like Training: A Critical Perspective (no division), arXiv 2503.20783.
    Differs from the authors' code: a group of one gets 0 (verl gives it its raw reward), and rewards that
    differ by a few float roundings only count as equal.

    Args:
        rewards: float [B], any finite numbers.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.
        divide_by_std: divide by the group's standard deviation.
        eps: added to the standard deviation, above 0.

    Returns:
        Float [B]; every group sums to 0. A group of one, an all-correct and an all-wrong group (equal
        rewards) get exactly 0. Empty input gives an empty tensor.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a reward that is NaN or infinite.
        ConfigError: ``eps`` not above 0.
    """
    _check_rewards(rewards, group_ids)
    checks.number("eps", eps, above=0.0)

    index, sizes = group_index(group_ids)
    centre = centred(wide(rewards.detach()), index, len(sizes), _tolerance(rewards))
    if divide_by_std:
        # a group of one has no sample variance; its centred value is 0, so any divisor serves
        variance = group_sum(centre.square(), index, len(sizes)) / (sizes - 1).clamp(min=1)
        centre = centre / (variance.sqrt()[index] + eps)
    return centre.to(rewards.dtype)


def leave_one_out(rewards: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Reward minus the mean reward of the other rollouts of the group (RLOO).

    A_i = R_i − (1/(K−1)) Σ_{j≠i} R_j = K/(K−1) · (R_i − mean_g(R)).

    Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs,
    arXiv 2402.14740.

    Args:
        rewards: float [B], any finite numbers.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.

    Returns:
        Float [B]; every group sums to 0. A group of one, an all-correct and an all-wrong group (equal
        rewards) get exactly 0. Empty input gives an empty tensor.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a reward that is NaN or infinite.
    """
    _check_rewards(rewards, group_ids)

    index, sizes = group_index(group_ids)
    centre = centred(wide(rewards.detach()), index, len(sizes), _tolerance(rewards))
    return (centre * (sizes / (sizes - 1).clamp(min=1))[index]).to(rewards.dtype)


def length_weighted_baseline(rewards: torch.Tensor, num_tokens: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Reward minus the mean of the group's tokens instead of its rows (prime-rl's length-weighted baseline).

    A_i = R_i − Σ_j n_j·R_j / Σ_j n_j over the group, so Σ_j n_j·A_j = 0: each token's credit has mean 0.

    prime-rl of 2026-06-19, of the shaped rewards; no paper.

    Args:
        rewards: float [B], any finite numbers.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.

    Returns:
        Float [B]. A group of one, an all-correct and an all-wrong group (equal rewards) get exactly 0; a group
        without a token gets the row mean. Empty input gives an empty tensor.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a reward that is NaN or infinite, or a negative token count.
    """
    _check_rewards(rewards, group_ids)
    checks.counts("num_tokens", num_tokens)
    checks.same_rows(rewards=rewards, num_tokens=num_tokens)

    index, sizes = group_index(group_ids)
    total = group_sum(num_tokens.long(), index, len(sizes))[index]
    weight = torch.where(total > 0, wide(num_tokens), 1.0)
    return centred(wide(rewards.detach()), index, len(sizes), _tolerance(rewards), weight).to(rewards.dtype)


def batch_normalised(
    rewards: torch.Tensor,
    group_ids: torch.Tensor,
    mask: torch.Tensor,
    *,
    weights: str = "tokens",
    group_of_one: str = "zero",
    eps: float = 1e-8,
) -> torch.Tensor:
    """Advantage centred inside the group, then whitened over all response tokens of the batch (DLER).

    a_i = R_i − mean_g(R);  with w_i = n_i (``tokens``) or 1 (``sequence``) and W = Σ w_i:
    μ = Σ w_i a_i / W,  v = Σ w_i (a_i − μ)² / (W − 1),  A_it = mask_it · (a_i − μ) / √(v + eps).

    DLER: Doing Length pEnalty Right - Incentivizing More Intelligence per Token via Reinforcement Learning,
    arXiv 2510.15110. Differs from the authors' code: a group of one is centred to 0 instead of keeping its
    raw reward (``group_of_one="raw"`` is theirs), no row gets a boost after whitening, and rewards that
    differ by a few float roundings only count as equal.

    Args:
        rewards: float [B], any finite numbers.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.
        mask: bool [B,T], the response tokens, at least one in each row.
        weights: ``tokens`` (each response token counts once) or ``sequence`` (each row counts once).
        group_of_one: ``zero`` or ``raw``, the centred value of a group of one.
        eps: added to the variance, above 0.

    Returns:
        Float [B,T], 0 outside the mask; the weighted mean is 0 and the weighted variance 1. Rows of a group
        of one, an all-correct or an all-wrong group get −μ/√(v + eps), the share of the batch; when all
        groups are so, every entry is exactly 0.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: a reward that is not finite, a row without a token, an empty batch, or W = 1.
        ConfigError: an unknown word, or ``eps`` not above 0.
    """
    _check_rewards(rewards, group_ids)
    checks.choice("weights", weights, ("tokens", "sequence"))
    checks.choice("group_of_one", group_of_one, ("zero", "raw"))
    checks.number("eps", eps, above=0.0)
    num_tokens = checks.mask_tokens(mask)
    checks.same_rows(rewards=rewards, mask=mask)
    weight = wide(num_tokens) if weights == "tokens" else torch.ones_like(rewards, dtype=wide_dtype(rewards.device))
    total = weight.sum()
    if total <= 1:
        raise InputError(f"mask counts 1 of the {weights} in the batch, too few for a variance; pass at least 2")

    index, sizes = group_index(group_ids)
    values = wide(rewards.detach())
    centre = centred(values, index, len(sizes), _tolerance(rewards))
    if group_of_one == "raw":
        centre = torch.where(sizes[index] == 1, values, centre)
    centre = centred(centre, torch.zeros_like(index), 1, _tolerance(rewards), weight)
    variance = (weight * centre.square()).sum() / (total - 1)
    row = (centre / (variance + eps).sqrt()).to(rewards.dtype)
    return torch.where(mask, row[:, None], 0.0)


def mixed_groups(answer_correct: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Mark the rows whose group has both right and wrong answers: the rows that dynamic sampling keeps.

    keep_i = 0 < mean_{g(i)}(c) < 1, with the verdict on the text **before** any truncation.

    DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv 2503.14476; DLER, arXiv 2510.15110.

    Args:
        answer_correct: bool [B], the grader's verdict on the text, whether or not it was cut.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.

    Returns:
        Bool [B]; whole groups are True or False. A group of one, an all-correct and an all-wrong group are
        False. Empty input gives an empty tensor.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
    """
    checks.flags("answer_correct", answer_correct)
    checks.ids("group_ids", group_ids)
    checks.same_rows(answer_correct=answer_correct, group_ids=group_ids)

    share = group_share(answer_correct, group_ids)
    return (share > 0) & (share < 1)


def kept_share(p: float, group_size: int) -> float:
    """Return the share of groups that dynamic sampling keeps when each rollout is right with probability p.

    1 − p^G − (1 − p)^G.  DLER, arXiv 2510.15110.

    Args:
        p: success rate of one rollout, in [0, 1].
        group_size: rollouts per prompt, at least 1.

    Returns:
        A number in [0, 1); 0 for a group of one and for p of 0 or 1.

    Raises:
        ConfigError: ``p`` or ``group_size`` out of range.
    """
    checks.number("p", p, low=0.0, high=1.0)
    checks.whole("group_size", group_size, low=1)
    # rounding can leave a value just below 0 for a group of one
    return max(0.0, 1 - p**group_size - (1 - p) ** group_size)
