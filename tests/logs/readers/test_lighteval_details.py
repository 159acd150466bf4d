"""lighteval's details, as lighteval wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from lengthwise.errors import InputError
from lengthwise.logs.readers import End, recognise

WROTE = "lighteval-0.13.0"


@pytest.fixture
def row(files) -> dict[str, Any]:
    parquet = pytest.importorskip("pyarrow.parquet")
    (path,) = (files / WROTE).glob("details_sums_0*")
    found: dict[str, Any] = parquet.read_table(path).to_pylist()[0]
    return found


def test_tokens_are_counted_from_the_ids(files, read):
    pytest.importorskip("pyarrow")
    log = files / WROTE / "details_sums_0*"
    assert str(recognise(log)) == "lighteval details"
    rows = read(log)
    assert sorted(row.problem_id for row in rows) == ["sums/0", "sums/1", "sums/2"]  # in no order there
    first = rows[0]
    assert (first.num_tokens, first.answer, first.category) == (24, "7", "sums")
    assert first.verdicts == {"extractive_match": 0.0, "em": 0.0}


def test_a_response_as_long_as_it_may_be_is_cut_and_others_end_unknown(row, read, write):
    short = row | {"model_response": row["model_response"] | {"output_tokens": [[1, 2, 3]]}}
    cut, other = read(write([row, short]))
    assert (cut.num_tokens, cut.end, other.num_tokens, other.end) == (24, End.CUT, 3, End.UNKNOWN)
    assert "taken for cut" in cut.notes[0] and other.notes == ()


def test_samples_as_lighteval_wrote_them_are_padded_to_the_longest(files, read):
    pytest.importorskip("pyarrow")
    assert str(recognise(files / WROTE)) == "lighteval details, up to 2 samples a row, 2 files"
    ends = {(row.problem_id, row.sample): (row.num_tokens, row.end) for row in read(files / WROTE / "details_sums_s*")}
    # Both have 24 ids; of the second's the last eleven are the EOS.
    assert ends["sums_sampled/2", 0] == (24, End.CUT) and ends["sums_sampled/2", 1] == (14, End.FINISHED)
    # The second of these was stopped in the middle of a sentence when the first met its EOS.
    assert ends["sums_sampled/1", 0] == (17, End.UNKNOWN) and ends["sums_sampled/1", 1] == (17, End.UNKNOWN)


def test_padding_at_the_end_is_not_counted_but_a_model_that_repeats_itself_is(row, read, write):
    def one(text: str, ids: list[int]) -> dict[str, Any]:
        return row | {"model_response": {"text": [text], "output_tokens": [ids]}}

    padded, repeats, ended = read(
        write([one("7", [5, 6, 2] + [2] * 21), one("7 no no no", [5] + [9] * 3), one("7", [5, 2])])
    )
    assert (padded.num_tokens, padded.end) == (3, End.FINISHED) and "padding" in padded.notes[0]
    assert (repeats.num_tokens, repeats.end) == (4, End.UNKNOWN)
    assert (ended.num_tokens, ended.end) == (2, End.UNKNOWN)


def test_several_texts_are_samples_and_the_metric_is_of_all_together(row, read, write):
    written = {"text": ["7", "8"], "output_tokens": [[1, 2], [3]], "reasonings": ["12 less 5", None]}
    rows = read(write([row | {"model_response": written}]))
    assert [(one.sample, one.response, one.num_tokens, one.reasoning) for one in rows] == [
        (0, "7", 2, "12 less 5"), (1, "8", 1, None),
    ]  # fmt: skip
    assert all(one.verdicts == {} and "of all samples" in one.notes[0] for one in rows)


def test_the_columns_of_data_sets_on_a_hub_and_several_golds(row, read, write):
    doc = row["doc"] | {"choices": [" 7", " seven", " 8"], "gold_index": [0, 1]}
    (one,) = read(write([{"__doc__": doc, "__model_response__": row["model_response"], "__metric__": row["metric"]}]))
    assert (one.answer, one.any_of) == (["7", "seven"], True)


def test_a_task_of_likelihoods_has_no_texts(row, write):
    log = write([row | {"model_response": row["model_response"] | {"text": []}}])
    with pytest.raises(InputError, match="lighteval details.*no generated text.*likelihoods"):
        recognise(log)
