"""The selective length penalty (spec page grpo-lambda): hand numbers, ranks, ties, loops and edges."""

from __future__ import annotations

import math

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import best_solved, group_normalised, normalised_length, selective_length_penalty


def random_rows(seed: int, rows: int = 80) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    correct = torch.rand(rows, generator=make) < 0.6
    return (
        correct,
        torch.randint(1, 900, (rows,), generator=make),
        torch.randint(-3, 12, (rows,), generator=make),
    )


MIXED = [500, 1000, 1500, 3000], [1, 1, 1, 0]
SOLVED = [100, 200, 300, 400], [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "alpha", "fraction", "rewards", "advantages"),
    [
        # correct 500, 1000, 1500: mean 1000, std 408.248, z -1.224745, 0, 1.224745; sigma .227084, .5, .772916
        pytest.param(MIXED, 0.2, 1.0, [0.9546, 0.9, 0.8454, 0], [0.6183, 0.4976, 0.3768, -1.4927],
                     id="grpo-lambda-8-row1"),
        # mean .75, sample std .5
        pytest.param(MIXED, 0.2, 0.0, [1, 1, 1, 0], [0.5, 0.5, 0.5, -1.5], id="grpo-lambda-8-row2"),
        # mean 250, std 111.803, z +-1.341641, +-.447214; sigma .207219, .390025, ...
        pytest.param(SOLVED, 0.2, 1.0, [0.9586, 0.9220, 0.8780, 0.8414], [1.147, 0.430, -0.430, -1.147],
                     id="grpo-lambda-8-row3"),
        # alpha is a common factor of all deviations
        pytest.param(SOLVED, 0.5, 1.0, None, [1.147, 0.431, -0.431, -1.147], id="grpo-lambda-8-row4"),
        # one correct: z = 0, 1 - .2/2
        pytest.param(([700], [1]), 0.2, 1.0, [0.9], [0], id="grpo-lambda-8-row5"),
        # mean 600, std 200, z = -1, 1: 1 - .5 * .268941, 1 - .5 * .731059
        pytest.param(([400, 800], [1, 1]), 0.5, 1.0, [0.8655, 0.6345], None, id="grpo-lambda-8-row6"),
        # mean 1090, std 1680.09: z -.589, -.577, -.565, 1.732
        pytest.param(([100, 120, 140, 4000, 10, 10], [1, 1, 1, 1, 0, 0]), 0.9, 1.0,
                     [0.6789, 0.6764, 0.6739, 0.2353, 0, 0], [None, None, None, -0.420, None, None],
                     id="grpo-lambda-8-row7"),
    ],
)  # fmt: skip
def test_hand_numbers(
    rows: tuple[list[int], list[int]],
    alpha: float,
    fraction: float,
    rewards: list[float] | None,
    advantages: list[float | None] | None,
) -> None:
    lengths, verdicts = rows
    group = torch.zeros(len(lengths), dtype=torch.int64)
    result = selective_length_penalty(bools(*verdicts), ints(*lengths), group, fraction=fraction, alpha=alpha)
    if rewards is not None:
        torch.testing.assert_close(result, floats(*rewards), rtol=0, atol=5e-5)
    for value, expected in zip(group_normalised(result, group).tolist(), advantages or [], strict=False):
        # row 3 of the page is off in its last digit: deviations .29275 and .10997 over .255341 are 1.1465 and .4307
        assert expected is None or value == pytest.approx(expected, abs=7.5e-4)


@pytest.mark.parametrize(
    ("fraction", "groups", "expected"),
    [
        # ceil(2), ceil(7.000000000000001 or 7), ceil(2.1), ceil(.05), 0, 5
        pytest.param(0.2, 10, 2, id="grpo-lambda-8-K-.2x10"),
        pytest.param(0.7, 10, 7, id="grpo-lambda-8-K-.7x10"),
        pytest.param(0.3, 7, 3, id="grpo-lambda-8-K-.3x7"),
        pytest.param(0.01, 5, 1, id="grpo-lambda-8-K-.01x5"),
        pytest.param(0.0, 5, 0, id="grpo-lambda-8-K-0x5"),
        pytest.param(1.0, 5, 5, id="grpo-lambda-8-K-1x5"),
        pytest.param(0.01, 1, 1, id="grpo-lambda-7-one-group"),
    ],
)
def test_how_many_groups_are_marked(fraction: float, groups: int, expected: int) -> None:
    marked = best_solved(torch.ones(groups, dtype=torch.bool), torch.arange(groups), fraction=fraction)
    assert int(marked.sum()) == expected


@pytest.mark.parametrize(
    ("rounding", "fraction", "expected"),
    # of 5 groups: .5 -> 2.5, .45 -> 2.25, .6 -> 3 (2.9999999999999996 or 3)
    [("floor", 0.5, 2), ("round", 0.5, 3), ("round", 0.45, 2), ("ceil", 0.45, 3), ("floor", 0.6, 3), ("floor", 0, 0)],
)
def test_roundings(rounding: str, fraction: float, expected: int) -> None:
    marked = best_solved(torch.ones(5, dtype=torch.bool), torch.arange(5), fraction=fraction, rounding=rounding)
    assert int(marked.sum()) == expected


