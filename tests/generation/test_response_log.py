"""The log of an evaluation: every response once, whatever the process that wrote it died of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise.errors import CheckpointError, ConfigError
from lengthwise.generation.response_log import Completion, ResponseLog, row_of
from lengthwise.grading.problems import Questions, read_questions
from lengthwise.grading.prompt_contract import preset

ROWS = [{"problem": f"{n}+1?", "answer": n + 1, "level": n} for n in range(4)]


def questions() -> Questions:
    return read_questions(ROWS, preset("lab"), source="here")


def answer(problem: int, sample: int) -> Completion:
    return Completion(f"{problem}+1={problem + 1};A:{problem + 1} é {sample}", 9, True)


def fill(path: Path) -> None:
    asked = questions()
    with ResponseLog(path) as log:
        log.add(asked, [(p, s, answer(p, s)) for p, s in log.missing(asked, 2)])


def test_a_row_has_the_columns_of_a_log_and_no_empty_ones() -> None:
    row = row_of(questions(), 2, 1, answer(2, 1))
    assert row == {
        "problem_id": questions().ids[2], "sample": 1, "problem": "2+1?", "answer": "3", "category": "2",
        "response": "2+1=3;A:3 é 1", "num_tokens": 9, "finished": True,
    }  # fmt: skip
    more = row_of(questions(), 0, 0, Completion("a", 5, False, reasoning="r", forced=True, spent_tokens=20))
    assert {name: more[name] for name in ("reasoning", "forced", "spent_tokens", "finished")} == {
        "reasoning": "r", "forced": True, "spent_tokens": 20, "finished": False
    }  # fmt: skip


def test_what_is_there_is_not_asked_for_nor_written_again(tmp_path: Path) -> None:
    path, asked = tmp_path / "r.jsonl", questions()
    with ResponseLog(path) as log:
        assert log.missing(asked, 2) == [(p, s) for p in range(4) for s in range(2)]
        assert log.add(asked, [(0, 0, answer(0, 0)), (3, 1, answer(3, 1)), (0, 0, answer(0, 0))]) == 2
    with ResponseLog(path) as log:
        assert len(log.missing(asked, 2)) == 6
        assert log.add(asked, [(0, 0, answer(0, 0))]) == 0
    assert len(path.read_text().splitlines()) == 2


def test_a_file_cut_anywhere_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    fill(path)
    whole = path.read_bytes()
    assert len(whole.splitlines()) == 8
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        fill(path)
        assert path.read_bytes() == whole, length


def test_a_damaged_line_is_named_and_a_doubled_one_too(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    fill(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "{nonsense}\n", *lines[2:]]))
    with pytest.raises(CheckpointError, match="line 3 is no response"), ResponseLog(path):
        pass
    path.write_text("".join([*lines, lines[1]]))
    with pytest.raises(CheckpointError, match="line 9 holds sample 1 of problem .* a second time"), ResponseLog(path):
        pass


def test_two_processes_do_not_write_to_one_log(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with ResponseLog(path), pytest.raises(ConfigError, match="another process"), ResponseLog(path):
        pass
    with ResponseLog(path):  # free again
        pass


HOLDER = """
import sys, time
from pathlib import Path
from lengthwise.generation.response_log import ResponseLog
with ResponseLog(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process"), ResponseLog(path):
            pass
        holder.kill()
    with ResponseLog(path) as log:
        assert log.done == set()


def test_a_response_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked, synced = tmp_path / "r.jsonl", questions(), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_text().count("\n")))
    with ResponseLog(path) as log:
        log.add(asked, [(0, 0, answer(0, 0)), (0, 1, answer(0, 1))])
        log.add(asked, [(1, 0, answer(1, 0))])
    assert synced == [2, 3]


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with ResponseLog(path) as log:
        log.add(questions(), [(0, 0, Completion("half a pair \ud83d\u2028 line", 3, True))])
    [line] = path.read_text().splitlines()
    assert json.loads(line)["response"] == "half a pair \ud83d\u2028 line"
