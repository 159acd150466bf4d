"""What JSON holds, as types: for values that are read from files and written to them.

A value that is only passed on is a ``Mapping[str, object]``; one that is looked into has these types, or those of a
class that says its fields.
"""

from __future__ import annotations

from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"
