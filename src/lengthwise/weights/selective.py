"""Update-selective merging in memory: give a base model the largest part of what tuning changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch

from lengthwise.errors import ConfigError, InputError, ShapeError

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_SCOPES = ("global", "tensor")


def update_selective_merge(
    base: Mapping[str, torch.Tensor],
    tuned: Mapping[str, torch.Tensor],
    *,
    density: float = 0.25,
    scale: float = 0.7,
    scope: str = "global",
) -> dict[str, torch.Tensor]:
    """Add the largest entries of the update, scaled, to the base.

    D = tuned − base;  K keeps the k = ⌊density·n + 0.5⌋ entries of largest |D| among the n of the scope;
    result = base + scale · (K ∘ D).  At the boundary equal entries are kept from the end: names in sorted
    order, entries row-major, the later one first.

    DLER: Doing Length pEnalty Right - Incentivizing More Intelligence per Token via Reinforcement Learning,
    arXiv 2510.15110; trimming by magnitude: TIES-Merging, arXiv 2306.01708. The authors of DLER published no
    code for it, and the paper names no scope: ``global`` is this project's choice.

    Args:
        base, tuned: tensors by name, with the same names, shapes and dtypes. A tensor shared under two
            names counts twice; pass it once. Integer and bool tensors must be equal and are copied.
        density: share of entries to keep, in [0, 1].
        scale: factor on what is kept, any finite number.
        scope: ``global`` ranks all floating tensors together, ``tensor`` each on its own (a tensor with fewer
            than 0.5/density entries then keeps none).

    Returns:
        New tensors in the base's order and dtypes, computed in float32 (float64 if an input is) and rounded
        once. Entries that are not kept, and all of them for a ``density`` or ``scale`` of 0, are the base's
        bits.

    Raises:
        InputError: names that differ, NaN or infinity, a dtype that is no plain number, integers that differ,
            or an overflow of the result.
        ShapeError: shapes or dtypes that differ.
        ConfigError: ``density``, ``scale`` or ``scope`` out of range.
    """
    _check_options(density, scale, scope)
    _check_models(base, tuned)

    floating = sorted(name for name, tensor in base.items() if tensor.dtype in _FLOATS)
    updates = {name: _update(base[name], tuned[name]) for name in floating}
    scopes = [floating] if scope == "global" else [[name] for name in floating]
    kept: dict[str, torch.Tensor] = {}
    for names in scopes:
        kept.update(_keep_largest({name: updates[name] for name in names}, density))
    return {
        name: _merged(name, tensor, updates[name], kept[name], scale) if name in updates else tensor.clone()
        for name, tensor in base.items()
    }


def _check_options(density: float, scale: float, scope: str) -> None:
    if not isinstance(density, (int, float)) or not 0 <= density <= 1:
        raise ConfigError(f"density is {density}; pass a share from 0 to 1 (0.25 keeps a quarter)")
    if not isinstance(scale, (int, float)) or not math.isfinite(scale):
        raise ConfigError(f"scale is {scale}; pass a finite number")
    if scope not in _SCOPES:
        raise ConfigError(f"scope is {scope!r}; choose one of {', '.join(_SCOPES)}")


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _check_models(base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor]) -> None:
    if base.keys() != tuned.keys():
        raise InputError(
            f"tuned does not have the names of base: missing {_names(base.keys() - tuned.keys())}; "
            f"extra {_names(tuned.keys() - base.keys())}; pass two models of one architecture"
        )
    for name, tensor in base.items():
        other = tuned[name]
        if tensor.shape != other.shape:
            raise ShapeError(
                f"{name} has shape {tuple(tensor.shape)} in base but {tuple(other.shape)} in tuned; "
                "pass two models of one architecture and vocabulary"
            )
        if tensor.dtype != other.dtype:
            raise ShapeError(f"{name} is {tensor.dtype} in base but {other.dtype} in tuned; convert one of them")
        if tensor.dtype in _FLOATS:
            _check_finite(name, tensor, "base")
            _check_finite(name, other, "tuned")
        elif tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized:
            raise InputError(f"{name} is {tensor.dtype}; convert it to a plain float dtype before merging")
        elif not torch.equal(tensor, other):
            raise InputError(f"{name} is {tensor.dtype} and differs; only floating tensors can be merged")


def _check_finite(name: str, tensor: torch.Tensor, model: str) -> None:
    if not torch.isfinite(tensor).all():
        raise InputError(f"{name} holds NaN or infinity in {model}; repair or leave out that tensor")


def _working(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _update(base: torch.Tensor, tuned: torch.Tensor) -> torch.Tensor:
    return _working(tuned) - _working(base)


def _keep_largest(updates: Mapping[str, torch.Tensor], density: float) -> dict[str, torch.Tensor]:
    """Return a bool mask per tensor that keeps exactly k entries of all the updates together."""
    # one dtype for all: a float64 boundary would be rounded when compared with float32 entries
    wide = any(update.dtype == torch.float64 for update in updates.values())
    dtype = torch.float64 if wide else torch.float32
    sizes = {name: update.abs().flatten().to(dtype) for name, update in updates.items()}
    total = sum(len(size) for size in sizes.values())
    count = math.floor(density * total + 0.5)
    if count == 0:
        return {name: torch.zeros_like(update, dtype=torch.bool) for name, update in updates.items()}
    boundary = torch.cat(list(sizes.values())).kthvalue(total - count + 1).values
    spare = count - sum(int((size > boundary).sum()) for size in sizes.values())
    kept: dict[str, torch.Tensor] = {}
    for name in sorted(sizes, reverse=True):
        size = sizes[name]
        tied = (size == boundary).nonzero().flatten()
        chosen = tied[max(0, len(tied) - spare) :]
        spare -= len(chosen)
        keep = size > boundary
        keep[chosen] = True
        kept[name] = keep.view(updates[name].shape)
    return kept


def _merged(name: str, base: torch.Tensor, update: torch.Tensor, keep: torch.Tensor, scale: float) -> torch.Tensor:
    # adding a zero would still turn -0.0 into 0.0, so such entries keep the base's bits
    step = scale * update
    merged = torch.where(keep & (step != 0), _working(base) + step, _working(base)).to(base.dtype)
    if not torch.isfinite(merged).all():
        raise InputError(f"{name} overflows {base.dtype} with scale {scale}; use a smaller scale")
    return merged
