"""Thinking cut at budgets (spec page budget, BRPO and Elastic Reasoning): hand numbers, a loop, invariants, edges."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    budget_answers,
    budget_relative,
    budget_weights,
    drawn_budgets,
    even_budgets,
    segment_credit,
    separated_truncation,
)


def table(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# ---- hand numbers (budget section 8) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "scores", "expected"),
    [
        # uniform: R = [2/3, 2/3, 1/3], [1/3, 1/3, 1/3]; V2 = .5, .5, 1/3; V1 = 0, (2/3)(1/3) = .2222 and 0, 0
        # A_0 = R_0 - .5; A_1 = R_1 - (0 + 2 * .5)/3; A_2 = 1/3 - (2 V1 + 1/3)/3
        (None, [[0, 1, 1], [0, 0, 1]], [[0.1667, 0.3333, 0.0741], [-0.1667, 0, 0.2222]]),
        # P = 1/6, 1/3, 1/2: R = [5/6, 5/6, 1/2], [1/2, 1/2, 1/2]; V2 = 2/3, 2/3, 1/2; V1 of the first (2/3)(1/2)
        ((1, 2, 3), [[0, 1, 1], [0, 0, 1]], [[0.1667, 0.3889, 0.1111], [-0.1667, 0.0556, 0.3333]]),
        # R = [.5, .5, 1/3], [.4167, .3333, .1667]; V2 = .4583, .4167, .25; V1 = 0, .1111 and .1667, .1389
        (None, [[0, 0.5, 1], [0.25, 0.5, 0.5]], [[0.0417, 0.2222, 0.1759], [-0.0417, 0, -0.0093]]),
    ],
)
def test_budget_8_brpo(
    weights: tuple[float, ...] | None, scores: list[list[float]], expected: list[list[float]]
) -> None:
    result = budget_relative(table(*scores), ints(3, 3), weights=weights)
    torch.testing.assert_close(result, table(*expected), rtol=0, atol=5e-5)


# ---- against a loop ---------------------------------------------------------------------------------------


def loop_segments(y: list[list[float]], g: list[int], weights: list[float], growth: float) -> list[list[float]]:
    budgets = len(weights)
    share = [w / sum(weights) for w in weights]
    returns = [[sum(share[j] * row[j] for j in range(s, budgets)) for s in range(budgets)] for row in y]
    result = []
    for i, row in enumerate(y):
        mates = [k for k in range(len(y)) if g[k] == g[i]]
        line = []
        for s in range(budgets):
            v2 = statistics.fmean(returns[k][s] for k in mates) if len(mates) > 1 else 0.0
            below = sum(growth**j for j in range(s))
            v1 = sum(growth**j * row[j] for j in range(s)) / below * sum(share[s:]) if s else 0.0
            line.append(returns[i][s] - (s * v1 + (budgets - s) * v2) / budgets)
        result.append(line)
        assert all(a >= b - 1e-12 for a, b in zip(returns[i], returns[i][1:], strict=False))  # falls with s
    return result


def random_scores(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    group_ids = torch.randint(-2, 6, (30,), generator=make)
    group_ids[0] = 100
    return torch.randint(0, 3, (30, *shape), generator=make).double() / 2, group_ids


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("growth", [2.0, 1.0, 0.5])
def test_segments_against_a_loop(seed: int, growth: float) -> None:
    scores, group_ids = random_scores(seed, 5)
    weights = [1.0, 0.0, 2.5, 1.0, 3.0]
    expected = loop_segments(scores.tolist(), group_ids.tolist(), weights, growth)
    torch.testing.assert_close(budget_relative(scores, group_ids, weights=weights, growth=growth), table(*expected))


@pytest.mark.parametrize("answers", [1, 4])
@pytest.mark.parametrize("seed", range(2))
def test_answers_against_a_loop(answers: int, seed: int) -> None:
    scores, group_ids = random_scores(seed, 3, answers)
    result = budget_answers(scores, group_ids)
    for i in range(30):
        for s in range(3):
            siblings = scores[i, s] if answers > 1 else scores[group_ids == group_ids[i], s].flatten()
            torch.testing.assert_close(result[i, s], scores[i, s] - siblings.mean())
    last = budget_answers(scores, group_ids, last_only=True)
    assert not last[:, :-1].any() and torch.equal(last[:, -1], result[:, -1])


def test_segment_credit_against_a_loop() -> None:
    make = torch.Generator().manual_seed(0)
    advantages = torch.randn(12, 3, generator=make)
    mask = torch.rand(12, 14, generator=make) < 0.5  # with gaps, as where words were appended
    budgets = [2, 5, 14]
    result = segment_credit(advantages, mask, budgets=budgets)
    assert result.dtype == torch.float32
    for i in range(12):
        place = 0
        for t in range(14):
            place += int(mask[i, t])
            segment = next(s for s, b in enumerate(budgets) if place <= b)
            assert result[i, t] == (advantages[i, segment] if mask[i, t] else 0)


# ---- invariants (budget section 9) ------------------------------------------------------------------------


def test_budget_9_the_first_segment_sums_to_zero_over_its_group() -> None:
    scores, group_ids = random_scores(4, 4)
    result = budget_relative(scores, group_ids)
    for group in group_ids.unique():
        if int((group_ids == group).sum()) > 1:
            assert float(result[group_ids == group, 0].sum()) == pytest.approx(0, abs=1e-12)


def test_budget_9_scores_of_zero_give_zero_and_a_factor_on_the_weights_nothing() -> None:
    scores, group_ids = random_scores(5, 4)
    assert not budget_relative(0 * scores, group_ids).any()
    one = budget_relative(scores, group_ids, weights=[1, 2, 3, 4])
    torch.testing.assert_close(budget_relative(scores, group_ids, weights=[0.1, 0.2, 0.3, 0.4]), one)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    moved = budget_relative(scores[order], 50 - group_ids[order], weights=[1, 2, 3, 4])
    torch.testing.assert_close(moved, one[order])


def test_all_right_gives_zero_in_every_segment() -> None:
    torch.testing.assert_close(budget_relative(torch.ones(4, 3), ints(0, 0, 1, 1)), torch.zeros(4, 3).double())


# ---- edge cases (budget section 7) ------------------------------------------------------------------------


def test_all_weight_on_the_last_budget_gives_every_segment_its_score() -> None:
    # a group of one, no earlier success: V1 = V2 = 0, so A_s = R_s = y_S
    same = budget_relative(table([0, 0, 1]), ints(0), weights=(0, 0, 5))
    torch.testing.assert_close(same, table([1, 1, 1]))


def test_a_group_of_one_has_no_group_baseline() -> None:
    # R = [2/3, 2/3, 1/3]; V1 = 0, 0, (2/3)(1/3): .3333 - 2 * .2222/3
    torch.testing.assert_close(budget_relative(table([0, 1, 1]), ints(0)), table([2 / 3, 2 / 3, 1 / 3 - 4 / 27]))
    assert not budget_answers(torch.ones(1, 2, 1), ints(0)).any()


def test_equal_answers_get_exactly_nothing_while_thinking_still_learns() -> None:
    scores = torch.full((2, 3, 3), 0.1, dtype=torch.float64)
    assert not budget_answers(scores, ints(0, 0)).any()
    assert not budget_answers(scores[:, :, :1], ints(0, 0)).any()
    assert budget_relative(table([0, 1, 1], [0, 1, 1]), ints(0, 0)).any()


def test_segments_after_the_end_of_thinking_have_no_tokens() -> None:
    mask = torch.arange(6) < ints(2, 5)[:, None]
    result = segment_credit(table([1, 2, 3], [4, 5, 6]), mask, budgets=(2, 4, 6))
    assert result.tolist() == [[1, 1, 0, 0, 0, 0], [4, 4, 5, 5, 6, 0]]
    with pytest.raises(InputError, match="thinking_mask row 1 has 5 tokens but the last budget is 4"):
        segment_credit(table([1, 2], [4, 5]), mask, budgets=(2, 4))


def test_empty_batches() -> None:
    assert budget_relative(torch.zeros(0, 3), ints()).shape == (0, 3)
    assert budget_answers(torch.zeros(0, 3, 2), ints()).shape == (0, 3, 2)
    assert budget_answers(torch.zeros(0, 3, 1), ints()).shape == (0, 3, 1)
    assert segment_credit(torch.zeros(0, 2), torch.zeros(0, 5).bool(), budgets=(1, 2)).shape == (0, 5)
    assert drawn_budgets(0, [5, 9], weights=[1, 1], seed=0).tolist() == []
    assert separated_truncation(bools(), ints(), ints(), bools(), thinking_budget=1, answer_budget=1).shape == (0,)


# ---- budgets and what stands within them ------------------------------------------------------------------


def test_even_budgets_and_their_weights() -> None:
    assert even_budgets(8000, 4) == [2000, 4000, 6000, 8000]
    assert even_budgets(10, 4) == [3, 5, 8, 10]  # 2.5 and 7.5 are rounded up
    assert even_budgets(4, 4) == [1, 2, 3, 4]
    assert budget_weights([1, 2, 5]) == pytest.approx([1 / 3] * 3)
    assert budget_weights([1, 2, 5], kind="proportional") == pytest.approx([0.125, 0.25, 0.625])
    assert budget_weights((1, 2, 5), kind="last") == [0, 0, 1]


def test_drawn_budgets_follow_their_weights_and_their_seed() -> None:
    drawn = drawn_budgets(4000, [10, 20, 30], weights=[1, 0, 3], seed=1)
    assert torch.equal(drawn, drawn_budgets(4000, [10, 20, 30], weights=[1, 0, 3], seed=1))
    assert not torch.equal(drawn, drawn_budgets(4000, [10, 20, 30], weights=[1, 0, 3], seed=2))
    # .75 +- 4 * sqrt(.75 * .25/4000) = .027
    assert float((drawn == 30).float().mean()) == pytest.approx(0.75, abs=0.03) and not (drawn == 20).any()


def test_separated_budgets_are_both_kept_or_nothing_is_earned() -> None:
    thinking, answer = ints(1024, 1025, 5, 1024, 5), ints(1024, 5, 1025, 5, 5)
    verdict, finished = bools(1, 1, 1, 0, 1), bools(1, 1, 1, 1, 0)
    for pair in ((1024, 1024), (torch.full((5,), 1024), torch.full((5,), 1024))):
        paid = separated_truncation(verdict, thinking, answer, finished, thinking_budget=pair[0], answer_budget=pair[1])
        assert paid.dtype == torch.float32 and paid.tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: even_budgets(3, 4), "longest is 3"),
        (lambda: even_budgets(8, 0), "count is 0"),
        (lambda: budget_weights([]), "budgets is"),
        (lambda: budget_weights([5, 5]), "strictly rising"),
        (lambda: budget_weights([0, 5]), r"budgets\[0\] is 0"),
        (lambda: budget_weights([5], kind="even"), "kind is 'even'"),
        (lambda: drawn_budgets(3, [5], weights=[0], seed=0), "pass at least one above 0"),
        (lambda: drawn_budgets(3, [5], weights=[1, 1], seed=0), "one number for each of the 1 budgets"),
        (lambda: drawn_budgets(3, [5], weights=[1], seed=-1), "seed is -1"),
        (lambda: budget_relative(table([1, 2]), ints(0), weights=[1, -1]), r"weights\[1\] is -1"),
        (lambda: budget_relative(table([1, 2]), ints(0), growth=0.0), "growth is 0.0"),
        (lambda: segment_credit(table([1, 2]), bools(1)[None], budgets=[5]), "budgets has 1 entries"),
    ],
)
def test_options_out_of_range_are_refused(call: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        call()


def test_bad_scores_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"scores is \(2,\); pass a torch.Tensor of shape \[B,S\]"):
        budget_relative(floats(1, 2), ints(0, 0))
    with pytest.raises(ShapeError, match=r"scores is \(1, 2\); .* \[B,S,A\]"):
        budget_answers(table([1, 2]), ints(0))
    with pytest.raises(ShapeError, match="group_ids has 2 entries but scores has 1 rows"):
        budget_relative(table([1, 2]), ints(0, 0))
    with pytest.raises(InputError, match=r"scores\[1\] is nan"):
        budget_relative(table([1, math.nan]), ints(0))
    with pytest.raises(InputError, match=r"thinking_tokens\[0\] is -1"):
        separated_truncation(bools(1), ints(-1), ints(1), bools(1), thinking_budget=5, answer_budget=5)
    with pytest.raises(ConfigError, match="answer_budget is 0"):
        separated_truncation(bools(1), ints(1), ints(1), bools(1), thinking_budget=5, answer_budget=0)
