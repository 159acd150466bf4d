"""A hook of mkdocs: the page of errors lists the text of every error that the package raises, by where it is raised."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src" / "lengthwise"
PAGE = "errors.md"
OURS = {"LengthwiseError"} | {
    node.name
    for node in ast.parse((SOURCE / "errors.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef)
}


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    return f"{markdown}\n\n{listing()}" if page.file.src_uri == PAGE else markdown


def listing() -> str:
    """All texts in Markdown, a heading a room; what a text is filled with is `…`."""
    rooms: dict[str, dict[str, None]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for text in texts(path):
            rooms.setdefault(room, {})[text] = None
    parts = [
        f"### {room}\n\n" + "".join(f"- `` {' '.join(text.split())} ``\n" for text in found)
        for room, found in sorted(rooms.items())
    ]
    return "## Every message\n\n" + "\n".join(parts)


def texts(path: Path) -> Iterator[str]:
    """The texts of our errors that a file raises, as far as they are written where they are raised."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in OURS and call.args:
            text = words(call.args[0])
            if any(letter.isalpha() for letter in text.replace("…", "")):
                yield text


def words(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return words(node.left) + words(node.right)
    return "…"
