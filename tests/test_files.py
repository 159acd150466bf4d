"""Files and folders that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise import files
from lengthwise.errors import CheckpointError
from lengthwise.files import (
    PARTIAL,
    atomic_write_json,
    atomic_write_text,
    clear_partials,
    disk_full,
    read_json,
    replacing,
    sha256_file,
    write_folder,
)


def full(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "note.txt"
    atomic_write_text(path, "älter")
    atomic_write_text(path, "neuer")
    assert path.read_text(encoding="utf-8") == "neuer"
    assert names(path.parent) == ["note.txt"]


def test_json_round_trip(tmp_path):
    atomic_write_json(tmp_path / "a.json", {"x": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, 2.5, None]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_word_for_nan(tmp_path, value):
    atomic_write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(tmp_path / "a.json", {"x": value})
    assert read_json(tmp_path / "a.json") == 1


@pytest.mark.parametrize("place", ["write_text", "sync", "replace"])
def test_a_full_disk_keeps_the_old_file_and_no_leftover(tmp_path, monkeypatch, place):
    path = tmp_path / "note.txt"
    atomic_write_text(path, "old")
    monkeypatch.setattr(*(files, "sync", full) if place == "sync" else (Path, place, full))
    with pytest.raises(OSError, match="No space") as caught:
        atomic_write_text(path, "new")
    monkeypatch.undo()
    assert disk_full(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_an_error_inside_replacing_keeps_the_old_file(tmp_path):
    path = tmp_path / "note.txt"
    atomic_write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as partial:
        partial.write_text("half")
        raise KeyError("torn")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]


def test_a_folder_is_filled_and_replaced_whole(tmp_path):
    def first(folder):
        (folder / "a").write_text("1")
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("2")

    write_folder(tmp_path / "out", first)
    assert names(tmp_path / "out") == ["a", "sub"]
    write_folder(tmp_path / "out", lambda folder: (folder / "c").write_text("3"))
    assert names(tmp_path / "out") == ["c"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path):
    write_folder(tmp_path / "out", lambda folder: (folder / "a").write_text("old"))

    def half(folder):
        (folder / "a").write_text("new")
        full()

    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "out", half)
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_folder_whose_rename_fails_leaves_the_old_one(tmp_path, monkeypatch, call):
    # The first rename retires the old folder, the second puts the new one in its place.
    write_folder(tmp_path / "out", lambda folder: (folder / "a").write_text("old"))
    rename, calls = Path.replace, []

    def failing(self, target):
        calls.append(target)
        return full() if len(calls) == call else rename(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="No space"):
        write_folder(tmp_path / "out", lambda folder: (folder / "a").write_text("new"))
    monkeypatch.undo()
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_retired_folder_of_a_killed_process_of_the_same_id_is_no_obstacle(tmp_path):
    write_folder(tmp_path / "out", lambda folder: (folder / "a").write_text("old"))
    leftover = tmp_path / f"{PARTIAL}{os.getpid()}-old-out"
    leftover.mkdir()
    (leftover / "x").write_text("older")
    write_folder(tmp_path / "out", lambda folder: (folder / "a").write_text("new"))
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_leftovers_are_cleared_and_nothing_else(tmp_path):
    (tmp_path / f"{PARTIAL}7-a.json").write_text("{")
    (tmp_path / f"{PARTIAL}7-step").mkdir()
    (tmp_path / f"{PARTIAL}7-step" / "x").write_text("")
    (tmp_path / "a.json").write_text("{}")
    clear_partials(tmp_path)
    assert names(tmp_path) == ["a.json"]
    clear_partials(tmp_path / "nowhere")


def test_what_a_killed_process_left_of_a_file_goes_with_its_next_write(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, living = f"{PARTIAL}{ended.pid}-", f"{PARTIAL}{os.getppid()}-"
    for name in (f"{dead}a", f"{dead}b", f"{living}a", f"{dead}old-a"):
        (tmp_path / name).write_text("half")
    atomic_write_text(tmp_path / "a", "whole")
    assert names(tmp_path) == sorted([f"{dead}b", f"{living}a", "a"])


def test_a_predecessor_that_was_set_aside_stays_until_its_successor_is_whole(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = tmp_path / f"{PARTIAL}{ended.pid}-old-out"
    old.mkdir()
    seen = []
    write_folder(tmp_path / "out", lambda partial: seen.append(old.is_dir()))
    assert seen == [True]
    assert names(tmp_path) == ["out"]


def test_sha256_of_a_file_longer_than_a_block(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe", b""])
def test_damaged_json_names_its_file(tmp_path, content):
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="state.json is damaged"):
        read_json(tmp_path / "state.json")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, ""), True),
        (OSError(errno.EDQUOT, ""), True),
        (OSError(errno.EFBIG, ""), True),
        (OSError(errno.EACCES, ""), False),
        (ValueError("full"), False),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("no such table: x"), False),
    ],
)
def test_disk_full(error, expected):
    assert disk_full(error) is expected


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "1" * 5000 + "]"])
def test_json_that_python_cannot_hold_is_damaged(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match="state.json is damaged"):
        read_json(tmp_path / "state.json")
