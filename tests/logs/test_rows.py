"""Rows of a log as `grade` takes them: thinking, problems, ends, the log's own verdicts, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wordlog import word_tokenizer, write_log

from grading import grade_file
from lengthwise.config.commands import GradeSettings
from lengthwise.data import Defect
from lengthwise.errors import ConfigError
from lengthwise.logs.log_contract import contract_of_log
from lengthwise.logs.log_verdicts import log_verdict
from lengthwise.logs.readers import End, LogRow, Place
from lengthwise.logs.readers.log_row import TwoReadingsError
from lengthwise.logs.readers.names import THINKING
from lengthwise.logs.rows import LogReading, Response, read_response
from lengthwise.logs.token_breakdown import Body

GOOD = {"problem_id": "p", "response": "The answer is 4", "answer": 4, "num_tokens": 5}
HERE = Place("log.jsonl", 3)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(word_tokenizer(tmp_path_factory.mktemp("words")))


def taken(found: LogRow, **settings: Any) -> Response | Defect:
    made = GradeSettings.from_dict({"log": "log.jsonl", **settings})
    return read_response(HERE, found, LogReading(made, contract_of_log(made.contract), counts=True))


def graded(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return grade_file(write_log(tmp_path / "log.jsonl", rows), **options)


# ---- thinking ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINKING[:2])
def test_forty_rows_give_the_same_numbers_whatever_the_thinking_is_called(
    tmp_path: Path, words: str, name: str
) -> None:
    rows = [
        {"problem_id": n, "response": "" if n % 4 == 3 else f"The answer is {n % 2}", "answer": 1, name: "hm " * 20}
        for n in range(40)
    ]
    summary = graded(tmp_path, rows, tokenizer=words)
    # Of four, three have 20 words of thinking, the mark's word, 3 words and the EOS (the mark stands between two
    # words and makes one of them), one has 20 words and the EOS.
    assert summary["mean_tokens"] == pytest.approx((3 * 25 + 21) / 4)
    assert (summary["accuracy"], summary["unclosed_rate"]) == (1 / 4, 1 / 4)
    said = [note for note in summary["notes"] if "thinking is read from" in note]
    assert said == ([] if name == "reasoning" else [f"thinking is read from {name} (40 responses)"])


def test_thinking_inside_and_beside_is_counted_once(tmp_path: Path, words: str) -> None:
    row = {"response": "<think> two plus two </think> The answer is 4", "answer": 4, "finished": True}
    summary = graded(tmp_path, [row | {"reasoning": "two plus\ntwo"}], tokenizer=words)
    assert (summary["mean_tokens"], summary["tokens"]["thinking"]["mean"]) == (10, 5)
    assert any("as well; it is counted once (1 response)" in note for note in summary["notes"])


def test_other_thinking_in_the_response_than_beside_it_is_refused_until_a_flag_decides() -> None:
    row = LogRow("<think> so 4 </think> The answer is 4", 4, reasoning="quite another", num_tokens=5)
    with pytest.raises(TwoReadingsError, match="log.jsonl, row 3: .* or --reasoning-column none"):
        taken(row)
    decided = taken(row, reasoning_column="why")
    assert isinstance(decided, Response) and decided.body.thinks


def test_an_answer_in_the_field_of_the_thinking_is_wrong_and_said() -> None:
    row = LogRow("", 4, reasoning="so\nThe answer is 4", num_tokens=5, end=End.FINISHED)
    found = taken(row)
    assert isinstance(found, Response)
    assert any("the answer stands in the field of the thinking alone" in remark for remark in found.remarks)


def test_thinking_tokens_that_the_log_counts_need_no_tokenizer(tmp_path: Path) -> None:
    summary = graded(tmp_path, [GOOD | {"num_tokens": 9, "reasoning_tokens": 6}])
    assert (summary["tokens"]["thinking"]["mean"], summary["tokens"]["answer"]["mean"]) == (6, 3)


# ---- problems, ends, alternatives ----------------------------------------------------------------------------


def test_a_problem_is_its_name_or_its_text_or_the_row() -> None:
    rows = [LogRow("4", 4, problem_id="7", problem="2+2?"), LogRow("4", 4, problem="2+2?"), LogRow("4", 4)]
    found = [taken(row) for row in rows]
    assert all(isinstance(one, Response) for one in found)
    assert [one.named_by for one in found if isinstance(one, Response)] == ["problem_id", "problem", "row"]
    assert [one.problem_id for one in found if isinstance(one, Response)][::2] == ["7", "row 3"]


def test_an_unknown_end_is_told_by_the_cap() -> None:
    found = taken(LogRow("4", 4, num_tokens=3, finish_reason="enough"), cap=9)
    assert isinstance(found, Response)
    assert (found.finished, found.told_by) == (None, "cap")


def test_alternatives_are_so_row_by_row(tmp_path: Path) -> None:
    # Of inspect's several targets one is enough; a list in a flat row has parts of one answer.
    def sample(target: list[str]) -> dict[str, Any]:
        choice = {"message": {"content": "The answer is 9"}, "stop_reason": "stop"}
        return {"id": len(target), "epoch": 1, "target": target, "input": "?",
                "output": {"choices": [choice], "usage": {"output_tokens": 5}}}  # fmt: skip

    log = tmp_path / "log.json"
    log.write_text(json.dumps({"eval": {}, "plan": {}, "samples": [sample(["2", "9"]), sample(["9"])]}))
    assert grade_file(log)["accuracy"] == 1.0
    assert graded(tmp_path, [GOOD | {"response": "The answer is 9", "answer": ["2", "9"]}])["accuracy"] == 0.0


# ---- the log's own verdict -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "name"),
    [
        ({"score": 0.5, "acc": 1.0}, "acc"),  # verl: the score may be shaped
        ({"exact_match,strict-match": 0.0}, "exact_match,strict-match"),
        ({"format_reward": 1.0, "accuracy_reward": 0.0}, "accuracy_reward"),
        ({"judge": 1.0}, "judge"),
        ({"judge": 1.0, "other": 1.0}, None),
        ({}, None),
    ],
)
def test_which_of_the_logs_verdicts_is_meant(verdicts: dict[str, float], name: str | None) -> None:
    found = log_verdict(verdicts, None, 1.0)
    assert (None if found is None else found.name) == name


def test_without_a_right_answer_the_logs_own_verdict_counts_and_is_said(tmp_path: Path) -> None:
    rows = [{"problem_id": n, "completion": "def f(): ...", "passed": n < 3, "num_tokens": 9} for n in range(4)]
    summary = graded(tmp_path, rows)
    assert summary["accuracy"] == 0.75
    assert summary["verdicts_by"] == {"ours": 0, "passed": 4}
    assert summary["context"]["grader"] == "the log's passed"
    assert any("the log's own verdict passed counts in 4 responses: there is no right" in n for n in summary["notes"])


def test_a_shaped_verdict_is_right_from_a_value_on(tmp_path: Path) -> None:
    rows = [{"problem_id": n, "completion": "x", "reward": n / 4, "num_tokens": 9} for n in range(5)]
    assert graded(tmp_path, rows)["accuracy"] == 0.2
    summary = graded(tmp_path, rows, right_from=0.5)
    assert summary["accuracy"] == 0.6
    assert any("reward is neither 0 nor 1 in 3 responses" in note for note in summary["notes"])


def test_with_both_agreement_is_told_and_the_rest_is_written(tmp_path: Path) -> None:
    rows = [GOOD | {"problem_id": n, "acc": n % 2, "response": f"The answer is {4 + (n > 1)}"} for n in range(4)]
    differ = tmp_path / "differ.jsonl"
    ours, theirs = (graded(tmp_path, rows, disagreements=differ, **more) for more in ({}, {"verdict_column": "acc"}))
    assert ours["verdicts_by"] == {"ours": 4} and theirs["verdicts_by"] == {"ours": 0, "acc": 4}
    for summary in (ours, theirs):  # ours: 0 and 1; the log's: 1 and 3
        assert summary["agreement"] == [
            {"verdict": "acc", "responses": 4, "right_by_the_log_alone": 1, "right_by_ours_alone": 1}
        ]
        assert any("acc and ours agree on 50.0% of 4 responses" in note for note in summary["notes"])
    written = [json.loads(line) for line in differ.read_text().splitlines()]
    assert [(row["line"], row["right_by_the_log"], row["right_by_ours"]) for row in written] == [
        (1, False, True), (4, True, False),
    ]  # fmt: skip
    assert written[0]["response"] == "The answer is 4"


def test_several_verdicts_and_no_answer_are_no_verdict() -> None:
    found = taken(LogRow("4", num_tokens=3, verdicts={"a": 1.0, "b": 0.0}))
    assert isinstance(found, Defect) and "it has a, b: --verdict-column names the one" in found.detail
    named = taken(LogRow("4", num_tokens=3, verdicts={"a": 1.0, "b": 0.0}), verdict_column="b")
    assert isinstance(named, Response) and named.given is not None and not named.given.right
    assert taken(LogRow("4", num_tokens=3, verdicts={"a": 1.0}), verdict_column="b") == Defect("no verdict b")


# ---- columns that are given ----------------------------------------------------------------------------------


def test_columns_by_name_and_by_path(tmp_path: Path) -> None:
    row = {
        "meta": {"gold": 4, "kinds": ["x", "sums"]}, "choices": [{"said": "The answer is 4"}], "cot": "so",
        "usage": {"mine": 9, "thought": 3}, "why": "max_tokens", "name": "p", "nth": 2,
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    summary = graded(
        tmp_path, [row], on_row=rows.append, response_column="choices.0.said", answer_column="meta.gold",
        reasoning_column="cot", tokens_column="usage.mine", reasoning_tokens_column="usage.thought",
        finished_column="why", problem_id_column="name", sample_column="nth", category_column="meta.kinds.1",
    )  # fmt: skip
    found = rows[0]
    assert (found["problem_id"], found["sample"], found["category"], found["num_tokens"]) == ("p", 2, "sums", 9)
    assert (found["answer_correct"], found["finished"], found["thinking_tokens"]) == (True, False, 3)
    assert summary["read_as"] == "flat rows, the response in choices.0.said"


def test_a_column_that_no_row_has_is_said(tmp_path: Path) -> None:
    summary = graded(tmp_path, [GOOD], category_column="subjct", problem_column="qestion")
    assert (
        "no row has a value at 'subjct' (--category-column); the first row has problem_id, response, answer, num_tokens"
        in summary["notes"]
    )
    assert any("'qestion' (--problem-column)" in note for note in summary["notes"])
    assert not any("no row has" in note for note in graded(tmp_path, [GOOD])["notes"])


def test_an_empty_name_is_refused() -> None:
    for option in ("tokens_column", "verdict_column", "sample_column"):
        with pytest.raises(ConfigError, match=f"{option} is ' '"):
            GradeSettings.from_dict({"log": "log.jsonl", option: " "})


def test_the_thinking_of_a_response_stands_before_it() -> None:
    found = taken(LogRow("The answer is 4", 4, reasoning="so", num_tokens=5))
    assert isinstance(found, Response)
    assert found.body == Body("so</think>The answer is 4", 4, thinks=True)
