"""The k largest of very many numbers, exactly, in bounded memory: counting instead of sorting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lengthwise.safetensors_io.dtypes import Floats

_DIGIT = 16
"""Bits looked at in one pass: 65,536 counters."""

Blocks = Callable[[], Iterable[Floats]]
"""Gives all blocks anew on every call."""


@dataclass(frozen=True)
class Boundary:
    """The k-th largest ``value``, how many entries equal it (``tied``), and how many of those are ``kept``."""

    value: float
    tied: int
    kept: int


def kth_largest(blocks: Blocks, count: int, working: np.dtype) -> Boundary:
    """The boundary of the ``count`` largest of all numbers in the blocks.

    Radix selection: non-negative floats order like their bit patterns, so two passes of 16 bits find the exact
    value among float32 numbers, four among float64 ones. The numbers are ≥ 0, of type ``working``, and at least
    ``count`` in all. A count of 0 gives infinity, which keeps nothing.
    """
    if count == 0:
        return Boundary(float("inf"), 0, 0)
    bits = np.dtype(f"u{working.itemsize}")
    prefix, wanted = 0, count
    for shift in range(8 * bits.itemsize - _DIGIT, -1, -_DIGIT):
        counts = _digits(blocks, bits, shift, prefix)
        at_or_above = np.cumsum(counts[::-1])
        place = int(np.searchsorted(at_or_above, wanted))
        digit = counts.size - 1 - place
        tied = int(counts[digit])
        wanted -= int(at_or_above[place]) - tied
        prefix = prefix << _DIGIT | digit
    return Boundary(float(np.array(prefix, bits).view(working)), tied, wanted)


def _digits(blocks: Blocks, bits: np.dtype, shift: int, prefix: int) -> NDArray[np.int64]:
    """How often each 16-bit digit stands at ``shift`` among the numbers that begin with ``prefix``."""
    counts = np.zeros(1 << _DIGIT, np.int64)
    above = shift + _DIGIT
    for block in blocks():
        words = block.view(bits)
        if above < 8 * bits.itemsize:
            words = words[words >> bits.type(above) == prefix]
        counts += np.bincount((words >> bits.type(shift)).astype(np.uint16), minlength=counts.size)
    return counts


def ties_to_drop(boundary: Boundary, blocks: Mapping[str, Blocks]) -> dict[str, int]:
    """How many of its first boundary entries each tensor drops, where a boundary runs through several tensors.

    Tied entries are kept from the end: the later name in sorted order, within a tensor the later entry first.
    """
    if len(blocks) == 1 or boundary.kept == boundary.tied:
        return dict.fromkeys(blocks, boundary.tied - boundary.kept)
    dropped, spare = {}, boundary.kept
    for name in sorted(blocks, reverse=True):
        tied = sum(int(np.count_nonzero(block == boundary.value)) for block in blocks[name]())
        dropped[name] = max(0, tied - spare)
        spare -= tied - dropped[name]
    return dropped


class TopMask:
    """Masks of the entries at or above a boundary, block after block of one tensor, in order.

    The first ``drop`` entries that equal the boundary are left out.
    """

    def __init__(self, value: float, drop: int, working: np.dtype) -> None:
        # a scalar of the working type: numpy would round a plain float to the block's type before comparing
        self.value = working.type(value)
        self.drop = drop

    def __call__(self, block: Floats) -> NDArray[np.bool_]:
        """The mask of the next block."""
        mask: NDArray[np.bool_] = block >= self.value
        if self.drop:
            tied = np.flatnonzero(block == self.value)
            mask[tied[: self.drop]] = False
            self.drop = max(0, self.drop - len(tied))
        return mask
