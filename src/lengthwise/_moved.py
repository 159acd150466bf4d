"""Names that moved to another room stay importable from the old one for one release, with a warning."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def moved_names(old: str, rooms: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """The ``__getattr__`` and ``__all__`` of a module whose names moved: ``rooms`` says where each is now."""
    where = {name: room for room, names in rooms.items() for name in names}

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {old!r} has no attribute {name!r}; its names moved to {', '.join(rooms)}")
        warnings.warn(
            f"{old}.{name} is now {where[name]}.{name}; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(where[name]), name)

    return find, sorted(where)
