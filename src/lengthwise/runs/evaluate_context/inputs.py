"""What `evaluate_context` reads and writes, looked at before the first of perhaps many hours."""

from __future__ import annotations

from pathlib import Path

from lengthwise.config.commands import EvaluateContextSettings
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import resolve_device
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import PARTIAL
from lengthwise.folder_lock import is_lock
from lengthwise.output_paths import real
from lengthwise.runs.evaluate_context.schemes import parse_scheme


def check_inputs(settings: EvaluateContextSettings, *, result: str) -> Path:
    """The folder to write, after a look at all that is read, and at what it holds: `result`, or nothing.

    Raises:
        InputError: naming the file.
        ConfigError: a scheme that is none, a name that is given twice, or a folder of something else.
    """
    asked, out = settings.reading, settings.out
    if out is None:
        raise ConfigError("out is not given; name the folder to write")
    for scheme in settings.scheme:
        parse_scheme(scheme)
    names = [text.rpartition("=")[0] or real(text).name for text in settings.models]
    for what, given in (("task", asked.tasks), ("scheme", settings.scheme), ("model", names)):
        if twice := [name for name in given if list(given).count(name) > 1]:
            raise ConfigError(f"the {what} {twice[0]!r} is named twice; name each once, models as NAME=FOLDER")
    resolve_device(settings.runtime.device)
    there = [path for path in out.iterdir() if not is_lock(path)] if out.is_dir() else []
    if not (out / result).is_file() and any(not path.name.startswith(PARTIAL) for path in there):
        raise ConfigError(f"out is {str(out)!r}, which holds files but no {result}; name an empty or new folder")
    for source in (asked.data, asked.lines):
        if source is not None:
            read_rows(source)
    if asked.text is not None:
        read_text(asked.text)
    return out


def read_text(path: str) -> str:
    """A text file, whole.

    Raises:
        InputError: a file that cannot be read, or that is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"text is {path!r}, which cannot be read ({error}); give a UTF-8 text file") from error
