"""The command line: argument parsing only, one file per command."""

from __future__ import annotations

import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from lengthwise import __version__
from lengthwise.cli import (
    compare,
    compare_records,
    demo,
    doctor,
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
from lengthwise.cli._endings import ending
from lengthwise.cli._settings_flags import add_command
from lengthwise.config.commands import COMMANDS as SETTINGS
from lengthwise.errors import InputError, LengthwiseWarning
from lengthwise.threads import wait_without_spinning

if TYPE_CHECKING:
    from typer._click.core import Command

app = typer.Typer(
    name="lengthwise",
    help="Length in language models: think in fewer tokens, measured honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
COMPLETING = "_LENGTHWISE_COMPLETE"
"""Set by the shell's completion, which `lengthwise --install-completion` switches on."""
COMMANDS: dict[str, Callable[..., None]] = {
    "grade": grade.grade,
    "evaluate": evaluate.evaluate,
    "demo": demo.demo,
    "shorten": shorten.shorten,
    "compare": compare.compare,
    "methods": methods.methods,
    "generate": generate.generate,
    "extend": extend.extend,
    "evaluate-context": evaluate_context.evaluate_context,
    "merge": merge.merge,
    "repair": repair.repair,
    "export": export.export,
    "report": report.report,
    "compare-records": compare_records.compare_records,
    "doctor": doctor.doctor,
}
for _name, _function in COMMANDS.items():
    add_command(app, SETTINGS[_name], _function)


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, by default the one of ``sys.argv``; always ends with `SystemExit`.

    Bad input is one line on stderr and exit code 2, a failed run exit code 1, Ctrl-C 130.
    """
    if COMPLETING in os.environ:
        app(prog_name="lengthwise")  # the shell asks what could come next
    given = list(sys.argv[1:] if arguments is None else arguments)

    wait_without_spinning()

    def work() -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is no reason to lose a result
                stream.reconfigure(errors="backslashreplace")
        _check_text(given)
        command = _parser()
        with command.make_context("lengthwise", given) as context:
            command.invoke(context)

    sys.exit(ending(work))


@functools.cache
def _parser() -> Command:
    return typer.main.get_command(app)


def _check_text(given: Sequence[str]) -> None:
    """Refuse an argument that is no UTF-8: it would come up as a file name in every record and report."""
    for text in given:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the argument {text!r} is not UTF-8 text; rename the file or write it in UTF-8"
            ) from error
