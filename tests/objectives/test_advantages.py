"""Advantages against hand numbers (spec page dler), naive loops, invariants and edge cases."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import pytest
import torch
from tensors import floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    batch_normalised,
    group_normalised,
    kept_share,
    leave_one_out,
    mixed_groups,
    truncation,
)


def mask_of(num_tokens: list[int], width: int | None = None) -> torch.Tensor:
    return torch.arange(width or max(num_tokens))[None, :] < torch.tensor(num_tokens)[:, None]


def random_batch(seed: int, rows: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards, shuffled group ids of uneven size (some of one row) and a mask with 1 to 9 tokens per row."""
    make = torch.Generator().manual_seed(seed)
    rewards = torch.randn(rows, generator=make, dtype=torch.float64)
    group_ids = torch.randint(-5, 9, (rows,), generator=make)
    group_ids[0] = 100
    mask = mask_of(torch.randint(1, 10, (rows,), generator=make).tolist(), 11)
    return rewards, group_ids, mask


def members(group_ids: torch.Tensor, row: int) -> list[int]:
    return [j for j in range(len(group_ids)) if group_ids[j] == group_ids[row]]


ROWWISE: list[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = [group_normalised, leave_one_out]
ROWWISE.append(lambda rewards, ids: group_normalised(rewards, ids, divide_by_std=False))
rowwise = pytest.mark.parametrize("advantage", ROWWISE, ids=["grpo", "rloo", "centred"])


# ---- group_normalised and leave_one_out -------------------------------------------------------------------


def test_dler_8_grpo_row() -> None:
    """Mean .25, sample std sqrt((.75^2 + 3 * .25^2)/3) = .5; .75/.500001, -.25/.500001."""
    advantage = group_normalised(floats(1, 0, 0, 0), ints(0, 0, 0, 0))
    torch.testing.assert_close(advantage, floats(1.499997, -0.499999, -0.499999, -0.499999), rtol=0, atol=1e-6)


def test_leave_one_out_hand_numbers() -> None:
    # 1 - (0+0+0)/3 = 1; 0 - (1+0+0)/3 = -1/3
    advantage = leave_one_out(floats(1, 0, 0, 0), ints(7, 7, 7, 7))
    torch.testing.assert_close(advantage, floats(1, -1 / 3, -1 / 3, -1 / 3))


def test_dler_9_lone_success_against_an_even_group() -> None:
    """Centred 15/16 and 1/2, ratio 1.875; GRPO 3.75 and .968."""
    rewards = torch.cat([floats(1, *[0] * 15), floats(*[1] * 8, *[0] * 8)])
    group_ids = ints(*[0] * 16, *[1] * 16)
    centred = group_normalised(rewards, group_ids, divide_by_std=False)
    assert float(centred[0] / centred[16]) == pytest.approx(1.875)
    grpo = group_normalised(rewards, group_ids)
    # lone: (15/16)/sqrt((15/16)(1/16)(16/15)) = (15/16)/(1/4); even: .5/(sqrt(16 * .25/15) + 1e-6) = .5/.516399
    assert float(grpo[0]) == pytest.approx(3.75, abs=2e-5)
    assert float(grpo[16]) == pytest.approx(0.968244, abs=2e-6)


@pytest.mark.parametrize("divide_by_std", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_group_normalised_against_a_loop(divide_by_std: bool, seed: int) -> None:
    rewards, group_ids, _ = random_batch(seed)
    expected = []
    for row in range(len(rewards)):
        group = [float(rewards[j]) for j in members(group_ids, row)]
        centre = float(rewards[row]) - sum(group) / len(group)
        spread = statistics.stdev(group) + 1e-6 if len(group) > 1 else 1.0
        expected.append(centre / spread if divide_by_std else centre)
    result = group_normalised(rewards, group_ids, divide_by_std=divide_by_std)
    torch.testing.assert_close(result, floats(*expected))


@pytest.mark.parametrize("seed", range(3))
def test_leave_one_out_against_a_loop(seed: int) -> None:
    rewards, group_ids, _ = random_batch(seed)
    expected = []
    for row in range(len(rewards)):
        others = [float(rewards[j]) for j in members(group_ids, row) if j != row]
        expected.append(float(rewards[row]) - sum(others) / len(others) if others else 0.0)
    torch.testing.assert_close(leave_one_out(rewards, group_ids), floats(*expected))


@rowwise
def test_groups_sum_to_zero_and_ignore_a_constant(advantage: Callable[..., torch.Tensor]) -> None:
    rewards, group_ids, _ = random_batch(4)
    result = advantage(rewards, group_ids)
    for group in group_ids.unique():
        assert abs(float(result[group_ids == group].sum())) < 1e-9
    shifted = rewards + 3.0 * (group_ids == group_ids[1])
    torch.testing.assert_close(advantage(shifted, group_ids), result)


@rowwise
def test_group_of_one_and_equal_rewards_get_exactly_zero(advantage: Callable[..., torch.Tensor]) -> None:
    # a group of one, an all-correct, an all-wrong and an equal group whose mean is not a float
    result = advantage(floats(0.7, 1, 1, 0, 0, 0.1, 0.1, 0.1), ints(0, 1, 1, 2, 2, 3, 3, 3))
    assert result.tolist() == [0.0] * 8


@rowwise
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_with_float_noise_stay_below_1e_6(
    advantage: Callable[..., torch.Tensor], dtype: torch.dtype
) -> None:
    # .1 + .2 and .3 differ by one rounding in float64 and 1/3 * 3 may in float32
    noisy = torch.tensor([0.1, 0.3, 0.3], dtype=dtype) + torch.tensor([0.2, 0.0, 0.0], dtype=dtype)
    noisy = torch.cat([noisy, torch.nextafter(noisy[:1], torch.tensor([1.0], dtype=dtype))])
    assert noisy.unique().numel() > 1
    assert advantage(noisy, ints(0, 0, 0, 0)).abs().max() <= 1e-6


def test_a_small_but_real_difference_is_not_taken_for_noise() -> None:
    # length weight 1e-9 with lengths 1000 apart in float64: std of (0, 1e-6) is 7.07e-7, so .5e-6/1.707e-6
    result = group_normalised(floats(1, 1 - 1e-6), ints(0, 0))
    assert float(result[0]) == pytest.approx(0.5e-6 / (0.5e-6 * math.sqrt(2) + 1e-6), rel=1e-6)


@rowwise
def test_rows_may_come_in_any_order_and_empty_gives_empty(advantage: Callable[..., torch.Tensor]) -> None:
    rewards, group_ids, _ = random_batch(5)
    order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(advantage(rewards[order], group_ids[order]), advantage(rewards, group_ids)[order])
    assert advantage(floats(), ints()).shape == (0,)


@rowwise
def test_dtype_is_kept_and_no_gradient_flows(advantage: Callable[..., torch.Tensor]) -> None:
    rewards = torch.tensor([1.0, 0.0], requires_grad=True)
    result = advantage(rewards, ints(0, 0))
    assert result.dtype == torch.float32
    assert not result.requires_grad


@rowwise
def test_bad_rows_are_refused(advantage: Callable[..., torch.Tensor]) -> None:
    for rewards in (ints(1, 0), torch.tensor([1.0, 0.0], dtype=torch.bfloat16), [1.0, 0.0], torch.zeros(2, 1)):
        with pytest.raises(ShapeError, match="rewards"):
            advantage(rewards, ints(0, 0))
    with pytest.raises(ShapeError, match="group_ids has 3 entries but rewards has 2"):
        advantage(floats(1, 0), ints(0, 0, 0))
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match=r"rewards\[1\]"):
            advantage(floats(1, bad), ints(0, 0))


@pytest.mark.parametrize("eps", [0.0, -1e-6, math.nan, math.inf, "1"])
def test_eps_must_be_above_zero(eps: object) -> None:
    with pytest.raises(ConfigError, match="eps"):
        group_normalised(floats(1, 0), ints(0, 0), eps=eps)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="eps"):
        batch_normalised(floats(1, 0), ints(0, 0), mask_of([1, 1]), eps=eps)  # type: ignore[arg-type]