def test_ties_go_to_the_group_that_appears_first_or_to_a_seeded_draw() -> None:
    # groups 9, 2, 5 in the order of the batch, all at 1/2
    correct, group_ids = bools(1, 1, 0, 1, 0, 0), ints(9, 2, 9, 5, 2, 5)
    assert best_solved(correct, group_ids, fraction=0.3).tolist() == [True, False, True, False, False, False]
    draws = [best_solved(correct, group_ids, fraction=0.3, tie_seed=seed) for seed in range(30)]
    assert all(int(draw.sum()) == 2 for draw in draws)
    assert {int(group_ids[draw][0]) for draw in draws} == {2, 5, 9}
    assert torch.equal(draws[3], best_solved(correct, group_ids, fraction=0.3, tie_seed=3))


def test_groups_below_the_least_accuracy_are_never_marked() -> None:
    # accuracies 1, 1/2, 0: two of three are best, the second is below .6
    correct, group_ids = bools(1, 1, 1, 0, 0, 0), ints(0, 0, 1, 1, 2, 2)
    marked = best_solved(correct, group_ids, fraction=2 / 3, min_accuracy=0.6)
    assert marked.tolist() == [True, True, False, False, False, False]
    assert best_solved(correct, group_ids, fraction=2 / 3, min_accuracy=0.5).tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed: int, fraction: float) -> None:
    correct, num_tokens, group_ids = random_rows(seed)
    names = list(dict.fromkeys(group_ids.tolist()))
    rows = {name: [i for i in range(80) if group_ids[i] == name] for name in names}
    share = {name: sum(bool(correct[i]) for i in rows[name]) / len(rows[name]) for name in names}
    count = 0 if fraction == 0 else min(len(names), math.ceil(fraction * len(names) - 1e-9))
    top = sorted(names, key=lambda name: -share[name])[:count]
    penalised = normalised_length(correct, num_tokens, group_ids, alpha=0.4)
    expected = [float(penalised[i] if int(group_ids[i]) in top else correct[i]) for i in range(80)]
    result = selective_length_penalty(correct, num_tokens, group_ids, fraction=fraction, alpha=0.4)
    torch.testing.assert_close(result, floats(*expected))
    marked = best_solved(correct, group_ids, fraction=fraction)
    inside, outside = ([share[int(g)] for g in group_ids[which]] for which in (marked, ~marked))
    assert not inside or not outside or min(inside) >= max(outside)


def test_no_fraction_or_no_alpha_is_the_plain_verdict() -> None:
    correct, num_tokens, group_ids = random_rows(3)
    for options in ({"fraction": 0.0}, {"alpha": 0.0, "fraction": 1.0}):
        assert torch.equal(selective_length_penalty(correct, num_tokens, group_ids, **options), correct.double())


def test_inside_a_penalised_group() -> None:
    """grpo-lambda-9: wrong 0, right in (1 - alpha, 1), falling with length, 1 - alpha/2 at the mean, scale-free."""
    correct, lengths = bools(1, 1, 1, 0), ints(300, 200, 100, 5)
    options = {"fraction": 1.0, "alpha": 0.6}
    result = selective_length_penalty(correct, lengths, ints(0, 0, 0, 0), **options)
    assert result[3] == 0
    assert 0.4 < result[0] < result[1] < result[2] < 1
    assert float(result[1]) == pytest.approx(0.7)
    for other in (lengths * 7, lengths + 900, ints(300, 200, 100, 9999)):
        moved = selective_length_penalty(correct, other, ints(0, 0, 0, 0), **options)
        torch.testing.assert_close(moved, result, rtol=1e-7, atol=1e-7)


def test_alpha_cancels_in_an_all_correct_group_and_a_right_row_can_still_lose_in_a_mixed_one() -> None:
    group = ints(0, 0, 0, 0)
    small, large = (
        group_normalised(
            selective_length_penalty(bools(1, 1, 1, 1), ints(1, 20, 30, 90), group, fraction=1.0, alpha=alpha), group
        )
        for alpha in (0.1, 0.9)
    )
    torch.testing.assert_close(small, large, rtol=1e-3, atol=0)
    assert abs(float(large.sum())) < 1e-12


def test_groups_without_signal_have_no_advantage() -> None:
    # all wrong and penalised; all right and not penalised; alone
    group_ids = ints(0, 0, 1, 1, 2)
    for correct, fraction in ((bools(0, 0, 0, 0, 0), 1.0), (bools(1, 1, 1, 1, 1), 0.0)):
        rewards = selective_length_penalty(correct, ints(5, 900, 3, 4, 7), group_ids, fraction=fraction)
        assert not group_normalised(rewards, group_ids).any()
    alone = selective_length_penalty(bools(1), ints(7), ints(2), fraction=1.0)
    assert group_normalised(alone, ints(2)).tolist() == [0.0]


def test_huge_lengths_do_not_overflow() -> None:
    result = selective_length_penalty(bools(1, 1, 0), ints(1, 1, 2**40), ints(0, 0, 0), fraction=1.0)
    torch.testing.assert_close(result, floats(0.9, 0.9, 0))


def test_bad_input() -> None:
    with pytest.raises(InputError, match="correct has no row"):
        selective_length_penalty(bools(), ints(), ints())
    rows = bools(1), ints(1), ints(0)
    for option, value in (
        ("fraction", -0.1), ("fraction", 1.1), ("alpha", 1.0), ("alpha", -0.1), ("rounding", "up"),
        ("min_accuracy", 2.0), ("tie_seed", -1),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=option):
            selective_length_penalty(*rows, **{option: value})  # type: ignore[arg-type]
