"""Thinking that is cut at budgets: which budgets, what an answer within them earns, and the credit of each segment.

Shapes: B thinkings (rows), S rising budgets, A answers drawn at each cut, T response tokens. Statistics are computed in
float64. Elastic Reasoning cuts at one fixed pair of budgets, AnytimeReasoner (BRPO) at all of S.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import group_index
from lengthwise.objectives._wide import wide

WEIGHTINGS = ("uniform", "proportional", "last")


def even_budgets(longest: int, count: int) -> list[int]:
    """Return ``count`` budgets that divide the longest evenly, rising: b_j = ⌊longest·j/count + 1/2⌋.

    AnytimeReasoner, arXiv 2505.13438 (4 up to 8000 there).

    Args:
        longest: tokens of the last budget, at least ``count``.
        count: S, at least 1.

    Returns:
        A list of S strictly rising integers of at least 1.

    Raises:
        ConfigError: ``longest`` or ``count`` out of range.
    """
    checks.whole("count", count, low=1)
    checks.whole("longest", longest, low=count)
    return [(2 * longest * j + count) // (2 * count) for j in range(1, count + 1)]


def budget_weights(budgets: list[int] | tuple[int, ...], *, kind: str = "uniform") -> list[float]:
    """Return what each budget weighs, in sum 1: the same, in proportion to its tokens, or all on the last.

    AnytimeReasoner, arXiv 2505.13438, which reports all three.

    Args:
        budgets: strictly rising tokens, each at least 1, at least one.
        kind: ``uniform``, ``proportional`` or ``last``.

    Returns:
        A list of S floats of at least 0.

    Raises:
        ConfigError: budgets out of range or order, or an unknown ``kind``.
    """
    _check_budgets(budgets)
    checks.choice("kind", kind, WEIGHTINGS)
    raw = {"uniform": [1] * len(budgets), "proportional": budgets, "last": [0] * (len(budgets) - 1) + [1]}[kind]
    return [value / sum(raw) for value in raw]


def drawn_budgets(
    rows: int, budgets: list[int] | tuple[int, ...], *, weights: list[float] | tuple[float, ...], seed: int
) -> torch.Tensor:
    """Draw the thinking budget of each row, b_j with probability weights_j / Σ weights.

    The mean over draws of what an answer at the drawn budget earns is AnytimeReasoner's objective Σ_j P_j·y_j; to draw
    one budget a row instead of answering at all of them is ours.

    Args:
        rows: B, at least 0.
        budgets: strictly rising tokens, each at least 1.
        weights: a number of at least 0 for each budget, not all 0.
        seed: at least 0; the same seed draws the same budgets.

    Returns:
        int64 [B], on the CPU.

    Raises:
        ConfigError: an option out of range or order.
    """
    checks.whole("rows", rows, low=0)
    checks.whole("seed", seed, low=0)
    _check_budgets(budgets)
    shares = _shares(weights, len(budgets), torch.zeros((), dtype=torch.float64))
    if rows == 0:
        return torch.zeros(0, dtype=torch.int64)
    drawn = torch.multinomial(shares, rows, replacement=True, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(list(budgets))[drawn]


def separated_truncation(
    answer_correct: torch.Tensor,
    thinking_tokens: torch.Tensor,
    answer_tokens: torch.Tensor,
    finished: torch.Tensor,
    *,
    thinking_budget: int | torch.Tensor,
    answer_budget: int | torch.Tensor,
) -> torch.Tensor:
    """Reward 1 for a right answer that finished, with thinking and answer each within a budget of its own.

    R_i = c_i·[finished_i]·[thinking_i ≤ thinking_budget]·[answer_i ≤ answer_budget]; no other length term.

    Elastic Reasoning, arXiv 2505.05315 (1024 and 1024 there). Thinking at its budget is closed by force and goes on to
    the answer, so it counts as within. The closing mark belongs to neither; in the authors' code it is trained on but
    has no stored log-probability, here keep it out of ``train_mask``.

    Args:
        answer_correct: bool [B], the grader's verdict on the text.
        thinking_tokens, answer_tokens: integer [B], the two parts of each response, at least 0.
        finished: bool [B], ended by EOS.
        thinking_budget, answer_budget: tokens, at least 1: an int, or an integer tensor [B].

    Returns:
        float32 [B] in {0, 1}. No group enters, so a group of one, all-correct and all-wrong are nothing special.
        Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a negative token count, or a budget below 1 in a tensor.
        ConfigError: a budget out of range.
    """
    checks.flags("answer_correct", answer_correct)
    checks.flags("finished", finished)
    parts = {"thinking_tokens": thinking_tokens, "answer_tokens": answer_tokens}
    for name, value in parts.items():
        checks.counts(name, value)
    checks.same_rows(answer_correct=answer_correct, finished=finished, **parts)
    checks.tokens("thinking_budget", thinking_budget, thinking_tokens)
    checks.tokens("answer_budget", answer_budget, answer_tokens)

    within = (thinking_tokens.long() <= thinking_budget) & (answer_tokens.long() <= answer_budget)
    return (answer_correct & finished & within).float()


def budget_relative(
    scores: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    weights: list[float] | tuple[float, ...] | None = None,
    growth: float = 2.0,
) -> torch.Tensor:
    """Advantage of each segment of a thinking from the answers given after cuts at several budgets (BRPO).

    Segment s lies between the budgets s − 1 and s. R_s = Σ_{j≥s} P_j·y_j;  V2 = mean of R_s over the group (0 for a
    group of one);  V1 = (Σ_{j<s} growth^j·y_j / Σ_{j<s} growth^j)·Σ_{j≥s} P_j (0 for s = 0);
    A_s = R_s − (s·V1 + (S − s)·V2)/S, with s and j from 0 and no division by a spread.

    AnytimeReasoner, arXiv 2505.13438 (abstract), by its code; the paper's discount in V1 was not read, 2 is the code's.

    Args:
        scores: float [B,S], y: mean score of the answers after the thinking was cut at each budget; a thinking that
            ended before a budget is scored by answers after all of it. In the paper 1 only if right and exactly one
            closing mark, else 0.
        group_ids: integer [B], equal for the thinkings of one prompt.
        weights: S numbers of at least 0, not all 0, divided by their sum; None for equal ones.
        growth: weight of a later budget's score against the one before it in V1, above 0.

    Returns:
        float64 [B,S]; spread it over tokens with `segment_credit`. Over a group (of more than one) segment 0 sums to
        0. All-wrong (0 everywhere) gives 0, and so does all-correct (1 everywhere) up to rounding. A group of one has
        no V2 and keeps R_s − s·V1/S. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a score that is not finite.
        ConfigError: weights or ``growth`` out of range.
    """
    _check_scores(scores, group_ids, rank=2)
    checks.number("growth", growth, above=0.0)
    budgets = scores.shape[1]
    y = wide(scores.detach())
    share = _shares([1.0] * budgets if weights is None else weights, budgets, y)

    index, sizes = group_index(group_ids)
    returns = (share * y).flip(1).cumsum(1).flip(1)
    means = y.new_zeros(len(sizes), budgets).index_add_(0, index, returns) / sizes[:, None]
    group_value = torch.where((sizes > 1)[:, None], means, 0.0)[index]
    factors = growth ** torch.arange(budgets, device=y.device, dtype=y.dtype)
    before = (factors * y).cumsum(1)[:, :-1] / factors.cumsum(0)[:-1]
    ahead = share.flip(0).cumsum(0).flip(0)
    own_value = torch.cat([torch.zeros_like(y[:, :1]), before * ahead[1:]], dim=1)
    place = torch.arange(budgets, device=y.device, dtype=y.dtype) / budgets
    return returns - (place * own_value + (1 - place) * group_value)


def budget_answers(scores: torch.Tensor, group_ids: torch.Tensor, *, last_only: bool = False) -> torch.Tensor:
    """Advantage of each answer drawn after a cut: its score less the mean of its siblings at that cut (BRPO).

    A > 1: score − mean over the A answers of this thinking at this budget. A = 1: score − mean over the group's answers
    at this budget. No division by a spread.

    AnytimeReasoner, arXiv 2505.13438, by its code.

    Args:
        scores: float [B,S,A], the score of each answer.
        group_ids: integer [B], equal for the thinkings of one prompt; read where A is 1.
        last_only: train only the last budget's answers, the others get 0.

    Returns:
        float64 [B,S,A]. Equal scores (all-correct, all-wrong) get exactly 0, and so does a group of one where A is 1.
        Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a score that is not finite.
    """
    _check_scores(scores, group_ids, rank=3)
    y = wide(scores.detach())
    if y.shape[2] > 1:
        centre = y - y.mean(dim=2, keepdim=True)
        result = torch.where(y.amax(dim=2, keepdim=True) == y.amin(dim=2, keepdim=True), 0.0, centre)
    else:
        index, sizes = group_index(group_ids)
        sums = y.new_zeros(len(sizes), *y.shape[1:]).index_add_(0, index, y)
        result = y - (sums / sizes[:, None, None])[index]
        low, high = (_group_extremes(y, index, len(sizes), which) for which in ("amin", "amax"))
        result = torch.where((low == high)[index], 0.0, result)
    if last_only:
        result[:, :-1] = 0.0
    return result


def segment_credit(
    advantages: torch.Tensor, thinking_mask: torch.Tensor, *, budgets: list[int] | tuple[int, ...]
) -> torch.Tensor:
    """Give each token of a thinking the advantage of the segment between two budgets that it stands in.

    The k-th thinking token of a row (from 1) is in segment s if b_{s−1} < k ≤ b_s, with b_{−1} = 0.

    AnytimeReasoner, arXiv 2505.13438.

    Args:
        advantages: float [B,S], of `budget_relative`.
        thinking_mask: bool [B,T], the thinking tokens that the policy wrote; neither appended words nor answers.
        budgets: S strictly rising tokens, each at least 1.

    Returns:
        Float [B,T] in the dtype of ``advantages``, 0 outside the mask. Segments after the end of a thinking have no
        tokens. Groups do not enter. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, shape or device.
        InputError: an advantage that is not finite, or a row with more thinking tokens than the last budget.
        ConfigError: other than S budgets, or out of range or order.
    """
    checks.token_mask(thinking_mask)
    _check_scores(advantages, torch.zeros(len(thinking_mask), dtype=torch.int64), rank=2, name="advantages")
    _check_budgets(budgets)
    if len(budgets) != advantages.shape[1]:
        raise ConfigError(f"budgets has {len(budgets)} entries but advantages has {advantages.shape[1]} segments a row")
    checks.same_rows(thinking_mask=thinking_mask, advantages=advantages)
    place = thinking_mask.cumsum(dim=1, dtype=torch.int32)
    if place.numel() and int(place.max()) > budgets[-1]:
        row = int((place[:, -1] > budgets[-1]).nonzero()[0])
        raise InputError(
            f"thinking_mask row {row} has {int(place[row, -1])} tokens but the last budget is {budgets[-1]}; "
            "a thinking ends there"
        )

    edges = torch.tensor(list(budgets), dtype=torch.int32, device=place.device)
    segment = torch.bucketize(place, edges, out_int32=True).clamp_(max=len(budgets) - 1)
    return advantages.gather(1, segment.long()).masked_fill_(~thinking_mask, 0.0)


def _check_budgets(budgets: Sequence[int]) -> None:
    if not isinstance(budgets, (tuple, list)) or not budgets:
        raise ConfigError(f"budgets is {budgets!r}; pass a tuple or a list with at least one budget")
    for position, budget in enumerate(budgets):
        checks.whole(f"budgets[{position}]", budget, low=1)
    if list(budgets) != sorted(set(budgets)):
        raise ConfigError(f"budgets is {budgets!r}; pass strictly rising tokens")


def _shares(weights: Sequence[float], wanted: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weights divided by their sum, [S], of the type and on the device of `like`."""
    if not isinstance(weights, (tuple, list)) or len(weights) != wanted:
        raise ConfigError(f"weights is {weights!r}; pass one number for each of the {wanted} budgets")
    for position, weight in enumerate(weights):
        checks.number(f"weights[{position}]", weight, low=0.0)
    if not any(weights):
        raise ConfigError(f"weights is {weights!r}; pass at least one above 0")
    return torch.tensor([weight / math.fsum(weights) for weight in weights], dtype=like.dtype, device=like.device)


def _check_scores(scores: torch.Tensor, group_ids: torch.Tensor, *, rank: int, name: str = "scores") -> None:
    shape = "[B,S]" if rank == 2 else "[B,S,A]"
    if not isinstance(scores, torch.Tensor) or scores.dim() != rank or 0 in scores.shape[1:]:
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ShapeError(f"{name} is {got}; pass a torch.Tensor of shape {shape}")
    checks.row_values(name, scores.reshape(-1))
    checks.ids("group_ids", group_ids)
    if len(group_ids) != len(scores):
        raise ShapeError(f"group_ids has {len(group_ids)} entries but {name} has {len(scores)} rows; pass one per row")


def _group_extremes(values: torch.Tensor, index: torch.Tensor, groups: int, which: str) -> torch.Tensor:
    """Return the extreme of each group, in the shape of ``values`` with one row a group."""
    rows = index[:, None, None].expand_as(values)
    return values.new_zeros(groups, *values.shape[1:]).scatter_reduce(0, rows, values, which, include_self=False)
