"""What commands show: complaints on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Texts hold paths and names of users, in which [brackets] and :colons: are no markup.
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

ROWS = (
    ("before", "before", "T=1"),
    ("after", "after", "T=1"),
    ("before_greedy", "before", "greedy"),
    ("after_greedy", "after", "greedy"),
)
CONTROL_NAMES = {"cut": "base, cut at new length", "first-pass": "base, stopped after 1 pass"}


def complain(text: str, *, style: str) -> None:
    """One line on stderr, whatever the text and the terminal's width."""
    err.print(Text(" ".join(text.split("\n")), style=style), soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    out.file.write(json.dumps(value, allow_nan=False) + "\n")


def outcome_table(outcome: Mapping[str, Any]) -> Table:
    """Before, after and controls, as a table."""
    # No frame: the table must fit a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "drawn"):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "95 % interval", "tokens", "cut"):
        table.add_column(name, justify="right", no_wrap=True)
    for key, label, sampling in ROWS:
        table.add_row(label, sampling, *_numbers(outcome[key]))
    for key, summary in outcome["controls"].items():
        table.add_row(CONTROL_NAMES.get(key, f"control: {key}"), "T=1", *_numbers(summary))
    return table


def _numbers(summary: Mapping[str, Any]) -> tuple[str, str, str, str]:
    interval = summary["accuracy_interval"]
    low, high = interval["low"], interval["high"]
    return (
        f"{summary['accuracy']:.1%}",
        "-" if low is None else f"{low:.1%} to {high:.1%}",
        f"{summary['mean_tokens']:.1f}",
        f"{summary['truncation_rate']:.1%}",
    )


def outcome_lines(outcome: Mapping[str, Any]) -> list[str]:
    """The sentences below the table."""
    saved = outcome["tokens_saved"]
    lines = [f"{abs(saved):.1%} {'fewer' if saved >= 0 else 'more'} tokens at temperature 1"]
    if "removable_share" in outcome:
        lines[0] += (
            f"; {outcome['removable_share']:.1%} of the removable ones (one pass takes {outcome['oracle_tokens']:.1f})"
        )
    for key, label in (("difference", "temperature 1"), ("difference_greedy", "greedy")):
        gain = outcome[key]["accuracy_difference"]
        if gain["low"] is not None:
            lines.append(
                f"accuracy {gain['estimate']:+.1%} ({gain['low']:+.1%} to {gain['high']:+.1%}, paired), {label}"
            )
    lines.append(f"trained for {outcome['train_seconds']:.0f} s; model: {outcome['model']}")
    return [*lines, f"report: {outcome['report']}"]
