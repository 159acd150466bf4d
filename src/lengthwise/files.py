"""Files that are whole or absent: written to a temporary name beside the target, synced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lengthwise.errors import CheckpointError
from lengthwise.json_types import JsonObject, JsonValue

PARTIAL = ".partial-"


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write text so that `path` holds either its old content or all of the new."""
    path = Path(path)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def atomic_write_json(path: str | Path, value: object, *, indent: int | None = 2) -> None:
    """Write one JSON document atomically; NaN and infinity are refused, JSON has no word for them."""
    atomic_write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary file name; on a clean exit it is synced and renamed to `path`, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    clear_abandoned(path)
    sync(path.parent)


def write_folder(path: str | Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `path` whole or not at all: `fill` writes into a temporary sibling that is renamed.

    A folder of the same name is replaced; for the moment between the two renames it lies beside under its
    partial name, so nothing that was whole is lost before its successor is whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    retired = partial_of(path, "old-")
    clear_abandoned(path, retired=path.exists())
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        fill(partial)
        for file in partial.rglob("*"):
            sync(file)
        sync(partial)
        if path.exists():
            shutil.rmtree(retired, ignore_errors=True)
            path.replace(retired)
        partial.replace(path)
    except BaseException:
        if retired.exists() and not path.exists():
            retired.replace(path)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(retired, ignore_errors=True)
    clear_abandoned(path)
    sync(path.parent)


def partial_of(path: Path, kind: str = "") -> Path:
    """The temporary name beside a file or folder, from which it is renamed."""
    return path.with_name(f"{PARTIAL}{os.getpid()}-{kind}{path.name}")


def clear_partials(folder: str | Path) -> None:
    """Remove what a killed process left half-written in a folder."""
    for leftover in Path(folder).glob(f"{PARTIAL}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def clear_abandoned(path: Path, *, retired: bool = True) -> None:
    """Remove what killed processes left of one file or folder under temporary names; a living one's work stays.

    ``retired``: also a whole predecessor that was set aside, which is all there is until its successor is whole.
    """
    ours = re.compile(re.escape(PARTIAL) + r"(\d+)-(old-)?" + re.escape(path.name))
    for leftover in path.parent.iterdir():
        if (found := ours.fullmatch(leftover.name)) and not _alive(int(found[1])) and (retired or not found[2]):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that a rename never overtakes the data it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_json(path: str | Path) -> Any:
    """Read one JSON document; a damaged one raises `CheckpointError` naming the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, numbers or brackets without end
        raise CheckpointError(f"{path} is damaged ({error}); remove it or restore it from a copy") from error


def read_json_object(path: str | Path) -> JsonObject:
    """Read one JSON document that is an object; anything else raises `CheckpointError` naming the file."""
    found: JsonValue = read_json(path)
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged (it is no JSON object); remove it or restore it from a copy")
    return found


def disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, the quota or the file-size limit is exhausted."""
    if isinstance(error, sqlite3.OperationalError):
        return "full" in str(error)  # SQLite has no other word for it in this version of Python
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
