"""`lengthwise grade` as a user meets it: the page, the JSON object, the report, and one line for every mistake."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_answers import broken, made
from typer.testing import CliRunner
from wordlog import HAND, word_tokenizer, write_log

from grading import grade_file
from lengthwise.cli import app, main
from lengthwise.reporting.grade_report import build_report, headline, left_out_lines, text_page

WORST = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(word_tokenizer(tmp_path_factory.mktemp("words")))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "hand.jsonl", [*HAND, {"response": 3}])


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["grade", *map(str, arguments), "--workers", "1"])


def test_the_page_leads_with_what_matters(log: Path, words: str, tmp_path: Path) -> None:
    report, record, graded = tmp_path / "r.html", tmp_path / "record.json", tmp_path / "graded.jsonl"
    look = tmp_path / "look.html"
    done = invoke(log, "--tokenizer", words, "--cap", 20, "--price", 2.5, "--report", report, "--record", record,
                  "--out", graded, "--look", look)  # fmt: skip
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "flat rows, the response in response",
        "33.3% right on 3 problems (6 responses), 7.7 tokens a response.",
        "47.4% of the tokens of right responses come after the right answer first appeared.",
    ]
    assert "the right answer stands in 5 responses; 3 of them (60.0%) end wrong" in lines
    assert re.search(r"^with k samples +1 +2$", done.stdout, re.MULTILINE)
    assert re.search(r"^right kept +0.0% +0.0% +0.0% +50.0% +100.0% +100.0%$", done.stdout, re.MULTILINE)
    assert done.stderr.strip() == "left out: 1 rows, no response (first in row 7)"
    assert all(
        len(line) <= 88
        for line in lines
        if not line.startswith(("note", "report", "responses to look at", "1.", "2.", "3."))
    )
    assert all(path.is_file() for path in (report, record, graded))
    # Of the three that are lost two are cut; the two right ones come first.
    assert look.read_text().count("<article") == 5
    assert '<span class="after">. check again &lt;/think&gt; The answer is 4</span>' in look.read_text()


def test_a_log_of_changed_and_broken_answers_ends_with_exit_0(tmp_path: Path) -> None:
    rng, rows, labels = random.Random(5), [], []
    for _, (gold, equal, unequal) in made(4, seed=5):
        for given, label in ((equal, True), (unequal, False), (broken(gold, rng), None)):
            rows.append(
                {"response": rf"So it is $\boxed{{{given}}}$.", "answer": gold, "num_tokens": 9, "finished": True}
            )
            labels.append(label)
    done = invoke(
        write_log(tmp_path / "log.jsonl", rows), "--preset", "math", "--think", "no", "--json", "--out", tmp_path / "g"
    )
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["responses"], summary["comparison_errors"], summary["timeouts"]) == (len(rows), {}, 0)
    verdicts = [json.loads(line)["correct"] for line in (tmp_path / "g").read_text().splitlines()]
    assert [v for v, label in zip(verdicts, labels, strict=True) if label is not None] == [
        label for label in labels if label is not None
    ]


def test_json_is_one_object_with_the_promised_keys(log: Path) -> None:
    done = invoke(log, "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    for key in ("accuracy", "accuracy_interval", "mean_tokens", "problems", "responses", "timeouts", "pass_at_k",
                "majority_at_k", "by_category", "curve", "after_right", "abandoned", "next_steps",
                "notes"):  # fmt: skip
        assert key in summary
    assert summary["left_out"] == {
        "rows": 1,
        "reasons": [{"reason": "no response", "rows": 1, "first_line": 7, "first": "row 7"}],
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.jsonl"], "no such file: nowhere.jsonl"),
        (["folder"], "is a folder without a log in it"),
        (["LOG", "--preset", "gsm8"], "choose one of auto, lab, gsm8k, math, aime"),
        (["LOG", "--strict"], "row 7: no response"),
        (["LOG", "--tokenizer", "nowhere"], "no such folder"),
        (["LOG", "--cap", "0"], "cap is 0"),
        (["LOG", "--price", "-1"], "price is -1"),
        (["LOG", "--answer-pattern", "(a)(b)"], "answer_pattern"),
        (["LOG", "--grader", "nonsense"], "module:function"),
        (["LOG", "--response-column", "text.0"], "no text.0 (it has problem_id, sample, answer, response, num_tokens"),
        (["LOG", "--verdict-column", "acc"], "no verdict acc (6 rows, first in row 1)"),
        (["LOG", "--answer-column", "none"], "no answer to grade against, and no verdict of the log's own (6 rows"),
        (["LOG", "--answer-column", "none"], "join right answers by --answers FILE (rows of problem_id and answer)"),
        (["LOG", "--answers", "any"], "answers is 'any'; it is now a file of right answers, and what a list"),
        (["LOG", "--answers", "LOG", "--answer-column", "ansr"], "has no right answers by problem"),
        (["LOG", "--format", "verl"], "is not verl rollouts: its first row has problem_id"),
        (["LOG", "--format", "verll"], "there is no format 'verll'; the formats are evalscope, inspect"),
        (["LOG", "--disagreements", "d.jsonl"], "no response has both a right answer and a verdict of the log's own"),
        (["LOG", "--answer-column", ""], "answer_column is ''"),
        (["LOG", "--out", "LOG"], "--out and the log are the same file"),
        (["LOG", "--report", "LOG"], "--report and the log are the same file"),
        (["LOG", "--record", "."], "a folder"),
        (["LOG", "--seconds", "0"], "seconds"),
        (["LOG", "--think=maybe"], "think is 'maybe'; choose one of auto, yes, no"),
        (["LOG", "--no-think"], "--no-think is now --think no"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    log: Path, arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lengthwise", "grade", *(str(log) if a == "LOG" else a for a in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    complaint = capsys.readouterr().err
    assert stopped.value.code == 2, complaint
    assert says in complaint
    assert len(complaint.strip().splitlines()) == 1, complaint
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]  # nothing half-written


@pytest.mark.parametrize(
    ("flags", "right"),
    [
        ((), 0.5),
        (("--think", "auto"), 0.5),
        (("--think", "no"), 1.0),
        (("--think",), 0.0),
        (("--think", "yes"), 0.0),
        (("--preset", "gsm8k"), 0.0),
        (("--preset", "gsm8k", "--think=auto"), 0.5),
    ],
)
def test_think_says_how_responses_begin(tmp_path: Path, flags: tuple[str, ...], right: float) -> None:
    # The first has an opening mark and never closes; the second has no mark at all.
    texts = ["<think> The answer is 4", "The answer is 4"]
    rows = [{"response": text, "answer": 4, "num_tokens": 9, "problem_id": text} for text in texts]
    done = invoke(write_log(tmp_path / "log.jsonl", rows), "--json", *flags)
    assert json.loads(done.stdout)["accuracy"] == right


def test_thinking_that_was_begun_is_closed_by_marks_of_any_kind(tmp_path: Path) -> None:
    rows = [{"response": "17◁/think▷The answer is 4", "answer": 4, "num_tokens": 9}]
    log = write_log(tmp_path / "log.jsonl", rows)
    for flags in (("--think", "yes"), ("--preset", "gsm8k")):
        assert json.loads(invoke(log, "--json", *flags).stdout)["accuracy"] == 1.0


def test_the_lab_is_graded_with_its_own_tokenizer(tmp_path: Path) -> None:
    rows = [{"problem": "7+5-3?", "answer": "9", "response": "7+5=12;12-3=9;check:7+5=12;12-3=9;A:9"}]
    done = invoke(write_log(tmp_path / "log.jsonl", rows), "--preset", "lab", "--tokenizer", "lab:chains", "--json")
    summary = json.loads(done.stdout)
    # 27 tokens and the EOS; the right answer stands after 11.
    assert (summary["accuracy"], summary["mean_tokens"], summary["after_right"]["mean"]) == (1.0, 28.0, 17.0)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory, words: str) -> dict[str, Any]:
    rows = [row | {"category": WORST if row["category"] == "easy" else "hard"} for row in HAND]
    log = write_log(tmp_path_factory.mktemp("log") / "worst.jsonl", [*rows, {"response": WORST}])
    return grade_file(log, tokenizer=words, cap=20, price=1.0)


def test_the_report_is_one_file_that_asks_for_nothing(summary: dict[str, Any], tmp_path: Path) -> None:
    page = build_report(summary, tmp_path / "r.html").read_text()
    assert not re.findall(r"(?:src|href)\s*=|https?://|@import|url\(", page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<svg") == 2
    assert " ".join(headline(summary, spans=True)) in page.replace("&#39;", "'")
    assert "What to do next" in page
    assert "lengthwise evaluate MODEL --data DATA --cap 20 --early-stop agree" in page
    for section in ("Where the tokens go", "Tokens", "Accuracy at a budget", "By category", "With k samples"):
        assert f"<h2>{section}</h2>" in page
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert "no answer to grade against" in page  # what was left out


def test_the_report_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [{"response": "The answer is 5", "answer": 4, "num_tokens": 5}])
    summary = grade_file(log)
    page = build_report(summary, tmp_path / "r.html").read_text()
    assert "Where the tokens go" not in page
    assert "By category" not in page
    assert "With k samples" not in page
    assert not any("with a budget" in line for line in text_page(summary))
    assert headline(summary) == ["0.0% right on 1 problem, 5.0 tokens a response."]
    assert left_out_lines(summary) == []


def test_a_budget_is_named_where_no_tokens_can_be_told_apart(tmp_path: Path) -> None:
    # 19 of 20 right ones within 8 tokens, the last takes 100: 95 % are kept.
    rows = [{"response": "The answer is 4", "answer": 4, "num_tokens": 8 if i else 100} for i in range(20)]
    found = grade_file(write_log(tmp_path / "log.jsonl", rows))
    assert headline(found)[1] == "A budget of 8 tokens would keep 95.0% of the right answers."


def test_grading_needs_no_torch() -> None:
    used = "lengthwise.logs.log_grading, lengthwise.reporting.grade_report"
    loaded = f"import sys; import {used}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
