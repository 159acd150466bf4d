from __future__ import annotations

import pytest
import tiny
import torch

from lengthwise.engine.rollouts import Rollouts, join
from lengthwise.errors import ShapeError


def test_correct_means_right_and_finished():
    made = tiny.rollouts([2, 3, 1, 4], correct=[True, True, False, False], finished=[True, False, True, False])
    assert made.correct.tolist() == [True, False, False, False]


def test_the_tokens_of_a_row_come_without_padding():
    made = tiny.rollouts([2, 5], prompt_lengths=[4, 1])
    assert len(made) == 2
    assert [len(made.response(0)), len(made.response(1))] == [2, 5]
    assert [len(made.prompt(0)), len(made.prompt(1))] == [4, 1]
    assert made.prompt(1) == [int(made.prompt_ids[1, -1])]
    assert made.response(0) == made.completion_ids[0, :2].tolist()


@pytest.mark.parametrize(
    "rows", [torch.tensor([2, 0]), torch.tensor([True, False, True])], ids=["by number", "by mask"]
)
def test_select_keeps_ids_and_rows(rows):
    made = tiny.rollouts([2, 5, 3], groups=[7, 8, 7])
    part = made.select(rows)
    assert part.group_ids.tolist() == [7, 7]
    assert part.mask.shape == (2, 5)
    order = [2, 0] if rows.dtype == torch.long else [0, 2]
    assert [part.response(i) for i in range(2)] == [made.response(i) for i in order]


def test_trim_drops_only_columns_that_are_padding_everywhere():
    made = tiny.rollouts([2, 5, 3], prompt_lengths=[1, 6, 2])
    part = made.select(torch.tensor([0, 2])).trim()
    assert part.mask.shape == (2, 3) and part.prompt_ids.shape == (2, 2)
    assert part.response(1) == made.response(2) and part.prompt(1) == made.prompt(2)
    assert part.trim().mask.shape == (2, 3)


def test_join_pads_prompts_left_and_responses_right():
    one = tiny.rollouts([2, 5], groups=[0, 0], prompt_lengths=[1, 3])
    other = tiny.rollouts([7], groups=[1], prompt_lengths=[4], seed=1)
    both = join([one, other])
    assert len(both) == 3 and both.mask.shape == (3, 7) and both.prompt_mask.shape == (3, 4)
    assert both.group_ids.tolist() == [0, 0, 1]
    for row, (batch, place) in enumerate([(one, 0), (one, 1), (other, 0)]):
        assert both.response(row) == batch.response(place) and both.prompt(row) == batch.prompt(place)
    assert both.mask.dtype == torch.bool and both.logp.dtype == torch.float32
    assert torch.equal(both.mask.sum(1), both.num_tokens)


def test_join_of_nothing_is_an_error():
    with pytest.raises(ShapeError, match="join got no batches"):
        join([])


@pytest.mark.parametrize("name", ["mask", "train_mask", "logp", "policy_version"])
def test_a_token_field_of_the_wrong_width_is_refused(name):
    made = tiny.rollouts([2, 5])
    with pytest.raises(ShapeError, match=rf"{name} has shape \(2, 4\) but completion_ids has \(2, 5\)"):
        made.with_fields(**{name: getattr(made, name)[:, :4]})


@pytest.mark.parametrize(
    "name", ["num_tokens", "finished", "done", "answer_correct", "group_ids", "problem_ids", "cap"]
)
def test_a_row_field_of_the_wrong_length_is_refused(name):
    made = tiny.rollouts([2, 5])
    with pytest.raises(ShapeError, match=rf"{name} has shape \(1,\) but there are 2 rows"):
        made.with_fields(**{name: getattr(made, name)[:1]})


def test_tokens_must_be_counted_right():
    made = tiny.rollouts([2, 5])
    with pytest.raises(ShapeError, match="num_tokens differs from mask"):
        made.with_fields(num_tokens=made.num_tokens - 1)


def test_rollouts_are_values():
    made = tiny.rollouts([2])
    with pytest.raises(AttributeError):
        made.cap = torch.tensor([1])
    assert isinstance(made.with_fields(cap=torch.tensor([9])), Rollouts) and made.cap.tolist() == [2]
