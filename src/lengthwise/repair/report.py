"""What a repair took out: by which options, and how much of each layer and of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any, Literal

import torch
from torch import Tensor

from lengthwise.repair.input_folders import Folders


@dataclass(frozen=True, kw_only=True)
class RepairedLayer:
    """How much of one layer was taken out.

    Where it was scored: ``uninformative_rows`` (all their scores are 0, so their last columns go), ``silent_inputs``
    that never fire, the ``tokens`` that counted, the modules that share it. Beside a control: entries in ``both`` its
    mask and the scored one, and in ``either``.
    """

    shape: tuple[int, ...]
    removed: int
    fraction: float
    uninformative_rows: int | None = None
    silent_inputs: int | None = None
    tokens: int | None = None
    shared_by: tuple[str, ...] | None = None
    both: int | None = None
    either: int | None = None

    @classmethod
    def of(cls, mask: Tensor, **facts: Any) -> RepairedLayer:
        """The counts of a mask."""
        removed = int(mask.sum())
        return cls(shape=tuple(mask.shape), removed=removed, fraction=removed / max(1, mask.numel()), **facts)

    def to_dict(self) -> dict[str, object]:
        """As ``repair.json`` has it: what does not apply is left out."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What a repair did. ``options``: how the weights were chosen; ``overlap``: Jaccard, for a control alone."""

    lengthwise: str
    model: str
    kind: Literal["model", "adapter"]
    reference: str | None
    mode: Literal["zero", "reset"]
    options: Mapping[str, object]
    entries: int
    removed: int
    fraction: float
    share_of_model: float
    layers: Mapping[str, RepairedLayer]
    overlap: float | None = field(default=None)

    @property
    def from_mask(self) -> bool:
        """Whether a saved mask said what goes, and nothing was scored."""
        return "mask" in self.options

    def to_dict(self) -> dict[str, object]:
        """As ``repair.json`` has it."""
        told = ("lengthwise", "model", "kind", "reference", "mode")
        counted = ("entries", "removed", "fraction", "share_of_model")
        return {
            **{name: getattr(self, name) for name in told},
            **self.options,
            **{name: getattr(self, name) for name in counted},
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
            **({} if self.overlap is None else {"overlap": self.overlap}),
        }


def report_of(
    folders: Folders, options: Mapping[str, object], layers: Mapping[str, RepairedLayer], overlap: float | None = None
) -> RepairReport:
    """The report of a repair whose layers are done."""
    removed = sum(layer.removed for layer in layers.values())
    entries = sum(int(torch.Size(layer.shape).numel()) for layer in layers.values())
    return RepairReport(
        lengthwise=metadata.version("lengthwise"),
        model=folders.source.path.resolve().name,
        kind="adapter" if folders.adapter else "model",
        reference=None if folders.reference is None else folders.reference.path.resolve().name,
        mode=folders.way,
        options=options,
        entries=entries,
        removed=removed,
        fraction=removed / max(1, entries),
        share_of_model=removed / max(1, sum(info.size for info in folders.source.infos.values())),
        layers=dict(layers),
        overlap=overlap,
    )
