"""The command line: argument parsing only, one file per command."""

from __future__ import annotations

import sqlite3
import sys
import warnings

import typer

from lengthwise import __version__
from lengthwise.cli import (
    compare,
    compare_records,
    demo,
    evaluate,
    evaluate_context,
    export,
    extend,
    generate,
    grade,
    merge,
    methods,
    repair,
    report,
    shorten,
)
from lengthwise.cli._console import complain
from lengthwise.errors import CheckpointError, EndpointError, LengthwiseError, LengthwiseWarning, TrainingError
from lengthwise.files import disk_full

app = typer.Typer(
    name="lengthwise",
    help="Length in language models: think in fewer tokens, measured honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
app.command("grade")(grade.grade)
app.command("evaluate")(evaluate.evaluate)
app.command("demo")(demo.demo)
app.command("shorten")(shorten.shorten)
app.command("compare")(compare.compare)
app.command("methods")(methods.methods)
app.command("generate")(generate.generate)
app.command("extend")(extend.extend)
app.command("evaluate-context")(evaluate_context.evaluate_context)
app.command("merge")(merge.merge)
app.command("repair")(repair.repair)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("compare-records")(compare_records.compare_records)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lengthwise {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and leave."
    ),
) -> None:
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("always", LengthwiseWarning)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, LengthwiseWarning):
        complain(f"warning: {message}", style="yellow")


def main() -> None:
    """Run a command; bad input is one line on stderr and exit code 2, a failed run exit code 1."""
    try:
        app()
    except (TrainingError, CheckpointError, EndpointError) as error:
        complain(f"error: {error}", style="bold red")
        sys.exit(1)
    except LengthwiseError as error:
        complain(f"error: {error}", style="bold red")
        sys.exit(2)
    except KeyboardInterrupt:
        complain(
            "stopped; give the same command again: what keeps a folder continues, the rest starts anew", style="yellow"
        )
        sys.exit(130)
    except (OSError, sqlite3.OperationalError) as error:
        if not disk_full(error):
            raise
        complain(
            f"error: no space left while writing {getattr(error, 'filename', None) or 'files'}; free some and give the "
            "same command again: what keeps a folder continues, the rest starts anew",
            style="bold red",
        )
        sys.exit(1)
