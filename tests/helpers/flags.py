"""All flags and arguments of all commands, from their settings and the parser that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lengthwise.cli import COMMANDS
from lengthwise.cli._settings_flags import help_text
from lengthwise.config import values
from lengthwise.config.commands import COMMANDS as SETTINGS
from lengthwise.config.settings import Entry


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
    yield from (of_setting(command, entry) for entry in SETTINGS[command].entries().values())
    yield Taken(command, "--config", str, False, False, "")


def of_setting(command: str, entry: Entry) -> Taken:
    """A setting as the command line takes it: what is written with commas, or may be a word, is text there."""
    kinds = values.parts(values.entry_type(entry.annotation) or entry.annotation)
    number = next((kind for kind in kinds if kind in (bool, int, float)), str)
    kind = number if len(kinds) == 1 and not entry.facts.commas else str
    word = entry.facts.metavar if entry.facts.positional else entry.flag
    assert word is not None
    return Taken(command, word, kind, entry.required, entry.facts.positional, help_text(entry))  # type: ignore[arg-type]


EVERYTHING = [one for command in COMMANDS for one in taken(command)]
