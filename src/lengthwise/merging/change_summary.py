"""What a merge changed, in numbers that can be read: per tensor and per layer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lengthwise.data import whole_number
from lengthwise.merging.blockwise_merge import Change

_LAYER = re.compile(r"(?:^|\.)((?:layers|layer|h|blocks|block)\.\d+)(?:\.|$)")


def layer_of(name: str) -> str:
    """The layer that a tensor belongs to; outside of layers its own name."""
    found = _LAYER.search(name)
    return found[1] if found else name.removesuffix(".weight")


def by_layer(changes: Mapping[str, Change]) -> dict[str, Change]:
    """Sums per layer, in the order in which the layers come."""
    layers: dict[str, Change] = {}
    for name, change in changes.items():
        layers.setdefault(layer_of(name), Change.none(len(change.zeros))).add(change)
    return dict(sorted(layers.items(), key=lambda item: _order(item[0])))


def _order(layer: str) -> tuple[int, str]:
    number = whole_number(layer.rsplit(".", 1)[-1])
    return (-1, layer) if number is None else (number, "")


@dataclass(frozen=True)
class ModelChange:
    """One model's change D of the base B, as a merge takes it; None where a norm or a count is 0.

    ``norm`` ||D||, ``relative`` ||D||/||B||, ``zeros`` (share of entries that it does not change), ``kept`` (share of
    entries that the merge takes of it), ``kept_energy`` ||K o D||²/||D||².
    """

    norm: float
    relative: float | None
    zeros: float | None
    kept: float | None
    kept_energy: float | None


@dataclass(frozen=True)
class ChangeSummary:
    """One row of a report.

    ``cosines`` are those of the models' changes, pair by pair; None where a norm is 0. ``moved`` is the share of
    entries that the merge changes, ``lost`` the share of those that rounding to the output's format undoes.
    """

    entries: int
    models: tuple[ModelChange, ...]
    cosines: tuple[float | None, ...]
    moved: float | None
    lost: float | None

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "entries": self.entries,
            "models": [asdict(model) for model in self.models],
            "cosines": list(self.cosines),
            "moved": self.moved,
            "lost": self.lost,
        }


def summary_of(change: Change) -> ChangeSummary:
    """The numbers of a change that can be read."""
    squares = change.products.diagonal()
    models = tuple(
        ModelChange(
            norm=math.sqrt(square),
            relative=math.sqrt(square / change.base) if change.base else None,
            zeros=_share(change.zeros[row], change.size),
            kept=_share(change.kept[row], change.size),
            kept_energy=_share(change.kept_squares[row], square),
        )
        for row, square in enumerate(squares.tolist())
    )
    cosines = tuple(
        _share(change.products[row, column], math.sqrt(squares[row] * squares[column]))
        for row in range(len(squares))
        for column in range(row)
    )
    return ChangeSummary(
        change.size, models, cosines, _share(change.moved, change.size), _share(change.lost, change.moved)
    )


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None
