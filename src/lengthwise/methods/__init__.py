"""Methods by name. Each file under `papers` declares the methods of one paper, and is found here by being there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from lengthwise.engine.method import Recipe
from lengthwise.engine.method_validation import rehearse
from lengthwise.errors import ConfigError
from lengthwise.methods import papers
from lengthwise.methods.declaration import Declaration as Declaration
from lengthwise.methods.declaration import Knob as Knob
from lengthwise.methods.declaration import Maker, Option, nearest
from lengthwise.methods.declaration import Options as Options
from lengthwise.methods.declaration import declare as declare
from lengthwise.methods.moving_cap import under_schedule as under_schedule
from lengthwise.methods.user_method import is_own, own_maker


def find_methods(package: str, folders: Iterable[str]) -> dict[str, Declaration[Options, Recipe]]:
    """The methods that the files of a package declare, by name: baselines last, else by file and as they stand there.

    Raises:
        TypeError: two methods of one name.
    """
    found: list[Declaration[Options, Recipe]] = []
    for module in sorted(pkgutil.iter_modules(folders, f"{package}."), key=lambda module: module.name):
        here = vars(importlib.import_module(module.name)).values()
        found += [one for one in here if isinstance(one, Declaration) and one.__module__ == module.name]
    found.sort(key=lambda one: one.baseline)
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"methods share a name: {', '.join(sorted(twice))}")
    return {one.name: one for one in found}


METHODS = find_methods(papers.__name__, papers.__path__)
globals().update({maker.__name__: maker for maker in METHODS.values()})


def __getattr__(name: str) -> Declaration[Any, Any]:
    """Methods by their Python names; all that there are were found already."""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def maker_of(name: str) -> Maker:
    """What makes the method of a name, or of a file or function of somebody's own.

    Raises:
        ConfigError: no such method; the nearest names are given.
    """
    if is_own(name):
        return own_maker(name)
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


def option_of(name: str, option: str) -> Option | None:
    """What a method says of an option; None where it takes options that it does not name.

    Raises:
        ConfigError: no such method or option; the nearest names are given.
    """
    maker = maker_of(name)
    maker.check_name(option)
    return maker.options.get(option)


def options_of(name: str) -> dict[str, object]:
    """A method's options with their defaults, those that it shares with others too; None where there is no default.

    Raises:
        ConfigError: no such method; the nearest names are given.
    """
    return {option: said.default for option, said in maker_of(name).options.items()}


def read_option(name: str, option: str, text: str) -> object:
    """An option's text as the value that its method takes.

    Raises:
        ConfigError: no such method or option, or text of another kind; the message says what is wanted.
    """
    option_of(name, option)
    return maker_of(name).read(option, text)


def build_method(name: str, **options: object) -> Recipe:
    """Make a method by its name with its own options; `name` may also be a file or function of yours.

    The parts of a method by name are rehearsed on a few made-up rows, so that options out of range are refused here.

    Raises:
        ConfigError: no such method, an option that it does not have (the nearest names are given) or one out of range.
    """
    for option in options:
        option_of(name, option)
    made = maker_of(name)(**options)
    if made.loop is not None and not is_own(name):
        rehearse(made.loop)
    return made


__all__ = [
    "METHODS",
    "Declaration",
    "Knob",
    "Options",
    "build_method",
    "declare",
    "under_schedule",
    *(maker.__name__ for maker in METHODS.values()),
]