# ---- batch_normalised -------------------------------------------------------------------------------------

LONE_AND_EVEN = [1] + [0] * 15 + [1] * 8 + [0] * 8


@pytest.mark.parametrize(
    ("rewards", "group_ids", "num_tokens", "expected"),
    [
        # a = ±.5; mu = (2*.5 - 4*.5 - 2*.5 + 2*.5)/10 = -.1; v = (4 * .6^2 + 6 * .4^2)/9 = 2.4/9 = .266667
        # .6/.516398 and -.4/.516398
        pytest.param([1, 0, 0, 1], [0] * 4, [2, 4, 2, 2], [1.161895, -0.774597, -0.774597, 1.161895], id="dler-8-row1"),
        # a = .75, -.25 x3, .5 x2, -.5 x2; mu = 0; v = 10 * (.5625 + 3 * .0625 + 4 * .25)/79 = 17.5/79 = .221519
        pytest.param(
            [1, 0, 0, 0, 1, 1, 0, 0],
            [0] * 4 + [1] * 4,
            [10] * 8,
            [1.593514] + [-0.531171] * 3 + [1.062342] * 2 + [-1.062342] * 2,
            id="dler-8-row2",
        ),
        # a = 0, 0, .5, -.5; v = 5 * 2 * .25/19 = .131579; .5/.362738
        pytest.param([1, 1, 1, 0], [0, 0, 1, 1], [5] * 4, [0, 0, 1.378405, -1.378405], id="dler-8-row3"),
        # lone success a = .9375, its peers -.0625, all 300 tokens: they cancel. The others ±.5 at 800 and 4000:
        # mu = 8 * .5 * (800 - 4000)/43200 = -12800/43200 = -.296296
        # v = (300 * 1.233796^2 + 4500 * .233796^2 + 6400 * .796296^2 + 32000 * .203704^2)/43199 = .140944
        pytest.param(
            LONE_AND_EVEN,
            [0] * 16 + [1] * 16,
            [300] * 16 + [800] * 8 + [4000] * 8,
            [3.286393] + [0.622750] * 15 + [2.121049] * 8 + [-0.542594] * 8,
            id="dler-8-row4",
        ),
    ],
)
def test_batch_normalised_hand_numbers(
    rewards: list[int], group_ids: list[int], num_tokens: list[int], expected: list[float]
) -> None:
    mask = mask_of(num_tokens)
    result = batch_normalised(torch.tensor(rewards, dtype=torch.float32), ints(*group_ids), mask)
    assert result.dtype == torch.float32
    expected_tokens = torch.tensor(expected)[:, None] * mask
    torch.testing.assert_close(result, expected_tokens, rtol=0, atol=2e-6)


