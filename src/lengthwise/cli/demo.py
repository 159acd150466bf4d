"""`lengthwise demo`: the main job on the shipped tiny reasoner."""

from __future__ import annotations

import tempfile

from lengthwise.cli._console import out, outcome_lines, outcome_table, print_json
from lengthwise.cli._progress import progress
from lengthwise.config.commands import DemoSettings


def demo(settings: DemoSettings) -> None:
    """Run the demo, in a new folder unless one is given, and show what came of it."""
    from lengthwise.runs.chains_demo import demo as run

    if settings.out is None:
        settings = settings.replace(out=tempfile.mkdtemp(prefix="lengthwise-demo-"))
    with progress() as listener:
        outcome = run(settings, listener=listener)
    if settings.json_:
        print_json(outcome.to_dict())
        return
    out.print(outcome_table(outcome))
    for line in outcome_lines(outcome):
        out.print(line, soft_wrap=True)
