"""A server's own output, with neither right answers nor verdicts: its lengths, ends and cost, and how to grade it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from wordlog import write_log

from grading import grade_file
from lengthwise.cli import main
from lengthwise.errors import InputError
from lengthwise.logs.estimated_tokens import NAME as ESTIMATED

HAND = [(10, 4, "stop"), (20, 8, "stop"), (30, 30, "length"), (40, 6, "content_filter")]
"""Tokens, those of the thinking among them, and the end of each response."""


def chats(folder: Path, *, usage: bool = True, **more: Any) -> Path:
    rows = []
    for number, (tokens, thought, end) in enumerate(HAND):
        message = {"content": "It is 4", "reasoning_content": "Two and two"}
        counted = {"completion_tokens": tokens, "completion_tokens_details": {"reasoning_tokens": thought}}
        output = {"choices": [{"message": message, "finish_reason": end}]} | ({"usage": counted} if usage else {})
        rows.append({"custom_id": f"p{number}", "response": {"status_code": 200, "body": output}} | more)
    return write_log(folder / "batch.jsonl", rows)


def test_numbers_by_hand(tmp_path: Path) -> None:
    found = grade_file(chats(tmp_path), price=1e6)
    assert (found["graded"], found["problems"], found["responses"]) == (False, 4, 4)
    assert (found["mean_tokens"], found["truncation_rate"], found["cap"]) == (25, 0.5, 40)
    assert found["ended_by"] == {"finished": 2, "cut": 1, "refused": 1}
    assert (found["tokens"]["total"]["median"], found["tokens"]["total"]["p95"]) == (25, 38.5)
    assert (found["tokens"]["thinking"]["mean"], found["tokens"]["answer"]["mean"]) == (12, 13)
    assert (found["tokens"]["finished"]["mean"], found["tokens"]["cut"]["mean"]) == (15, 35)
    assert (found["money"]["total"], found["money"]["per_right"]) == (100, None)
    assert "accuracy" not in found and "curve" not in found


def test_the_first_line_says_that_nothing_was_graded_and_how_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = chats(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lengthwise", "grade", str(log)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("OpenAI Batch output: nothing was graded")
    row = json.loads(first.partition("rows such as ")[2])
    assert row == {"problem_id": "p0", "answer": "..."}
    assert f"   lengthwise grade {log} --answers FILE" in rest
    answers = write_log(tmp_path / "answers.jsonl", [row | {"problem_id": f"p{n}", "answer": 4} for n in range(4)])
    assert grade_file(log, answers=answers)["accuracy"] == 0.5  # a response that was cut or refused is not right


def test_next_steps_name_a_budget_and_what_thinking_takes(tmp_path: Path) -> None:
    _, budget, thinking = grade_file(chats(tmp_path))["next_steps"]
    assert "A budget of 39 tokens leaves 95% of the responses whole and saves 1.0%" in budget["says"]
    assert budget["command"] == "lengthwise evaluate MODEL --data DATA --cap 40 --budget 39"
    assert thinking["says"].startswith("48.0% of the tokens are thinking")
    assert "--no-think" in thinking["command"]


def test_lengths_without_counts_are_estimated(tmp_path: Path) -> None:
    found = grade_file(chats(tmp_path, usage=False))
    assert found["read_as"].endswith(ESTIMATED)
    assert found["responses"] == 4


def test_what_needs_verdicts_is_refused_as_before(tmp_path: Path) -> None:
    log = chats(tmp_path)
    for wanted in ({"out": tmp_path / "out.jsonl"}, {"record": tmp_path / "record.json"}, {"verdict_column": "score"}):
        with pytest.raises(InputError, match=r"batch\.jsonl \(OpenAI Batch output\): no row can be graded"):
            grade_file(log, **wanted)
    with pytest.raises(InputError, match="--answers FILE"):
        grade_file(log, report=tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch.jsonl"]
