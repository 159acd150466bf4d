"""Flat rows: what is read under which name, and what is refused because it could be read in two ways."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.data import Defect
from lengthwise.errors import ConfigError, InputError
from lengthwise.logs.readers import End, Fields, recognise
from lengthwise.logs.readers.log_row import TwoReadingsError
from lengthwise.logs.readers.names import ANSWER, CATEGORY, ID, PROBLEM, RESPONSE, SAMPLE, THINKING, TOKENS

GOOD = {"problem_id": "p", "response": "The answer is 4", "answer": "4", "num_tokens": 5}
FULL = {
    "response": "so 4", "reasoning": "2 and 2", "answer": "4", "num_tokens": 7, "reasoning_tokens": 3,
    "problem": "2+2?", "problem_id": "p", "sample": 1, "finish_reason": "stop", "category": "sums",
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSE)
def test_every_name_of_a_response_is_read_and_said(read, write, name):
    log = write([{name: "so 4", "target": 4}])
    assert str(recognise(log)) == f"flat rows, the response in {name}"
    assert (read(log)[0].response, read(log)[0].answer) == ("so 4", 4)


@pytest.mark.parametrize(
    ("field", "names"),
    [("response", RESPONSE), ("reasoning", THINKING), ("answer", ANSWER), ("num_tokens", TOKENS[:3]),
     ("problem", PROBLEM[:5]), ("problem_id", ID), ("sample", SAMPLE), ("category", CATEGORY),
     ("finish_reason", ("finish_reason", "stop_reason"))],
)  # fmt: skip
def test_renaming_a_column_changes_no_row(read, write, field, names):
    (whole,) = read(write([FULL]))
    for name in names:
        renamed = {name if column == field else column: value for column, value in FULL.items()}
        assert read(write([renamed], f"{name}.jsonl")) == [whole], name


@pytest.mark.parametrize("name", THINKING)
def test_forty_rows_are_the_same_whatever_the_thinking_is_called(read, write, name):
    rows = [
        {"response": "" if n % 4 == 3 else "1", "answer": n % 2, name: "hm " * 20, "problem_id": n} for n in range(40)
    ]
    found = read(write(rows))
    assert all(row.reasoning == "hm " * 20 for row in found)
    assert sum(row.response == "" for row in found) == 10
    assert {row.notes for row in found} == {() if name == "reasoning" else (f"thinking is read from {name}",)}


def test_a_generation_is_a_sample_where_it_is_a_number(read, write):
    rows = read(write([GOOD | {"generation": 3}, {"generation": "so 4", "answer": "4"}]))
    assert [(row.response, row.sample) for row in rows] == [("The answer is 4", 3), ("so 4", None)]


def test_a_full_row(read, write):
    (row,) = read(write([FULL | {"correct": True, "score": 0.5}]))
    assert (row.reasoning_tokens, row.sample, row.end, row.finished) == (3, 1, End.FINISHED, True)
    assert row.verdicts == {"correct": 1.0, "score": 0.5}


# ---- two candidates --------------------------------------------------------------------------------------------

SETTLED = [
    ({"response": "so it is 4", "prediction": "4"}, "so it is 4", "response, not from prediction"),
    ({"output": "so it is 4", "prediction": "4"}, "so it is 4", "output, not from prediction"),
    ({"text": "What is 2+2? so it is 4", "completion": "so it is 4", "prompt": "What is 2+2?"}, "so it is 4",
     "completion, not from text"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "response", "note"), SETTLED)
def test_the_more_specific_of_two_wins_and_a_note_says_so(read, write, row, response, note):
    (found,) = read(write([row]))
    assert found.response == response and found.notes == (f"the response is read from {note}",)


def test_what_only_repeats_the_problem_or_the_response_is_no_rival(read, write):
    rows = [GOOD | {"problem": "2+2?", "text": "2+2?"}, GOOD | {"output": "The answer  is 4"}]
    assert [(row.response, row.notes) for row in read(write(rows))] == [("The answer is 4", ())] * 2


AMBIGUOUS: list[tuple[dict[str, Any], str]] = [
    ({"output": "it is 5"}, "'response' and 'output'.*--response-column response, or --response-column output"),
    ({"reasoning": "a", "reasoning_content": "b"}, "'reasoning' and 'reasoning_content'.*--reasoning-column"),
    ({"target": "5"}, "'answer' and 'target'.*--answer-column"),
    ({"answer": 1234567, "target": 1234568}, "'answer' and 'target'"),
    ({"completion_tokens": 9}, r"'num_tokens' and 'completion_tokens'.*\(5 and 9\).*--tokens-column"),
    ({"usage": {"completion_tokens": 9}}, "'num_tokens' and 'usage.completion_tokens'"),
    ({"finished": True, "finish_reason": "length"}, r"'finished' and 'finish_reason'.*\(True and 'length'\)"),
]


@pytest.mark.parametrize(("more", "said"), AMBIGUOUS)
def test_two_that_fit_equally_are_an_error_that_names_them_and_the_row(write, more, said):
    with pytest.raises(TwoReadingsError, match=f"log.jsonl, row 2: .*{said}"):
        recognise(write([GOOD, GOOD | more]))
        list(recognise(write([GOOD, GOOD | more])).rows())


@pytest.mark.parametrize(
    ("more", "fields"),
    [({"output": "it is 5"}, Fields(response="response")), ({"target": "5"}, Fields(answer="answer")),
     ({"reasoning": "a", "thinking": "b"}, Fields(reasoning="none")),
     ({"completion_tokens": 9}, Fields(num_tokens="num_tokens")),
     ({"finished": True, "finish_reason": "length"}, Fields(end="finished"))],
)  # fmt: skip
def test_a_path_settles_it(read, write, more, fields):
    (row,) = read(write([GOOD | more]), fields=fields)
    assert (row.response, row.answer, row.num_tokens, row.reasoning) == ("The answer is 4", "4", 5, None)


@pytest.mark.parametrize("same", [4, "4", 4.0, ["4"], "2 + 2 = 4\n#### 4"])
def test_equal_references_of_two_columns_are_one(read, write, same):
    assert read(write([GOOD | {"gold": same}]))[0].answer == "4"


# ---- names of problems -----------------------------------------------------------------------------------------


def test_an_id_may_be_of_the_row_so_the_problem_goes_before_it(read, write):
    rows = [{"id": n, "problem": "2+2?", "response": "4"} for n in range(2)]
    assert {(row.problem_id, row.problem) for row in read(write(rows))} == {(None, "2+2?")}
    (alone,) = read(write([{"id": 7, "response": "4"}]))
    assert alone.problem_id == "7" and alone.notes == ("id is taken for the problem's name",)


# ---- values that are none, or odd ------------------------------------------------------------------------------

ODD: list[tuple[dict[str, Any], str]] = [
    ({"num_tokens": "many"}, "num_tokens is no count of tokens (a whole number, at least 0)"),
    ({"num_tokens": -1}, "num_tokens is no count of tokens (a whole number, at least 0)"),
    ({"num_tokens": True}, "num_tokens is no count of tokens (a whole number, at least 0)"),
    ({"reasoning": [{"text": "so"}]}, "reasoning is not text"),
    ({"problem_id": 1.5}, "problem_id is neither text nor a whole number"),
    ({"response": 4}, "no response"),
    ({"response": None}, "no response"),
]


@pytest.mark.parametrize(("more", "reason"), ODD)
def test_odd_values_are_counted_by_their_reason(write, more, reason):
    items = [item for _, item in recognise(write([GOOD, GOOD | more])).rows()]
    assert isinstance(items[1], Defect) and items[1].reason == reason


def test_gaps_of_tables_and_flags_are_missing_values(read, write):
    row = GOOD | {"num_tokens": 7.0, "problem_id": 3.0, "thinking": True, "category": float("nan"), "sample": ""}
    (found,) = read(write([row]))
    assert (found.num_tokens, found.problem_id, found.reasoning, found.category, found.sample) == (
        7,
        "3",
        None,
        None,
        None,
    )


def test_lone_surrogates_become_a_mark(read, write):
    assert read(write([GOOD | {"response": "4\ud83d"}]))[0].response == "4�"


def test_an_empty_response_is_one_and_an_unknown_end_drops_no_row(read, write):
    rows = read(write([GOOD | {"response": ""}, GOOD | {"finish_reason": "because"}, GOOD | {"finish_reason": None}]))
    assert [(row.response == "", row.end, row.finish_reason) for row in rows] == [
        (True, End.UNKNOWN, None), (False, End.UNKNOWN, "because"), (False, End.UNKNOWN, None),
    ]  # fmt: skip


# ---- paths -----------------------------------------------------------------------------------------------------


def test_paths_lead_into_objects_and_lists_and_names_with_dots_come_first(read, write):
    row = {"a.b": "dotted", "a": {"b": "nested", "c": [{"d": "in a list"}]}, "answer": "4"}
    for path, response in (("a.b", "dotted"), ("a.c.0.d", "in a list"), ("a.c.-1.d", "in a list")):
        assert read(write([row]), fields=Fields(response=path))[0].response == response


def test_a_path_to_nowhere_says_what_there_is(write):
    with pytest.raises(InputError, match=r"flat rows, but no row has a response.*no a.z \(it has problem_id, response"):
        recognise(write([GOOD]), fields=Fields(response="a.z"))
    with pytest.raises(InputError, match="not flat rows: its first row has said, and it needs a value at 'sayd'"):
        recognise(write([{"said": "4"}]), fields=Fields(response="sayd"))
    with pytest.raises(ConfigError, match="the path of answer is ' '"):
        Fields(answer=" ")
