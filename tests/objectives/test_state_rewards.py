"""Rewards with a memory (spec page length-rewards): HAPO, Laser and its targets, A-DLP."""

from __future__ import annotations

import math

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    adaptive_weight,
    difficulty_tier,
    history_length,
    linear_price,
    step_bonus,
    tier_targets,
    updated_history,
    updated_weight,
)

# ---- HAPO -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tokens", "correct", "wrong"),
    [
        # h = 1000: cos(pi/4); cos(pi/2); cos(3 pi/4) = -.7071, at least -.7; beyond 2h: -1, at least -.7
        pytest.param(500, 0.7071, 0, id="length-rewards-6-hapo-.5"),
        pytest.param(1000, 0, 0, id="length-rewards-6-hapo-1"),
        pytest.param(1500, -0.7, -0.7071, id="length-rewards-6-hapo-1.5"),
        pytest.param(3000, -0.7, -1, id="length-rewards-6-hapo-3"),
        pytest.param(2000, -0.7, -1, id="length-rewards-5-hapo-n=2h"),
    ],
)
def test_hapo_cosine_length_part(num_tokens: int, correct: float, wrong: float) -> None:
    for weight in (1.0, 0.5):
        result = history_length(bools(1, 0), ints(num_tokens, num_tokens), ints(1000, 1000), weight=weight)
        expected = floats(1 + weight * correct, weight * wrong)
        torch.testing.assert_close(result, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("num_tokens", "correct", "wrong"),
    # h = 1000, free up to 1100: 1 - .4; 0; 0; -(1300 - 1100)/1000; -(1900 - 1100)/1000 floored at -.7; at -1
    [(400, 0.6, 0), (1000, 0, 0), (1100, 0, 0), (1300, -0.2, -0.2), (1900, -0.7, -0.8), (9000, -0.7, -1)],
)
def test_hapo_linear_length_part(num_tokens: int, correct: float, wrong: float) -> None:
    result = history_length(bools(1, 0), ints(num_tokens, num_tokens), ints(1000, 1000), form="linear")
    torch.testing.assert_close(result, floats(1 + correct, wrong))


def test_without_a_history_the_length_part_is_zero() -> None:
    for form in ("cosine", "linear"):
        result = history_length(bools(1, 0), ints(5, 9000), ints(0, 0), form=form)
        assert result.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("form", ["cosine", "linear"])
def test_hapo_against_a_loop_and_inside_its_range(form: str) -> None:
    make = torch.Generator().manual_seed(0)
    correct = torch.rand(200, generator=make) < 0.5
    num_tokens, shortest = (torch.randint(0, 100, (200,), generator=make) for _ in range(2))
    expected = []
    for c, n, h in zip(correct.tolist(), num_tokens.tolist(), shortest.tolist(), strict=True):
        if h == 0:
            part = 0.0
        elif form == "cosine":
            q = math.cos(math.pi / 2 * n / h) if n < 2 * h else -1.0
            part = max(q, -0.7) if c else min(q, 0.0)
        elif n < h:
            part = 1 - n / h if c else 0.0
        else:
            part = max(-max(n - 1.1 * h, 0.0) / h, -0.7 if c else -1.0)
        expected.append(c + 0.8 * part)
    result = history_length(correct, num_tokens, shortest, weight=0.8, form=form)
    torch.testing.assert_close(result, floats(*expected))
    assert result.min() >= -0.8
    assert result.max() <= 1.8


def test_history_takes_the_shortest_right_answer_of_each_problem() -> None:
    # problem 7: 400 known, 300 right, 200 wrong; 8: nothing known, 50 right; 9: nothing known, none right
    shortest = updated_history(
        ints(400, 400, 0, 0, 0), bools(1, 0, 1, 1, 0), ints(300, 200, 50, 90, 10), ints(7, 7, 8, 8, 9)
    )
    assert shortest.tolist() == [300, 300, 50, 50, 0]


def test_history_never_rises_and_takes_the_smallest_of_several_workers() -> None:
    assert updated_history(ints(40, 60, 0), bools(1, 1, 1), ints(90, 80, 70), ints(1, 1, 1)).tolist() == [40, 40, 40]
    # a right answer of no token cannot be a measure
    assert updated_history(ints(0), bools(1), ints(0), ints(1)).tolist() == [0]
    assert updated_history(ints(), bools(), ints(), ints()).shape == (0,)


