"""lm-eval's samples, as lm-eval wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.data import Defect
from lengthwise.errors import InputError
from lengthwise.logs.readers import End, recognise

WROTE = "lm-eval-0.4.13"
SUMS, SAMPLED, CHOICE = "samples_sums_20*", "samples_sums_sampled_*", "samples_sums_choice_*"


def test_the_rows_of_a_second_filter_are_no_second_samples(files, read):
    log = files / WROTE / SUMS
    assert str(recognise(log)) == "lm-eval samples, 2 filters, 1 sample a problem"
    rows = read(log)
    assert len(rows) == 3 and len({row.problem_id for row in rows}) == 3  # six rows in the file
    assert {name for row in rows for name in row.verdicts} == {
        "exact_match,flexible-extract",
        "exact_match,strict-match",
    }


def test_a_row_has_what_lm_eval_says_of_it_and_no_more(files, read):
    row = read(files / WROTE / SUMS)[0]
    assert row.response == " 3\n\nReasoning: 100 + 1 = 111. 111"
    assert (row.answer, row.category, row.problem_id, row.sample) == ("7", "sums", "sums/0", 0)
    assert row.problem == "Tom has 3 apples and buys 4 more. How many apples does he have?"  # the prompt has more
    assert (row.num_tokens, row.end, row.finished) == (None, End.UNKNOWN, None)


def test_several_texts_are_samples_and_the_verdict_on_all_together_is_of_none(files, read):
    log = files / WROTE / SAMPLED
    assert str(recognise(log)) == "lm-eval samples, 1 filter, 3 samples a problem"
    rows = read(log)
    assert [(row.problem_id, row.sample) for row in rows[:4]] == [
        ("sums_sampled/0", 0), ("sums_sampled/0", 1), ("sums_sampled/0", 2), ("sums_sampled/1", 0),
    ]  # fmt: skip
    assert all(row.verdicts == {} and "all samples" in row.notes[0] for row in rows)


def test_a_folder_is_read_as_one_log_with_its_tasks_apart(files):
    log = recognise(files / WROTE)
    assert str(log) == "lm-eval samples, 4 filters, 3 samples a problem, 3 files, 1 other file passed over"
    items = [item for _, item in log.rows()]
    assert sum(isinstance(item, Defect) for item in items) == 3  # the multiple-choice task
    assert sum(not isinstance(item, Defect) for item in items) == 3 + 9


def test_a_multiple_choice_task_has_no_texts_and_says_so(files):
    with pytest.raises(InputError, match="lm-eval samples.*no generated text.*likelihoods.*generate_until"):
        recognise(files / WROTE / CHOICE)


def test_two_runs_of_one_task_are_not_mixed(files, write):
    name = "samples_sums_2026-01-0{}T00-00-00.000000.jsonl"
    rows = [json.loads(line) for line in next((files / WROTE).glob(SUMS)).read_text().splitlines()]
    paths = [write(rows, name.format(day)) for day in (1, 2)]
    with pytest.raises(InputError, match="document 0 under the filter 'strict-match' a second time.*two runs"):
        recognise(paths)


def test_filters_in_any_order_and_in_files_of_their_own_change_nothing(files, read, write):
    source = next((files / WROTE).glob(SUMS))
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    whole = read(source)
    mixed = write([*rows[3:], *rows[:3]], f"mixed/{source.name}")
    assert read(mixed) == whole
    parts = [write(rows[n::2], f"part{n}/{source.name}") for n in range(2)]
    assert sorted(read(parts), key=lambda row: str(row.problem_id)) == whole


@pytest.mark.parametrize(
    "arguments",
    [[["Question: 1+1?\nAnswer:", {"until": ["\n"]}]], {"gen_args_0": {"arg_0": "Question: 1+1?\nAnswer:"}}],
)
def test_arguments_of_old_and_new_versions(arguments, read, write):
    log = write(
        [
            {
                "doc_id": 0,
                "doc": {"x": 1},
                "target": "2",
                "arguments": arguments,
                "resps": [["2"]],
                "exact_match": 1.0,
                "filter": "none",
            }
        ]
    )
    (row,) = read(log)
    assert (row.problem, row.problem_id, row.category) == ("Question: 1+1?\nAnswer:", "0", None)
    assert row.verdicts == {"exact_match,none": 1.0}


def test_a_damaged_line_is_counted_and_the_rest_is_read(files, tmp_path: Path):
    source = next((files / WROTE).glob(SUMS))
    torn = tmp_path / source.name
    torn.write_bytes(source.read_bytes()[:-200])
    items = [item for _, item in recognise(torn).rows()]
    assert items[-1].reason == "unfinished last line" and len(items) == 4
