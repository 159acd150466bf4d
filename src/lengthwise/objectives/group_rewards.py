"""Length rewards that compare a row with the other rollouts of its prompt.

Shapes: B rows (rollouts). Statistics use the rows of one group only, by explicit id, in float64. ``correct``
is right **and** finished: an answer that was cut counts as wrong.
"""

from __future__ import annotations

import math

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import counted_extreme, group_extreme, group_index, group_share, group_sum
from lengthwise.objectives._wide import wide


def normalised_length(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    alpha: float = 0.1,
    form: str = "paper",
) -> torch.Tensor:
    """Reward of a right answer, less the longer it is among the right answers of its group.

    R_i = c_i · (1 − alpha·σ(z_i)),  z_i = (n_i − mean_c)/(std_c + 1e-7), mean and population standard deviation
    over the correct rows of the group. ``form="laser"``: sample standard deviation + 1e-6, and with a single
    correct row z is its length, as in the copy of this reward in Laser's code.

    Training Language Models to Reason Efficiently, arXiv 2502.04463.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        alpha: strength of the penalty, in [0, 1); below 1, every right answer earns more than any wrong one.
        form: ``paper`` or ``laser``.

    Returns:
        float64 [B]: 0, or in (1 − alpha, 1). A group of one earns 1 − alpha/2 if correct, and so do equal
        lengths; all-wrong earns 0. Lengths of wrong rows do not matter. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: ``alpha`` out of range or an unknown ``form``.
    """
    checks.grouped(correct, num_tokens, group_ids)
    checks.number("alpha", alpha, low=0.0, below=1.0)
    checks.choice("form", form, ("paper", "laser"))

    index, sizes = group_index(group_ids)
    groups, n, right = len(sizes), wide(num_tokens), wide(correct)
    count = group_sum(right, index, groups)
    centre = n - (group_sum(right * n, index, groups) / count.clamp(min=1))[index]
    spread = group_sum(right * centre.square(), index, groups)
    if form == "paper":
        z = centre / ((spread / count.clamp(min=1)).sqrt() + 1e-7)[index]
    else:
        z = centre / ((spread / (count - 1).clamp(min=1)).sqrt() + 1e-6)[index]
        z = torch.where(count[index] == 1, n, z)
    return torch.where(correct, 1 - alpha * torch.sigmoid(z), 0.0)


def best_solved(
    correct: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    fraction: float = 0.2,
    rounding: str = "ceil",
    tie_seed: int | None = None,
    min_accuracy: float = 0.0,
) -> torch.Tensor:
    """Mark the rows of the groups that are solved best in this batch.

    G groups, x = fraction·G: the K = min(G, round(x)) groups of highest accuracy, where round is ``ceil``
    (⌈x − 1e-9⌉, 0 for fraction 0), ``floor`` (⌊x + 1e-9⌋) or ``round`` (half up). A rank inside the batch,
    not a fixed accuracy.

    GRPO-λ: Stable Reinforcement Learning for Efficient Reasoning, arXiv 2505.18086. Its abstract has the idea;
    rounding, ties and ``min_accuracy`` are ours, and there is no official code to compare with.

    Args:
        correct: bool [B], right and finished, of the whole rollout batch (before mini-batches).
        group_ids: integer [B], equal for the rollouts of one prompt.
        fraction: share of the groups, in [0, 1].
        rounding: ``ceil``, ``floor`` or ``round``.
        tie_seed: None puts the group first whose row comes first in the batch; a number draws the order.
        min_accuracy: a group whose accuracy is below it is never marked, in [0, 1].

    Returns:
        Bool [B]; whole groups are True or False. A group of one, an all-correct and an all-wrong group rank
        like any other, by accuracy; a single group is marked for every fraction above 0 (``ceil``).

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: an empty batch, which has no rank.
        ConfigError: an option out of range or unknown.
    """
    checks.flags("correct", correct)
    checks.ids("group_ids", group_ids)
    checks.same_rows(correct=correct, group_ids=group_ids)
    if len(correct) == 0:
        raise InputError("correct has no row, and an empty batch has no rank; skip it instead of passing it")
    checks.number("fraction", fraction, low=0.0, high=1.0)
    checks.choice("rounding", rounding, ("ceil", "floor", "round"))
    checks.number("min_accuracy", min_accuracy, low=0.0, high=1.0)
    if tie_seed is not None:
        checks.whole("tie_seed", tie_seed, low=0)

    index, sizes = group_index(group_ids)
    groups = len(sizes)
    wanted = fraction * groups
    if rounding == "ceil":
        count = math.ceil(wanted - 1e-9)
    else:
        count = math.floor(wanted + 1e-9 + (0.5 if rounding == "round" else 0.0))
    accuracy = group_sum(wide(correct), index, groups) / sizes
    if tie_seed is None:
        places = group_extreme(torch.arange(len(index), device=index.device), index, groups, "amin")
    else:
        places = torch.randperm(groups, generator=torch.Generator().manual_seed(tie_seed)).to(index.device)
    order = torch.argsort(places)
    order = order[torch.argsort(accuracy[order], descending=True, stable=True)]
    best = torch.zeros(groups, dtype=torch.bool, device=index.device)
    best[order[:count]] = True
    return (best & (accuracy >= min_accuracy))[index]


