"""Options of the command line, which are text, as values of the types that a method's parameters are annotated with."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from lengthwise.errors import ConfigError

WORDS = {"true": True, "false": False}
WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
ORDER = (bool, int, float, Path, str)
"""Of a choice of types, the first that the text fits is taken."""


def annotated(parameter: inspect.Parameter, function: Callable[..., object]) -> object:
    """What a parameter is annotated with, names in text looked up where the function was written; Any if unknown."""
    found = parameter.annotation
    if isinstance(found, str):
        written = inspect.unwrap(function)
        module = inspect.getmodule(written)
        names = getattr(written, "__globals__", None) or (vars(module) if module is not None else {})
        try:
            found = eval(found, dict(names))  # the user's own words, as typing.get_type_hints reads them
        except Exception:  # a name that is there for type checkers alone says nothing of the text
            return Any
    return Any if found is inspect.Parameter.empty else found


def read_option(name: str, text: str, kind: object, default: object = None) -> object:
    """An option's text as a value of its annotated type; without a known one as the type of its default.

    Raises:
        ConfigError: text that is no such value, or a type that text cannot give.
    """
    if kind is Any:
        known = type(default) in WANTED  # a default of None, or none at all, leaves it open
        kind = type(default) if known else Union[bool, int, float, str, None]  # noqa: UP007  # as get_args wants it
    choices = _choices(kind)
    unknown = [one for one in choices if one not in WANTED and get_origin(one) is not Literal and one is not type(None)]
    if unknown and not set(choices) & set(WANTED):
        raise ConfigError(
            f"option {name} wants {_named(unknown[0])}, which cannot be written as text; annotate it as bool, int, "
            "float, str, Literal or one of them or None"
        )
    if type(None) in choices and text.lower() == "none":
        return None
    for one in choices:
        if get_origin(one) is Literal:
            for word in get_args(one):
                if str(word).lower() == text.lower():
                    return word
    for one in (one for one in ORDER if one in choices):
        try:
            return WORDS[text.lower()] if one is bool else one(text)
        except (KeyError, ValueError):
            continue
    raise ConfigError(f"option {name} is {text!r}; give {' or '.join(map(_wanted, choices))}")


def _choices(kind: object) -> list[object]:
    """The types that a value may have, parts of unions one by one."""
    if get_origin(kind) is typing.Annotated:
        return _choices(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [one for part in get_args(kind) for one in _choices(part)]
    return [type(None) if kind is None else kind]


def _wanted(kind: object) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    known = WANTED.get(kind) if isinstance(kind, type) else None
    return "none" if kind is type(None) else known or _named(kind)


def _named(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
