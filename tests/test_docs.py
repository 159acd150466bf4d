"""Every public name has a docstring and its place in the docs; every command has a page; links lead somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MODULES = ("lengthwise", "lengthwise.objectives", "lengthwise.merging", "lengthwise.repair", "lengthwise.engine",
           "lengthwise.methods", "lengthwise.grading", "lengthwise.statistics", "lengthwise.runs", "lengthwise.context",
           "lengthwise.context.tasks")  # fmt: skip


def public_names() -> list[tuple[str, str]]:
    return [(m, n) for m in MODULES for n in importlib.import_module(m).__all__ if n not in ("__version__", "METHODS")]


@pytest.mark.parametrize(("module", "name"), public_names())
def test_public_name_is_documented(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    # A type alias has no docstring of its own.
    assert value.__doc__, f"{module}.{name} has no docstring"
    assert f"`{name}`" in (DOCS / "api.md").read_text(), f"{module}.{name} is not in docs/api.md"


def test_every_command_has_a_page() -> None:
    from lengthwise.cli import app

    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        page = DOCS / "commands" / f"{name}.md"
        assert page.is_file(), f"docs/commands/{name}.md is missing"


def test_every_flag_of_shorten_is_on_its_page() -> None:
    from lengthwise.cli import app

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        page = (DOCS / "commands" / f"{name}.md").read_text()
        for parameter in command.params:
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                assert any(option in page for option in parameter.opts), f"{parameter.opts} is not on {name}'s page"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_method_is_in_the_paper_index() -> None:
    from lengthwise.methods import METHODS

    index = (DOCS / "papers.md").read_text()
    for name in METHODS:
        assert f"`{name}`" in index