@pytest.mark.parametrize("group_of_one", ["zero", "raw"])
@pytest.mark.parametrize("weights", ["tokens", "sequence"])
@pytest.mark.parametrize("seed", range(3))
def test_batch_normalised_against_a_loop(weights: str, group_of_one: str, seed: int) -> None:
    rewards, group_ids, mask = random_batch(seed)
    centre = []
    for row in range(len(rewards)):
        group = [float(rewards[j]) for j in members(group_ids, row)]
        raw = len(group) == 1 and group_of_one == "raw"
        centre.append(float(rewards[row]) - (0.0 if raw else sum(group) / len(group)))
    entries = []
    for row in range(len(rewards)):
        entries += [centre[row]] * (int(mask[row].sum()) if weights == "tokens" else 1)
    mean, deviation = statistics.fmean(entries), math.sqrt(statistics.variance(entries) + 1e-8)
    expected = torch.zeros(mask.shape, dtype=torch.float64)
    for row in range(len(rewards)):
        for t in range(mask.shape[1]):
            if mask[row, t]:
                expected[row, t] = (centre[row] - mean) / deviation
    result = batch_normalised(rewards, group_ids, mask, weights=weights, group_of_one=group_of_one)
    torch.testing.assert_close(result, expected)


def test_token_mean_is_zero_and_token_variance_one() -> None:
    rewards, group_ids, mask = random_batch(6)
    tokens = batch_normalised(rewards, group_ids, mask)[mask]
    assert abs(float(tokens.mean())) < 1e-12
    assert float(tokens.var()) == pytest.approx(1, abs=1e-7)


