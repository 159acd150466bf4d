"""Results as JSON holds them: what `to_dict` of every result is made by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from lengthwise.json_types import JsonObject, JsonValue


def plain(value: object) -> JsonValue:
    """A value as JSON holds it: dataclasses and mappings become dictionaries, sequences lists, results what they say.

    Raises:
        TypeError: a value that JSON has no form for.
    """
    if isinstance(value, Result):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} is no value of JSON")


class Result:
    """A dataclass that JSON can hold."""

    def to_dict(self) -> JsonObject:
        """The fields by name, JSON-ready."""
        assert dataclasses.is_dataclass(self), "a result is a dataclass"
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
