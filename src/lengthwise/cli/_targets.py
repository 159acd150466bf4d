"""What a command will write is tried out while its words are read: before hours of work, not after them."""

from __future__ import annotations

from pathlib import Path

import typer

from lengthwise.config.command import Command
from lengthwise.output_paths import check_file_target, check_folder_target


def check_targets(settings: Command) -> None:
    """Try out everything that the settings of a command name to be written.

    Raises:
        ConfigError: naming the setting, its path and the reason.
    """
    values = settings.flat()
    for key, entry in settings.entries().items():
        path, target = values[key], entry.facts.writes
        if target is None or not isinstance(path, (str, Path)):
            continue
        if target in ("folder", "whole folder"):
            check_folder_target(key, path, replaced=target == "whole folder")
            continue
        for file in (path, Path(path).with_suffix(".png")) if target == "page" else (path,):
            check_file_target(key, file)


def run_folder(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """A folder that a run is written into, file by file."""
    if value is not None:
        check_folder_target(_name(param), value)
    return value


def _name(param: typer.CallbackParam) -> str:
    """As the library calls the argument in its own messages."""
    return param.opts[0].lstrip("-")
