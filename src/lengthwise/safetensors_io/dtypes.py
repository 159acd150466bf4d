"""The number formats of safetensors files, held as numpy bits and widened to do arithmetic.

Nothing here needs torch: merging a folder starts in a fraction of a second and holds little but its blocks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
"""Stored bits: one dimension, the numpy type of `Dtype.stored`."""
Floats = NDArray[np.floating]
"""Widened numbers: float32, or float64 where an input is float64."""


@dataclass(frozen=True)
class Dtype:
    """One number format: its code in safetensors, its name in torch, and the numpy type that holds its bits."""

    code: str
    torch: str
    stored: np.dtype
    largest: float
    """The largest finite number; 0 for formats that hold no floats."""

    @property
    def floating(self) -> bool:
        """Whether it holds floats."""
        return self.largest > 0

    @property
    def itemsize(self) -> int:
        """Bytes of one entry."""
        return self.stored.itemsize

    def __str__(self) -> str:
        return f"torch.{self.torch}"


def _dtype(code: str, name: str, stored: str, largest: float = 0.0) -> Dtype:
    return Dtype(code, name, np.dtype(stored), largest)


_ALL = (
    *(
        _dtype(f"F{bits}", f"float{bits}", kind, float(np.finfo(kind).max))
        for bits, kind in ((64, "<f8"), (32, "<f4"), (16, "<f2"))
    ),
    _dtype("BF16", "bfloat16", "<u2", 2.0**128 - 2.0**120),
    *(_dtype(f"I{bits}", f"int{bits}", f"<i{bits // 8}") for bits in (8, 16, 32, 64)),
    *(_dtype(f"U{bits}", f"uint{bits}", f"<u{bits // 8}") for bits in (8, 16, 32, 64)),
    _dtype("BOOL", "bool", "u1"),
)
BY_CODE = {dtype.code: dtype for dtype in _ALL}
BY_TORCH = {dtype.torch: dtype for dtype in _ALL}
FLOATING = {dtype.torch: dtype for dtype in _ALL if dtype.floating}


def working_type(dtypes: list[Dtype]) -> np.dtype:
    """The type that arithmetic over these formats is done in: float64 if one of them is, else float32."""
    return np.dtype("f8" if any(dtype.code == "F64" for dtype in dtypes) else "f4")


def widen(raw: Array, dtype: Dtype, working: np.dtype) -> Floats:
    """Stored bits as numbers of the working type, exactly; may be a view of `raw`."""
    return _numbers(raw, dtype).astype(working, copy=False)


def widen_into(out: Floats, raw: Array, dtype: Dtype) -> None:
    """The same into an array that is there."""
    out[...] = _numbers(raw, dtype)


def _numbers(raw: Array, dtype: Dtype) -> Array:
    return raw.view(_bfloat16()) if dtype.code == "BF16" else raw


@functools.cache
def _bfloat16() -> np.dtype:
    import ml_dtypes

    found: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return found


def narrow(values: Floats, dtype: Dtype) -> Array:
    """Numbers as stored bits, rounded once, to nearest, ties to even; what is too large becomes infinity."""
    with np.errstate(over="ignore"):
        if dtype.code != "BF16":
            return values.astype(dtype.stored, copy=False)
        return _float32(values).astype(_bfloat16()).view(dtype.stored)


def _float32(values: Floats) -> Floats:
    """Float64 to float32, rounded to odd, so that a further rounding to fewer bits is as good as a single one."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    finite = np.isfinite(near)
    bits = near.view(np.int32)
    bits -= (np.abs(near) > np.abs(values)) & finite
    bits |= (bits.view(np.float32) != values) & finite
    return bits.view(np.float32)
