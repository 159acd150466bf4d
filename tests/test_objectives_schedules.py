"""The constant cap and the rounding that turns a schedule's number into tokens."""

from __future__ import annotations

import math

import pytest

from lengthwise.errors import ConfigError
from lengthwise.objectives import constant_cap, round_half_up


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
