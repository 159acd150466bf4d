"""`lengthwise grade`: where the tokens of responses that already exist go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lengthwise.cli._console import complain, err, out, print_json
from lengthwise.config.commands.evaluation import GradeSettings

if TYPE_CHECKING:
    from lengthwise.logs.log_numbers import GradeSummary
    from lengthwise.logs.ungraded_lengths import LengthSummary

SAID_EVERY = 10.0
"""Seconds between lines where stderr is no terminal."""


def grade(settings: GradeSettings) -> None:
    """Grade, and show the page or the object."""
    from lengthwise.logs.examples import Examples
    from lengthwise.logs.log_grading import grade_log
    from lengthwise.logs.log_numbers import GradeSummary
    from lengthwise.reporting.examples_page import build_examples_page

    examples = None if settings.look is None else Examples()
    with _progress() as listener:
        summary = grade_log(settings, listener=listener, examples=examples)
    if not isinstance(summary, GradeSummary):
        _show_lengths(summary, settings.json_)
        return
    if settings.look is not None and examples is not None:
        build_examples_page(examples, summary, settings.look)
    _show(summary, settings.report, settings.json_)
    if settings.look is not None and not settings.json_:
        out.print(f"responses to look at: {settings.look}", markup=False, soft_wrap=True)


def _show(summary: GradeSummary, report: Path | None, as_json: bool) -> None:
    from lengthwise.reporting.grade_report import build_report, left_out_lines, text_page

    if report is not None:
        build_report(summary, report)
    for line in left_out_lines(summary):
        complain(line, style="yellow")
    if as_json:
        print_json(summary.to_dict())
        return
    for line in (summary.read_as, *text_page(summary)):
        out.print(line, markup=False, soft_wrap=True)
    if report is not None:
        out.print(f"report: {report}", markup=False, soft_wrap=True)


def _show_lengths(summary: LengthSummary, as_json: bool) -> None:
    from lengthwise.reporting.grade_report import left_out_lines
    from lengthwise.reporting.lengths_page import lengths_page

    for line in left_out_lines(summary):
        complain(line, style="yellow")
    if as_json:
        print_json(summary.to_dict())
        return
    for line in lengths_page(summary):
        out.print(line, markup=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, Mapping[str, int]], None]]:
    """A listener for `grade_log`: a line on a terminal that leaves nothing behind, else one now and then."""
    if err.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        ) as bar:
            task = bar.add_task("grading", total=None)
            yield lambda event, facts: bar.update(task, description=_said(facts))
        return
    last = time.monotonic()

    def listen(event: str, facts: Mapping[str, int]) -> None:
        nonlocal last
        if time.monotonic() - last >= SAID_EVERY:
            last = time.monotonic()
            err.print(_said(facts), soft_wrap=True)

    yield listen


def _said(facts: Mapping[str, int]) -> str:
    rows = facts["rows"]
    return f"{rows:,} rows: {facts['right'] / rows:.1%} right, {facts['tokens'] / rows:,.0f} tokens each"
