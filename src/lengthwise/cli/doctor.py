"""`lengthwise doctor`: what is installed here, what it would take to have more, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, err, out, print_json
from lengthwise.config.commands import DoctorSettings
from lengthwise.installation_check import Finding, State, check_installation

STYLES: dict[State, str] = {"right": "green", "absent": "yellow", "wrong": "bold red"}


def doctor(settings: DoctorSettings) -> None:
    """Look, show, and end with exit code 1 where something is wrong."""
    with err.status("looking") as status:
        found = check_installation(Path.cwd(), looking_at=lambda what: status.update(f"looking at {what}"))
    if settings.json_:
        print_json(found.to_dict())
    else:
        out.print(_table(found.findings))
    if found.wrong:
        complain(f"wrong here: {', '.join(finding.name for finding in found.wrong)}", style="red", failure=True)
        raise typer.Exit(1)


def _table(findings: tuple[Finding, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = f"{finding.found}\n{finding.advice}" if finding.advice else finding.found
        table.add_row(Text(finding.state, STYLES[finding.state]), Text(finding.name), Text(said))
    return table