def test_scaling_the_batch_changes_nothing_but_scaling_a_group_does() -> None:
    rewards, group_ids, mask = random_batch(7)
    result = batch_normalised(rewards, group_ids, mask)
    torch.testing.assert_close(batch_normalised(5 * rewards, group_ids, mask), result, rtol=1e-6, atol=1e-6)

    one_scaled = torch.where(group_ids == group_ids[1], 5 * rewards, rewards)
    assert (batch_normalised(one_scaled, group_ids, mask) - result).abs().max() > 0.01
    torch.testing.assert_close(
        group_normalised(one_scaled, group_ids), group_normalised(rewards, group_ids), rtol=1e-5, atol=1e-5
    )


def test_a_constant_on_one_group_changes_nothing() -> None:
    rewards, group_ids, mask = random_batch(8)
    shifted = rewards + 3.0 * (group_ids == group_ids[1])
    torch.testing.assert_close(batch_normalised(shifted, group_ids, mask), batch_normalised(rewards, group_ids, mask))


def test_equal_lengths_make_both_weightings_agree_up_to_bessel() -> None:
    rewards, group_ids, _ = random_batch(9)
    rows, tokens = len(rewards), 6
    mask = torch.ones(rows, tokens, dtype=torch.bool)
    by_token = batch_normalised(rewards, group_ids, mask)
    by_row = batch_normalised(rewards, group_ids, mask, weights="sequence")
    # v_token/v_row = T(R - 1)/(RT - 1), and A goes with 1/sqrt(v)
    bessel = math.sqrt((rows * tokens - 1) / (tokens * (rows - 1)))
    torch.testing.assert_close(by_token, by_row * bessel, rtol=1e-6, atol=1e-6)


def test_order_of_rows_and_padding_width_do_not_matter() -> None:
    rewards, group_ids, mask = random_batch(10)
    result = batch_normalised(rewards, group_ids, mask)
    order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch_normalised(rewards[order], group_ids[order], mask[order]), result[order])
    wide = torch.nn.functional.pad(mask, (0, 13))
    assert torch.equal(batch_normalised(rewards, group_ids, wide), torch.nn.functional.pad(result, (0, 13), value=0.0))


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("weights", ["tokens", "sequence"])
def test_all_groups_degenerate_gives_exact_zeros(weights: str, noise: bool) -> None:
    """dler-7: v = 0, every A exactly 0; equal rewards up to float noise count as equal."""
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.7])
    if noise:
        rewards[4] = torch.nextafter(rewards[4], torch.tensor(1.0))
        rewards[0] = torch.nextafter(rewards[0], torch.tensor(0.0))
    result = batch_normalised(rewards, ints(0, 0, 1, 1, 2, 2, 2, 3), mask_of([1, 5, 2, 2, 3, 1, 4, 2]), weights=weights)
    assert (result == 0).all()


def test_raw_group_of_one_keeps_its_reward_as_the_centred_value() -> None:
    # a = 1 (raw), .5, -.5 with 2 tokens each: mu = 1/3, v = 2 * (4/9 + 1/36 + 25/36)/5 = 2 * (42/36)/5 = 7/15
    result = batch_normalised(floats(1, 1, 0), ints(0, 1, 1), mask_of([2, 2, 2]), group_of_one="raw")
    root = math.sqrt(7 / 15 + 1e-8)
    torch.testing.assert_close(result[:, 0], floats(2 / 3 / root, 1 / 6 / root, -5 / 6 / root))
    # all rows alone and alike: nothing to learn, exactly
    assert (batch_normalised(floats(0.1, 0.1), ints(0, 1), mask_of([2, 3]), group_of_one="raw") == 0).all()


def test_rows_without_a_token_are_named() -> None:
    mask = mask_of([3, 0, 2])
    with pytest.raises(InputError, match="mask row 1 has no token"):
        batch_normalised(floats(1, 0, 1), ints(0, 0, 0), mask)
    with pytest.raises(InputError, match="mask row 0 has no token"):
        batch_normalised(floats(1, 0, 1), ints(0, 0, 0), torch.zeros_like(mask))
    with pytest.raises(InputError, match="mask row 0 has no token"):
        batch_normalised(floats(1, 0, 1), ints(0, 0, 0), mask[:, :0])


