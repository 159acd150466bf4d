"""The tables of options in the docs, from the definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lengthwise.config import values
from lengthwise.config.command import Command
from lengthwise.config.definition import PANELS
from lengthwise.config.settings import Entry

ALWAYS = {
    "--config": ("file", "YAML or JSON file with settings, or a folder that the command wrote; flags win over it."),
    "--print-config": ("", "Print all settings as such a file, and do nothing."),
    "--quiet": ("", "Print nothing unless it fails; beside `--json` the object alone."),
}
"""What every command takes beside its settings: its value and its help."""
ALWAYS_ROWS = tuple(f"| `{flag}`{value and f' {value}'} | | {text} |" for flag, (value, text) in ALWAYS.items())
HEAD = "| flag | default | |\n|---|---|---|\n"
OUTPUT = PANELS[-1]
IN_COMMON = 3
"""A row that so many commands have word for word stands on one page for all."""


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


def options_table(kind: type[Command], in_common: Mapping[str, str] | None = None, page: str = "") -> str:
    """The settings of a command in Markdown: a heading and a table for each part.

    Rows that are ``in_common`` (of `common_rows`) are named below their part's table, with a link to ``page``.
    """
    shared = in_common or {}
    parts = by_panel(kind)
    return "\n".join(_part(panel, parts.get(panel, ()), shared, page) for panel in PANELS if _has(panel, parts))


def common_rows(kinds: Iterable[type[Command]]) -> dict[str, str]:
    """Row -> its heading, of the rows that at least three commands have word for word; of a flag the commonest one."""
    seen: Counter[str] = Counter()
    panels: dict[str, str] = {}
    for kind in kinds:
        for panel, entries in by_panel(kind).items():
            rows = _rows(entry for entry in entries if not entry.required)
            seen.update(rows)
            panels.update(dict.fromkeys(rows, panel))
    of_flag: dict[str, str] = {}
    for row, count in seen.most_common():
        if count >= IN_COMMON:
            of_flag.setdefault(_flags(row), row)
    kept = set(of_flag.values())
    return {row: panel for row, panel in panels.items() if row in kept} | dict.fromkeys(ALWAYS_ROWS, OUTPUT)


def common_table(in_common: Mapping[str, str]) -> str:
    """What `common_rows` found, in Markdown."""
    return "\n".join(
        f"### {panel}\n\n{HEAD}" + "".join(f"{row}\n" for row, where in in_common.items() if where == panel)
        for panel in PANELS
        if panel in in_common.values()
    )


def _has(panel: str, parts: Mapping[str, list[Entry]]) -> bool:
    return panel in parts or panel == OUTPUT


def _part(panel: str, entries: Iterable[Entry], shared: Mapping[str, str], page: str) -> str:
    rows = [*_rows(entries), *(ALWAYS_ROWS if panel == OUTPUT else ())]
    own = [row for row in rows if row not in shared]
    named = ", ".join(_flags(row) for row in rows if row in shared)
    table = HEAD + "".join(f"{row}\n" for row in own) if own else ""
    link = f"[In common]({page}#{panel.lower().replace(' ', '-')}): {named}.\n" if named else ""
    return f"### {panel}\n\n{table}" + ("\n" if table and link else "") + link


def _flags(row: str) -> str:
    """The flag of a row."""
    return f"`{row.split('`')[1]}`"


def _rows(entries: Iterable[Entry]) -> list[str]:
    return [f"| {_name(entry)} | {_cell(_default(entry))} | {_cell(entry.facts.help)} |" for entry in entries]


def _name(entry: Entry) -> str:
    """The flag with what kind of value it takes; a switch with the way to switch it off where it is on."""
    if entry.facts.positional:
        return f"`{entry.facts.metavar}`"
    if bool in values.parts(entry.annotation):
        return f"`{entry.flag}`" + (f", `--no-{entry.flag.removeprefix('--')}`" if entry.default is True else "")
    return f"`{entry.flag}` {_cell(value_text(entry))}".rstrip()


def _default(entry: Entry) -> str:
    """The default in words, and nothing where there is none or a switch is off."""
    text = default_text(entry)
    return "" if text in ("none", "off") and not entry.default else text


def _cell(text: str) -> str:
    """A text that cannot end its cell, and whose `<think>` is not taken for HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
