"""`lengthwise demo`: the main job on the shipped tiny reasoner."""

from __future__ import annotations

import tempfile
import warnings

from lengthwise.cli._console import out, outcome_lines, outcome_table, print_json
from lengthwise.cli._progress import progress
from lengthwise.config.commands import DemoSettings
from lengthwise.errors import LengthwiseWarning

EXPECTED = r"step \d+: (most answers|most groups|only \d+ of \d+ groups)"
"""Warnings that are success in a world so small: its cap cuts most answers at first, and nearly all are right at last.
The run's files have them."""
NEXT = (
    "  lengthwise grade LOG --report log.html",
    "  lengthwise evaluate MODEL --data test.jsonl --budget 2048",
    "  lengthwise shorten MODEL --data train.jsonl --out runs/mine --dry-run",
)


def demo(settings: DemoSettings) -> None:
    """Run the demo, in a new folder unless one is given, and show what came of it."""
    if settings.out is None:
        settings = settings.replace(out=tempfile.mkdtemp(prefix="lengthwise-demo-"))
    with progress() as listener, warnings.catch_warnings():
        from lengthwise.runs.chains_demo import demo as run  # takes seconds, in which the bar is there

        warnings.filterwarnings("ignore", EXPECTED, LengthwiseWarning)
        outcome = run(settings, listener=listener)
    if settings.json_:
        print_json(outcome.to_dict())
        return
    out.print(outcome_table(outcome))
    for line in (*outcome_lines(outcome), "", "Next, on responses and a model of yours:", *NEXT):
        out.print(line, soft_wrap=True)
