"""Every word of every command, made wrong in every way that its kind can be: one line, exit code 2, nothing written.

The cases are made from the parser's own tree, so a new flag is in them; `wrong_words` says what is wrong for its kind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flags import EVERYTHING, Taken
from wrong_words import BASES, SERVED, cases, words, write_inputs

from lengthwise.cli import main
from lengthwise.generation.endpoint import Client
from lengthwise.grading.worker_pool import IsolatedPool, Known
from lengthwise.logs import log_grading


class Reached(BaseException):
    """The command has begun its work: whatever was asked, it was not refused."""


class NoProcess:
    """In the place of a worker process."""

    def __class_getitem__(cls, _: Any) -> type:
        return cls

    def __init__(self, *_: Any, **__: Any) -> None:
        raise Reached


class PoolHere(IsolatedPool):
    """The pool without its processes."""

    def __init__(self, make: Any, **bounds: Any) -> None:
        super().__init__(make, **bounds)
        self.make = make

    def map(self, payloads: Any) -> Iterator[Any]:
        apply = self.make()
        return (payload.result if isinstance(payload, Known) else apply(payload) for payload in payloads)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_inputs(folder)
    return folder


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[None]:
    def reached(*_: Any, **__: Any) -> None:
        raise Reached

    monkeypatch.chdir(place)
    monkeypatch.setattr(torch.nn.Module, "__call__", reached)
    monkeypatch.setattr(subprocess, "Popen", NoProcess)
    monkeypatch.setattr(log_grading, "IsolatedPool", PoolHere)
    monkeypatch.setattr(Client, "post", reached)
    yield
    shutil.rmtree(place / "new", ignore_errors=True)  # one that was not refused does not spoil the others


def tree(place: Path) -> dict[str, int]:
    """Every file and folder with the time of its last change; folders change when a file is tried out in them."""
    found = {}
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            path = Path(folder, name)
            found[str(path)] = 0 if path.is_dir() else path.lstat().st_mtime_ns
    return found


def refusal(arguments: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    before = tree(place)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    shown = capsys.readouterr()
    said = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert stopped.value.code == 2, (arguments, shown.err)
    assert len(said) == 1 and shown.err.rstrip("\n").endswith(said[0]), (arguments, shown.err)
    assert shown.out == "", arguments
    assert tree(place) == before, arguments
    return said[0]


@pytest.mark.parametrize(
    ("one", "values"), list(cases()), ids=lambda value: str(value) if isinstance(value, Taken) else ""
)
def test_a_wrong_word_is_refused_in_one_line(one: Taken, values: list[str], place: Path, capsys) -> None:
    assert "?" not in values, f"{one} is of no kind that wrong_words knows; say there what is wrong for it"
    name = one.word.strip("-[].").lower()
    for value in values:
        said = refusal(words(one, value), place, capsys)
        # For the right reason: the flag is named, as it is typed or as it is called in Python, or its value is.
        alike = (name.replace("-", "_"), name.rstrip("s"), name.removesuffix("-column"))
        named = (name, *alike, *([value] if value else ["''", "'.'", ". is a folder"]))
        assert any(part in said for part in named), (one, value, said)


@pytest.mark.parametrize("base", [*BASES.items(), *SERVED.items()], ids=lambda base: " ".join([base[0], *base[1]]))
def test_the_command_lines_that_are_made_wrong_are_sound(base, tmp_path, monkeypatch, capsys) -> None:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((Reached, SystemExit)) as ended:
        main([base[0], *base[1]])
    assert ended.type is Reached or ended.value.code in (None, 0), capsys.readouterr().err


def test_every_command_is_there() -> None:
    assert BASES.keys() == {one.command for one in EVERYTHING}
