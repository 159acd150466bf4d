"""OpenCompass's predictions, as its writer makes them: an object with the keys 0, 1 and so on."""

from __future__ import annotations

import json

import pytest

from lengthwise.logs.readers import recognise

TURNS = [{"role": "SYSTEM", "prompt": "Be short."}, {"role": "HUMAN", "prompt": "3+4?"}, {"role": "BOT", "prompt": ""}]
ROWS = {
    "0": {"origin_prompt": TURNS, "prediction": "It is 7", "gold": "7", "res_length": 4},
    "1": {"origin_prompt": "5+5?", "prediction": ["10", "11"], "gold": ["10", "ten"], "res_length": [1, 2]},
    "2": {"origin_prompt": TURNS, "prediction": {"prediction": "8", "reason": ""}},
}


@pytest.mark.parametrize("indent", [None, 4])
def test_an_object_that_is_no_list(read, tmp_path, indent):
    path = tmp_path / "gsm8k.json"
    path.write_text(json.dumps(ROWS, indent=indent))
    assert str(recognise(path)) == "OpenCompass predictions, up to 2 samples a row"
    rows = read(path)
    assert [(row.problem, row.response, row.sample, row.num_tokens) for row in rows] == [
        ("3+4?", "It is 7", None, 4), ("5+5?", "10", 0, 1), ("5+5?", "11", 1, 2), ("3+4?", "8", None, None),
    ]  # fmt: skip
    assert [(row.answer, row.any_of) for row in rows[:2]] == [("7", False), (["10", "ten"], True)]


def test_the_lines_of_an_unfinished_run(read, write, tmp_path):
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(ROWS))
    assert read(write([{"idx": int(n)} | row for n, row in ROWS.items()], "tmp_gsm8k.jsonl")) == read(path)


def test_of_several_rounds_the_last_is_read(read, write):
    row = {
        "gold": ["5", "7"],
        "prediction": ["five", "seven"],
        "origin_prompt": [["2+3?"], [{"role": "HUMAN", "prompt": "3+4?"}]],
    }
    (one,) = read(write([row]))
    assert (one.response, one.answer, one.problem) == ("seven", "7", "3+4?") and "the last is read" in one.notes[0]
