"""Reading rows: JSONL, JSON, Parquet or a `datasets` name, into plain rows with named columns.

Every complaint names the source, the row (counted from 1) and what was wanted, because a data file is
where most first runs go wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.errors import InputError
from lengthwise.optional_imports import importing

FILE_KINDS = (".jsonl", ".json", ".parquet")
LINE_LIMIT = 64 * 2**20
"""Bytes of the longest line of a log that is read; a longer one is passed over without being held."""
UNREADABLE = (ValueError, RecursionError)
"""What reading JSON raises: also for numbers of more digits than Python reads, and for brackets a thousand deep."""
DEEPEST = 100
"""Lists and objects inside each other that a row of a log may have."""
MOST_DIGITS = 1000
"""Digits of a number that is read out of text; Python refuses some thousands."""
_SHOWN = 60  # characters of a bad line that a message quotes


@dataclass(frozen=True)
class Defect:
    """Why a line or row cannot be used: `reason` in words that are the same for alike rows, `detail` for this one."""

    reason: str
    detail: str = ""


def too_deep(value: object) -> bool:
    """Whether lists and objects lie more than `DEEPEST` inside each other: beyond, Python itself gives up somewhere."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not (level := [value for values in inner for value in values]):
            return False
    return True


def whole_number(text: str) -> int | None:
    """The number that a text is when it is digits alone; None for any other text, and beyond `MOST_DIGITS`."""
    return int(text) if len(text) <= MOST_DIGITS and text.isdecimal() else None


def natural_key(text: str) -> tuple[bool, int, str]:
    """Sorts texts that are whole numbers as numbers, before all others."""
    number = whole_number(text)
    return number is None, number or 0, text


def read_rows(path_or_name: str | Path, *, columns: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Read all rows of a data source as dictionaries.

    ``path_or_name``: a ``.jsonl``, ``.json`` (a list, or ``{"data": [...]}``) or ``.parquet`` file (extra
    ``parquet``); anything that is no path on disk and does not look like one is a `datasets` name (extra
    ``trl``), written ``name:split`` or ``name:config:split``.
    ``columns``: names that every row must have, with a value that is not empty (see `require_columns`).

    Raises `InputError` for a missing or empty file, a line that is not JSON, a row that is not an object and
    a missing column or value; `MissingExtraError` when the reader of that format is not installed.
    """
    path = Path(path_or_name)
    if path.is_file():
        rows = _read_file(path)
    elif str(path_or_name).startswith("lab:"):
        raise InputError(
            f"data is {str(path_or_name)!r}, the lab's own problems, which shorten, evaluate (lab:chains) and compare "
            'know by name; write some to a file: python -c "import json; from lengthwise.lab import chains; '
            "[print(json.dumps(one.row)) for one in chains.problems(500, split='train', seed=0)]\" > chains.jsonl"
        )
    elif path.is_dir():
        raise InputError(f"{path} is a folder; name one {_listed(FILE_KINDS)} file inside it")
    elif _looks_like_path(path_or_name):
        raise InputError(f"no such file: {path}; check the path (the working folder is {Path.cwd()})")
    else:
        rows = _read_dataset(str(path_or_name))
    if columns is None:
        return _checked_rows(rows, str(path_or_name))
    return require_columns(rows, columns, str(path_or_name))


def require_columns(rows: Sequence[object], needed: Sequence[str], source: str) -> list[dict[str, object]]:
    """Check that every row is an object holding each needed column with a value, and return the rows.

    A value is missing when it is ``None``, text of blanks only, or an empty list. Rows are counted from 1.
    Raises `InputError` naming ``source``, the row, the column and the columns that are there.
    """
    checked = _checked_rows(rows, source)
    for number, row in enumerate(checked, start=1):
        for column in needed:
            if column not in row:
                raise InputError(
                    f"{source}, row {number}: no column {column!r}; it has {_listed(row) or 'no columns'}. "
                    "Name the right column, or rename it in the file"
                )
            if _is_empty(row[column]):
                raise InputError(
                    f"{source}, row {number}: empty {column} ({row[column]!r}); fill it in or remove the row"
                )
    return checked


def _checked_rows(rows: Sequence[object], source: str) -> list[dict[str, object]]:
    if not rows:
        raise InputError(f"{source} holds no rows; give a file with at least one problem")
    checked = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(
                f"{source}, row {number}: {_start(str(row))} is a {type(row).__name__}, not an object; "
                'write one {"column": value} object per row'
            )
        checked.append(row)
    return checked


def _read_file(path: Path) -> list[object]:
    if path.suffix not in FILE_KINDS:
        raise InputError(f"{path} ends in {path.suffix!r}; the kinds read are {_listed(FILE_KINDS)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; give a file with at least one row")
    if path.suffix == ".parquet":
        return _read_parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    return _parse_jsonl(text, path) if path.suffix == ".jsonl" else _parse_json(text, path)


def _parse_jsonl(text: str, path: Path) -> list[object]:
    rows: list[object] = []
    # Not splitlines(): JSON strings may hold U+2028 and the like, which end no line of a JSONL file.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except UNREADABLE as error:
            raise InputError(
                f"{path}, line {number} is not JSON ({_why(error)}): {_start(line)}; write one object per line"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number}: {_start(line)} is a {type(row).__name__}, not an object; "
                'write one {"column": value} object per line'
            )
        rows.append(row)
    return rows


def _parse_json(text: str, path: Path) -> list[object]:
    try:
        value = json.loads(text)
    except UNREADABLE as error:
        number = getattr(error, "lineno", 1)
        line = text.split("\n")[number - 1]
        raise InputError(
            f"{path}, line {number} is not JSON ({_why(error)}): {_start(line)}; "
            "a file with one object per line is named .jsonl"
        ) from error
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        raise InputError(f'{path} is neither a list of rows nor {{"data": [rows]}}; it starts {_start(text)}')
    return value


def _why(error: Exception) -> str:
    return getattr(error, "msg", None) or str(error)


def _read_parquet(path: Path) -> list[object]:
    with importing(f"reading {path}", "pyarrow", "parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a Parquet file ({error}); check how it was written") from error
    rows: list[object] = table.to_pylist()
    return rows


def _read_dataset(name: str) -> list[object]:
    dataset, _, rest = name.partition(":")
    config, _, split = rest.rpartition(":")
    if not dataset or not split:
        raise InputError(
            f"{name!r} is neither a file on disk nor a dataset with its split; "
            "name a file, or write NAME:SPLIT, for example openai/gsm8k:main:test"
        )
    with importing(f"{name!r} is no file on disk; reading it as a dataset", "datasets", "trl"):
        from datasets import load_dataset
    try:
        return list(load_dataset(dataset, config or None, split=split))
    except (OSError, ValueError) as error:  # not found, no network, unknown split or configuration
        raise InputError(f"the dataset {name!r} cannot be loaded: {error}") from error


def _looks_like_path(path_or_name: str | Path) -> bool:
    text = str(path_or_name)
    return isinstance(path_or_name, Path) or text.endswith(FILE_KINDS) or text.startswith((".", "/", "~"))


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


def _start(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)
