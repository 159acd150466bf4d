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


def page(name: str) -> Path:
    return ROOT / "docs" / "commands" / f"{name}.md"


def with_table(name: str) -> str:
    """A command's page with the table between its marks."""
    before, begin, rest = page(name).read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"docs/commands/{name}.md lacks the lines {BEGIN!r} and {END!r}"
    return f"{before}{BEGIN}\n{tables.options_table(COMMANDS[name])}\n{END}{after}"


@pytest.mark.parametrize("name", WRITTEN)
def test_a_page_has_the_options_of_its_command(name: str) -> None:
    assert page(name).read_text() == with_table(name), "run python tests/config/test_docs_tables.py"


def test_the_changelog_has_all_renamed_flags() -> None:
    assert renames.rename_table() in (ROOT / "CHANGELOG.md").read_text()


if __name__ == "__main__":
    for command in WRITTEN:
        page(command).write_text(with_table(command))
