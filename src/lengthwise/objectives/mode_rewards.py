"""Rewards of two ways to answer, long or short: which one suits the prompt, and what each row earns.

Shapes: B rows (rollouts). Adaptive Deep Reasoning: Triggering Deep Thinking When Needed, arXiv 2505.20101.
The paper's reward constants, thresholds and formulas are not available to this project and there is no
official code: what stands here is **our reconstruction** of its idea, not the authors' formula.
"""

from __future__ import annotations

import torch

from lengthwise.errors import InputError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._groups import group_index, group_sum
from lengthwise.objectives._wide import wide

NO_MODE, SHORT, LONG = -1, 0, 1
# shares are multiples of 1/(half a group); the slack makes equality count as reached
_SLACK = 1e-9


def _halves(
    correct: torch.Tensor, is_long: torch.Tensor, group_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each row's group position and the accuracy of the long and the short half of every group."""
    index, sizes = group_index(group_ids)
    groups = len(sizes)
    long_rows = group_sum(is_long.long(), index, groups)
    uneven = 2 * long_rows != sizes
    if uneven.any():
        group = int(uneven.nonzero()[0])
        name, size, half = int(group_ids[index == group][0]), int(sizes[group]), int(long_rows[group])
        raise InputError(f"group {name} has {half} long rows of {size}; sample half of every group long and half short")
    long_right = group_sum(wide(correct & is_long), index, groups)
    short_right = group_sum(wide(correct & ~is_long), index, groups)
    return index, long_right / long_rows, short_right / long_rows


def preferred_mode(
    correct: torch.Tensor,
    is_long: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    tau: float = 1.0,
    delta: float = 0.0,
    on_all_wrong: str = "skip",
) -> torch.Tensor:
    """Return which mode suits each row's prompt: −1 none, 0 short, 1 long.

    p_L, p_S the accuracy of the two halves. None if both are 0 (long with ``on_all_wrong="long"``); else short
    if p_S ≥ tau or p_L − p_S ≤ delta (ties go to short, the cheaper one); else long.

    Adaptive Deep Reasoning, arXiv 2505.20101. Reconstruction of this project: rule and constants are not the
    authors'.

    Args:
        correct: bool [B], right and finished.
        is_long: bool [B], sampled under the long instruction.
        group_ids: integer [B], equal for the rollouts of one prompt, half of them long.
        tau: short accuracy that is good enough whatever long does, in [0, 1].
        delta: lead that long needs, in [0, 1].
        on_all_wrong: ``skip`` or ``long``.

    Returns:
        int64 [B], one value per group. All correct gives short. Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a group that is not half long and half short, a group of one for example.
        ConfigError: an option out of range or unknown.
    """
    checks.flags("correct", correct)
    checks.flags("is_long", is_long)
    checks.ids("group_ids", group_ids)
    checks.same_rows(correct=correct, is_long=is_long, group_ids=group_ids)
    checks.number("tau", tau, low=0.0, high=1.0)
    checks.number("delta", delta, low=0.0, high=1.0)
    checks.choice("on_all_wrong", on_all_wrong, ("skip", "long"))

    index, long_share, short_share = _halves(correct, is_long, group_ids)
    short = (short_share >= tau - _SLACK) | (long_share - short_share <= delta + _SLACK)
    mode = torch.where(short, SHORT, LONG)
    all_wrong = (long_share == 0) & (short_share == 0)
    return torch.where(all_wrong, LONG if on_all_wrong == "long" else NO_MODE, mode)[index]


def mode_reward(
    correct: torch.Tensor,
    is_long: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    tau: float = 1.0,
    delta: float = 0.0,
    rho: float = 0.5,
    r_wrong: float = 0.0,
    on_all_wrong: str = "skip",
) -> torch.Tensor:
    """Reward right answers, fully in the mode that suits the prompt and less in the other.

    R_i = 1 if correct in `preferred_mode`; 1 − rho if correct in the other; r_wrong if wrong.

    Adaptive Deep Reasoning, arXiv 2505.20101. Reconstruction of this project: rule and constants are not the
    authors'.

    Args:
        correct: bool [B], right and finished.
        is_long: bool [B], sampled under the long instruction.
        group_ids: integer [B], equal for the rollouts of one prompt, half of them long.
        tau, delta, on_all_wrong: which mode suits, see `preferred_mode`.
        rho: deduction in the other mode, in [0, 1).
        r_wrong: what a wrong answer earns, in [−1, 0].

    Returns:
        float32 [B] in {r_wrong, 1 − rho, 1}. All wrong: equal rewards; all correct: the short half earns 1.
        Empty gives empty.

    Raises:
        ShapeError: wrong type, rank, dtype, length or device.
        InputError: a group that is not half long and half short, a group of one for example.
        ConfigError: an option out of range or unknown.
    """
    checks.number("rho", rho, low=0.0, below=1.0)
    checks.number("r_wrong", r_wrong, low=-1.0, high=0.0)
    mode = preferred_mode(correct, is_long, group_ids, tau=tau, delta=delta, on_all_wrong=on_all_wrong)
    other = (mode == LONG) != is_long
    return torch.full_like(mode, r_wrong, dtype=torch.float32).masked_fill(correct, 1.0) - rho * (correct & other)
