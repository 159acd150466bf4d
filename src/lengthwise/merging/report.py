"""What a merge reports: what the models change, in all and by layer, and what was taken of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lengthwise.merging.change_summary import ChangeSummary


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What ``models`` change of a ``base``; all by the names of their folders."""

    base: str
    models: tuple[str, ...]
    total: ChangeSummary
    layers: Mapping[str, ChangeSummary]

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "base": self.base,
            "models": list(self.models),
            "total": self.total.to_dict(),
            "layers": _by_name(self.layers),
        }


@dataclass(frozen=True, kw_only=True)
class MergeReport(Differences):
    """A merge: by which version, method and options, each tensor's change, and what a reader should know."""

    lengthwise: str
    method: str
    options: Mapping[str, object]
    tensors: Mapping[str, ChangeSummary]
    notes: tuple[str, ...]

    @property
    def conclusion(self) -> str:
        """What the merge keeps of each model's squared change, exactly, in one sentence."""
        kept = [
            f"{one.kept_energy:.1%} of {name}'s"
            for name, one in zip(self.models, self.total.models, strict=True)
            if one.kept_energy is not None
        ]
        made = f"{self.method} of {' and '.join(self.models)} onto {self.base}"
        return f"{made} keeps {', '.join(kept)} squared change." if kept else f"{made}."

    def to_dict(self) -> dict[str, object]:
        """As ``merge.json`` has it."""
        made = {"lengthwise": self.lengthwise, "method": self.method, "options": dict(self.options)}
        return {**made, **super().to_dict(), "tensors": _by_name(self.tensors), "notes": list(self.notes)}


def _by_name(found: Mapping[str, ChangeSummary]) -> dict[str, object]:
    return {name: summary.to_dict() for name, summary in found.items()}
