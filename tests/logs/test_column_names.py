"""Columns of a log: what is read under which name, and what is refused because it could be read in two ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from wordlog import word_tokenizer, write_log

from grading import grade_file
from lengthwise.config.commands import GradeSettings
from lengthwise.data import Defect
from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.prompt_contract import preset
from lengthwise.logs.column_names import FINISHED, RESPONSE, THINKING, TOKENS, TwoReadingsError, given
from lengthwise.logs.log_contract import contract_of_log
from lengthwise.logs.rows import LogReading, Response, read_response
from lengthwise.logs.token_breakdown import Body

GOOD = {"problem_id": "p", "response": "The answer is 4", "answer": 4, "num_tokens": 5}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(word_tokenizer(tmp_path_factory.mktemp("words")))


def reading(contract: Any = None, **settings: Any) -> LogReading:
    made = GradeSettings.from_dict({"log": "log.jsonl", **settings})
    return LogReading(made, contract or contract_of_log(made.contract))


def one(row: dict[str, Any], **options: Any) -> Response:
    found = read_response(1, row, reading(**options))
    assert isinstance(found, Response), found
    return found


def graded(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    return grade_file(write_log(tmp_path / "log.jsonl", rows), **options)


# ---- thinking under other names ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINKING)
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
    said = [note for note in summary["notes"] if "is read from their column" in note]
    assert said == ([] if name == "reasoning" else [f"the thinking of 40 responses is read from their column {name}"])


@pytest.mark.parametrize("value", [True, False, 3, 0.5, None, "", "  "])
def test_a_flag_called_thinking_is_no_thinking(value: Any) -> None:
    assert not one(GOOD | {"thinking": value}).body.thinks


def test_thinking_that_is_no_text_is_never_passed_over_in_silence() -> None:
    found = read_response(1, GOOD | {"reasoning_content": [{"text": "so"}]}, reading())
    assert found == Defect("reasoning_content is not text", "it is a list")


def test_thinking_inside_and_beside_is_counted_once(tmp_path: Path, words: str) -> None:
    row = {"response": "<think> two plus two </think> The answer is 4", "answer": 4, "finished": True}
    summary = graded(tmp_path, [row | {"reasoning": "two plus\ntwo"}], tokenizer=words)
    assert (summary["mean_tokens"], summary["tokens"]["thinking"]["mean"]) == (10, 5)
    assert any("as well; it is counted once" in note for note in summary["notes"])


# ---- two readings --------------------------------------------------------------------------------------------

FULL = "<think> so 4 </think> The answer is 4"
AMBIGUOUS: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
    ({"reasoning": "a", "reasoning_content": "b"}, "reasoning", "reasoning_content", {"reasoning_column": "reasoning"}),
    ({"thinking": "a", "thought": "b"}, "thinking", "thought", {"reasoning_column": "none"}),
    ({"response": FULL, "reasoning": "quite another"}, "reasoning", "response", {"reasoning_column": "none"}),
    *(({name: FULL}, "response", name, {"response_column": name}) for name in RESPONSE[1:]),
    *(
        ({name: 5}, "answer", name, {"answer_column": "answer"})
        for name in ("target", "gold", "ground_truth", "gts", "label", "reference")
    ),
    ({"target": "so it is #### 5"}, "answer", "target", {"answer_column": "target"}),
    ({"completion_tokens": 109}, "num_tokens", "completion_tokens", {"tokens_column": "completion_tokens"}),
    ({"output_tokens": 109.0}, "num_tokens", "output_tokens", {"tokens_column": "num_tokens"}),
    (
        {"usage": {"completion_tokens": 109}}, "num_tokens", "usage.completion_tokens",
        {"tokens_column": "usage.completion_tokens"},
    ),
    ({"finished": True, "finish_reason": "length"}, "finished", "finish_reason", {"finished_column": "finished"}),
    ({"finished": False, "stop_reason": "stop"}, "finished", "stop_reason", {"finished_column": "stop_reason"}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "first", "second", "decided"), AMBIGUOUS, ids=lambda value: str(value)[:40])
def test_what_could_be_read_in_two_ways_is_refused_until_a_flag_decides(
    change: dict[str, Any], first: str, second: str, decided: dict[str, Any]
) -> None:
    with pytest.raises(TwoReadingsError) as raised:
        one(GOOD | change)
    said = str(raised.value)
    assert isinstance(raised.value, InputError)
    assert repr(first) in said
    assert repr(second) in said
    assert f"--{next(iter(decided))} ".replace("_", "-") in said
    assert "\n" not in said
    one(GOOD | change, **decided)


def test_the_refusal_names_the_line_and_nothing_is_written(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [GOOD, GOOD, GOOD | {"completion_tokens": 109}])
    with pytest.raises(TwoReadingsError) as raised:
        grade_file(log, out=tmp_path / "graded.jsonl")
    assert str(raised.value) == (
        f"{log}, line 3: columns 'num_tokens' and 'completion_tokens' could both be the tokens of the response, and "
        "they differ (5 and 109); name the one to read: --tokens-column num_tokens, or --tokens-column "
        "completion_tokens"
    )
    assert list(tmp_path.iterdir()) == [log]


SAME: list[dict[str, Any]] = [
    {"reasoning": "a b", "reasoning_content": " a  b\n"},
    {"reasoning": "", "reasoning_content": "b"},
    {"completion": "The answer is 4"},
    {"prediction": "4", "output": None, "content": {"text": "x"}, "text": " "},  # an answer taken out of the response
    {"problem": "What is 2 + 2?", "text": "What is 2 + 2?"},
    {"target": "4", "gold": "#### 4", "reference": "It is \\boxed{4.0}.", "label": None},
    {"label": True, "gts": {"a": 1}, "solution": "5"},  # none of them is a reference
    {"completion_tokens": 5, "usage": {"completion_tokens": 5}, "output_tokens": None},
    {"usage": "none", "completion_tokens": True},
    {"finished": True, "finish_reason": "stop", "stop_reason": "enough of it"},
    {"finish_reason": "length", "finished": None, "stop_reason": 7},
    {"finish_reason": "", "stop_reason": None},
    {"id": 3, "prompt": "What is 2 + 2?", "model": "m", "score": 0.0, "correct": False, "level": 2, "tokens": [1, 2]},
]


@pytest.mark.parametrize("change", SAME, ids=lambda value: str(value)[:50])
def test_columns_that_agree_or_say_nothing_are_no_two_readings(change: dict[str, Any]) -> None:
    assert one(GOOD | change).num_tokens == 5


def test_a_reference_of_another_kind_is_no_second_reading() -> None:
    # Under a format of numbers, text is no reference.
    assert one(GOOD | {"label": "easy"}, contract=preset("gsm8k")).body.answer == 4
    with pytest.raises(TwoReadingsError):
        one(GOOD | {"label": "easy"})


def test_what_a_response_goes_by_elsewhere_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    # Its thinking alone would be a response that was cut.
    row = {"completion": "The answer is 4", "reasoning": "so", "answer": 4, "num_tokens": 9}
    with pytest.raises(
        InputError, match=r"no response \(1 rows.*first row has completion, reasoning, answer, num_tokens"
    ):
        graded(tmp_path, [row])


# ---- names that are given --------------------------------------------------------------------------------------


def test_columns_by_name() -> None:
    row = {
        "answer": "5", "gold": 4, "content": "The answer is 4", "cot": "so", "usage": {"output_tokens": 9},
        "why": "max_tokens", "reasoning": "not read",
    }  # fmt: skip
    found = one(
        row, answer_column="gold", response_column="content", reasoning_column="cot",
        tokens_column="usage.output_tokens", finished_column="why",
    )  # fmt: skip
    assert found.body == Body("so</think>The answer is 4", 4, thinks=True)
    assert (found.num_tokens, found.finished, found.told_by) == (9, False, "why")


def test_a_column_that_no_row_has_is_said(tmp_path: Path) -> None:
    summary = graded(tmp_path, [GOOD], category_column="subjct", problem_column="qestion")
    assert (
        "no row has a column 'subjct' (--category-column); the first has problem_id, response, answer, num_tokens"
        in (summary["notes"])
    )
    assert any("'qestion' (--problem-column)" in note for note in summary["notes"])
    assert not any("no row has" in note for note in graded(tmp_path, [GOOD])["notes"])


def test_counts_that_are_there_under_another_name_are_said(tmp_path: Path, words: str) -> None:
    row = {"response": "The answer is 4", "answer": 4, "completion_tokens": 109, "question": "2+2?"}
    summary = graded(tmp_path, [row], tokenizer=words)
    assert summary["mean_tokens"] == 5
    assert any("(--tokens-column completion_tokens reads it)" in note for note in summary["notes"])
    assert any("--problem-column question tells them apart" in note for note in summary["notes"])
    with pytest.raises(InputError, match=r"by --tokens-column; the first row has response, answer, completion_tokens"):
        graded(tmp_path, [row])


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="tokens_column is ' '"):
        reading(tokens_column=" ")


def test_values_are_found_in_objects_too() -> None:
    row = {"usage": {"n": 3}, "a.b": 4, "a": {"b": 5}, "none": float("nan")}
    assert [given(row, name) for name in ("usage.n", "a.b", "usage.m", "none", "x.y", "usage.n.o")] == [
        3, 4, None, None, None, None,
    ]  # fmt: skip
    assert all(name.count(".") <= 1 for name in (*TOKENS, *FINISHED))
