"""Schedules of the cap (spec page siri) and the rounding that turns their numbers into tokens."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lengthwise.errors import ConfigError
from lengthwise.objectives import (
    constant_cap,
    cosine_cap,
    group_normalised,
    round_half_up,
    stair_cap,
    stair_cosine_cap,
    truncation,
)

CAPS = {"longest": 16384, "shortest": 8192}
SHAPES = {"cosine": cosine_cap, "stair": stair_cap, "stair-cosine": stair_cosine_cap}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def test_constant_cap_is_a_float_at_every_step() -> None:
    caps = [constant_cap(step, cap=4000) for step in (0, 1, 10**6)]
    assert caps == [4000.0] * 3
    assert isinstance(caps[0], float)


@pytest.mark.parametrize("cap", [0, 0.5, -4, math.nan, math.inf, "4000", None, True])
def test_caps_below_one_token_are_refused(cap: object) -> None:
    with pytest.raises(ConfigError, match="cap"):
        constant_cap(0, cap=cap)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [-1, 1.0, "1", True])
def test_steps_that_do_not_count_are_refused(step: object) -> None:
    with pytest.raises(ConfigError, match="step"):
        constant_cap(step, cap=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "expected"),
    # floor(x + 1/2); the last is the largest float below 1/2, where adding 1/2 in floats gives 1
    [(2.5, 3), (3.5, 4), (2.4, 2), (2.6, 3), (-2.5, -2), (-2.6, -3), (7, 7), (0.49999999999999994, 0)],
)
def test_round_half_up(x: float, expected: int) -> None:
    rounded = round_half_up(x)
    assert rounded == expected
    assert type(rounded) is int


@pytest.mark.parametrize("x", [math.nan, math.inf, "1", None])
def test_only_finite_numbers_round(x: object) -> None:
    with pytest.raises(ConfigError, match="x is"):
        round_half_up(x)  # type: ignore[arg-type]


# ---- SIRI's cycles ----------------------------------------------------------------------------------------


# m = 12288, h = 4096; cos of 2 pi t/640 at t = 80 is .707107, at 120 .382683, at 240 -.707107, at 639 .999952;
# stair-cosine at t = 120: cos(2 (3 pi/8 - pi/4)) = cos(pi/4); 1000 is 360 of the second cycle
SIRI_TABLE = [
    (0, 16384, 8192, 16384),
    (80, 15184.3094, 8192, 16384),
    (120, 13855.4713, 8192, 15184.3094),
    (160, 12288, 8192, 12288),
    (200, 10720.5287, 8192, 9391.6906),
    (240, 9391.6906, 8192, 8192),
    (320, 8192, 16384, 8192),
    (440, 10720.5287, 16384, 9391.6906),
    (480, 12288, 16384, 12288),
    (560, 15184.3094, 16384, 16384),
    (639, 16383.8026, 16384, 16384),
    (1000, 8503.7894, 16384, 8192),
]


@pytest.mark.parametrize(
    ("step", "cosine", "stair", "stair_cosine"), SIRI_TABLE, ids=[f"siri-8-t={row[0]}" for row in SIRI_TABLE]
)
def test_siri_hand_numbers(step: int, cosine: float, stair: float, stair_cosine: float) -> None:
    caps = [shape(step, cycle=640, **CAPS) for shape in SHAPES.values()]
    assert caps == pytest.approx([cosine, stair, stair_cosine], abs=5e-5)


def test_siri_8_caps_used_and_the_advantage_of_a_lone_success() -> None:
    assert [round_half_up(cosine_cap(step, cycle=640, **CAPS)) for step in (120, 240)] == [13855, 9392]
    # mean .25, sample std .5: .75/.500001, -.25/.500001
    advantage = group_normalised(torch.tensor([1.0, 0, 0, 0], dtype=torch.float64), torch.zeros(4, dtype=torch.int64))
    assert advantage.tolist() == pytest.approx([1.499997, -0.499999, -0.499999, -0.499999], abs=1e-6)


@shapes
@pytest.mark.parametrize("cycle", [1, 2, 3, 5, 8, 12, 640])
def test_cycles_repeat_inside_their_bounds(shape: object, cycle: int) -> None:
    for longest, shortest in ((16384, 8192), (0.1 + 0.2 + 9, 1.1), (7, 7)):
        caps = [shape(step, longest=longest, shortest=shortest, cycle=cycle) for step in range(2 * cycle)]  # type: ignore[operator]
        assert all(shortest <= cap <= longest for cap in caps)
        assert caps[:cycle] == caps[cycle:]
        assert all(type(cap) is float for cap in caps)
        if longest == shortest:
            assert set(caps) == {7.0}


@pytest.mark.parametrize("shape", [cosine_cap, stair_cosine_cap], ids=["cosine", "stair-cosine"])
def test_smooth_cycles_start_long_and_are_symmetric(shape: object) -> None:
    caps = [shape(step, cycle=640, **CAPS) for step in range(641)]  # type: ignore[operator]
    assert (caps[0], caps[320]) == (16384, 8192)
    assert caps[160] == pytest.approx(12288)
    assert caps == pytest.approx(caps[::-1])


def test_largest_steps_and_plateaus() -> None:
    """siri-9: 40.2117, 8192, 80.4196; stair-cosine rests 161 whole steps at each level, both ends counted."""
    for shape, largest in zip(SHAPES.values(), (40.2117, 8192, 80.4196), strict=True):
        caps = [shape(step, cycle=640, **CAPS) for step in range(641)]
        assert max(abs(a - b) for a, b in itertools.pairwise(caps)) == pytest.approx(largest, abs=5e-5)
    caps = [stair_cosine_cap(step, cycle=640, **CAPS) for step in range(240, 401)]
    assert caps == pytest.approx([8192] * 161)
    assert stair_cosine_cap(239, cycle=640, **CAPS) > 8192
    assert [stair_cosine_cap(step, cycle=640, **CAPS) for step in range(560, 721)] == pytest.approx([16384] * 161)


@pytest.mark.parametrize("cycle", [2, 4, 8, 12, 640])
def test_mean_over_a_cycle_is_the_midpoint(cycle: int) -> None:
    for name, shape in SHAPES.items():
        if name != "stair-cosine" or cycle % 4 == 0:
            caps = [shape(step, cycle=cycle, **CAPS) for step in range(cycle)]
            assert sum(caps) / cycle == pytest.approx(12288)


def test_an_odd_stair_is_low_for_the_larger_half_and_can_start_high() -> None:
    caps = [stair_cap(step, longest=9, shortest=3, cycle=5) for step in range(5)]
    assert caps == [3, 3, 3, 9, 9]
    assert [stair_cap(step, longest=9, shortest=3, cycle=4, first="expansion") for step in range(4)] == [9, 9, 3, 3]
    with pytest.raises(ConfigError, match="first is 'long'; choose one of compression, expansion"):
        stair_cap(0, longest=9, shortest=3, cycle=4, first="long")


def test_the_reward_never_falls_when_the_cap_grows() -> None:
    """siri-9 and siri-7: R in {0, 1}; an answer that ends exactly on the cap counts."""
    rows = torch.tensor([True]), torch.tensor([50]), torch.tensor([True])
    rewards = [float(truncation(*rows, limit=cap)) for cap in range(1, 100)]
    assert rewards == [0.0] * 49 + [1.0] * 50


@shapes
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("cycle", 0), ("cycle", 2.0), ("shortest", 0.5), ("shortest", 9000), ("longest", math.nan), ("longest", 0),
        ("step", -1),
    ],
)  # fmt: skip
def test_impossible_cycles_are_refused(shape: object, argument: str, value: object) -> None:
    arguments = {"step": 0, "longest": 8000, "shortest": 4000, "cycle": 8} | {argument: value}
    with pytest.raises(ConfigError, match=argument):
        shape(**arguments)  # type: ignore[operator]
