"""Right answers joined from a second file."""

from __future__ import annotations

import pytest

from lengthwise.errors import InputError
from lengthwise.logs.readers import Answers, Fields, recognise

BATCH = [
    {"custom_id": name, "response": {"body": {"choices": [{"text": "7", "finish_reason": "stop"}]}}}
    for name in ("a", "b", "c")
]


def test_a_batch_gets_its_answers_by_custom_id(write):
    log = recognise(write(BATCH))
    answers = Answers(write([{"id": "b", "target": 12, "level": 2}, {"custom_id": "a", "answer": "7"}], "gold.jsonl"))
    found = [answers.joined(item) for _, item in log.rows()]
    assert [(row.answer, row.category) for row in found] == [("7", None), (12, "2"), (None, None)]


def test_problems_are_joined_by_their_texts_and_the_file_goes_before_the_logs_own_answers(write, read):
    rows = [{"problem": "3+4?", "response": "7"}, {"problem": "5+7?", "response": "12", "answer": "own"},
            {"problem": "1+1?", "response": "2", "answer": "own"}]  # fmt: skip
    gold = [{"question": "3+4? ", "answer": "7"}, {"question": "5+7?", "answer": "12"}]
    answers = Answers(write(gold, "gold.jsonl"))
    assert [answers.joined(row).answer for row in read(write(rows))] == ["7", "12", "own"]


def test_other_names_and_the_same_row_twice(write):
    answers = Answers(write([{"key": 1, "sol": "7"}] * 2, "gold.jsonl"), Fields(problem_id="key", answer="sol"))
    (row,) = [item for _, item in recognise(write([{"problem_id": 1, "response": "7"}])).rows()]
    assert answers.joined(row).answer == "7"


def test_what_is_no_file_of_answers(write):
    with pytest.raises(InputError, match="gold.jsonl has no right answers by problem.*first row has answer"):
        Answers(write([{"answer": "7"}], "gold.jsonl"))
    with pytest.raises(InputError, match="gold.jsonl, row 2: a second answer to 'a': '8', and before '7'; keep one"):
        Answers(write([{"id": "a", "answer": "7"}, {"id": "a", "answer": "8"}], "gold.jsonl"))
