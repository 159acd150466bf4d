"""Long and short mode (spec page adaptive-deep-reasoning): the preferred one, its reward, the switching loss."""

from __future__ import annotations

import math

import pytest
import torch
from tensors import bools, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import group_normalised, mode_reward, mode_switch, preferred_mode

IS_LONG = torch.tensor([True, True, False, False])
GROUP = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("verdicts", "mode", "rewards", "advantages"),
    [
        # mean .75, sample std sqrt(4 * .0625/3) = .288675
        pytest.param((1, 1, 1, 1), 0, [0.5, 0.5, 1, 1], [-0.8660, -0.8660, 0.8660, 0.8660],
                     id="adaptive-deep-reasoning-row1"),
        # mean .625, std sqrt((2 * .140625 + .015625 + .390625)/3) = .478714
        pytest.param((1, 1, 1, 0), 1, [1, 1, 0.5, 0], [0.7833, 0.7833, -0.2611, -1.3056],
                     id="adaptive-deep-reasoning-row2"),
        # a tie: short; mean .375, std .478714
        pytest.param((1, 0, 0, 1), 0, [0.5, 0, 0, 1], [0.2611, -0.7833, -0.7833, 1.3056],
                     id="adaptive-deep-reasoning-row3"),
        # mean .25, std .5
        pytest.param((0, 1, 0, 0), 1, [0, 1, 0, 0], [-0.5, 1.5, -0.5, -0.5], id="adaptive-deep-reasoning-row4"),
        pytest.param((0, 0, 0, 0), -1, [0, 0, 0, 0], [0, 0, 0, 0], id="adaptive-deep-reasoning-row5"),
    ],
)  # fmt: skip
def test_hand_numbers(verdicts: tuple[int, ...], mode: int, rewards: list[float], advantages: list[float]) -> None:
    correct = bools(*verdicts)
    assert preferred_mode(correct, IS_LONG, GROUP).tolist() == [mode] * 4
    result = mode_reward(correct, IS_LONG, GROUP)
    assert result.tolist() == rewards
    assert result.dtype == torch.float32
    expected = torch.tensor(advantages, dtype=torch.float32)
    torch.testing.assert_close(group_normalised(result, GROUP), expected, rtol=0, atol=5e-5)


def test_adaptive_deep_reasoning_row6() -> None:
    """R = 1 1 .5 -1: mean .375, std sqrt((2 * .390625 + .015625 + 1.890625)/3) = .946485."""
    result = mode_reward(bools(1, 1, 1, 0), IS_LONG, GROUP, r_wrong=-1.0)
    assert result.tolist() == [1, 1, 0.5, -1]
    expected = torch.tensor([0.6603, 0.6603, 0.1321, -1.4527])
    torch.testing.assert_close(group_normalised(result, GROUP), expected, rtol=0, atol=5e-5)


def test_tau_delta_and_all_wrong_are_reached_by_equality() -> None:
    is_long, group = bools(*[1] * 10, *[0] * 10), torch.zeros(20, dtype=torch.int64)

    def mode(right_long: int, right_short: int, **options: float | str) -> int:
        correct = torch.cat([torch.arange(10) < right_long, torch.arange(10) < right_short])
        return int(preferred_mode(correct, is_long, group, **options)[0])  # type: ignore[arg-type]

    assert [mode(10, 7), mode(10, 7, tau=0.7), mode(10, 6, tau=0.7)] == [1, 0, 1]
    # .9 - .6 is 0.30000000000000004 in floats and counts as .3
    assert [mode(9, 6, delta=0.3), mode(10, 6, delta=0.3), mode(8, 1, delta=0.7)] == [0, 1, 0]
    assert [mode(0, 0), mode(0, 0, on_all_wrong="long"), mode(0, 0, tau=0.0)] == [-1, 1, -1]


def test_against_a_loop_and_row_order() -> None:
    make = torch.Generator().manual_seed(0)
    group_ids = torch.arange(40) // 8
    is_long = torch.arange(40) % 2 == 0
    order = torch.randperm(40, generator=make)
    group_ids, is_long, correct = group_ids[order], is_long[order], torch.rand(40, generator=make) < 0.4
    expected_mode, expected = [], []
    for i in range(40):
        halves = [[bool(correct[j]) for j in range(40) if group_ids[j] == group_ids[i] and bool(is_long[j]) == side]
                  for side in (True, False)]  # fmt: skip
        long_right, short_right = sum(halves[0]), sum(halves[1])
        mode = -1 if long_right + short_right == 0 else int(short_right < 4 and long_right - short_right > 1)
        expected_mode.append(mode)
        expected.append((1.0 if mode == int(is_long[i]) else 0.75) if correct[i] else -0.5)
    options = {"delta": 0.25}
    assert preferred_mode(correct, is_long, group_ids, **options).tolist() == expected_mode
    assert mode_reward(correct, is_long, group_ids, rho=0.25, r_wrong=-0.5, **options).tolist() == expected


