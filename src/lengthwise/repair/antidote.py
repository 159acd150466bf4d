"""Antidote's arithmetic: score every weight of a linear layer, choose the largest scores, take those weights out.

Antidote: Post-fine-tuning Safety Alignment for Large Language Models against Harmful Fine-tuning, arXiv 2408.09600;
the score is Wanda's, arXiv 2306.11695. Shapes: a layer's weight is [out, in]; a mask is bool, True is removed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import cast, overload

import numpy as np
import torch
from torch import Tensor

from lengthwise.errors import ConfigError, InputError, LengthwiseWarning, ShapeError
from lengthwise.merging.kth_largest import Blocks, TopMask, kth_largest, ties_to_drop
from lengthwise.merging.option_checks import check_choice, check_finite, check_share
from lengthwise.safetensors_io.dtypes import Floats

SCOPES = ("row", "tensor", "global")
RULES = ("nearest", "official")
MODES = ("zero", "reset", "scale")
_SCORE = np.dtype(np.float32)


def weight_scores(weight: Tensor, activity: Tensor | None, *, reference: Tensor | None = None) -> Tensor:
    """How much each weight matters on the calibration rows.

    S_ij = |A_ij| · √s_j, A = W, or W − R where a ``reference`` R is given; without ``activity`` S = |A|.

    Args:
        weight, reference: [out, in], any float dtype.
        activity: s [in], mean squared input over sequences (`Activity.mean`); 0 for an input that never fires.

    Returns:
        float32 [out, in], ≥ 0. ``W == R`` gives zeros.

    Raises:
        ShapeError: shapes that do not fit.
        InputError: NaN or infinity in an argument.
    """
    _check_matrix(weight, "weight")
    change = weight.float()
    if reference is not None:
        _check_same_shape(weight, reference, "reference")
        change = change - reference.float()
    if activity is not None:
        if activity.shape != weight.shape[1:]:
            raise ShapeError(
                f"activity has shape {tuple(activity.shape)} but weight {tuple(weight.shape)}; pass one per column"
            )
        change = change * activity.float().sqrt()
    scores = change.abs()
    if not torch.isfinite(scores).all():
        raise InputError("weight, reference or activity holds NaN or infinity; repair that layer or leave it out")
    return scores


def removed_count(size: int, fraction: float, rule: str = "nearest") -> int:
    """How many of ``size`` entries a fraction removes.

    ``nearest``: k = ⌊d·n + 0.5⌋;  ``official``: k = n − int(n·(1 − d)), the authors' rule, which rounds up (1 of 4096
    at d = 1e-5).

    Raises:
        ConfigError: a fraction outside of [0, 1], or an unknown rule.
    """
    check_share("fraction", fraction)
    check_choice("rule", rule, RULES)
    return math.floor(fraction * size + 0.5) if rule == "nearest" else size - int(size * (1 - fraction))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How many weights are removed from which groups.

    ``fraction`` of each group, or ``count`` in its place. A group is a ``row``, a ``tensor``, or all listed tensors
    together (``global``).
    """

    fraction: float = 0.05
    count: int | None = None
    scope: str = "row"
    rule: str = "nearest"

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            ConfigError: naming the option, its value and its range.
        """
        check_choice("scope", self.scope, SCOPES)
        check_choice("rule", self.rule, RULES)
        check_share("fraction", self.fraction)
        if self.count is not None and self.count < 0:
            raise ConfigError(f"count is {self.count}; give at least 0")

    def of(self, size: int) -> int:
        """k for a group of ``size``."""
        if self.count is None:
            return removed_count(size, self.fraction, self.rule)
        if self.count > size:
            raise ConfigError(f"count is {self.count} but a group has {size} entries; give at most that")
        return self.count

    def groups(self, shapes: Iterable[tuple[int, ...]]) -> set[int]:
        """The sizes of the groups."""
        if self.scope == "global":
            return {sum(math.prod(shape) for shape in shapes)}
        return {shape[-1] if self.scope == "row" else math.prod(shape) for shape in shapes}

    def warn(self, shapes: Iterable[tuple[int, ...]]) -> None:
        """Warn, once per size, where a fraction above 0 removes nothing from a group."""
        for size in sorted(self.groups(shapes)):
            if size and self.fraction > 0 and self.of(size) == 0 and self.count is None:
                warnings.warn(
                    f"fraction {self.fraction} removes nothing from groups of {size}; the smallest that does is "
                    f"{0.5 / size:.3g}",
                    LengthwiseWarning,
                    stacklevel=3,
                )


@overload
def top_mask(
    scores: Tensor,
    *,
    fraction: float = ...,
    count: int | None = ...,
    scope: str = ...,
    rule: str = ...,
    exclude: Tensor | None = ...,
    fill: bool = ...,
) -> Tensor: ...
@overload
def top_mask(
    scores: Mapping[str, Tensor],
    *,
    fraction: float = ...,
    count: int | None = ...,
    scope: str = ...,
    rule: str = ...,
    exclude: Mapping[str, Tensor] | None = ...,
    fill: bool = ...,
) -> dict[str, Tensor]: ...
def top_mask(
    scores: Mapping[str, Tensor] | Tensor,
    *,
    fraction: float = 0.05,
    count: int | None = None,
    scope: str = "row",
    rule: str = "nearest",
    exclude: Mapping[str, Tensor] | Tensor | None = None,
    fill: bool = True,
) -> dict[str, Tensor] | Tensor:
    """Masks of the largest scores of each group.

    In every group exactly k entries are True, k by `removed_count` or ``count``; among equal scores the later entry
    is removed first (names in sorted order, row-major). Masks are nested: a larger fraction removes a superset.

    Args:
        scores: one [out, in] tensor or several by name; ≥ 0.
        fraction: share of each group to remove, in [0, 1]; 0 removes nothing, 1 everything.
        count: number to remove from each group, in place of the fraction.
        scope: what a group is: ``row`` (the authors'), ``tensor`` or ``global`` (all tensors together).
        rule: ``nearest`` or ``official``; see `removed_count`.
        exclude: masks of entries that are never removed.
        fill: remove the k largest among the rest (fewer where fewer are left). Else choose k first and then leave
            the excluded ones out, the set difference of arXiv 2402.05162.

    Returns:
        bool masks of the shapes of ``scores``; a tensor for a tensor. Warns where a fraction above 0 removes nothing.

    Raises:
        ConfigError: an option out of range, or a count above a group's size.
        InputError: a score that is NaN or negative.
        ShapeError: an ``exclude`` that does not fit.
    """
    for name, given in ({"scores": scores} if isinstance(scores, Tensor) else scores).items():
        if not bool((given >= 0).all()):
            raise InputError(f"{name} holds NaN or a negative score, which cannot be ranked; give scores of at least 0")
    selection = Selection(fraction=fraction, count=count, scope=scope, rule=rule)
    selection.check()
    selection.warn([scores.shape] if isinstance(scores, Tensor) else [score.shape for score in scores.values()])
    if isinstance(scores, Tensor):
        alone = None if exclude is None else {"": cast(Tensor, exclude)}
        return choose({"": scores.shape}, {"": scores}.__getitem__, selection, alone, fill=fill)("")
    shapes = {name: score.shape for name, score in scores.items()}
    mask_of = choose(shapes, scores.__getitem__, selection, cast("Mapping[str, Tensor] | None", exclude), fill=fill)
    return {name: mask_of(name) for name in scores}


def choose(
    shapes: Mapping[str, tuple[int, ...]],
    scores: Callable[[str], Tensor],
    selection: Selection,
    exclude: Mapping[str, Tensor] | None = None,
    *,
    fill: bool = True,
) -> Callable[[str], Tensor]:
    """`top_mask` for scores that are made when they are needed: one tensor's at a time, whatever the scope."""

    def allowed(name: str) -> Tensor:
        if exclude is None:
            return torch.ones(shapes[name], dtype=torch.bool)
        if exclude[name].shape != shapes[name]:
            raise ShapeError(
                f"exclude has shape {tuple(exclude[name].shape)} but the scores of {name or 'the tensor'} "
                f"{tuple(shapes[name])}; pass one entry per weight"
            )
        return exclude[name].logical_not()

    def candidates(name: str) -> Tensor:
        return allowed(name) if fill else torch.ones(shapes[name], dtype=torch.bool)

    if selection.scope == "global":
        mask_of = _together(shapes, scores, candidates, selection)
    else:
        mask_of = partial(_in_groups, scores=scores, candidates=candidates, selection=selection)
    return lambda name: mask_of(name) & allowed(name)


def _in_groups(
    name: str, *, scores: Callable[[str], Tensor], candidates: Callable[[str], Tensor], selection: Selection
) -> Tensor:
    # what is no candidate comes before all scores, so it is chosen last
    ranked = scores(name).masked_fill(~candidates(name), -1.0)
    groups = ranked if selection.scope == "row" else ranked.reshape(1, -1)
    count = selection.of(groups.shape[1])
    # ascending and stable: the tail holds the largest, and of equal ones the later
    order = groups.sort(dim=1, stable=True).indices[:, groups.shape[1] - count :]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True).view(ranked.shape)


