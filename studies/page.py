"""The one form of a study's page: question, what was registered, seen and not seen, what came of it, limits, command.

A page is for reading: per-seed numbers and statistics in full stand in the study's summary and its registered file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import mean
from textwrap import fill
from typing import TYPE_CHECKING, Any

from studies.figures import DPI
from studies.summary import ROOT, Numbers, Summary, again, load, plan_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = ROOT / "docs"
IMAGES = DOCS / "img"
LAB = "The lab is a teaching and regression instrument, not evidence about large models."
SEEN, NOT_SEEN, NOT_RUN = "seen", "not seen", "not run"
MOST_COLUMNS = 3
"""Groups of claims that stand side by side."""


@dataclass(frozen=True)
class Table:
    """A table of cells as they are shown."""

    head: Sequence[str]
    rows: Iterable[Sequence[str]]

    def lines(self) -> list[str]:
        return [row_line(self.head), "|" + "---|" * len(self.head), *map(row_line, self.rows)]


def row_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Claim:
    """A registered effect with what was found; `verdict` follows from the numbers by the registered rule."""

    text: str
    measured: str
    verdict: str
    wanted: str = ""
    source: str = ""


COLUMNS: dict[str, Callable[[Claim], str]] = {
    "registered": lambda claim: claim.text,
    "source": lambda claim: claim.source,
    "wanted": lambda claim: claim.wanted,
    "measured": lambda claim: claim.measured,
    "verdict": lambda claim: f"**{claim.verdict}**",
}


def claims_table(claims: Sequence[Claim]) -> Table:
    """One line a claim; columns that no claim fills are left out."""
    shown = {head: cell for head, cell in COLUMNS.items() if any(map(cell, claims))}
    return Table(list(shown), [[cell(claim) for cell in shown.values()] for claim in claims])


def claims_tables(groups: Mapping[str, Sequence[Claim]]) -> list[str | Table]:
    """The claims of every group, those alike in all groups in one table: each effect is told once."""
    told = {tuple((claim.text, claim.wanted) for claim in claims) for claims in groups.values()}
    if len(groups) > 1 and len(told) == 1:
        return side_by_side(groups) if len(groups) <= MOST_COLUMNS else by_number(groups)
    parts: list[str | Table] = []
    for title, claims in groups.items():
        parts += [f"### {title}"] if title else []
        parts.append(claims_table(claims))
    return parts


def side_by_side(groups: Mapping[str, Sequence[Claim]]) -> list[str | Table]:
    """An effect a row, a group a column."""
    rows = [[claims[0].text, *map(outcome, claims)] for claims in zip(*groups.values(), strict=True)]
    return [Table(["registered", *groups], rows)]


def by_number(groups: Mapping[str, Sequence[Claim]]) -> list[str | Table]:
    """The effects in a list, then a group a row and an effect a column."""
    first = next(iter(groups.values()))
    effects = "\n".join(
        f"{number}. {claim.text}" + (f" ({claim.wanted})" if claim.wanted else "")
        for number, claim in enumerate(first, 1)
    )
    rows = [[title, *map(outcome, claims)] for title, claims in groups.items()]
    return [effects, Table(["", *(str(number) for number in range(1, len(first) + 1))], rows)]


def outcome(claim: Claim) -> str:
    """What was measured, and the verdict."""
    return f"**{claim.verdict}**" if claim.measured in ("", claim.verdict) else f"{claim.measured}: **{claim.verdict}**"


def verdict(holds: bool) -> str:
    return SEEN if holds else NOT_SEEN


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs and tables below it; `level` 3 makes it a part of the section before."""

    title: str
    parts: Sequence[str | Table]
    level: int = 2

    def lines(self) -> list[str]:
        return [f"{'#' * self.level} {self.title}", "", *blocks(self.parts)]


def blocks(parts: Iterable[str | Table]) -> list[str]:
    """Paragraphs and tables, an empty line behind each."""
    lines: list[str] = []
    for part in parts:
        lines += [*(part.lines() if isinstance(part, Table) else paragraph(part)), ""]
    return lines


