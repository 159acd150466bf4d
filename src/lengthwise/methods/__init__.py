"""Methods by name: one file per paper, each a `Method` value that names its objectives and defaults."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from lengthwise.engine.method import Method
from lengthwise.errors import ConfigError
from lengthwise.methods.dler import dler
from lengthwise.methods.grpo import grpo

METHODS: dict[str, Callable[..., Method]] = {"dler": dler, "grpo": grpo}


def build_method(name: str, **options: Any) -> Method:
    """Make a method by its name with its own options.

    Raises:
        ConfigError: no such method, or an option that it does not have; the nearest names are given.
    """
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}; {_nearest(name, METHODS)}")
    known = inspect.signature(METHODS[name]).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"method {name!r} has no option {option!r}; {_nearest(option, known)}")
    return METHODS[name](**options)


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(sorted(known))}"


__all__ = ["METHODS", "build_method", "dler", "grpo"]
