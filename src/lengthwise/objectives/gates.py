"""Gates: which rollouts may be paid by length at all. They stand between a reward and its advantage.

Shapes: B rows (rollouts). ``correct`` is right **and** finished. ``base`` is what a row's verdict earns without a
length term, ``shaped`` what the method's reward gives; the difference is the term that a gate lets through or not.
Results are float64 (float32 on `mps`).
"""

from __future__ import annotations

import math

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import group_extreme, group_index, group_sum
from lengthwise.objectives._wide import wide

GATES = ("none", "right", "solved", "rate", "rate-right")


def gate(
    base: torch.Tensor,
    shaped: torch.Tensor,
    correct: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    kind: str,
    min_right: int = 1,
    floor: float | None = None,
) -> torch.Tensor:
    """Let the length term of a reward through for some rows only, and keep right answers above wrong ones.

    r'_i = b_i + k_i·(r_i − b_i), with c the verdict and ρ_g the share of right rows: ``none`` k = 1, ``right`` c_i,
    ``solved`` [any right in g], ``rate`` ρ_g, ``rate-right`` ρ_g·c_i. Groups with fewer right rows than ``min_right``
    have k = 0 (not for ``none``). Then, with a floor φ, right rows of groups that also have wrong ones:
    r'_i = max(r'_i, W_g + φ·D_g), W_g the highest r' of a wrong row, D_g the lowest base of a right row less the
    highest of a wrong one.

    Found in the trainers prime-rl, NeMo-RL and miles and in an experiment of verl's recipes, not in a paper. The
    floor as a share of D is ours; NeMo-RL has ties at W or a clamp at 0, miles a fixed 0.8. A gate is no factor: a
    price times a reward of −1 would turn it round. Statistics inside the term are the reward's own business: with
    ``right`` and ``rate-right`` let it count right rows only, else a wrong row's length moves a right row's pay.

    Args:
        base: float [B], b.
        shaped: float [B], r; equal to ``base`` where nothing is paid by length.
        correct: bool [B], right and finished.
        group_ids: integer [B], equal for the rollouts of one prompt; rows may come in any order.
        kind: one of the five words above.
        min_right: right rows that open the gate of a group, at least 1; 2 where a term compares right rows.
        floor: φ, in [0, 1]; 0 allows ties, above 0 no wrong row earns what a right one does. None for no floor.

    Returns:
        float64 [B]. All-wrong groups get their base unless ``kind`` is ``none``; all-correct groups get the shaped
        reward (if they have ``min_right`` rows) and no floor; a group of one is either. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a number that is not finite, or, with a floor, a base that is not higher for right answers.
        ConfigError: an unknown ``kind``, or ``min_right`` or ``floor`` out of range.
    """
    _check_pay(base, shaped, correct, group_ids)
    checks.choice("kind", kind, GATES)
    checks.whole("min_right", min_right, low=1)
    if floor is not None:
        checks.number("floor", floor, low=0.0, high=1.0)

    plain, term = wide(base.detach()), wide(shaped.detach())
    if kind == "none":
        paid = term
    else:
        opening = _opening(correct, group_ids, kind, min_right)
        # where a gate is open the reward itself, not base + (reward - base), which is rounded twice
        paid = torch.where(opening == 1, term, plain + opening * (term - plain))
    return paid if floor is None else _floored(plain, paid, correct, group_ids, floor)


def _check_pay(base: torch.Tensor, shaped: torch.Tensor, correct: torch.Tensor, group_ids: torch.Tensor) -> None:
    checks.row_values("base", base)
    checks.row_values("shaped", shaped)
    checks.flags("correct", correct)
    checks.ids("group_ids", group_ids)
    checks.same_rows(base=base, shaped=shaped, correct=correct, group_ids=group_ids)


def _opening(correct: torch.Tensor, group_ids: torch.Tensor, kind: str, min_right: int) -> torch.Tensor:
    """Return the share of the term that each row is paid, in [0, 1]."""
    index, sizes = group_index(group_ids)
    right = group_sum(wide(correct), index, len(sizes))
    share = torch.ones_like(right) if kind in ("right", "solved") else right / sizes
    opening = torch.where(right >= min_right, share, 0.0)[index]
    return opening * correct if kind in ("right", "rate-right") else opening


def _floored(
    base: torch.Tensor, paid: torch.Tensor, correct: torch.Tensor, group_ids: torch.Tensor, floor: float
) -> torch.Tensor:
    gap = _group_gap(base, correct, group_ids)
    if (gap <= 0).any():
        row = int((gap <= 0).nonzero()[0])
        raise InputError(
            f"base of a right answer is not above that of a wrong one in the group {int(group_ids[row])} (row {row}), "
            "so a floor has nothing to keep; pass what the verdicts earn without a length term"
        )
    index, sizes = group_index(group_ids)
    worst = group_extreme(torch.where(correct, -math.inf, paid), index, len(sizes), "amax")[index]
    lowest = worst + floor * torch.where(torch.isfinite(gap), gap, 0.0)
    return torch.where(correct, torch.maximum(paid, lowest), paid)


