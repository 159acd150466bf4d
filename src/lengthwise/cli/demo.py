"""`lengthwise demo`: the main job on the shipped tiny reasoner."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from lengthwise.cli._console import out, outcome_lines, outcome_table, print_json
from lengthwise.cli._flags import Threads
from lengthwise.cli._progress import progress
from lengthwise.cli._targets import run_folder
from lengthwise.threads import threads_for


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and sampling.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 120,
    problems: Annotated[int, typer.Option(min=2, help="Held-out problems to measure on.")] = 500,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=run_folder, help="Run folder; the same command continues it. Default: a new one."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in that folder.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Shorten the shipped verbose reasoner with DLER on this machine's CPU, and report what changed."""
    from lengthwise.runs.demo import demo as run

    where = folder or Path(tempfile.mkdtemp(prefix="lengthwise-demo-"))
    with progress() as listener, threads_for(wanted=threads):
        outcome = run(where, seed=seed, steps=steps, problems=problems, overwrite=overwrite, listener=listener)
    if as_json:
        print_json(outcome)
        return
    out.print(outcome_table(outcome))
    for line in outcome_lines(outcome):
        out.print(line, soft_wrap=True)
