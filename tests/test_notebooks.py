"""The notebooks run, and say what they are committed with: run this file to write their outputs anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nbformat import NotebookNode

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXPECTED = {
    "where_do_my_tokens_go": {
        r"([\d.]+)% right": 76,
        r"([\d.]+) tokens a response": 79,
        r"([\d.]+)% of the tokens": 58,
    },
    "shorten_in_ten_minutes": {r"before .*tokens +([\d.]+)": 73, r"after .*tokens +([\d.]+)": 37},
}
"""Of each notebook: what its prints hold, and about which number its text says to expect there."""


def executed(name: str, folder: Path) -> NotebookNode:
    """The notebook, run in a folder from its first cell to its last."""
    book = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    for cell in book.cells:
        cell.pop("outputs", None) if cell.cell_type != "code" else cell.update(outputs=[], execution_count=None)
    client = nbclient.NotebookClient(
        book, timeout=600, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )  # fmt: skip
    client.execute()
    for cell in book.cells:  # a wish for ipywidgets, with the place of a file on this machine
        cell.get("outputs", [])[:] = [one for one in cell.get("outputs", ()) if "IProgress" not in one.get("text", "")]
    return book


def printed(book: NotebookNode) -> list[str]:
    """What the cells print, cell by cell; that nothing stands on stderr."""
    outputs = [list(cell.get("outputs", ())) for cell in book.cells]
    assert not [one for each in outputs for one in each if one.get("name") == "stderr" or one.output_type == "error"]
    return ["".join(one.get("text", "") for one in each) for each in outputs]


def words(texts: list[str]) -> set[str]:
    """All words of what was printed."""
    return {word for text in texts for word in re.findall(r"[A-Za-z]{2,}", text)}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_notebook_runs_and_prints_what_it_is_committed_with(name: str, tmp_path: Path) -> None:
    committed = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    now, then = (printed(book) for book in (executed(name, tmp_path), committed))
    prose = " ".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")
    for pattern, expected in EXPECTED[name].items():
        found = float(re.search(pattern, "".join(now))[1])  # type: ignore[index]
        assert expected == pytest.approx(found, rel=0.15), pattern
        assert re.search(rf"about \*\*{expected}\b", prose), f"the text does not say to expect {expected}"
    assert words(now) == words(then)  # the last digits depend on the machine, and with them a table's columns


def test_notebooks_are_small_and_name_no_place_of_a_machine() -> None:
    for name in EXPECTED:
        text = (EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8")
        assert len(text) < 60_000
        assert not re.search(r"/(home|root|tmp|work|Users)/", text), name


if __name__ == "__main__":
    import tempfile

    for each in EXPECTED:
        nbformat.write(executed(each, Path(tempfile.mkdtemp())), EXAMPLES / f"{each}.ipynb")