def test_empty_batch_and_a_single_token_are_refused() -> None:
    with pytest.raises(InputError, match="mask has no row"):
        batch_normalised(floats(), ints(), torch.zeros(0, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="mask counts 1 of the tokens"):
        batch_normalised(floats(1), ints(0), mask_of([1]))
    with pytest.raises(InputError, match="mask counts 1 of the sequence"):
        batch_normalised(floats(1), ints(0), mask_of([3]), weights="sequence")


def test_batch_normalised_refuses_bad_masks_and_words() -> None:
    rewards, group_ids = floats(1, 0), ints(0, 0)
    for mask in (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64), torch.ones(2, dtype=torch.bool)):
        with pytest.raises(ShapeError, match="mask"):
            batch_normalised(rewards, group_ids, mask)
    with pytest.raises(ShapeError, match="mask has 3 entries but rewards has 2"):
        batch_normalised(rewards, group_ids, mask_of([1, 1, 1]))
    with pytest.raises(ConfigError, match="weights is 'rows'; choose one of tokens, sequence"):
        batch_normalised(rewards, group_ids, mask_of([1, 1]), weights="rows")
    with pytest.raises(ConfigError, match="group_of_one"):
        batch_normalised(rewards, group_ids, mask_of([1, 1]), group_of_one="drop")


# ---- dynamic sampling -------------------------------------------------------------------------------------


def test_mixed_groups_keeps_whole_groups_that_are_not_constant() -> None:
    # group 4 mixed, 2 all correct, 9 all wrong, 5 alone; rows shuffled
    group_ids = ints(4, 2, 9, 4, 5, 2, 9, 4)
    verdicts = torch.tensor([1, 1, 0, 0, 1, 1, 0, 1], dtype=torch.bool)
    assert mixed_groups(verdicts, group_ids).tolist() == [True, False, False, True, False, False, False, True]


def test_mixed_groups_looks_at_the_verdict_before_truncation() -> None:
    # all right, one of them cut: rewards differ, but dynamic sampling drops the group
    verdicts, group_ids = torch.tensor([True, True]), ints(0, 0)
    rewards = truncation(verdicts, ints(5, 5), torch.tensor([True, False]), limit=5)
    assert rewards.tolist() == [1.0, 0.0]
    assert not mixed_groups(verdicts, group_ids).any()


def test_mixed_groups_against_a_loop_and_after_filtering_no_group_is_constant() -> None:
    make = torch.Generator().manual_seed(0)
    verdicts, group_ids = torch.rand(80, generator=make) < 0.5, torch.randint(0, 25, (80,), generator=make)
    kept = mixed_groups(verdicts, group_ids)
    for row in range(80):
        group = {bool(verdicts[j]) for j in members(group_ids, row)}
        assert bool(kept[row]) == (len(group) == 2)
    advantage = group_normalised(verdicts.double(), group_ids)
    assert torch.equal(advantage != 0, kept)


def test_mixed_groups_empty_and_bad_input() -> None:
    assert mixed_groups(torch.zeros(0, dtype=torch.bool), ints()).shape == (0,)
    with pytest.raises(ShapeError, match="answer_correct"):
        mixed_groups(floats(1, 0), ints(0, 0))
    with pytest.raises(ShapeError, match="group_ids has 1 entries"):
        mixed_groups(torch.tensor([True, False]), ints(0))


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        # 1 - 2 * .5^16
        pytest.param(0.5, 0.999969, id="dler-8-kept-share-half"),
        # 1 - .05^16 - .95^16 = 1 - 0 - .440127
        pytest.param(0.05, 0.559873, id="dler-8-kept-share-twentieth"),
        # 1 - (15/16)^16 = 1 - .356074
        pytest.param(1 / 16, 0.643926, id="dler-8-kept-share-sixteenth"),
    ],
)
def test_kept_share_hand_numbers(p: float, expected: float) -> None:
    assert kept_share(p, 16) == pytest.approx(expected, abs=5e-7)


def test_kept_share_ends_and_errors() -> None:
    assert [kept_share(0, 16), kept_share(1, 16), kept_share(0.3, 1)] == [0, 0, 0]
    for p in (-0.1, 1.1, math.nan, "0.5"):
        with pytest.raises(ConfigError, match="p is"):
            kept_share(p, 16)  # type: ignore[arg-type]
    for size in (0, 2.0, True):
        with pytest.raises(ConfigError, match="group_size"):
            kept_share(0.5, size)  # type: ignore[arg-type]
