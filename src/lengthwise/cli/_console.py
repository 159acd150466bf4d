"""What commands show: complaints on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lengthwise.runs.shortening.outcome import Outcome
    from lengthwise.statistics.results import RecordSummary

# Texts hold paths and names of users, in which [brackets] and :colons: are no markup.
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)
failures = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""For what makes a command fail: never quiet."""

CONTROL_NAMES = {"cut": "base, cut at new length", "first-pass": "base, stopped after 1 pass"}


@contextmanager
def quiet() -> Iterator[None]:
    """Show nothing but what makes a command fail, and the object of ``--json``."""
    before = out.quiet, err.quiet
    out.quiet = err.quiet = True
    try:
        yield
    finally:
        out.quiet, err.quiet = before


def complain(text: str, *, style: str, failure: bool = False) -> None:
    """One line on stderr, whatever the text and the terminal's width; of a failure even where all is quiet."""
    line = Text(" ".join(text.split("\n")), style=style)
    (failures if failure else err).print(line, soft_wrap=True)


def write(text: str) -> None:
    """A text on stdout as it is, at once."""
    if not out.quiet:
        out.file.write(text)
        out.file.flush()


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    out.file.write(json.dumps(value, allow_nan=False) + "\n")


def outcome_table(outcome: Outcome) -> Table:
    """Before, after and controls, as a table."""
    # No frame: the table must fit a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "drawn"):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "95 % interval", "tokens", "cut"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("before", "T=1", *_numbers(outcome.before))
    table.add_row("after", "T=1", *_numbers(outcome.after))
    table.add_row("before", "greedy", *_numbers(outcome.before_greedy))
    table.add_row("after", "greedy", *_numbers(outcome.after_greedy))
    for name, summary in outcome.controls.items():
        table.add_row(CONTROL_NAMES.get(name, f"control: {name}"), "T=1", *_numbers(summary))
    return table


def _numbers(summary: RecordSummary) -> tuple[str, str, str, str]:
    ends = summary.accuracy_interval.ends
    return (
        f"{summary.accuracy:.1%}",
        "-" if ends is None else f"{ends[0]:.1%} to {ends[1]:.1%}",
        f"{summary.mean_tokens:.1f}",
        f"{summary.truncation_rate:.1%}",
    )


def outcome_lines(outcome: Outcome) -> list[str]:
    """The sentences below the table."""
    saved = outcome.tokens_saved
    lines = [f"{abs(saved):.1%} {'fewer' if saved >= 0 else 'more'} tokens at temperature 1"]
    if outcome.removable_share is not None:
        lines[0] += (
            f"; {outcome.removable_share:.1%} of the removable ones (one pass takes {outcome.oracle_tokens:.1f})"
        )
    for change, label in ((outcome.difference, "temperature 1"), (outcome.difference_greedy, "greedy")):
        gain = change.accuracy_difference
        if gain.ends is not None:
            lines.append(f"accuracy {gain.estimate:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}, paired), {label}")
    lines.append(f"trained for {outcome.train_seconds:.0f} s; model: {outcome.model}")
    return [*lines, f"report: {outcome.report}"]
