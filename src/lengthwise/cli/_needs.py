"""Flags that have an effect only beside others: given without them they are refused, not passed over in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lengthwise.cli._flags import ContractFlags
from lengthwise.errors import ConfigError

Given = Mapping[str, Any]
"""All parameters of a command by name, with their defaults."""


@dataclass(frozen=True)
class Need:
    """`names` of parameters that do nothing unless `met`; ``otherwise`` says where, to end a sentence with."""

    names: tuple[str, ...]
    met: Callable[[Given], bool]
    otherwise: str


def check_needs(command: str, given: Given, typed: Mapping[str, str]) -> None:
    """Refuse what would have no effect. ``typed``: the flags that were given, by their parameters' names.

    Raises:
        ConfigError: naming the flag and what it lacks.
    """
    for need in NEEDS.get(command, ()):
        for name in need.names:
            if name in typed and not need.met(given):
                raise ConfigError(f"{typed[name]} has no effect {need.otherwise}; leave it out, or change that")


def _in_a_lab_world(given: Given) -> bool:
    return (given["model"] if given["data"] is None else given["data"]).startswith("lab:")


CONTRACT = tuple(field.name for field in fields(ContractFlags))
NEEDS: dict[str, tuple[Need, ...]] = {
    "compare": (
        Need(CONTRACT, lambda given: not _in_a_lab_world(given), "in a world of the lab, which asks in its own way"),
    ),
}  # fmt: skip
"""By command; a library function that is given what it does not use is another matter."""
