"""Whether the tensors of two models fit together: names, shapes, number formats."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from lengthwise.safetensors_io.tensor_sources import Source

_WAY_OUT = {
    "shape": "pass models of one architecture and vocabulary",
    "dtype": "convert one of them, or allow mixed dtypes (--mixed-dtype)",
}


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit; a warning lets the merge go on, anything else forbids it."""

    kind: str
    text: str
    warning: bool = False


def mismatches(base: Source, other: Source, *, allow_mixed_dtype: bool = False) -> list[Finding]:
    """Everything in which another model's tensors differ from the base's, not the first thing only."""
    # tensors that are wrong in the same way are one finding: a model of another format has hundreds of them
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, info in base.infos.items():
        if name not in other.infos:
            continue
        theirs = other.infos[name]
        if info.shape != theirs.shape:
            alike.setdefault(("shape", f"shape {info.shape}", str(theirs.shape)), []).append(name)
        # Integers are compared bit for bit later on, so their formats must agree in any case.
        mixed = allow_mixed_dtype and info.dtype.floating and theirs.dtype.floating
        if info.dtype != theirs.dtype and not mixed:
            alike.setdefault(("dtype", str(info.dtype), str(theirs.dtype)), []).append(name)
    found = list(_names(base, other))
    for (kind, ours, others), names in alike.items():
        verb = {"shape": ("has", "have"), "dtype": ("is", "are")}[kind][len(names) > 1]
        text = f"{_several(names)} {verb} {ours} in {base.label} but {others} in {other.label}; {_WAY_OUT[kind]}"
        found.append(Finding(kind, text))
    return found


def _several(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} tensors ({_listed(names, [])})"


def _names(base: Source, other: Source) -> Iterator[Finding]:
    missing, extra = sorted(base.infos.keys() - other.infos.keys()), sorted(other.infos.keys() - base.infos.keys())
    if missing or extra:
        yield Finding(
            "names",
            f"{other.label} does not have the names of {base.label}: missing {_listed(missing, extra)}; "
            f"extra {_listed(extra, missing)}; pass models of one architecture",
        )


def _listed(names: list[str], candidates: list[str], shown: int = 5) -> str:
    parts = []
    for name in names[:shown]:
        near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.8)
        parts.append(f"{name} (nearest: {near[0]})" if near else name)
    if len(names) > shown:
        parts.append(f"and {len(names) - shown} more")
    return ", ".join(parts) or "none"
