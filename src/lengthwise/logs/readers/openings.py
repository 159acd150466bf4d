"""The form of a file and its first rows, by which its format is told, and all its rows after that."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from lengthwise.data import LINE_LIMIT, Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers.json_values import lines, members, parse_line, start_of
from lengthwise.logs.readers.log_row import Row
from lengthwise.logs.readers.sources import DamagedError, Source
from lengthwise.optional_imports import importing

FIRST_ROWS = 8
ROWS_UNDER = ("data", "rows", "results", "samples", "predictions", "responses", "instances", "records", "examples")
"""Keys of an object under which its rows may stand as a list."""
BATCH = 64
"""Rows of a Parquet file in memory at a time: those of a training step have a hundred thousand numbers each."""
ZIP, PARQUET = b"PK", b"PAR1"
DELIMITERS = ",\t;|"


class Form(StrEnum):
    """What a file is."""

    LINES = "JSON lines"
    LIST = "JSON list"
    OBJECT = "JSON object"
    PARQUET = "Parquet"
    CSV = "CSV"
    ZIP = "zip archive"


@dataclass(frozen=True)
class Opening:
    """A file with the first of what it holds.

    ``first``: its first rows. ``keys``: of a JSON object the first keys, of a zip archive the names of its files.
    ``defect``: what is wrong with the first row that is none.
    """

    source: Source
    form: Form
    first: tuple[Row, ...] = ()
    keys: tuple[str, ...] = ()
    defect: Defect | None = None

    @property
    def name(self) -> str:
        """The file, as the user named it."""
        return self.source.name

    def rows(self) -> Iterator[tuple[int, Row | Defect]]:
        """All rows with their numbers; where the file breaks off, a defect is the last."""
        number = 0
        try:
            for number, value in _READERS[self.form](self.source):
                yield number, value if isinstance(value, Mapping | Defect) else _no_object(value)
        except DamagedError as error:
            yield number + 1, Defect(f"damaged {self.form}", str(error))


def open_log(source: Source) -> Opening:
    """Find out what a file is and read its first rows.

    Raises:
        InputError: a file that is empty, is none of the forms, or breaks off before its first row.
        MissingExtraError: what reads the form is not installed.
    """
    try:
        form = _form(source)
        if form is Form.ZIP:
            return Opening(source, form, keys=tuple(_zip_names(source)))
        if form is Form.OBJECT:
            return _opened_object(source)
        opening = Opening(source, form)
        first = [row for _, row in islice(opening.rows(), FIRST_ROWS)]
    except DamagedError as error:
        raise InputError(f"{source.name} cannot be read: {error}; check how it was written or copied") from error
    rows = tuple(row for row in first if not isinstance(row, Defect))
    defect = next((row for row in first if isinstance(row, Defect)), None)
    if not first:
        raise InputError(f"{source.name} holds no rows; give a file with at least one response")
    if not rows and defect is not None:
        raise InputError(
            f"{source.name} was taken for {form} and has no row that can be read: {defect.reason} ({defect.detail}); "
            "check how it was written or copied"
        )
    return Opening(source, form, rows, defect=defect)


def _form(source: Source) -> Form:
    with source.opened() as file:
        start = file.read(1 << 12)
    if not start.strip():
        raise InputError(f"{source.name} is empty; give a file with at least one row")
    if start.startswith(PARQUET):
        return Form.PARQUET
    if start.startswith(ZIP):
        return Form.ZIP
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return Form.LIST
    if text.startswith(b"{"):
        return _form_of_object(source)
    if source.kind in (".csv", ".tsv") or _looks_like_table(text):
        return Form.CSV
    if source.kind in (".parquet", ".eval"):
        wanted = "a Parquet file" if source.kind == ".parquet" else "an inspect log (a zip archive)"
        raise InputError(f"{source.name} is not {wanted}: it begins with {start[:8]!r}; check how it was copied")
    return Form.LINES


def _form_of_object(source: Source) -> Form:
    """Lines, where the first is an object by itself and more follow; a lone one is a row unless its keys say else."""
    with source.opened() as file:
        first = list(islice(lines(file), 2))
    line = first[0][1]
    if isinstance(line, Defect):  # longer than a row may be: a whole document without line breaks
        return Form.LINES if source.kind == ".jsonl" else Form.OBJECT
    value = parse_line(line)
    if not isinstance(value, dict):  # an object over many lines, or lines of which the first is damaged
        pretty = source.kind != ".jsonl" and not line.strip().endswith(b"}")
        return Form.OBJECT if pretty else Form.LINES
    if len(first) > 1:
        return Form.LINES
    holds_rows = any(_rows_in(value.get(key)) for key in ROWS_UNDER)
    numbered = bool(value) and all(str(key).isdecimal() and isinstance(one, dict) for key, one in value.items())
    return Form.OBJECT if holds_rows or numbered else Form.LINES


def _rows_in(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value[:FIRST_ROWS])


def _looks_like_table(text: bytes) -> bool:
    first = text.split(b"\n", 1)[0].decode("utf-8", "replace")
    return any(mark in first for mark in DELIMITERS) and "{" not in first and first.isprintable()


def _no_object(value: object) -> Defect:
    return Defect("not an object", f"{start_of(str(value))} is a {type(value).__name__}")


def _opened_object(source: Source) -> Opening:
    """A JSON object: the rows under one of its keys, its numbered members, or itself as the only row."""
    keys: dict[str, None] = {}
    rows: list[Row] = []
    try:
        with source.opened() as file:
            for key, value in members(file, ROWS_UNDER):
                keys[str(key)] = None
                if isinstance(value, Mapping) and (key in ROWS_UNDER or str(key).isdecimal()):
                    rows.append(value)
                if len(rows) == FIRST_ROWS:
                    break
    except DamagedError:
        if not rows:
            raise
    if not rows:
        rows = [row for _, row in _whole_object(source)]
    return Opening(source, Form.OBJECT, tuple(rows), tuple(keys))


def _whole_object(source: Source) -> Iterator[tuple[int, Row]]:
    with source.opened() as file:
        yield 1, {str(key): value for key, value in members(file)}


def _line_rows(source: Source) -> Iterator[tuple[int, object]]:
    with source.opened() as file:
        for number, line in lines(file):
            yield number, line if isinstance(line, Defect) else parse_line(line)


def _list_rows(source: Source) -> Iterator[tuple[int, object]]:
    with source.opened() as file:
        for number, (_, value) in enumerate(members(file), 1):
            yield number, value


def _object_rows(source: Source) -> Iterator[tuple[int, object]]:
    number = 0
    with source.opened() as file:
        for key, value in members(file, ROWS_UNDER):
            if isinstance(value, Mapping) and (key in ROWS_UNDER or str(key).isdecimal()):
                number += 1
                yield number, value
    if not number:
        yield from _whole_object(source)


def _table_rows(source: Source) -> Iterator[tuple[int, object]]:
    """Rows of a Parquet file, a few at a time."""
    with importing(f"reading {source.name}", "pyarrow", "parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    number = 0
    try:
        with pq.ParquetFile(source.path) as table:
            for batch in table.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"no whole Parquet file ({error})") from error


def _csv_rows(source: Source) -> Iterator[tuple[int, object]]:
    """Records of a table, each under the names of the first; empty cells are missing values."""
    with source.opened() as file, _long_cells():
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            head = next(_short_lines(text), "")
            delimiter = max(DELIMITERS, key=head.count)
            names = next(csv.reader([head], delimiter=delimiter), [])
            for number, cells in enumerate(csv.reader(_short_lines(text), delimiter=delimiter, strict=True), 1):
                yield number, _record(names, cells)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DamagedError(str(error)) from error


def _short_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Lines as they come; `DamagedError` at one that is too long to be held."""
    while line := text.readline(LINE_LIMIT):
        if len(line) == LINE_LIMIT:
            raise DamagedError(f"a line of over {LINE_LIMIT >> 20} MiB")
        yield line


def _record(names: list[str], cells: list[str]) -> Row | Defect:
    if len(cells) != len(names):
        return Defect("a record of another length than the head", f"{len(cells)} cells under {len(names)} names")
    return {name.strip(): cell for name, cell in zip(names, cells, strict=True) if cell != ""}


@contextmanager
def _long_cells() -> Iterator[None]:
    """The standard library's limit of a cell is 128 KiB; a long response has more."""
    before = csv.field_size_limit(LINE_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _zip_names(source: Source) -> list[str]:
    with zip_archive(source) as archive:
        return archive.namelist()


@contextmanager
def zip_archive(source: Source) -> Iterator[zipfile.ZipFile]:
    """A zip archive; `DamagedError` where it is cut."""
    try:
        with zipfile.ZipFile(source.path) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise DamagedError(f"no whole zip archive, as an inspect log is ({error})") from error


def _no_rows(source: Source) -> Iterator[tuple[int, object]]:
    yield from ()


_READERS = {
    Form.LINES: _line_rows,
    Form.LIST: _list_rows,
    Form.OBJECT: _object_rows,
    Form.PARQUET: _table_rows,
    Form.CSV: _csv_rows,
    Form.ZIP: _no_rows,
}