def test_the_batch_is_scored_with_the_old_history() -> None:
    # two batches of one problem, 100 then 50 tokens: no part; then n/h = .5 against the old 100, not against 50
    known = ints(0)
    first = history_length(bools(1), ints(100), known)
    known = updated_history(known, bools(1), ints(100), ints(3))
    second = history_length(bools(1), ints(50), known)
    torch.testing.assert_close(torch.cat([first, second]), floats(1, 1 + math.cos(math.pi / 4)))
    assert updated_history(known, bools(1), ints(50), ints(3)).tolist() == [50]


# ---- Laser ------------------------------------------------------------------------------------------------


def test_laser_pays_right_answers_within_the_target() -> None:
    # right at the target, right above, wrong within, cut within
    rows = bools(1, 1, 0, 0), ints(4096, 4097, 10, 10), bools(1, 1, 1, 0)
    assert step_bonus(*rows, target=4096).tolist() == [1.5, 1.0, 0.0, 0.0]
    authors = step_bonus(*rows, target=4096, base=(1.0, -0.5, -1.0))
    assert authors.tolist() == [1.5, 1.0, -0.5, -1.0]
    assert step_bonus(*rows, target=ints(4095, 4097, 1, 1), bonus=0.25).tolist() == [1.0, 1.25, 0.0, 0.0]


def test_a_right_answer_that_was_cut_counts_as_cut() -> None:
    result = step_bonus(bools(1), ints(5), bools(0), target=9, base=(1.0, 0.0, -0.25))
    assert result.tolist() == [-0.25]


def test_laser_de_pays_long_wrong_answers_that_neither_were_cut_nor_repeat() -> None:
    # wrong and long; the same within the target; cut; repetitive; right and long
    result = step_bonus(
        bools(0, 0, 0, 0, 1), ints(200, 100, 200, 200, 200), bools(1, 1, 0, 1, 1), target=100,
        repetitive=bools(0, 0, 0, 1, 0),
    )  # fmt: skip
    assert result.tolist() == [0.5, 0.0, 0.0, 0.0, 1.0]


def test_tiers_by_share_of_right_answers() -> None:
    # 2/3 and 4/6 reach high, 1/3 medium; 2/6 medium; alone and right high; none low
    group_ids = ints(0, 0, 0, 1, 1, 1, 2, 3, *[4] * 6, *[5] * 6)
    correct = bools(1, 1, 0, 1, 0, 0, 1, 0, *[1] * 4, *[0] * 2, *[1] * 2, *[0] * 4)
    assert difficulty_tier(correct, group_ids).tolist() == [2] * 3 + [1] * 3 + [2, 0] + [2] * 6 + [1] * 6
    assert difficulty_tier(bools(), ints()).shape == (0,)


def test_tier_targets_hand_numbers() -> None:
    """length-rewards-3: K 8 gives n_low 5 (high), 2 (medium), 1 (low): at least 1/5, 1/2 and all within."""
    num_tokens = ints(10, 90, 90, 90, 90, 20, 90, 20, 30)
    tiers = ints(2, 2, 2, 2, 2, 1, 1, 0, 0)
    # high: 1 of 5 within 15, int(.2 * 5) = 1; medium: 1 of 2 within 25; low: both within 35 only
    targets = tier_targets(num_tokens, tiers, thresholds=(15, 25, 35, 95), group_size=8, fallback=100)
    assert targets.tolist() == [35, 25, 15]


def test_only_thresholds_below_the_fallback_count() -> None:
    rows = ints(10, 90), ints(2, 0)
    assert tier_targets(*rows, thresholds=(50, 100, 200), group_size=8, fallback=100).tolist() == [100, 100, 50]
    assert tier_targets(*rows, thresholds=(), group_size=8, fallback=100).tolist() == [100, 100, 100]
    # K = 2: int(4/3) = 1, int(2/3) = 0: the medium tier never reaches a threshold
    assert tier_targets(ints(10, 10), ints(2, 1), thresholds=(50,), group_size=2, fallback=100).tolist()[1:] == [
        100,
        50,
    ]
    assert tier_targets(ints(), ints(), thresholds=(5,), group_size=8, fallback=9).tolist() == [9, 9, 9]


