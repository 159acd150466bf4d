"""Carrying a merge out, block by block, and what is measured on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lengthwise.errors import InputError
from lengthwise.merging.formulas import Mask
from lengthwise.merging.merge_methods import Merge, Rule
from lengthwise.safetensors_io.dtypes import Array, Dtype, Floats, narrow, widen
from lengthwise.safetensors_io.tensor_sources import Block, Models, TensorInfo, numbers

Sink = Callable[[str, Array], None]
"""Takes the stored bits of tensor after tensor, block after block."""

BLOCK = 3 << 18
"""Entries of all models held at a time, 2¹⁸ of each of three.

Few enough for a processor's cache, enough to make calls cheap.
"""


@dataclass
class Change:
    """Sums over one tensor or several: what each of M models changes, and what the merge keeps of it.

    ``base`` is the base's squared norm, ``products`` [M, M] the changes' inner products, ``zeros`` [M] and
    ``kept`` [M] counts, ``kept_squares`` [M] the squared norm of what was kept. ``moved`` counts entries that the
    merge changes before rounding to the output's format, ``lost`` those of them that the rounding gives back.
    """

    size: int
    base: float
    products: NDArray[np.float64]
    zeros: NDArray[np.float64]
    kept: NDArray[np.float64]
    kept_squares: NDArray[np.float64]
    moved: int
    lost: int

    @classmethod
    def none(cls, models: int) -> Change:
        """Nothing measured yet."""
        return cls(
            0, 0.0, np.zeros((models, models)), np.zeros(models), np.zeros(models), np.zeros(models), 0, 0
        )  # fmt: skip

    def add(self, other: Change) -> None:
        """Add another part's sums."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def merge(
    method: Merge, models: Models, outputs: Mapping[str, TensorInfo], sink: Sink
) -> Iterator[tuple[str, Change | None]]:
    """Merge into the sink, tensor by tensor in the order of ``outputs``; yields each name with what changed.

    Tensors that are not chosen are the base's bits, with no change to report. Others that hold no floats must be
    equal in all models.

    Raises:
        InputError: NaN or infinity in a model, integers that differ, or a result too large for its format.
    """
    start = method.plan(models)
    for name, info in outputs.items():
        if name not in models.chosen or not info.dtype.floating:
            for raw in _copied(models, name):
                sink(name, raw)
            yield name, None
            continue
        rule, change = start(name), Change.none(len(models.others))
        for block in models.changes(name) if method.takes_changes else models.blocks(name):
            stored, part = _merged(method, rule, block, name, models, info)
            change.add(part)
            sink(name, stored)
        yield name, change


def measure(models: Models) -> Iterator[tuple[str, Change]]:
    """What the models change in each chosen floating tensor, without merging anything.

    Raises:
        InputError: NaN or infinity in a model.
    """
    for name, info in models.base.infos.items():
        if name not in models.chosen or not info.dtype.floating:
            continue
        change = Change.none(len(models.others))
        for block in models.changes(name):
            with np.errstate(all="ignore"):
                part = _measure(block, block.base, None)
            if not np.isfinite(part.base + part.products.trace()):
                _check_inputs(name, block, models)
            change.add(part)
        yield name, change


def _merged(
    method: Merge, rule: Rule, block: Block, name: str, models: Models, info: TensorInfo
) -> tuple[Array, Change]:
    """The stored result of one block with its sums."""
    # NaN and infinity run through and are found at the end.
    with np.errstate(all="ignore"):
        merged, kept = rule(block)
        if not method.takes_changes:
            np.subtract(block.others, block.base, out=block.others)
        stored = narrow(merged, info.dtype)
        part = _measure(block, merged, kept)
        part.moved, part.lost = _moved(block, merged, stored, models.base.infos[name].dtype, info.dtype)
    # A sum of squares is finite where all entries are; one that is not may still come from large ones.
    if not np.isfinite(part.base + part.products.trace()):
        _check_inputs(name, block, models)
    largest = info.dtype.largest
    within = -largest <= merged.min() and merged.max() <= largest
    if not within and not np.isfinite(widen(stored, info.dtype, merged.dtype)).all():
        raise InputError(f"{name} overflows {info.dtype}; use a smaller scale or a wider output format")
    return stored, part


def _copied(models: Models, name: str) -> Iterator[Array]:
    for start, stop in models.spans(name):
        raw = models.base.read(name, start, stop)
        for other in models.others if name in models.chosen else ():
            if not np.array_equal(raw, other.read(name, start, stop)):
                raise InputError(
                    f"{name} is {models.base.infos[name].dtype} and differs between {models.base.label} and "
                    f"{other.label}; only floating tensors can be merged"
                )
        yield raw


def _dot(a: Floats, b: Floats) -> float:
    return float(np.dot(a, b))


def _measure(block: Block, merged: Floats, kept: Mask | None) -> Change:
    changes, found = block.others, Change.none(len(block.others))
    found.size, found.base = merged.size, _dot(block.base, block.base)
    for row, change in enumerate(changes):
        for column in range(row + 1):
            found.products[row, column] = found.products[column, row] = _dot(change, changes[column])
        found.zeros[row] = np.count_nonzero(change == 0)
        if kept is None:
            found.kept[row], found.kept_squares[row] = merged.size, found.products[row, row]
        else:
            part = change * kept[row]
            found.kept[row], found.kept_squares[row] = np.count_nonzero(kept[row]), _dot(part, part)
    return found


def _moved(block: Block, merged: Floats, stored: Array, before: Dtype, after: Dtype) -> tuple[int, int]:
    """How many entries the merge changes, and how many of those the rounding gives back."""
    moved = merged != block.base
    same = stored == block.stored if before == after else widen(stored, after, merged.dtype) == block.base
    return int(np.count_nonzero(moved)), int(np.count_nonzero(moved & same))


def _check_inputs(name: str, block: Block, models: Models) -> None:
    start, stop = block.start, block.start + block.base.size
    for source in (models.base, *models.others):
        if not np.isfinite(numbers(source, name, start, stop, block.base.dtype)).all():
            raise InputError(f"{name} holds NaN or infinity in {source.label}; repair or leave out that tensor")
