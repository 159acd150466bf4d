"""All flags and arguments of all commands, from their settings or signatures and the parser that is made of them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import typer

from lengthwise.cli import BY_HAND, COMMANDS, app
from lengthwise.cli._settings_flags import help_text
from lengthwise.config import values
from lengthwise.config.commands import COMMANDS as SETTINGS
from lengthwise.config.settings import Entry

PARSED = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Taken:
    """What a command takes: by which word, of which type (that of an entry, where it may be given more than once)."""

    command: str
    word: str
    kind: type
    required: bool
    argument: bool
    help: str

    def __str__(self) -> str:
        return f"{self.command} {self.word}"


def taken(command: str) -> Iterator[Taken]:
    """Everything that a command takes, in its order."""
    if command not in BY_HAND:
        yield from (of_setting(command, entry) for entry in SETTINGS[command].entries().values())
        yield Taken(command, "--config", str, False, False, "")
        return
    parsed = {parameter.name: parameter for parameter in PARSED[command].params}
    for name, parameter in inspect.signature(COMMANDS[command], eval_str=True).parameters.items():
        kind, about = parameter.annotation.__origin__, parameter.annotation.__metadata__[0]
        argument = parsed[name].param_type_name == "argument"
        word = parsed[name].metavar if argument else parsed[name].opts[0]
        yield Taken(command, word, plain(kind), parsed[name].required, argument, about.help)


def of_setting(command: str, entry: Entry) -> Taken:
    """A setting as the command line takes it: what is written with commas, or may be a word, is text there."""
    kinds = values.parts(values.entry_type(entry.annotation) or entry.annotation)
    number = next((kind for kind in kinds if kind in (bool, int, float)), str)
    kind = number if len(kinds) == 1 and not entry.facts.commas else str
    word = entry.facts.metavar if entry.facts.positional else entry.flag
    assert word is not None
    return Taken(command, word, kind, entry.required, entry.facts.positional, help_text(entry))  # type: ignore[arg-type]


def plain(kind: Any) -> type:
    """``int`` of ``int | None`` and of ``list[int]``."""
    while get_origin(kind) in (Union, types.UnionType, list):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind


EVERYTHING = [one for command in COMMANDS for one in taken(command)]
