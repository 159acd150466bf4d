"""`lengthwise report`: rebuild a run's report from its files, or compare several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lengthwise.cli._console import out
from lengthwise.cli._targets import page_target
from lengthwise.errors import InputError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One or more run folders.")],
    file: Annotated[Path | None, typer.Option("--out", callback=page_target, help="HTML file to write.")] = None,
) -> None:
    """Write the HTML report of one run, or one page over several."""
    from lengthwise.reporting.run_report import build_report
    from lengthwise.runs.run_folder import CONFIG

    for run in runs:
        if not (run / CONFIG).is_file():
            raise InputError(f"RUN is {str(run)!r}: no {CONFIG} in it; give a folder that `lengthwise shorten` made")
    out.print(str(build_report(runs, file)), soft_wrap=True)
