"""Sums inside groups of rows that share an explicit id: nothing is ever reshaped by a group size."""

from __future__ import annotations

import math

import torch

from lengthwise.objectives._wide import wide


def group_index(group_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the position of each row's group, int [B], and the rows of each group, int [G]."""
    _, index, sizes = torch.unique(group_ids, return_inverse=True, return_counts=True)
    return index, sizes


def group_sum(values: torch.Tensor, index: torch.Tensor, groups: int) -> torch.Tensor:
    """Return the sum over each group, [G], in the dtype of ``values`` [B]."""
    return values.new_zeros(groups).index_add_(0, index, values)


def group_extreme(values: torch.Tensor, index: torch.Tensor, groups: int, which: str) -> torch.Tensor:
    """Return the largest (``amax``) or smallest (``amin``) value of each group, [G]."""
    return values.new_zeros(groups).scatter_reduce(0, index, values, which, include_self=False)


def counted_extreme(
    values: torch.Tensor, index: torch.Tensor, groups: int, which: str, counted: torch.Tensor | None
) -> torch.Tensor:
    """Return `group_extreme` over the counted rows (None: all); −inf (``amax``) or inf in a group without one."""
    if counted is not None:
        values = torch.where(counted, values, math.inf if which == "amin" else -math.inf)
    return group_extreme(values, index, groups, which)


def counted_mean(values: torch.Tensor, index: torch.Tensor, groups: int, counted: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of each group over its counted rows (None: all), [G]; 0 in a group without one."""
    weight = torch.ones_like(values) if counted is None else counted.to(values.dtype)
    return group_sum(values * weight, index, groups) / group_sum(weight, index, groups).clamp(min=1)


def in_group_order(values: torch.Tensor, index: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the values group after group, rising inside each, [B], and where each group begins, int [G]."""
    order = torch.argsort(values, stable=True)
    order = order[torch.argsort(index[order], stable=True)]
    return values[order], sizes.cumsum(0) - sizes


def group_share(flags: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Return for each row the share of True in its group, float64 [B], rounded once.

    The share is one division of two integers in float64, so 3 of 10 compares equal to the Python number 0.3.
    """
    index, sizes = group_index(group_ids)
    return (group_sum(wide(flags), index, len(sizes)) / sizes)[index]


def centred(
    values: torch.Tensor,
    index: torch.Tensor,
    groups: int,
    tolerance: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return ``values`` [B] minus the (weighted) mean of their group.

    A group whose spread is at most ``tolerance`` times its largest magnitude is constant up to rounding; its
    rows become exactly 0, because a later division by a tiny deviation would turn the rounding into a signal.
    """
    if weights is None:
        weights = torch.ones_like(values)
    mean = group_sum(values * weights, index, groups) / group_sum(weights, index, groups)
    high = group_extreme(values, index, groups, "amax")
    low = group_extreme(values, index, groups, "amin")
    constant = high - low <= tolerance * torch.maximum(high.abs(), low.abs())
    return torch.where(constant[index], 0.0, values - mean[index])
