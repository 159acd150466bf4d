"""From a command's settings to its flags, and from what was given on the command line to its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.text import Text
from typer.models import ParameterInfo

from lengthwise.cli._command import Command as PlainCommand
from lengthwise.cli._console import out, quiet
from lengthwise.cli._targets import check_targets
from lengthwise.config import files, tables, values
from lengthwise.config.command import Command
from lengthwise.config.definition import PANELS
from lengthwise.config.settings import Entry

if TYPE_CHECKING:
    from typer._click.core import Context
    from typer._click.formatting import HelpFormatter

CONFIG, PRINT_CONFIG, QUIET = "config_", "print_config_", "quiet_"
"""Parameters of every command beside its settings; the underscore keeps them apart from any setting."""
UsageProblem: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
"""What the parser raises; typer brings a copy of click of its own, and names the kinds of it nowhere."""
Kind = TypeVar("Kind", bound=Command)


def add_command(app: typer.Typer, kind: type[Kind], run: Callable[[Kind], None]) -> None:
    """Make a command of an app that takes the settings of ``kind`` as flags and gives them to ``run`` as one value.

    Flags win over the file of ``--config``, and the file over the defaults.
    """

    def command(**given: object) -> None:
        config, shown, silent = given.pop(CONFIG), given.pop(PRINT_CONFIG), given.pop(QUIET)
        file = None if config is None else files.load(str(config))
        settings = files.merged(kind, file, given_flags(kind, given))
        if shown:
            out.file.write(files.dump_yaml(settings))
            return
        check_targets(settings)
        with quiet() if silent else nullcontext():
            run(settings)

    parameters = _parameters(kind)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    made = type("SettingsCommand", (SettingsCommand,), {"settings": kind})
    app.command(kind.command, cls=made, help=kind.help())(command)


class SettingsCommand(PlainCommand):
    """A command with examples, that says of an unknown flag what it is called now, or which ones are near."""

    settings: type[Command]

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Show the help, and at its end two examples in lines that can be copied, which an epilog would fold."""
        super().format_help(ctx, formatter)
        lines = [" Examples:", *(f"   {example}" for example in self.settings.examples)]
        out.print(Text("\n".join(lines) + "\n"), soft_wrap=True)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse, and raise `ConfigError` for a flag that there is not."""
        try:
            return super().parse_args(ctx, args)
        except UsageProblem as error:
            if type(error).__name__ != "NoSuchOption":
                raise
            raise self.settings.no_such_flag(error.option_name) from None


def given_flags(kind: type[Command], given: dict[str, Any]) -> dict[str, Any]:
    """The settings that flags gave, by flat name: what was not given is absent, a switched-off flag is False."""
    found = {}
    for key, entry in kind.entries().items():
        value = given.get(entry.attribute)
        if value is None or value == []:
            continue
        if isinstance(value, str):
            value = values.from_text(value, entry.annotation, entry.facts)
        found[key] = value
    return found


def _parameters(kind: type[Command]) -> list[inspect.Parameter]:
    entries = [entry for panel in PANELS for entry in kind.entries().values() if entry.panel == panel]
    arguments = [_parameter(entry.attribute, *_argument(entry)) for entry in entries if entry.facts.positional]
    options = [
        _parameter(entry.attribute, *_option(entry))
        for entry in entries
        if not entry.facts.positional and not entry.facts.hidden
    ]
    shared: dict[str, Any] = {"rich_help_panel": "Output", "show_default": False}
    config = typer.Option("--config", metavar="file", parser=_as_it_is, help=tables.ALWAYS["--config"][1], **shared)
    switches = {PRINT_CONFIG: "--print-config", QUIET: "--quiet"}
    return [
        *arguments, *options, _parameter(CONFIG, _shown_as("file") | None, config),
        *(_parameter(name, bool, typer.Option(flag, help=tables.ALWAYS[flag][1], **shared), default=False)
          for name, flag in switches.items()),
    ]  # fmt: skip


def _parameter(name: str, annotation: object, info: ParameterInfo, default: object = None) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[annotation, info])


def _argument(entry: Entry) -> tuple[object, ParameterInfo]:
    """An argument; a file may give it, so the parser does not insist on it."""
    info = typer.Argument(metavar=entry.facts.metavar, help=help_text(entry), show_default=False)
    return (list[str] if _repeats(entry) else str) | None, info


def _option(entry: Entry) -> tuple[object, ParameterInfo]:
    shared: dict[str, Any] = {"help": help_text(entry), "rich_help_panel": entry.panel, "show_default": False}
    if bool in values.parts(entry.annotation):
        return bool | None, typer.Option(f"{entry.flag}/--no-{entry.flag.removeprefix('--')}", **shared)
    text = tables.value_text(entry)
    annotation = list[_shown_as(text)] if _repeats(entry) else _shown_as(text)  # type: ignore[misc]
    return annotation | None, typer.Option(entry.flag, metavar=text, parser=_as_it_is, **shared)


def _shown_as(text: str) -> Any:
    """A kind of text of that name: help shows the name as the type, and the settings read the text."""
    return type(text, (str,), {})


def _as_it_is(text: str) -> str:
    return text


def help_text(entry: Entry) -> str:
    """The line of help, with what a flag does where it is not given."""
    ending = "" if not entry.facts.help or entry.facts.help.endswith((".", "?")) else "."
    repeat = " Repeat as needed." if _repeats(entry) and not entry.facts.positional else ""
    default = tables.default_text(entry)
    said = {"required": "", "none": "", "off": ""}.get(default, f" Default: {default}.")
    return f"{entry.facts.help}{ending}{repeat}{said}"


def _repeats(entry: Entry) -> bool:
    return values.entry_type(entry.annotation) is not None and not entry.facts.commas
