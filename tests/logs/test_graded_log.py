"""Graded logs side by side: from the rows of `grade --out` to paired intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.errors import InputError
from lengthwise.logs.graded_log import is_graded_log, record_of_graded_log, with_open_caps
from lengthwise.runs.compare_records import compare_records, load_record, read_sides


def graded(path: Path, rows: list[tuple[str, int, bool, bool, int]]) -> str:
    names = ("problem_id", "sample", "answer_correct", "finished", "num_tokens")
    lines = [json.dumps(dict(zip(names, row, strict=True)) | {"category": None}) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


LONG = [("b", 0, True, True, 30), ("a", 1, False, True, 20), ("a", 0, True, True, 40)]
SHORT = [("a", 0, True, True, 10), ("a", 1, True, True, 20), ("b", 0, True, True, 15)]


def test_two_graded_logs_are_compared_problem_by_problem(tmp_path: Path):
    sides = read_sides([graded(tmp_path / "long.jsonl", LONG), f"short={graded(tmp_path / 's.jsonl', SHORT)}"])
    assert sides[0].records[0].problem_ids == ["a", "b"]
    assert sides[0].records[0].num_tokens == [[40, 20], [30]]
    found = compare_records(sides)
    against = found.sides[1].against
    assert against is not None
    # Accuracy (1/2 + 1)/2 = 3/4 against 1; tokens (30 + 30)/2 = 30 against (15 + 15)/2 = 15.
    assert against.accuracy_difference.estimate == pytest.approx(0.25)
    assert against.tokens_ratio.estimate == pytest.approx(0.5)
    assert against.tokens_ratio.ends == pytest.approx((0.5, 0.5))
    # Nothing was cut, so both stand under the larger of their longest responses.
    assert found.cap == 40
    assert found.warnings == ["no record says its data, grader, tokenizer, template: whether these agree is not known"]


def test_a_log_with_cut_responses_keeps_its_cap_and_is_not_compared_with_a_larger_one(tmp_path: Path):
    cut = record_of_graded_log(Path(graded(tmp_path / "cut.jsonl", [("a", 0, False, False, 12), *SHORT[1:]])))
    whole = record_of_graded_log(Path(graded(tmp_path / "whole.jsonl", LONG)))
    assert [record.cap for record in with_open_caps([cut, whole])] == [20, 40]
    with pytest.raises(InputError, match="cap: 40 and 20"):
        compare_records(read_sides([str(tmp_path / "whole.jsonl"), str(tmp_path / "cut.jsonl")]))


def test_an_evaluation_is_named_by_its_folder(tmp_path: Path):
    record_of_graded_log(Path(graded(tmp_path / "long.jsonl", LONG))).save(tmp_path / "record.json")
    assert load_record(str(tmp_path)).name == "long"


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "line 2: no JSON"), ("[]", "line 2: no row that"), ('{"problem_id": "a"}', "line 2: no row that")],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, says: str):
    path = Path(graded(tmp_path / "g.jsonl", LONG[:1]))
    path.write_text(path.read_text() + line)
    assert is_graded_log(path)
    with pytest.raises(InputError, match=says):
        load_record(str(path))
