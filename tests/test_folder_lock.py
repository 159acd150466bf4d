"""One process at a time in a folder: refusals in one line, kills, folders that come and go, and what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from context_words import tiny_folder
from held_folder import HOLD, held_by_another

from lengthwise.cli import main
from lengthwise.errors import CheckpointError, ConfigError
from lengthwise.folder_lock import alone_in, is_lock, writes
from lengthwise.generation.response_log import ResponseLog
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.runs.run_folder import open_run

TAKE_TURNS = """
import os, sys, time
from lengthwise.errors import ConfigError
from lengthwise.folder_lock import alone_in
end = time.time() + 1.5
while time.time() < end:
    try:
        with alone_in(sys.argv[1]):
            os.close(os.open(sys.argv[1] + ".mark", os.O_CREAT | os.O_EXCL))
            os.unlink(sys.argv[1] + ".mark")
    except ConfigError:
        pass
"""


def test_a_second_process_is_refused_and_the_folder_is_free_afterwards(tmp_path):
    folder = tmp_path / "runs" / "a"
    with held_by_another(folder), pytest.raises(ConfigError, match=r"out is .*runs/a': another process is writing"):
        alone_in(folder).__enter__()
    with alone_in(folder):
        pass
    assert list(tmp_path.iterdir()) == []  # neither a lock nor the parent that was made for it


def test_a_killed_process_holds_nothing(tmp_path):
    folder = tmp_path / "a"
    with held_by_another(folder) as process:
        process.kill()
        process.wait()
        assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]
        with alone_in(folder):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_replaced_while_it_is_held(tmp_path):
    folder = tmp_path / "a"
    with alone_in(folder):
        folder.mkdir()
        folder.rename(tmp_path / "old")
        folder.mkdir()
        assert refused(folder)


def refused(folder: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", HOLD, str(folder)], input="", capture_output=True, text=True)
    return "another process is writing" in done.stderr


def test_a_command_may_call_another_one_on_its_own_folder(tmp_path):
    with alone_in(tmp_path / "a"):
        with alone_in(tmp_path / "b" / ".." / "a"):
            pass
        assert refused(tmp_path / "a")
    assert not refused(tmp_path / "a")


def test_many_at_once_are_never_two(tmp_path):
    tries = [subprocess.Popen([sys.executable, "-c", TAKE_TURNS, str(tmp_path / "a")]) for _ in range(3)]
    assert [process.wait() for process in tries] == [0, 0, 0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_where_nothing_can_be_written_beside_it_the_lock_is_in_the_folder(tmp_path):
    folder = tmp_path / "fixed" / "a"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o500)
    try:
        with alone_in(folder):
            assert [path.name for path in folder.iterdir()] == [".a.lock"]
    finally:
        folder.parent.chmod(0o700)


def test_a_lock_makes_no_folder_a_foreign_one(tmp_path):
    (tmp_path / ".a.lock").touch()
    assert is_lock(tmp_path / ".a.lock") and not is_lock(tmp_path / "uv.lock")
    open_run(tmp_path, {"x": 1}, overwrite=False)
    assert (tmp_path / "config.json").is_file()


def test_the_decorator_finds_the_folder_by_parameter_or_attribute(tmp_path):
    class Job:
        out = tmp_path / "a"

    @writes("job.out")
    def one(job: Job) -> bool:
        return refused(job.out)

    @writes("out")
    def two(source: str, out: Path, *, more: int = 0) -> bool:
        return refused(out)

    assert one(Job()) and one(job=Job()) and two("x", tmp_path / "a") and two("x", out=tmp_path / "b", more=1)


LAB = str(shipped_reasoner())


def commands(folder: Path, data: Path, tiny: Path) -> dict[str, list[object]]:
    rows = ["--data", data, "--preset", "lab", "--out", folder]
    return {
        "shorten": ["shorten", LAB, *rows, "--cap", 20, "--steps", 1],
        "shorten --stage": ["shorten", LAB, *rows, "--cap", 20, "--method", "ada-r1", "--short-model", "lab:terse",
                            "--stage", "merge"],
        "demo": ["demo", "--out", folder, "--steps", 1],
        "compare": ["compare", "lab:chains", "--methods", "grpo", "--out", folder],
        "evaluate": ["evaluate", LAB, *rows, "--cap", 8],
        "evaluate-context": ["evaluate-context", tiny, "--lengths", 400, "--limit", 1, "--tasks", "passkey",
                             "--out", folder],
        "extend": ["extend", LAB, "--scheme", "yarn", "--factor", 2, "--out", folder],
        "merge": ["merge", LAB, "lab:terse", "--method", "linear", "--out", folder],
        "repair": ["repair", LAB, "--harmful", data.with_name("harmful.jsonl"), "--out", folder],
        "export trl": ["export", "trl", LAB, *rows, "--cap", 20],
        "export verl": ["export", "verl", LAB, *rows, "--cap", 20],
    }  # fmt: skip


ALL = ["shorten", "shorten --stage", "demo", "compare", "evaluate", "evaluate-context", "extend", "merge", "repair",
       "export trl", "export verl"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lengthwise.lab import chains

    where = tmp_path_factory.mktemp("data")
    rows = [chain.row for chain in chains.problems(40, split="train", seed=0)]
    (where / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    harmful = [{"prompt": f"{n}+1?", "response": "2", "harmful": True} for n in range(8)]
    (where / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in harmful))
    tiny_folder(where / "tiny")
    return where / "rows.jsonl"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("busy") / "run"
    with held_by_another(folder):
        yield folder


@pytest.mark.parametrize("command", ALL)
def test_every_command_that_writes_a_folder_is_refused_in_one_line(busy, data, monkeypatch, capsys, command):
    words = commands(busy, data, data.with_name("tiny"))[command]
    monkeypatch.setattr(sys, "argv", ["lengthwise", *map(str, words)])
    started = time.perf_counter()
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(said) == 1, said
    assert f"out is {str(busy)!r}: another process is writing to it" in said[0]
    assert not busy.exists() and time.perf_counter() - started < 30


def test_a_log_that_cannot_be_read_is_free_again(tmp_path):
    path = tmp_path / "responses.jsonl"
    path.write_text("no response\n")
    for _ in range(2):  # the second time it was refused as another process's
        with pytest.raises(CheckpointError, match="line 1 is no response"), ResponseLog(path):
            pass
    path.write_text("")
    with ResponseLog(path) as log:
        assert log.done == set()
