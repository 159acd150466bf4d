"""Rows with many generations of one problem."""

from __future__ import annotations

from lengthwise.logs.readers import End, recognise

ROW = {
    "problem": "3+4?", "answer": "7", "uuid": "u-1", "problem_type": "Algebra", "question_type": "math-word-problem",
    "generations": ["<think>so</think>7", "8", "cut"], "finish_reasons": ["stop", None, "length"],
    "correctness_math_verify": [True, False, False], "correctness_llama": None,
    "is_reasoning_complete": [True, True, False], "messages": [{"role": "user", "content": "3+4?"}],
}  # fmt: skip


def test_one_row_is_many_samples(read, write):
    log = write([ROW])
    assert str(recognise(log)) == "rows of many generations, 3 samples a row"
    rows = read(log)
    assert [(row.sample, row.response, row.end) for row in rows] == [
        (0, "<think>so</think>7", End.FINISHED), (1, "8", End.UNKNOWN), (2, "cut", End.CUT),
    ]  # fmt: skip
    assert {(row.problem_id, row.problem, row.answer, row.category) for row in rows} == {
        ("u-1", "3+4?", "7", "Algebra")
    }
    assert [row.verdicts for row in rows] == [{"correctness_math_verify": right} for right in (1.0, 0.0, 0.0)]


def test_without_finish_reasons_nothing_is_guessed(read, write):
    rows = read(write([ROW | {"finish_reasons": None, "num_tokens": [5, 1, 9]}]))
    assert [(row.end, row.num_tokens) for row in rows] == [(End.UNKNOWN, 5), (End.UNKNOWN, 1), (End.UNKNOWN, 9)]
