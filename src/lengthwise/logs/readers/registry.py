"""Finds the readers: every module under ``formats`` has one, its ``FORMAT``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from lengthwise.errors import ConfigError
from lengthwise.logs.readers import formats
from lengthwise.logs.readers.log_format import LogFormat


@cache
def log_formats() -> dict[str, LogFormat]:
    """All formats by name, in the order of their names; those that fit many files last."""
    modules = [
        importlib.import_module(f"{formats.__name__}.{info.name}") for info in pkgutil.iter_modules(formats.__path__)
    ]
    found: list[LogFormat] = [module.FORMAT for module in modules]
    return {one.name: one for one in sorted(found, key=lambda one: (one.general, one.name))}


def log_format(name: str) -> LogFormat:
    """The format of a name; `ConfigError` lists the names where there is none."""
    if name not in log_formats():
        raise ConfigError(f"there is no format {name!r}; the formats are {', '.join(log_formats())}")
    return log_formats()[name]
