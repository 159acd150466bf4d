"""Preference pairs (spec page ada-r1): the preferred group, pairs across groups and inside one."""

from __future__ import annotations

import pytest
import torch
from tensors import bools, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import group_pairs, instance_pairs, preferred_group


def first(right: int, of: int) -> torch.Tensor:
    return torch.arange(of) < right


@pytest.mark.parametrize(
    ("size", "right_long", "right_short", "epsilon", "expected"),
    [
        pytest.param(4, 2, 2, None, 0, id="ada-r1-row2-tie"),
        # 1/4 > 1/8
        pytest.param(4, 3, 2, None, 1, id="ada-r1-row3"),
        # 1/12 > 1/24
        pytest.param(12, 7, 6, None, 1, id="ada-r1-row4"),
        # 1/4 is not above 1/4
        pytest.param(4, 3, 2, 0.25, 0, id="ada-r1-row5-equality"),
        # .3 - .2 = .09999999999999998 and 8/10 - 7/10 = .10000000000000009 are both 1/10
        pytest.param(10, 3, 2, 0.1, 0, id="ada-r1-edge-equality-below"),
        pytest.param(10, 8, 7, 0.1, 0, id="ada-r1-edge-equality-above"),
        pytest.param(4, 0, 0, None, -1, id="ada-r1-formula-none"),
        pytest.param(4, 0, 0, 0.0, -1, id="ada-r1-formula-none-epsilon-0"),
        pytest.param(1, 1, 0, None, 1, id="ada-r1-edge-one-sample"),
        pytest.param(4, 4, 4, None, 0, id="ada-r1-all-correct"),
    ],
)
def test_preferred_group(size: int, right_long: int, right_short: int, epsilon: float | None, expected: int) -> None:
    assert preferred_group(first(right_long, size), first(right_short, size), epsilon=epsilon) == expected


def test_more_right_long_answers_never_turn_long_into_short() -> None:
    for short in range(1, 7):
        choices = [preferred_group(first(long, 6), first(short, 6), epsilon=0.2) for long in range(7)]
        assert choices == sorted(choices)


def test_groups_of_unlike_size_need_an_epsilon() -> None:
    with pytest.raises(InputError, match="correct_long has 4 entries but correct_short has 3; pass epsilon"):
        preferred_group(first(1, 4), first(1, 3))
    assert preferred_group(first(2, 4), first(1, 3), epsilon=0.1) == 1
    with pytest.raises(InputError, match="correct_short has no entry"):
        preferred_group(first(1, 4), bools())
    for epsilon in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="epsilon"):
            preferred_group(bools(1), bools(0), epsilon=epsilon)


@pytest.mark.parametrize(
    ("rows", "most", "expected"),
    [
        # shortest right 50; the longest are 200 and 90
        pytest.param([(0, 90), (1, 70), (1, 50), (0, 200)], 2, [[2, 3], [2, 0]], id="ada-r1-row6"),
        # the only right one is itself the longest and is not replaced
        pytest.param([(1, 500), (0, 100), (0, 80), (0, 60)], 2, [[0, 1]], id="ada-r1-row7"),
        pytest.param([(1, 5)], 2, [], id="ada-r1-edge-one-sample"),
        pytest.param([(0, 5), (0, 9)], 2, [], id="ada-r1-edge-none-correct"),
        # equal lengths: the first in the group, at both ends
        pytest.param([(1, 9), (1, 4), (1, 4), (0, 9), (0, 9)], 2, [[1, 0], [1, 3]], id="ada-r1-pipeline-ties"),
        pytest.param([(1, 9), (0, 4)], 9, [[0, 1]], id="ada-r1-most-above-the-group"),
    ],
)
def test_instance_pairs(rows: list[tuple[int, int]], most: int, expected: list[list[int]]) -> None:
    result = instance_pairs(bools(*(c for c, _ in rows)), ints(*(n for _, n in rows)), most=most)
    assert result.tolist() == expected
    assert result.shape[1] == 2


def test_narrow_instance_pairs_take_the_longest_of_the_right_ones() -> None:
    rows = bools(0, 1, 1, 0, 1), ints(90, 70, 50, 200, 60)
    assert instance_pairs(*rows, narrow=True).tolist() == [[2, 1], [2, 4]]
    # one right answer alone would be paired with itself in the authors' code
    assert instance_pairs(bools(1, 0), ints(5, 9), narrow=True).tolist() == []


def test_instance_pairs_invariants() -> None:
    """ada-r1-invariants 3 and 4: never across, y_w right, no longer than any right one, and not y_l."""
    make = torch.Generator().manual_seed(0)
    for _ in range(40):
        correct, num_tokens = torch.rand(7, generator=make) < 0.5, torch.randint(1, 12, (7,), generator=make)
        pairs = instance_pairs(correct, num_tokens, most=3)
        assert len(pairs) <= 3
        for winner, loser in pairs.tolist():
            assert winner != loser
            assert correct[winner]
            assert num_tokens[winner] == num_tokens[correct].min()


def test_group_pairs_are_drawn_without_repetition() -> None:
    """ada-r1-row8: 4 x 4 = 16 pairs in the pool, 4 kept; asked for more than there are, all of them."""
    verdicts = bools(1, 0, 1, 0), bools(0, 0, 1, 0)
    assert group_pairs(*verdicts, seed=0).shape == (4, 2)
    every = group_pairs(*verdicts, seed=0, most=99).tolist()
    assert sorted(every) == [[w, x] for w in range(4) for x in range(4)]
    draws = [group_pairs(*verdicts, seed=seed).tolist() for seed in range(200)]
    assert all(len({tuple(pair) for pair in draw}) == 4 for draw in draws)
    assert {tuple(pair) for draw in draws for pair in draw} == {tuple(pair) for pair in every}
    assert draws[7] == group_pairs(*verdicts, seed=7).tolist()


def test_group_pairs_of_unlike_sizes_and_of_one() -> None:
    assert sorted(group_pairs(bools(0, 0, 0), bools(1, 1), seed=1, most=9).tolist()) == [
        [w, x] for w in range(3) for x in range(2)
    ]
    assert group_pairs(bools(1), bools(0), seed=1).tolist() == [[0, 0]]
    assert group_pairs(bools(), bools(0), seed=1).shape == (0, 2)


def test_narrow_group_pairs_follow_the_code() -> None:
    pairs = group_pairs(bools(0, 1, 1), bools(1, 0, 1), seed=0, most=99, narrow=True).tolist()
    assert sorted(pairs) == [[1, 1], [2, 1]]
    # without a right one among the chosen, or a wrong one among the rejected, the whole group serves
    pairs = group_pairs(bools(0, 0), bools(1, 1), seed=0, most=99, narrow=True).tolist()
    assert sorted(pairs) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_bad_input_is_refused_by_name() -> None:
    for option, value in (("seed", -1), ("most", 0), ("most", 2.0)):
        with pytest.raises(ConfigError, match=option):
            group_pairs(bools(1), bools(0), **({"seed": 0} | {option: value}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="most"):
        instance_pairs(bools(1), ints(1), most=0)
    with pytest.raises(InputError, match=r"num_tokens\[0\] is -1"):
        instance_pairs(bools(1), ints(-1))
    with pytest.raises(ShapeError, match="correct_rejected"):
        group_pairs(bools(1), ints(0), seed=0)
    with pytest.raises(ShapeError, match="num_tokens has 2 entries"):
        instance_pairs(bools(1), ints(1, 2))
