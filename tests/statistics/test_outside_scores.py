"""The numbers of the efficiency page, counted by hand there."""

from __future__ import annotations

import pytest

from lengthwise.errors import InputError, ShapeError
from lengthwise.statistics.metrics import accuracy_at_budget, overthinking_area
from lengthwise.statistics.outside_scores import area_as_code, first_right_ratio, ock_score, overthinking_f1


def test_the_area_is_the_mean_of_accuracies_below_every_limit():
    thinking, right = [[100], [400], [900], [1500]], [[True]] * 4
    area = overthinking_area(right, thinking, t_max=1000)
    assert area == pytest.approx(0.4)
    # The benchmark's own sum: thinking below t, for t = 1 .. 1000, over 1000.
    sums = sum(accuracy_at_budget(right, thinking, t - 1, cap=1500) for t in range(1, 1001))
    assert sums / 1000 == pytest.approx(area)
    # Without thinking it is the accuracy; it rises with the limit, and never passes the accuracy.
    assert overthinking_area([[True], [False]], [[0], [0]], t_max=1000) == 0.5
    assert area < overthinking_area(right, thinking, t_max=2000) < 1


@pytest.mark.parametrize(
    ("thinking", "right", "here", "code"),
    [([[100, 900]], [[1, 0]], 0.45, 0.25), ([[200, 1600]], [[1, 1]], 0.4, 0.1), ([[400], [900]], [[1], [0]], 0.3, 0.3)],
)
def test_several_responses_a_question_are_a_mean_of_products_and_in_their_code_a_product_of_means(
    thinking, right, here, code
):
    assert overthinking_area(right, thinking, t_max=1000) == pytest.approx(here)
    assert area_as_code(right, thinking, t_max=1000) == pytest.approx(code)


@pytest.mark.parametrize(
    ("simple", "hard", "f1"),
    [(0.6, 0.3, 0.4), (0.45, 0.45, 0.45), (0.9, 0.0, 0.0), (0.0, 0.0, 0.0), (0.5, None, None), (None, 0.5, None)],
)
def test_f1_of_both_halves(simple, hard, f1):
    found = overthinking_f1(simple, hard)
    assert found is None if f1 is None else found == pytest.approx(f1)


@pytest.mark.parametrize(
    ("accuracy", "tokens", "score"),
    [(0.6, 5000, 55.9453), (0.6, 20000, 49.0139), (0.5, 0, 50.0), (0.0, 50000, -17.9176), (0.6, 6000, 55.3000)],
)
def test_ock_score_by_hand(accuracy, tokens, score):
    assert ock_score(accuracy, tokens) == pytest.approx(score, abs=5e-5)


def test_first_right_ratio_by_hand():
    found = first_right_ratio([300, 500, None], [1200, 500, 800])
    assert (found.mean, found.pooled, found.found_only) == pytest.approx((0.4167, 0.32, 0.625), abs=5e-5)
    assert first_right_ratio([3 + 2], [3 + 2 + 4 + 1]).mean == 0.5
    empty = first_right_ratio([None, 0], [0, 0])
    assert (empty.mean, empty.pooled, empty.found_only, empty.left_out) == (None, None, None, 2)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"accuracy is 60; give a share from 0 to 1 \(60 % is 0.6\)"):
        ock_score(60, 5000)
    with pytest.raises(InputError, match="mean_tokens is -1"):
        ock_score(0.5, -1)
    with pytest.raises(InputError, match="hard_accuracy is 45"):
        overthinking_f1(0.5, 45)
    with pytest.raises(InputError, match="t_max is 0"):
        area_as_code([[1]], [[1]], t_max=0)
    with pytest.raises(InputError, match="useful is 7 of 5"):
        first_right_ratio([7], [5])
    with pytest.raises(ShapeError, match="useful has 1 values"):
        first_right_ratio([7], [])
