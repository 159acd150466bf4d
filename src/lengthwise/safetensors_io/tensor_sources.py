"""Where tensors come from: anything that knows names, shapes and formats, and reads a stretch of one tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lengthwise.errors import InputError
from lengthwise.safetensors_io.dtypes import BY_TORCH, Array, Dtype, Floats, widen, widen_into, working_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@dataclass(frozen=True)
class TensorInfo:
    """Shape and number format of one tensor."""

    shape: tuple[int, ...]
    dtype: Dtype

    @property
    def size(self) -> int:
        """Number of entries; 1 for a tensor without dimensions."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return self.size * self.dtype.itemsize


class Source(Protocol):
    """A model to read from; `label` is what messages call it."""

    label: str

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """Shape and format of every tensor, in file order."""
        ...

    def read(self, name: str, start: int, stop: int) -> Array:
        """Entries ``start`` to ``stop`` of a tensor, row-major, as stored; not to be written to."""
        ...


class MemorySource:
    """Tensors that are already in memory.

    Raises:
        InputError: a tensor that is no plain number.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], label: str) -> None:
        self.label = label
        self.tensors = tensors
        self.infos = {name: TensorInfo(tuple(t.shape), _plain(name, t, label)) for name, t in tensors.items()}

    def read(self, name: str, start: int, stop: int) -> Array:
        """Entries ``start`` to ``stop``; a view where the tensor is contiguous."""
        import torch

        flat = self.tensors[name].detach().reshape(-1)[start:stop].cpu()
        if self.infos[name].dtype.code == "BF16":
            flat = flat.view(torch.uint16)
        bits: Array = flat.numpy()
        return bits.view(np.uint8) if bits.dtype == np.bool_ else bits


def _plain(name: str, tensor: torch.Tensor, label: str) -> Dtype:
    dtype = BY_TORCH.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        raise InputError(f"{name} is {tensor.dtype} in {label}; convert it to a plain float dtype before merging")
    return dtype


@dataclass(frozen=True)
class Block:
    """A stretch of one tensor in all models: ``base`` [n] and ``others`` [M, n], widened, and the base's own bits."""

    start: int
    stored: Array
    base: Floats
    others: Floats


@dataclass(frozen=True)
class Models:
    """A base and M others of the same names and shapes, read in blocks.

    ``elements`` bounds the entries of all of them that are held at a time, the base's among them, so that memory
    depends neither on the models' number nor on their size.
    ``chosen`` names the tensors that are merged.
    """

    base: Source
    others: Sequence[Source]
    elements: int
    chosen: frozenset[str]

    def floating(self) -> list[str]:
        """Names of the tensors to merge, sorted: the order in which ties are broken."""
        return sorted(name for name in self.chosen if self.base.infos[name].dtype.floating)

    def working(self, names: Sequence[str]) -> np.dtype:
        """The type of arithmetic over these tensors of all models."""
        return working_type([source.infos[name].dtype for name in names for source in (self.base, *self.others)])

    def spans(self, name: str, step: int | None = None) -> Iterator[tuple[int, int]]:
        """Half-open stretches that cover a tensor."""
        size = self.base.infos[name].size
        step = step or max(1, self.elements // (1 + len(self.others)))
        for start in range(0, size, step):
            yield start, min(size, start + step)

    def blocks(self, name: str) -> Iterator[Block]:
        """All of a tensor, in order."""
        working = self.working([name])
        for start, stop in self.spans(name):
            others = np.empty((len(self.others), stop - start), working)
            for row, source in enumerate(self.others):
                widen_into(others[row], source.read(name, start, stop), source.infos[name].dtype)
            stored = self.base.read(name, start, stop)
            yield Block(start, stored, widen(stored, self.base.infos[name].dtype, working), others)

    def changes(self, name: str) -> Iterator[Block]:
        """The same with ``others`` holding W − B."""
        for block in self.blocks(name):
            # infinity less infinity is found and named later
            with np.errstate(all="ignore"):
                np.subtract(block.others, block.base, out=block.others)
            yield block

    def sizes_of_change(self, name: str, model: int, working: np.dtype, step: int | None = None) -> Iterator[Floats]:
        """Magnitudes of one model's change W − B of a tensor, block by block."""
        own = self.working([name])
        for start, stop in self.spans(name, step):
            with np.errstate(all="ignore"):
                change = numbers(self.others[model], name, start, stop, own) - numbers(
                    self.base, name, start, stop, own
                )
            yield np.abs(change, out=change).astype(working, copy=False)


def numbers(source: Source, name: str, start: int, stop: int, working: np.dtype) -> Floats:
    """A stretch of a floating tensor, widened; not to be written to."""
    return widen(source.read(name, start, stop), source.infos[name].dtype, working)
