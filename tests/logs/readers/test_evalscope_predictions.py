"""evalscope's predictions and reviews, as evalscope wrote them."""

from __future__ import annotations

import json
import shutil

import pytest

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers import End, recognise

WROTE = "evalscope-1.14.1"
PREDICTIONS, REVIEWS = "predictions/mock/gsm8k_main.jsonl", "reviews/mock/gsm8k_main.jsonl"


def test_predictions_find_their_reviews_and_the_folder_is_the_same_log(files, read):
    log = files / WROTE / PREDICTIONS
    assert str(recognise(log)) == "evalscope predictions, joined with 1 of reviews"
    folder = recognise(files / WROTE)
    assert str(folder) == "evalscope predictions, joined with 1 of reviews, 2 files, 1 other file passed over"
    assert [item for _, item in folder.rows()] == read(log)


def test_an_index_is_a_response_and_the_group_is_its_problem(files, read):
    rows = read(files / WROTE / PREDICTIONS)
    expected = [(f"gsm8k_main/{problem}", sample) for problem in range(3) for sample in range(2)]
    assert [(row.problem_id, row.sample) for row in rows] == expected  # the index runs from 0 to 5


def test_what_a_row_says(files, read):
    first, second, _, cut, inside, empty = read(files / WROTE / PREDICTIONS)
    assert (first.response, first.reasoning) == ("ANSWER: 7", "3 and 4 more make 7.")
    assert (first.answer, first.num_tokens, first.reasoning_tokens, first.end) == ("7", 16, 10, End.FINISHED)
    assert (first.verdicts, second.verdicts) == ({"accuracy": 1.0}, {"accuracy": 0.0})
    assert (cut.end, cut.finish_reason) == (End.CUT, "max_tokens")
    assert (inside.response, inside.reasoning) == ("ANSWER: 12", "6 times 2")  # evalscope parted it from its marks
    assert (empty.response, empty.end, empty.finished) == ("", End.UNKNOWN, None)


def test_reviews_alone_have_the_same_texts_and_no_counts(files, tmp_path, read):
    alone = tmp_path / "gsm8k_main.jsonl"
    shutil.copy(files / WROTE / REVIEWS, alone)
    assert str(recognise(alone)) == "evalscope predictions, reviews alone: no token counts"
    rows, whole = read(alone), read(files / WROTE / PREDICTIONS)
    assert [(row.response, row.reasoning, row.verdicts) for row in rows] == [
        (row.response, row.reasoning, row.verdicts) for row in whole
    ]
    assert {row.num_tokens for row in rows} == {None}


def test_predictions_without_reviews_say_so_and_are_told_apart_by_their_problems(files, tmp_path, read):
    alone = tmp_path / "gsm8k_main.jsonl"
    shutil.copy(files / WROTE / PREDICTIONS, alone)
    assert str(recognise(alone)).endswith("no reviews beside it: no gold answers")
    rows = read(alone)
    assert {row.answer for row in rows} == {None} and len({row.problem for row in rows}) == 3


def test_other_orders_and_files_of_their_own_change_nothing(files, tmp_path, read):
    for kind, name in (("predictions", PREDICTIONS), ("reviews", REVIEWS)):
        lines = (files / WROTE / name).read_text().splitlines()
        for part in range(2):
            path = tmp_path / f"{part}" / kind / "gsm8k_main.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("\n".join(lines[part::2][::-1]) + "\n")
    rows = sorted(read(tmp_path), key=lambda row: (row.problem_id, row.sample))
    assert rows == read(files / WROTE / PREDICTIONS)


def test_two_models_and_two_runs_are_not_mixed(files, tmp_path):
    source = files / WROTE / PREDICTIONS
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    for model in ("mock", "other"):
        path = tmp_path / "predictions" / model / "gsm8k_main.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row | {"model": model}) + "\n" for row in rows))
    with pytest.raises(InputError, match="evalscope predictions of two models"):
        recognise(tmp_path)
    again = tmp_path / "again" / source.name
    again.parent.mkdir()
    shutil.copy(source, again)
    with pytest.raises(InputError, match="index 0 a second time.*two runs"):
        list(recognise([source, again]).rows())


def test_a_request_that_failed_is_left_out(files, write):
    row = json.loads((files / WROTE / PREDICTIONS).read_text().splitlines()[0])
    failed = row | {"index": 9, "model_output": row["model_output"] | {"choices": [], "error": "timeout"}}
    items = [item for _, item in recognise(write([row, failed], "p.jsonl")).rows()]
    assert items[1] == Defect("a request that failed", "timeout")