def _group_gap(values: torch.Tensor, correct: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Lowest value of a right row less the highest of a wrong one, [B]; inf in groups that lack one of the two."""
    index, sizes = group_index(group_ids)
    right = group_extreme(torch.where(correct, values, math.inf), index, len(sizes), "amin")
    wrong = group_extreme(torch.where(correct, -math.inf, values), index, len(sizes), "amax")
    return (right - wrong)[index]


def order_gap(rewards: torch.Tensor, correct: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """How far the lowest paid right answer is above the highest paid wrong one, at the worst group.

    min over groups with both of (min over right rows of R − max over wrong rows of R).

    Ours; a value of 0 or less means that some wrong answer is paid as much as a right one of its group, or more.

    Args:
        rewards: float [B], after gate and floor or before.
        correct: bool [B], right and finished.
        group_ids: integer [B], equal for the rollouts of one prompt; one id for all compares across prompts.

    Returns:
        A 0-d float64; infinity where no group has both kinds (groups of one, all-correct, all-wrong, empty).

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a reward that is NaN or infinite.
    """
    _check_pay(rewards, rewards, correct, group_ids)

    gap = _group_gap(wide(rewards.detach()), correct, group_ids)
    return gap.min() if len(gap) else gap.new_full((), math.inf)


def probe_groups(*, cap: int, points: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mixed groups of every length up to a cap, on a grid: what to ask a reward before a run, with `order_gap`.

    Groups of a right and a wrong row, of two right and a wrong one, and of a right and two wrong ones, each with all
    combinations of ``points`` lengths spread evenly from 1 to the cap.

    Ours. ``order_gap(reward(*probe_groups(cap=cap)), correct, group_ids)`` of 0 or less shows that the reward, with
    its options, can pay a wrong answer as much as a right one or more. Above 0 it is no proof for lengths between.

    Args:
        cap: the longest response, at least 1.
        points: lengths on the grid, at least 2; fewer where the cap has not so many.

    Returns:
        ``correct`` bool [B], ``num_tokens`` int64 [B] and ``group_ids`` int64 [B], on the CPU. No group of one,
        all-correct or all-wrong group is among them.

    Raises:
        ConfigError: ``cap`` or ``points`` out of range.
    """
    checks.whole("cap", cap, low=1)
    checks.whole("points", points, low=2)

    grid = torch.tensor([round(1 + (cap - 1) * i / (points - 1)) for i in range(points)]).unique()
    verdicts, lengths, sizes = [], [], []
    for kinds in ((True, False), (True, True, False), (True, False, False)):
        groups = torch.cartesian_prod(*[grid] * len(kinds))
        lengths.append(groups.reshape(-1))
        verdicts.append(torch.tensor(kinds).repeat(len(groups)))
        sizes += [len(kinds)] * len(groups)
    group_ids = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.cat(verdicts), torch.cat(lengths), group_ids


def gate_metrics(
    base: torch.Tensor,
    shaped: torch.Tensor,
    correct: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    kind: str,
    min_right: int = 1,
    floor: float | None = None,
) -> dict[str, torch.Tensor]:
    """What `gate` did to a batch, in four numbers to be logged beside it.

    ``changed_share``: rows whose pay it changed.  ``floored_share``: rows that the floor lifted.
    ``all_wrong_spread``: the widest spread of pay inside an all-wrong group, 0 behind every gate but ``none``.
    ``order_gap``: of the pay, above 0 with a floor above 0.

    Args:
        base, shaped, correct, group_ids, kind, min_right, floor: as given to `gate`.

    Returns:
        A dict of 0-d float64. An empty batch has shares and a spread of 0 and a gap of infinity, and so has one
        without all-wrong groups or without groups that have both kinds; a group of one has no spread and no gap.

    Raises:
        ShapeError, InputError, ConfigError: as `gate` does.
    """
    unfloored = gate(base, shaped, correct, group_ids, kind=kind, min_right=min_right)
    paid = gate(base, shaped, correct, group_ids, kind=kind, min_right=min_right, floor=floor)

    index, sizes = group_index(group_ids)
    high, low = (group_extreme(paid, index, len(sizes), which) for which in ("amax", "amin"))
    all_wrong = group_sum(wide(correct), index, len(sizes)) == 0
    rows = max(len(paid), 1)
    return {
        "changed_share": wide(paid != wide(shaped)).sum() / rows,
        "floored_share": wide(paid != unfloored).sum() / rows,
        "all_wrong_spread": torch.cat([torch.where(all_wrong, high - low, 0.0), paid.new_zeros(1)]).max(),
        "order_gap": order_gap(paid, correct, group_ids),
    }


def guarded_product(base: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Multiply the rewards that are above 0, and leave the others: the only safe form of a factor for length.

    r'_i = b_i·m_i if b_i > 0, else b_i.

    NeMo-RL's length penalties after their review. Before, the raw reward was tested and the shaped one multiplied: a
    base of −0.4 times 0.6 is −0.24, so the longer wrong answer earned more.

    Args:
        base: float [B], the number that is tested and multiplied.
        factors: float [B], at least 0.

    Returns:
        float64 [B]. No group enters, so a group of one, all-correct and all-wrong are nothing special. Empty gives
        empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a number that is not finite, or a factor below 0.
    """
    checks.row_values("base", base)
    checks.row_values("factors", factors)
    checks.same_rows(base=base, factors=factors)
    if (factors < 0).any():
        row = int((factors < 0).nonzero()[0])
        raise InputError(
            f"factors[{row}] is {float(factors[row])}; pass at least 0, or the order of rewards turns round"
        )

    plain = wide(base.detach())
    return torch.where(plain > 0, plain * wide(factors.detach()), plain)
