"""What `evaluate_context` reads and writes, looked at before the first of perhaps many hours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.data import read_rows
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import PARTIAL
from lengthwise.folder_lock import is_lock

if TYPE_CHECKING:
    from lengthwise.runs.evaluate_context.measurement import Reading


def check_inputs(asked: Reading, *, result: str) -> None:
    """Refuse files that cannot be read, and a folder of something else: one that lacks the file `result`.

    Raises:
        InputError: naming the file.
        ConfigError: naming the folder.
    """
    there = [path for path in asked.out.iterdir() if not is_lock(path)] if asked.out.is_dir() else []
    if not (asked.out / result).is_file() and any(not path.name.startswith(PARTIAL) for path in there):
        raise ConfigError(f"out is {str(asked.out)!r}, which holds files but no {result}; name an empty or new folder")
    for source in (asked.data, asked.lines):
        if source is not None:
            read_rows(source)
    if asked.text is not None:
        read_text(asked.text)


def read_text(path: str) -> str:
    """A text file, whole.

    Raises:
        InputError: a file that cannot be read, or that is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"text is {path!r}, which cannot be read ({error}); give a UTF-8 text file") from error
