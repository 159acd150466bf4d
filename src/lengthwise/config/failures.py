"""What pydantic finds wrong with settings, as one line in the words of this package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lengthwise.config import values
from lengthwise.config.definition import facts_of
from lengthwise.errors import ConfigError, LengthwiseError

if TYPE_CHECKING:
    from lengthwise.config.settings import Settings


class SettingError(ConfigError):
    """A setting is unknown, not given, or has an impossible value; ``name`` says which."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


def unknown(name: str, known: Iterable[str], of: str) -> SettingError:
    """A name that is none of the known ones, with the nearest of them and the list."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return SettingError(f"{name} is no setting of {of}{hint} It has {', '.join(names)}", name)


def failure(kind: type[Settings], given: Mapping[str, object], error: ValidationError) -> LengthwiseError:
    """The one line that a failed validation comes to: what a validator of ours raised, else the first finding."""
    findings = error.errors(include_url=False)
    for finding in findings:
        raised = finding.get("ctx", {}).get("error")
        if isinstance(raised, LengthwiseError):
            return raised
    findings.sort(key=lambda finding: finding["type"] != "extra_forbidden")  # a misspelling explains what is missing
    first = findings[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return unknown(name, (key_of(field) for field in kind.model_fields), kind.label())
    info = kind.model_fields.get(name)
    if info is None:
        return SettingError(first["msg"].removeprefix("Value error, "))
    key = key_of(name)
    if info.json_schema_extra is None:
        return SettingError(f"{key} is {given.get(name)!r}; give its settings by name", key)
    facts = facts_of(info)
    if first["type"] == "missing":
        way = f"name {facts.metavar or key}" if facts.positional else f"give --{key.replace('_', '-')}"
        return SettingError(f"{key} is not given; {way} ({facts.help.rstrip('.')})", key)
    if first["type"] in ("value_error", "assertion_error"):
        return SettingError(f"{key} is {values.shown(given[name])}; {first['msg'].partition(', ')[2]}", key)
    wanted = "give a finite number" if first["type"] == "finite_number" else values.wanted(info.annotation, facts)
    return SettingError(f"{key} is {values.shown(given.get(name))}; {wanted}", key)


def key_of(attribute: str) -> str:
    """What users write for an attribute: itself without the underscore that keeps it apart from Python's own words."""
    return attribute.removesuffix("_")