def selective_length_penalty(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    fraction: float = 0.2,
    alpha: float = 0.2,
    rounding: str = "ceil",
    tie_seed: int | None = None,
    min_accuracy: float = 0.0,
) -> torch.Tensor:
    """Length penalty for the best-solved share of the groups, plain correctness for the others (GRPO-λ).

    Rows of `best_solved` groups: R_i = c_i · (1 − alpha·σ(z_i)) as in `normalised_length`; others: R_i = c_i.

    Stable Reinforcement Learning for Efficient Reasoning, arXiv 2505.18086. Unverified: the formulas come from
    one secondary source, there is no official code, and the paper's alpha is unknown (0.2 is ours; a
    third-party class uses 0.6). One circulating implementation pays wrong answers of the penalised groups
    too; that is a bug and not offered.

    Args:
        correct: bool [B], right and finished, of the whole rollout batch (before mini-batches).
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        fraction: share of the groups that is penalised (the paper's λ), in [0, 1].
        alpha: strength of the penalty, in [0, 1).
        rounding, tie_seed, min_accuracy: which groups these are, see `best_solved`.

    Returns:
        float64 [B]: 0 for wrong, 1 or in (1 − alpha, 1) for correct. In a penalised group: alone or equally
        long 1 − alpha/2, all-wrong 0, all-correct a pure length signal in which alpha cancels after division
        by the group's standard deviation.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: an empty batch, or a negative token count.
        ConfigError: an option out of range or unknown.
    """
    penalised = normalised_length(correct, num_tokens, group_ids, alpha=alpha)
    chosen = best_solved(
        correct, group_ids, fraction=fraction, rounding=rounding, tie_seed=tie_seed, min_accuracy=min_accuracy
    )
    return torch.where(chosen, penalised, wide(correct))


def shortest_correct(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 1e-3,
) -> torch.Tensor:
    """Correctness minus the distance to the shortest right answer of the group (ShorterBetter).

    R_i = alpha·c_i − beta·|n_i − n*|,  n* = min over the correct rows of the group, else the group's mean.

    ShorterBetter: Guiding Reasoning Models to Find Optimal Inference Length for Efficient Reasoning,
    arXiv 2504.21370; the code fixes 2 and 1e-3.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        alpha: what a right answer earns, at least 0.
        beta: price of a token away from n*, at least 0.

    Returns:
        float64 [B] in (−inf, alpha]; a right answer can earn less than a wrong one. A group of one has n* = n;
        an all-wrong group is pulled towards its mean length. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: ``alpha`` or ``beta`` out of range.
    """
    checks.grouped(correct, num_tokens, group_ids)
    checks.number("alpha", alpha, low=0.0)
    checks.number("beta", beta, low=0.0)

    index, sizes = group_index(group_ids)
    n = wide(num_tokens)
    shortest = group_extreme(torch.where(correct, n, math.inf), index, len(sizes), "amin")
    target = torch.where(torch.isfinite(shortest), shortest, group_sum(n, index, len(sizes)) / sizes)
    return alpha * wide(correct) - beta * (n - target[index]).abs()


def min_max_length(
    correct: torch.Tensor,
    num_tokens: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    weight: float = 1.0,
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Where a length lies between the shortest and the longest of its group; a term to be added (Kimi k1.5).

    l_i = 0.5 − (n_i − min_g)/(max_g − min_g) over all rows of the group, wrong ones too;
    term = weight·l_i if correct, weight·min(0, l_i) if wrong; 0 where all lengths are equal.

    Kimi k1.5: Scaling Reinforcement Learning with LLMs, arXiv 2501.12599. Differs from open-r1's copy: that
    counts characters (never offered here) and takes the extremes over all prompts together; equal ids for all
    rows give the latter.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        weight: at least 0; up to 2, a right answer never earns less than a wrong one.
        counted: bool [B], the rows between whose lengths the others lie; None for all. Pass ``correct`` behind a
            gate for right answers (`gate`), so that no wrong row's length moves a right row's pay; l is then kept
            in [−0.5, 0.5], and 0 in groups without such a row.

    Returns:
        float64 [B] in [−weight/2, weight/2]. A group of one and equal lengths get 0; all-correct groups get
        all of the range, all-wrong ones only the half below 0. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: ``weight`` out of range.
    """
    checks.grouped(correct, num_tokens, group_ids)
    checks.number("weight", weight, low=0.0)
    checks.counted(counted, num_tokens)

    index, sizes = group_index(group_ids)
    n = wide(num_tokens)
    low, high = (counted_extreme(n, index, len(sizes), which, counted)[index] for which in ("amin", "amax"))
    place = torch.where(high > low, 0.5 - (n - low) / (high - low).clamp(min=1), 0.0).clamp(-0.5, 0.5)
    return weight * torch.where(correct, place, place.clamp(max=0.0))


def adaptive_penalty(
    correct: torch.Tensor, num_tokens: torch.Tensor, group_ids: torch.Tensor, *, beta: float = 1e-7
) -> torch.Tensor:
    """Correctness minus a price per token that rises with how often the group solves the prompt (ALP).

    R_i = c_i − beta·n_i·max(p, 1/K),  p the share of correct rows in the group of K.

    Just Enough Thinking: Efficient Reasoning with Adaptive Length Penalties Reinforcement Learning,
    arXiv 2506.05256. Unverified, because the paper's body was not read: that right and wrong rows both pay,
    and that n counts response tokens.

    Args:
        correct: bool [B], right and finished.
        num_tokens: integer [B], response tokens with EOS, at least 0.
        group_ids: integer [B], equal for the rollouts of one prompt.
        beta: price of a token where all are correct, at least 0.

    Returns:
        float64 [B] in (−inf, 1]; a right answer can earn less than a wrong one. A group of one and all-correct
        groups pay beta, all-wrong ones beta/K. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count.
        ConfigError: ``beta`` out of range.
    """
    checks.grouped(correct, num_tokens, group_ids)
    checks.number("beta", beta, low=0.0)

    index, sizes = group_index(group_ids)
    share = torch.maximum(group_share(correct, group_ids), 1 / wide(sizes)[index])
    return wide(correct) - beta * wide(num_tokens) * share
