"""Merging models that are in memory: tensors by name in, new tensors by name out.

The work is that of the streaming commands, on one large block, so both give the same bits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lengthwise.errors import InputError, ShapeError
from lengthwise.merging.blockwise_merge import BLOCK, merge
from lengthwise.merging.merge_methods import Dare, Linear, Merge, Slerp, TaskArithmetic, Ties, UpdateSelective
from lengthwise.safetensors_io.dtypes import Array
from lengthwise.safetensors_io.tensor_compatibility import mismatches
from lengthwise.safetensors_io.tensor_sources import MemorySource, Models

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]


def linear_merge(
    models: Sequence[Tensors], *, weights: Sequence[float] | None = None, normalize: bool = True
) -> dict[str, torch.Tensor]:
    """Weighted mean of models.

    W = Σ w_m W_m / Σ w_m; without ``normalize`` the sum alone.
    Model Soups: averaging weights of multiple fine-tuned models improves accuracy, arXiv 2203.05482.

    Args:
        models: one or more; see `merge_in_memory` for what they must share.
        weights: one per model, 1 each by default; with ``normalize`` their sum is not 0.
        normalize: divide by the weights' sum. A single model, and entries on which all agree, then keep their bits.

    Returns and raises as `merge_in_memory`; the first model gives order and dtypes.
    """
    if not models:
        raise InputError("models is empty; give at least one")
    labels = [f"models[{row}]" for row in range(len(models))]
    method = Linear(weights=_tuple(weights), normalize=normalize)
    return merge_in_memory(method, models[0], models[1:], labels=labels)


def task_arithmetic(
    base: Tensors, models: Sequence[Tensors], *, weights: Sequence[float] | None = None, scale: float = 1.0
) -> dict[str, torch.Tensor]:
    """Add a weighted sum of changes to the base.

    W = B + scale · Σ w_m (W_m − B).  Editing Models with Task Arithmetic, arXiv 2212.04089. RESTA (Language Models
    are Homer Simpson!, arXiv 2402.11746) is base aligned, models [fine-tuned, unaligned], weights [1, −g].

    Args:
        base, models: see `merge_in_memory`.
        weights: one per model, 1 each by default; not normalised.
        scale: a finite number; 0 gives the base's bits, as weights of 0 do.

    Returns and raises as `merge_in_memory`.
    """
    return merge_in_memory(TaskArithmetic(weights=_tuple(weights), scale=scale), base, models)


def ties_merge(
    base: Tensors,
    models: Sequence[Tensors],
    *,
    density: float,
    weights: Sequence[float] | None = None,
    scale: float = 1.0,
    normalize: bool = True,
) -> dict[str, torch.Tensor]:
    """Trim each change to its largest entries, elect a sign, add the mean of what agrees.

    T_m keeps the max(1, ⌊density·n⌋) largest \\|W_m − B\\| of each tensor (none at density 0), the later entry first
    among equals;  e = +1 where Σ w_m T_m ≥ 0, else −1;
    W = B + scale · Σ w_m T_m / Σ w_m over models with sign(w_m T_m) = e, 0 where there is none.
    TIES-Merging: Resolving Interference When Merging Models, arXiv 2306.01708.
    Differs from the authors' code: ranked tensor by tensor, exact counts, weights (as mergekit does); the method
    `ties-authors` of the command ranks all tensors together and takes a plain mean.

    Args:
        base, models: see `merge_in_memory`.
        density: share of entries to keep, in [0, 1].
        weights: one per model, 1 each by default. With one model and ``normalize`` it cancels, with a warning.
        scale: a finite number.
        normalize: divide by the agreeing weights' sum.

    Returns and raises as `merge_in_memory`.
    """
    method = Ties(density=density, weights=_tuple(weights), scale=scale, normalize=normalize)
    return merge_in_memory(method, base, models)


def dare_merge(
    base: Tensors,
    models: Sequence[Tensors],
    *,
    density: float,
    seed: int,
    weights: Sequence[float] | None = None,
    scale: float = 1.0,
    rescale: str = "inverse",
) -> dict[str, torch.Tensor]:
    """Drop entries of each change at random, scale up the rest, add their weighted sum.

    W = B + scale · Σ w_m r_m (Z_m ∘ (W_m − B)), Z_m ~ Bernoulli(density); r = 1/density (``inverse``, the paper's),
    or Σ\\|D\\| / Σ\\|Z ∘ D\\| of the tensor (``l1``, mergekit's). Z depends on (seed, model's place, tensor name,
    entry) alone. Language Models are Super Mario, arXiv 2311.03099.

    Args:
        base, models: see `merge_in_memory`.
        density: share of entries to keep, in [0, 1]; 0 gives the base, 1 task arithmetic.
        seed: the same seed, the same result.
        weights, scale: as in `task_arithmetic`.
        rescale: ``inverse`` or ``l1``.

    Returns and raises as `merge_in_memory`.
    """
    method = Dare(density=density, seed=seed, weights=_tuple(weights), scale=scale, rescale=rescale)
    return merge_in_memory(method, base, models)


def slerp_merge(first: Tensors, second: Tensors, *, t: float, extrapolate: bool = False) -> dict[str, torch.Tensor]:
    """Go the share ``t`` of the way from the first model to the second on the great circle, tensor by tensor.

    W = (sin((1−t)θ) A + sin(tθ) C) / sin θ, θ the angle between the tensors as vectors; linear where
    \\|cos θ\\| > 0.9995 or a norm is 0. Shoemake, Animating Rotation with Quaternion Curves, 1985.

    Args:
        first, second: see `merge_in_memory`.
        t: in [0, 1]; 0 and 1 give the models' own bits.
        extrapolate: allow any finite ``t``.

    Returns and raises as `merge_in_memory`.
    """
    return merge_in_memory(Slerp(t=t, extrapolate=extrapolate), first, [second], labels=["first", "second"])


def update_selective_merge(
    base: Tensors, tuned: Tensors, *, density: float = 0.25, scale: float = 0.7, scope: str = "global"
) -> dict[str, torch.Tensor]:
    """Add the largest entries of the update, scaled, to the base.

    D = tuned − base;  K keeps the k = ⌊density·n + 0.5⌋ entries of largest \\|D\\| among the n of the scope;
    W = base + scale · (K ∘ D).  At the boundary equal entries are kept from the end: names in sorted
    order, entries row-major, the later one first.

    DLER: Doing Length pEnalty Right - Incentivizing More Intelligence per Token via Reinforcement Learning,
    arXiv 2510.15110; trimming by magnitude: TIES-Merging, arXiv 2306.01708. The authors of DLER published no
    code for it, and the paper names no scope: ``global`` is this project's choice.

    Args:
        base, tuned: see `merge_in_memory`. A tensor shared under two names counts twice; pass it once.
        density: share of entries to keep, in [0, 1].
        scale: factor on what is kept, any finite number.
        scope: ``global`` ranks all floating tensors together, ``tensor`` each on its own (a tensor with fewer
            than 0.5/density entries then keeps none).

    Returns and raises as `merge_in_memory`. Entries that are not kept, and all of them for a ``density`` or
    ``scale`` of 0, are the base's bits.
    """
    method = UpdateSelective(density=density, scale=scale, scope=scope)
    return merge_in_memory(method, base, [tuned], labels=["base", "tuned"])


def merge_in_memory(
    method: Merge,
    base: Tensors,
    models: Sequence[Tensors],
    *,
    labels: Sequence[str] | None = None,
    elements: int = BLOCK,
) -> dict[str, torch.Tensor]:
    """Carry out any method on tensors by name.

    Args:
        method: one of the values that `build_merge` makes.
        base, models: the same names, shapes and dtypes. Integer and bool tensors must be equal and are copied.
        labels: what messages call the base and the models.
        elements: entries held at a time; changes nothing in the result.

    Returns:
        New tensors in the base's order, dtypes and device, computed in float32 (float64 if an input is) and
        rounded once, to nearest even.

    Raises:
        InputError: names that differ, NaN or infinity, a dtype that is no plain number, integers that differ,
            or an overflow of the result.
        ShapeError: shapes or dtypes that differ.
        ConfigError: an option out of range.
    """
    method.check(len(models) + 1)
    labels = labels or ["base", *(f"models[{row}]" for row in range(len(models)))]
    first, *others = (MemorySource(tensors, label) for tensors, label in zip([base, *models], labels, strict=True))
    found = [finding for other in others for finding in mismatches(first, other)]
    if found:
        error = ShapeError if all(finding.kind in ("shape", "dtype") for finding in found) else InputError
        raise error("; ".join(finding.text for finding in found))
    blocks: dict[str, list[Array]] = {name: [] for name in first.infos}
    seen = Models(first, others, elements, frozenset(first.infos))
    deque(merge(method, seen, first.infos, lambda name, block: blocks[name].append(block)), maxlen=0)
    return {name: _tensor(parts, base[name]) for name, parts in blocks.items()}


def _tensor(parts: list[Array], like: torch.Tensor) -> torch.Tensor:
    import torch

    if not parts:
        return torch.empty_like(like)
    # a copy of its own, also where a part is a view of the input
    whole = torch.from_numpy(np.concatenate(parts))
    return whole.view(like.dtype).reshape(like.shape).to(like.device)


def _tuple(weights: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if weights is None else tuple(weights)