def _together(
    shapes: Mapping[str, tuple[int, ...]],
    scores: Callable[[str], Tensor],
    candidates: Callable[[str], Tensor],
    selection: Selection,
) -> Callable[[str], Tensor]:
    def ranked(name: str) -> Floats:
        return scores(name)[candidates(name)].numpy()

    blocks: dict[str, Blocks] = {name: partial(lambda name: [ranked(name)], name) for name in sorted(shapes)}
    left = sum(int(candidates(name).sum()) for name in shapes)
    wanted = min(left, selection.of(sum(math.prod(shape) for shape in shapes.values())))
    boundary = kth_largest(lambda: chain.from_iterable(each() for each in blocks.values()), wanted, _SCORE)
    drops = ties_to_drop(boundary, blocks)

    def mask(name: str) -> Tensor:
        chosen = torch.from_numpy(TopMask(boundary.value, drops[name], _SCORE)(ranked(name)))
        return torch.zeros(shapes[name], dtype=torch.bool).masked_scatter_(candidates(name), chosen)

    return mask


def repair(
    weight: Tensor, mask: Tensor, *, mode: str = "zero", reference: Tensor | None = None, factor: float = 0.0
) -> Tensor:
    """Take the masked weights out.

    ``zero``: W' = 0 where M, else W;  ``reset``: W' = R where M;  ``scale``: W' = factor · W where M.

    Args:
        weight: any shape and float dtype.
        mask: bool of that shape, True is removed.
        mode: ``zero``, ``reset`` (needs a ``reference``, the aligned weight) or ``scale``.
        reference: of the shape of ``weight``; converted to its dtype.
        factor: for ``scale``, finite.

    Returns:
        A new tensor in the dtype of ``weight``; entries that are not masked keep their bits. Applying it twice
        equals once, save for ``scale``.

    Raises:
        ShapeError: shapes that differ.
        ConfigError: an unknown mode, a missing reference, one that is not used, or a factor that is not finite.
    """
    check_choice("mode", mode, MODES)
    check_finite("factor", factor)
    _check_same_shape(weight, mask, "mask")
    if (mode == "reset") != (reference is not None):
        raise ConfigError(
            f"mode is {mode!r} and reference is {'given' if mode != 'reset' else 'missing'}; reset needs one"
        )
    if mask.dtype != torch.bool:
        raise ShapeError(f"mask is {mask.dtype}; pass bool, True where a weight is removed")
    if mode == "scale":
        return torch.where(mask, factor * weight, weight)
    if reference is None:
        return weight.masked_fill(mask, 0.0)
    _check_same_shape(weight, reference, "reference")
    return torch.where(mask, reference.to(weight.dtype), weight)


def _check_matrix(tensor: Tensor, name: str) -> None:
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise ShapeError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}; pass floats [out, in] (quantised weights cannot "
            "be set to zero exactly)"
        )


def _check_same_shape(weight: Tensor, other: Tensor, name: str) -> None:
    if weight.shape != other.shape:
        raise ShapeError(
            f"{name} has shape {tuple(other.shape)} but weight {tuple(weight.shape)}; pass tensors of one layer"
        )
