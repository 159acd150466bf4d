"""The tables of options in the docs, from the definitions."""

from __future__ import annotations

from collections.abc import Iterable

from lengthwise.config import values
from lengthwise.config.command import Command
from lengthwise.config.definition import PANELS
from lengthwise.config.settings import Entry

ALWAYS = {
    "--config": ("file", "YAML or JSON file with settings, or a folder that the command wrote; flags win over it."),
    "--print-config": ("", "Print all settings as such a file, and do nothing."),
}
"""What every command takes beside its settings: its value and its help."""


def by_panel(kind: type[Command]) -> dict[str, list[Entry]]:
    """The settings of a command that users see, under their headings, in the order of both."""
    shown = [entry for entry in kind.entries().values() if not entry.facts.hidden]
    found = {panel: [entry for entry in shown if entry.panel == panel] for panel in PANELS}
    return {panel: entries for panel, entries in found.items() if entries}


def value_text(entry: Entry) -> str:
    """What kind of value a setting takes, in a word or two."""
    words = values.choices(entry.annotation)
    if entry.facts.metavar is not None:
        return entry.facts.metavar
    kinds = values.parts(values.entry_type(entry.annotation) or entry.annotation)
    named = [name for kind, name in ((int, "int"), (float, "float"), (str, "text")) if kind in kinds]
    return "|".join([*named, *words])


def default_text(entry: Entry) -> str:
    """The default in words; "" where there is none to speak of."""
    if entry.required:
        return "required"
    if entry.facts.default_text is not None:
        return entry.facts.default_text
    if isinstance(entry.default, bool):
        return "on" if entry.default else "off"
    return "none" if entry.default in (None, (), "") else values.as_flag(entry.default)


def options_table(kind: type[Command]) -> str:
    """The settings of a command in Markdown: a heading and a table for each part."""
    parts = [
        f"### {panel}\n\n| flag | value | default | |\n|---|---|---|---|\n" + "\n".join(_rows(entries)) + "\n"
        for panel, entries in by_panel(kind).items()
    ]
    rows = [f"| `{flag}` | {value} | none | {text} |\n" for flag, (value, text) in ALWAYS.items()]
    return "\n".join(parts) + "".join(rows)


def options_page(kinds: Iterable[type[Command]]) -> str:
    """The tables of several commands, one after another, each under its name."""
    return "\n".join(f"## `lengthwise {kind.command}`\n\n{kind.help()}\n\n{options_table(kind)}" for kind in kinds)


def _rows(entries: Iterable[Entry]) -> list[str]:
    return [
        f"| {_name(entry)} | {_cell(value_text(entry))} | {_cell(default_text(entry))} | {_cell(entry.facts.help)} |"
        for entry in entries
    ]


def _name(entry: Entry) -> str:
    if entry.facts.positional:
        return f"`{entry.facts.metavar}`"
    switch = f", `--no-{entry.flag.removeprefix('--')}`" if bool in values.parts(entry.annotation) else ""
    return f"`{entry.flag}`{switch}"


def _cell(text: str) -> str:
    """A text that cannot end its cell, and whose `<think>` is not taken for HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
