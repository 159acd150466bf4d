"""A page of responses to look at: one HTML file, searchable, at most 2 MB, without external requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from lengthwise.files import atomic_write_text
from lengthwise.logs.examples import CUT, KINDS, LOST, RIGHT, Example, Examples
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.pages import render

MOST_BYTES = 1_900_000
"""Of all examples together; the rest of the page is a few kilobytes."""
PIECE = 4_000
"""Characters that are shown of the beginning, on both sides of the first right answer, and of the end."""
TITLES = {RIGHT: "right, the longest", LOST: "right, then lost", CUT: "cut"}


@dataclass(frozen=True)
class Part:
    """A piece of a text: ``kind`` is before, after (the first right answer) or gap (so many characters left out)."""

    kind: str
    text: str


@dataclass(frozen=True)
class Shown:
    """An example as the page has it."""

    example: Example
    kind: str
    parts: tuple[Part, ...]

    @property
    def html(self) -> Markup:
        """The text, every piece escaped."""
        tag = Markup('<span class="{}">{}</span>')
        return Markup("").join(tag.format(part.kind, part.text) for part in self.parts)


def build_examples_page(examples: Examples, found: GradeSummary | Mapping[str, object], target: str | Path) -> Path:
    """Write the page; what does not fit into its bytes is left out, the longest of each kind stay."""
    summary = found if isinstance(found, GradeSummary) else GradeSummary.read(found)
    shown, seen = fitting(examples, MOST_BYTES), examples.seen
    page = render(
        "examples.html.j2",
        log=summary.log,
        headline=_headline(seen, len(shown)),
        groups=[(kind, TITLES[kind], [one for one in shown if one.kind == kind], seen[kind]) for kind in KINDS],
        data=data,
    )
    atomic_write_text(Path(target), page)
    return Path(target)


def _headline(seen: Mapping[str, int], shown: int) -> str:
    """What there is of each kind, and how much of it is here."""
    most = "all are" if shown == sum(seen.values()) else f"the {shown:,} with the most tokens are"
    return (
        f"{seen[RIGHT]:,} responses are right, {seen[LOST]:,} had the right answer and lost it, {seen[CUT]:,} were "
        f"cut; {most} here."
    )


def fitting(examples: Examples, most: int) -> list[Shown]:
    """As many as fit into so many bytes of HTML, kind by kind in turn, the longest first."""
    waiting = {kind: list(examples.of(kind)) for kind in KINDS}
    kept: list[Shown] = []
    room = most
    while any(waiting.values()):
        for kind in KINDS:
            if waiting[kind]:
                example = waiting[kind].pop(0)
                one = Shown(example, kind, parts_of(example.text, example.right_end))
                room -= len(one.html.encode()) + len(escape(example.gold).encode()) + 2_000
                if room < 0:
                    return kept
                kept.append(one)
    return kept


def parts_of(text: str, right_end: int | None) -> tuple[Part, ...]:
    """A text before and after the end of its first right answer; of a long one, pieces with gaps between them."""
    at = len(text) if right_end is None else right_end
    pieces = [*_pieces(text[:at], "before"), *_pieces(text[at:], "after")]
    return tuple(part for part in pieces if part.text)


def _pieces(text: str, kind: str) -> list[Part]:
    if len(text) <= 2 * PIECE:
        return [Part(kind, text)]
    left_out = Part("gap", f" [{len(text) - 2 * PIECE:,} characters left out] ")
    return [Part(kind, text[:PIECE]), left_out, Part(kind, text[-PIECE:])]