def test_swapping_the_halves_swaps_the_mode_and_right_never_earns_less() -> None:
    make = torch.Generator().manual_seed(1)
    is_long = torch.arange(8) < 4
    for _ in range(40):
        correct = torch.rand(8, generator=make) < 0.5
        group = torch.zeros(8, dtype=torch.int64)
        if correct[:4].sum() != correct[4:].sum():
            one, other = (int(preferred_mode(correct, side, group)[0]) for side in (is_long, ~is_long))
            assert {one, other} == {0, 1}
        result = mode_reward(correct, is_long, group, rho=0.9)
        if correct.any() and not correct.all():
            assert result[correct].min() > result[~correct].max()


def test_no_deduction_leaves_no_advantage_where_all_are_right() -> None:
    assert not group_normalised(mode_reward(bools(1, 1, 1, 1), IS_LONG, GROUP, rho=0.0), GROUP).any()
    assert preferred_mode(bools(1, 1, 1, 1), IS_LONG, GROUP)[0] == 0
    assert mode_reward(bools(), bools(), ints()).shape == (0,)


@pytest.mark.parametrize(
    ("is_long", "group_ids", "message"),
    [
        ((1, 0, 0), (7, 7, 7), "group 7 has 1 long rows of 3"),  # odd
        ((1, 1, 1, 0), (0, 0, 4, 4), "group 0 has 2 long rows of 2"),
        ((1,), (3,), "group 3 has 1 long rows of 1"),
    ],
)
def test_groups_that_are_not_half_long_are_refused(
    is_long: tuple[int, ...], group_ids: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        mode_reward(bools(*[1] * len(is_long)), bools(*is_long), ints(*group_ids))


def test_mode_options_out_of_range_are_refused() -> None:
    for option, value in (
        ("rho", 1.0), ("rho", -0.1), ("tau", 1.1), ("delta", -0.1), ("r_wrong", 0.5), ("on_all_wrong", "short"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=option):
            mode_reward(bools(1, 1, 1, 1), IS_LONG, GROUP, **{option: value})  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="is_long"):
        preferred_mode(bools(1), ints(1), ints(0))


# ---- mode_switch ------------------------------------------------------------------------------------------


def switch(lead: float, mode: int = 1, **options: float | str) -> tuple[float, list[float]]:
    """One prompt, three tokens: 0 opens long, 2 opens short, 1 is another; the preferred one leads by ``lead``."""
    logits = torch.zeros(1, 3, dtype=torch.float64)
    logits[0, 0 if mode == 1 else 2] = lead
    logits += 4.0
    logits.requires_grad_()
    loss = mode_switch(logits, ints(mode), long_token=0, short_token=2, **options)  # type: ignore[arg-type]
    loss.backward()
    assert logits.grad is not None
    return float(loss.detach()), logits.grad[0].tolist()


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize(
    ("lead", "loss", "slope"),
    [
        # log(1 + exp(-d)), -(1 - sigma(d))
        pytest.param(0, 0.693147, -0.5, id="adaptive-deep-reasoning-ce-0"),
        pytest.param(1, 0.313262, -0.268941, id="adaptive-deep-reasoning-ce-1"),
        pytest.param(-1, 1.313262, -0.731059, id="adaptive-deep-reasoning-ce--1"),
        pytest.param(-80, 80, -1, id="adaptive-deep-reasoning-ce--80"),
    ],
)
def test_switch_cross_entropy(lead: float, loss: float, slope: float, mode: int) -> None:
    value, gradient = switch(lead, mode)
    assert value == pytest.approx(loss, abs=5e-7)
    expected = [slope, 0, -slope] if mode == 1 else [-slope, 0, slope]
    assert gradient == pytest.approx(expected, abs=5e-7)
    assert gradient[1] == 0


def test_switch_far_ahead_stays_finite() -> None:
    # log(1 + e^-80) = e^-80 = 1.8e-35
    value, gradient = switch(80)
    assert value == pytest.approx(math.exp(-80), rel=1e-9)
    assert gradient[0] == pytest.approx(-math.exp(-80), rel=1e-9)
    single = mode_switch(torch.tensor([[80.0, 0.0]]), ints(1), long_token=0, short_token=1)
    assert float(single) == pytest.approx(math.exp(-80), rel=1e-5)


@pytest.mark.parametrize(
    ("lead", "loss", "slope"),
    # margin 1 - d; flat from d = 1 on
    [
        pytest.param(-1, 2, -1, id="adaptive-deep-reasoning-hinge--1"),
        pytest.param(0, 1, -1, id="adaptive-deep-reasoning-hinge-0"),
        pytest.param(1, 0, 0, id="adaptive-deep-reasoning-hinge-1"),
    ],
)
def test_switch_hinge(lead: float, loss: float, slope: float) -> None:
    value, gradient = switch(lead, kind="hinge")
    assert value == loss
    assert gradient == pytest.approx([slope, 0, -slope], abs=0)


def test_switch_nll_is_that_of_the_preferred_opener_among_all_tokens() -> None:
    # z = 0, 0, ln 2 (mode short): softmax 1/4, 1/4, 1/2; the slope is softmax less one-hot
    value, gradient = switch(math.log(2), 0, kind="nll")
    assert value == pytest.approx(math.log(2), abs=1e-12)
    assert gradient == pytest.approx([0.25, 0.25, -0.5], abs=1e-12)
    far = torch.tensor([[-80.0, 0.0, -torch.inf]], requires_grad=True)
    loss = mode_switch(far, ints(1), long_token=0, short_token=1, kind="nll")
    loss.backward()
    assert float(loss.detach()) == 80 and far.grad is not None and far.grad.tolist() == [[-1, 1, 0]]


def test_prompts_without_a_mode_are_left_out_and_none_at_all_gives_zero() -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    tokens = {"long_token": 1, "short_token": 4}
    some = mode_switch(logits, ints(1, -1, 0, -1), **tokens)
    two = mode_switch(logits[[0, 2]], ints(1, 0), **tokens)
    assert torch.equal(some, two)
    (gradient,) = torch.autograd.grad(some, logits)
    assert not gradient[[1, 3]].any()
    assert not gradient[:, [0, 2, 3, 5]].any()
    torch.testing.assert_close(gradient.sum(1), torch.zeros(4, dtype=torch.float64))
    for none in (mode_switch(logits, ints(-1, -1, -1, -1), **tokens), mode_switch(logits[:0], ints(), **tokens)):
        assert none == 0
        assert not torch.autograd.grad(none, logits)[0].any()


@pytest.mark.parametrize("kind", ["ce", "hinge", "nll"])
def test_switch_against_finite_differences_a_constant_and_a_split(kind: str) -> None:
    make = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 6, generator=make, dtype=torch.float64)
    mode, options = ints(1, 0, -1, 1, 0), {"long_token": 5, "short_token": 0, "kind": kind}
    assert torch.autograd.gradcheck(lambda z: mode_switch(z, mode, **options), (logits.requires_grad_(),))  # type: ignore[arg-type]
    whole = mode_switch(logits, mode, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(mode_switch(logits + 3.0, mode, **options), whole)  # type: ignore[arg-type]
    parts = sum(mode_switch(logits[p], mode[p], normaliser=4, **options) for p in (slice(0, 2), slice(2, 5)))  # type: ignore[arg-type,misc]
    torch.testing.assert_close(parts, whole)


def test_switch_input_is_checked() -> None:
    logits, mode = torch.zeros(1, 3), ints(1)
    for options in ({"long_token": 1, "short_token": 1}, {"long_token": 3, "short_token": 1},
                    {"long_token": 0, "short_token": -1}):  # fmt: skip
        with pytest.raises(ConfigError, match="token"):
            mode_switch(logits, mode, **options)
    tokens = {"long_token": 0, "short_token": 1}
    for option, value in (("kind", "mse"), ("margin", -1.0), ("normaliser", 0)):
        with pytest.raises(ConfigError, match=option):
            mode_switch(logits, mode, **tokens, **{option: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mode\[0\] is 2"):
        mode_switch(logits, ints(2), **tokens)
    with pytest.raises(InputError, match="first_logits of an opener"):
        mode_switch(torch.tensor([[math.nan, 0.0]]), mode, **tokens)
    for bad in (torch.zeros(3), torch.zeros(1, 3, dtype=torch.bfloat16), torch.zeros(2, 3)):
        with pytest.raises(ShapeError):
            mode_switch(bad, mode, **tokens)