def test_tier_targets_against_a_loop() -> None:
    make = torch.Generator().manual_seed(1)
    for size in (1, 2, 3, 8, 9):
        num_tokens, tiers = torch.randint(0, 100, (40,), generator=make), torch.randint(0, 3, (40,), generator=make)
        expected = []
        for tier, low in ((0, 1), (1, int(size / 3)), (2, int(size * 2 / 3))):
            lengths = [int(n) for n, t in zip(num_tokens, tiers, strict=True) if t == tier]
            found = 80
            for threshold in (70, 50, 30, 10):
                if math.floor(sum(n <= threshold for n in lengths) * low / len(lengths) + 1e-12) >= 1:
                    found = threshold
            expected.append(found)
        result = tier_targets(num_tokens, tiers, thresholds=(10, 30, 50, 70, 90), group_size=size, fallback=80)
        assert result.tolist() == expected


def test_laser_d_takes_the_target_of_its_tier() -> None:
    # group 0 high with target 50, group 1 low with target 200
    correct, group_ids = bools(1, 1, 1, 0, 0, 0), ints(0, 0, 0, 1, 1, 1)
    targets = ints(200, 100, 50)[difficulty_tier(correct, group_ids)]
    assert targets.tolist() == [50] * 3 + [200] * 3
    result = step_bonus(correct, ints(40, 60, 50, 10, 10, 10), bools(*[1] * 6), target=targets)
    assert result.tolist() == [1.5, 1.0, 1.5, 0.0, 0.0, 0.0]


# ---- A-DLP ------------------------------------------------------------------------------------------------


def test_a_dlp_uses_the_old_weight_and_then_moves_it() -> None:
    correct, num_tokens = bools(1, 1, 1, 0), ints(100, 200, 300, 400)
    result = adaptive_weight(correct, num_tokens, weight=1e-3)
    torch.testing.assert_close(result, floats(0.9, 0.8, 0.7, -0.4))
    assert torch.equal(result, linear_price(correct, num_tokens, price=1e-3))
    # 1e-3 + .01 * (.75 - .5); 1e-3 + .01 * (.75 - .95) < 0
    assert updated_weight(1e-3, correct, rate=0.01, reference_accuracy=0.5) == pytest.approx(3.5e-3)
    assert updated_weight(1e-3, correct, rate=0.01, reference_accuracy=0.95) == 0.0
    assert updated_weight(1e-3, correct, rate=0.01, reference_accuracy=0.75) == 1e-3


# ---- bad input --------------------------------------------------------------------------------------------


def test_bad_input_is_refused_by_name() -> None:
    row = bools(1), ints(5)
    for option, value in (("weight", -1.0), ("form", "sine"), ("tolerance", -0.1)):
        with pytest.raises(ConfigError, match=option):
            history_length(*row, ints(5), **{option: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"shortest\[0\] is -5"):
        history_length(*row, ints(-5))
    with pytest.raises(ShapeError, match="shortest has 2 entries"):
        history_length(*row, ints(5, 5))
    with pytest.raises(ShapeError, match="problem_ids"):
        updated_history(ints(5), *row, floats(1))
    for options in ({"target": 0}, {"target": 5, "bonus": -1.0}, {"target": 5, "base": (1.0, 0.0)},
                    {"target": 5, "base": (1.0, 0.0, math.nan)}):  # fmt: skip
        with pytest.raises(ConfigError, match=list(options)[-1]):
            step_bonus(*row, bools(1), **options)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="repetitive"):
        step_bonus(*row, bools(1), target=5, repetitive=ints(1))
    with pytest.raises(InputError, match=r"tiers\[0\] is 3"):
        tier_targets(ints(5), ints(3), thresholds=(1,), group_size=8, fallback=9)
    for options in ({"thresholds": (2, 1)}, {"thresholds": (0,)}, {"group_size": 0}, {"fallback": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            tier_targets(ints(5), ints(0), **({"thresholds": (1,), "group_size": 8, "fallback": 9} | options))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="weight is -1"):
        adaptive_weight(*row, weight=-1)
    with pytest.raises(InputError, match="correct has no row"):
        updated_weight(0.1, bools(), rate=0.1, reference_accuracy=0.5)
    for options in ({"rate": -1.0}, {"reference_accuracy": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            updated_weight(0.1, bools(1), **({"rate": 0.1, "reference_accuracy": 0.5} | options))
