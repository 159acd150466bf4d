"""Every public name has a docstring and its place in the docs; every command has a page; links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
import typer
from flags import taken

from lengthwise.cli import COMMANDS

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
    if module != "lengthwise":  # its names are those of other modules
        page = DOCS / "python" / f"{module.rpartition('.')[2]}.md"
        assert f"::: {module}\n" in page.read_text(), f"{module} has no page of its names"


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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
            if not target.startswith("http"):
                there = page.parent / target if target else page
                assert there.exists(), f"{page.name} links to {target}"
                assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]))
    assert named == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


@pytest.fixture(scope="module")
def errors() -> str:
    """The list of every text of our errors."""
    spec = importlib.util.spec_from_file_location("error_texts", ROOT / "scripts" / "error_texts.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(made := importlib.util.module_from_spec(spec))
    return made.listing()


def test_the_list_of_errors_has_their_texts(errors: str) -> None:
    assert "- `` max_draws is …; give at least 1 ``\n" in errors
    assert errors.count("\n- ") > 500


def test_every_flag_that_an_error_names_is_one_of_a_command(errors: str) -> None:
    words = {one.word for command in COMMANDS for one in taken(command)}
    ours = words | {word.replace("--", "--no-", 1) for word in words} | {"--help"}
    others = {"--upgrade", "--local-dir"}  # of pip and of hf
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", errors)) <= ours | others


def test_errors_are_sentences_without_a_stop_and_with_single_blanks(errors: str) -> None:
    texts = [line[5:-3] for line in errors.splitlines() if line.startswith("- ")]
    assert not [text for text in texts if re.search(r" ;|;;|  |[^.]\.$", text)]


def test_every_method_is_in_the_paper_index() -> None:
    from lengthwise.methods import METHODS

    index = (DOCS / "papers.md").read_text()
    for name in METHODS:
        assert f"`{name}`" in index
