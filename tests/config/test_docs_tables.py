"""The tables of options in the docs are those of the settings: run this file to write them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.config import renames, tables
from lengthwise.config.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- options: written by tests/config/test_docs_tables.py -->\n", "<!-- end of options -->\n"
WRITTEN = (
    "grade",
    "demo",
    "shorten",
    "export",
    "compare",
    "evaluate",
    "generate",
    "merge",
    "repair",
    "extend",
    "evaluate-context",
    "methods",
    "report",
    "compare-records",
    "doctor",
)
"""Commands whose pages have their table from the settings."""


COMMON = "configuration"
"""The page of the options that several commands have in common."""
PAGES = ("configuration", *(f"commands/{name}" for name in WRITTEN))


def page(name: str) -> Path:
    return ROOT / "docs" / f"{name}.md"


def with_table(name: str) -> str:
    """A page with the table between its marks."""
    before, begin, rest = page(name).read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"docs/{name}.md lacks the lines {BEGIN!r} and {END!r}"
    shared = tables.common_rows(COMMANDS.values())
    if name == COMMON:
        table = tables.common_table(shared)
    else:
        table = tables.options_table(COMMANDS[name.removeprefix("commands/")], shared, f"../{COMMON}.md")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_options_of_its_command(name: str) -> None:
    assert page(name).read_text() == with_table(name), "run python tests/config/test_docs_tables.py"


def test_the_changelog_has_all_renamed_flags() -> None:
    assert renames.rename_table() in (ROOT / "CHANGELOG.md").read_text()


if __name__ == "__main__":
    for each in PAGES:
        page(each).write_text(with_table(each))