def paragraph(text: str) -> list[str]:
    """A text of one paragraph, or the items of a list, as lines of at most 119 characters; commands stay whole."""
    if text.startswith("`"):
        return text.split("\n")
    found = []
    for item in text.split("\n"):
        below = "  " if item.startswith("- ") else "   " if item[:1].isdigit() and item[1:3] == ". " else ""
        found += fill(item, 119, subsequent_indent=below, break_long_words=False, break_on_hyphens=False).split("\n")
    return found


@dataclass(frozen=True)
class Picture:
    """A file under docs/img, what it shows, and what draws it."""

    file: str
    shows: str
    draw: Callable[[Summary], Figure]
    dpi: int = DPI


@dataclass(frozen=True)
class Page:
    """What a study's page says beside what all of them say.

    `registered` tells in a few paragraphs what stands in the plan; `claims` judges its effects, in groups with a
    heading ("" for none); `findings` are some three sentences, from the numbers; `sections` the few tables they need.
    """

    study: str
    file: str
    title: str
    sections: Callable[[Summary], list[Section]]
    question: str = ""
    about: Sequence[str] = ()
    registered: Callable[[Summary], Sequence[str]] = lambda summary: ()
    claims: Callable[[Summary], Mapping[str, Sequence[Claim]]] = lambda summary: {}
    findings: Callable[[Summary], Sequence[str]] = lambda summary: ()
    limits: Sequence[str] = ()
    pictures: Sequence[Picture] = ()

    def text(self, summary: Summary) -> str:
        """The whole page."""
        asked = [f"**{self.question}**"] if self.question else []
        lines = [f"# Study: {self.title}", "", *blocks([*asked, *self.about])]
        for picture in self.pictures:
            lines += [f"![{picture.shows}](img/{picture.file})", ""]
        for section in self._parts(summary):
            lines += section.lines()
        return "\n".join(lines).rstrip() + "\n"

    def _parts(self, summary: Summary) -> list[Section]:
        parts = []
        if summary.plan:
            parts.append(Section("Registered effects", [*self.registered(summary)]))
            parts.append(Section("Seen and not seen", claims_tables(self.claims(summary))))
        if found := [*self.findings(summary)]:
            parts.append(Section("What came of it", found))
        limits = Section("Limits", [" ".join([*self.limits, LAB])])
        return [*parts, *self.sections(summary), limits, made_by(summary)]


def same_plan(summary: Summary) -> str:
    """Whether the registered file is the one that the runs had."""
    sha = hashlib.sha256(plan_of(summary.study).read_bytes()).hexdigest()
    same = all(run["expected_sha256"] == sha for run in summary.runs.values())
    return "The registered file is that of every run." if same else "**The registered file is not that of every run.**"


def made_by(summary: Summary) -> Section:
    """How to make the study again, what it was made with, and where all of its numbers are."""
    spent = sum(run.get("seconds", 0.0) for run in summary.runs.values())
    cost = f" in {spent / 3600:.1f} hours" if spent else ""
    found = {machine(summary.made_by(name)) for name in summary.runs}
    plan = "; the rule of each effect: `registered.json` beside it, committed before the runs" * bool(summary.plan)
    return Section(
        "Made by",
        [
            "\n".join(["```", *again(summary.study), "```"]),
            f"{len(summary.runs)} runs{cost} ({'; '.join(sorted(found))}). All numbers, commands and commits: "
            f"`studies/{summary.study}/summary.json`{plan}. Generated from them.",
        ],
    )


def machine(by: Numbers) -> str:
    """Versions and machine of a run."""
    names = {"torch": "torch", "transformers": "transformers", "trl": "TRL"}
    versions = (f"{shown} {by[name]}" for name, shown in names.items() if name in by)
    return ", ".join([*versions, by.get("device", "") or f"{by['cores']} cores"])


# ------------------------------------------------------------------------------------------------ numbers as text


def pct(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def listed(values: Iterable[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)


def average(found: Sequence[Mapping[str, Any]], *path: str) -> float:
    """Mean of a number that lies at the end of a path."""
    values = []
    for value in found:
        at: Any = value
        for key in path:
            at = at[key]
        values.append(at)
    return mean(values)


def page_of(study: str) -> Page:
    """A study's page."""
    found: Page = import_module(f"studies.{study}.page").PAGE
    return found


def text_of(study: str) -> str:
    return page_of(study).text(load(study))
