"""GDPO's advantage (spec page gdpo): hand numbers, a loop, invariants and edge cases."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import decoupled_advantage, group_normalised, order_gap

Column = list[int]
THREE = ([1, 0, 0, 1, 1, 1], [1, 0, 1, 1, 0, 0])  # right and short of two groups of three


def advantage(right: Column, short: Column, *, size: int = 0, **options: Any) -> torch.Tensor:
    group = torch.arange(len(right)) // (size or len(right))
    rewards = torch.tensor([right, short], dtype=torch.float64)
    return decoupled_advantage(rewards, bools(*right), group, **options)


def close(result: torch.Tensor, *expected: float, digits: float = 6e-5) -> None:
    torch.testing.assert_close(result, floats(*expected), rtol=0, atol=digits)


# ---- hand numbers (gdpo section 8) ------------------------------------------------------------------------


def test_gdpo_8_two_rollouts() -> None:
    # deviations -.5 and .5, sample std .70711: .7071 for each reward; the sum (0, 2) has the same normalised value
    close(advantage([0, 1], [0, 1], when_right=False, whiten="none"), -1.414, 1.414, digits=5e-4)
    close(group_normalised(floats(0, 2), ints(0, 0)), -0.7071, 0.7071)
    close(group_normalised(floats(0, 1), ints(0, 0)), -0.7071, 0.7071)


def test_gdpo_8_right_and_short_cancel_or_add() -> None:
    # each reward: .5/(.57735 + 1e-4) = .8659; std of S: sqrt(2 * 1.7318^2/3) = 1.41401
    right, short = [0, 1, 0, 1], [1, 1, 0, 0]
    close(advantage(right, short, when_right=False, whiten="none"), 0, 1.7318, -1.7318, 0)
    close(advantage(right, short, when_right=False), 0, 1.2247, -1.2247, 0)
    close(group_normalised(floats(1, 2, 0, 1), ints(0, 0, 0, 0), eps=1e-4), 0, 1.2246, -1.2246, 0)


def test_gdpo_8_right_and_long_equals_wrong_and_short_unless_conditioned() -> None:
    right, short = [1, 1, 0, 0], [0, 0, 1, 1]
    close(advantage(right, short, when_right=False), 0, 0, 0, 0, digits=0)
    close(advantage(right, short), 0.8659, 0.8659, -0.8659, -0.8659)


def test_gdpo_8_a_wrong_short_answer() -> None:
    # right: (.25, .25, .25, -.75)/.5; short: +-.5/.57735; conditioned short: (.75, -.25, -.25, -.25)/.5
    right, short = [1, 1, 1, 0], [1, 0, 0, 1]
    close(advantage(right, short, when_right=False, whiten="none"), 1.3658, -0.3660, -0.3660, -0.6338)
    close(advantage(right, short, when_right=False), 1.4856, -0.3981, -0.3981, -0.6894)
    close(advantage(right, short, whiten="none"), 1.9996, 0, 0, -1.9996)
    close(advantage(right, short), 1.2247, 0, 0, -1.2247)


def test_gdpo_8_an_all_wrong_group_trains_on_length_unless_conditioned() -> None:
    # (2/3, -1/3, -1/3)/.57735
    close(advantage([0, 0, 0], [1, 0, 0], when_right=False), 1.1546, -0.5773, -0.5773, digits=1e-4)
    close(advantage([0, 0, 0], [1, 0, 0]), 0, 0, 0, digits=0)


def test_gdpo_8_two_groups_of_three() -> None:
    options: dict[str, Any] = {"size": 3, "when_right": False}
    close(advantage(*THREE, **options), 1.3692, -1.3692, 0, 0.9128, -0.4564, -0.4564)
    close(advantage(*THREE, weights=(1, 0.25), **options), 1.7514, -1.1676, -0.5838, 0.3892, -0.1946, -0.1946)
    tokens = ints(10, 30, 5, 20, 40, 15)
    result = advantage(*THREE, whiten="tokens", num_tokens=tokens, group_eps=1e-6, batch_eps=1e-6, **options)
    close(result, 1.8680, -1.2239, 0.3221, 1.3527, -0.1932, -0.1932)  # the neutral row 3 is pushed up


def test_gdpo_8_the_rarest_reward_is_the_loudest() -> None:
    # (1 - 1/16)/.25 = 3.75, -(1/16)/.25; less by 1e-4/.25 of it
    result = advantage([1] + [0] * 15, [0] * 16, whiten="none")
    close(result, 3.75, *[-0.25] * 15, digits=2e-3)


# ---- against a loop ---------------------------------------------------------------------------------------


def loop(rewards: torch.Tensor, c: list[bool], g: list[int], w: list[float], conditions: list[bool]) -> list[float]:
    total = [0.0] * len(c)
    for k, weight in enumerate(w):
        r = [x if c[i] or not conditions[k] else 0.0 for i, x in enumerate(rewards[k].tolist())]
        for i in range(len(c)):
            mates = [r[j] for j in range(len(c)) if g[j] == g[i]]
            if max(mates) - min(mates) > 1e-6 * max(1, abs(statistics.fmean(mates))):
                total[i] += weight * (r[i] - statistics.fmean(mates)) / (statistics.stdev(mates) + 1e-4)
    return total


def random_rows(seed: int, kinds: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    correct = torch.rand(60, generator=make) < 0.5
    rewards = torch.rand(kinds, 60, generator=make, dtype=torch.float64)
    rewards[0] = correct.double()
    group_ids = torch.randint(-3, 10, (60,), generator=make)
    group_ids[0] = 100
    correct[group_ids == 4] = False
    return rewards, correct, group_ids


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed: int) -> None:
    rewards, correct, group_ids = random_rows(seed)
    conditions, weights = [True, True, False], [1.0, 0.5, 0.25]
    expected = floats(*loop(rewards, correct.tolist(), group_ids.tolist(), weights, conditions))
    options: dict[str, Any] = {"weights": weights, "when_right": conditions}
    torch.testing.assert_close(decoupled_advantage(rewards, correct, group_ids, whiten="none", **options), expected)
    whitened = decoupled_advantage(rewards, correct, group_ids, **options)
    torch.testing.assert_close(whitened, (expected - expected.mean()) / (expected.std() + 1e-4))
    # by tokens: as if each row stood there once per token
    tokens = torch.randint(1, 9, (60,), generator=torch.Generator().manual_seed(seed))
    many = expected.repeat_interleave(tokens)
    by_tokens = decoupled_advantage(rewards, correct, group_ids, whiten="tokens", num_tokens=tokens, **options)
    torch.testing.assert_close(by_tokens, (expected - many.mean()) / (many.std() + 1e-4))


# ---- invariants (gdpo section 9) --------------------------------------------------------------------------


def test_gdpo_9_scale_and_offset_of_a_reward_change_nothing() -> None:
    rewards, correct, group_ids = random_rows(4)
    before = decoupled_advantage(rewards, correct, group_ids, when_right=False, group_eps=1e-9)
    moved = torch.stack([rewards[0], 7 * rewards[1], rewards[2] + 3])
    after = decoupled_advantage(moved, correct, group_ids, when_right=False, group_eps=1e-9)
    torch.testing.assert_close(after, before)
    weighted = decoupled_advantage(rewards, correct, group_ids, when_right=False, group_eps=1e-9, weights=(5, 5, 5))
    torch.testing.assert_close(weighted, before, rtol=2e-4, atol=1e-12)  # up to batch_eps


def test_gdpo_9_mean_zero_std_one_and_any_order() -> None:
    rewards, correct, group_ids = random_rows(5)
    result = decoupled_advantage(rewards, correct, group_ids, batch_eps=1e-12)
    assert float(result.mean()) == pytest.approx(0, abs=1e-12) and float(result.std()) == pytest.approx(1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    moved = decoupled_advantage(rewards[:, order], correct[order], 500 - group_ids[order], batch_eps=1e-12)
    torch.testing.assert_close(moved, result[order])


@pytest.mark.parametrize("seed", range(5))
def test_gdpo_9_conditioned_a_wrong_row_never_exceeds_a_right_one(seed: int) -> None:
    rewards, correct, group_ids = random_rows(seed)
    for weights in ((1, 1, 1), (1, 0.25, 3), (0, 1, 1)):
        for whiten in ("none", "rows"):
            result = decoupled_advantage(rewards, correct, group_ids, weights=weights, whiten=whiten)
            assert float(order_gap(result, correct, group_ids)) >= 0
    silent = decoupled_advantage(rewards, correct, group_ids, whiten="none")[group_ids == 4]
    assert not silent.any()
    # unconditioned it fails
    assert float(order_gap(decoupled_advantage(rewards, correct, group_ids, when_right=False), correct, group_ids)) < 0


def test_gdpo_9_one_reward_and_two_equal_ones_are_grpo() -> None:
    rewards, correct, group_ids = random_rows(6)
    plain = group_normalised(rewards[1], group_ids, eps=1e-4)
    options: dict[str, Any] = {"when_right": False, "whiten": "none"}
    torch.testing.assert_close(decoupled_advantage(rewards[1:2], correct, group_ids, **options), plain)
    twice = torch.stack([rewards[1], rewards[1]])
    torch.testing.assert_close(decoupled_advantage(twice, correct, group_ids, **options), 2 * plain)
    torch.testing.assert_close(
        decoupled_advantage(twice, correct, group_ids, when_right=False),
        decoupled_advantage(twice[:1], correct, group_ids, when_right=False),
        rtol=2e-4,
        atol=1e-12,
    )


# ---- edge cases (gdpo section 7) --------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [0.1, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_that_is_no_binary_fraction_is_no_signal(constant: float, size: int, dtype: torch.dtype) -> None:
    rewards = torch.full((2, 3 * size), constant, dtype=dtype)
    noisy = rewards + torch.arange(3 * size) * torch.finfo(dtype).eps / 50
    for values in (rewards, noisy):
        correct = torch.ones(3 * size, dtype=torch.bool)
        result = decoupled_advantage(values, correct, torch.arange(3 * size) // size)
        assert result.dtype == dtype and not result.any()


def test_a_reward_without_spread_is_silent_and_the_others_speak() -> None:
    close(advantage([1, 1], [1, 0], whiten="none"), 0.7070, -0.7070)  # .5/(.70711 + 1e-4)


def test_a_group_of_one_and_nothing_at_all() -> None:
    assert advantage([1, 0], [1, 1], size=1, when_right=False).tolist() == [0, 0]
    assert advantage([1], [1]).tolist() == [0]
    assert advantage([], [], size=1).shape == (0,)
    assert advantage([], [], size=1, whiten="tokens", num_tokens=ints()).shape == (0,)


def test_a_weight_of_zero_switches_its_reward_off() -> None:
    off = advantage(*THREE, size=3, weights=(1, 0), when_right=False)
    alone = decoupled_advantage(floats(*THREE[0])[None], bools(*THREE[0]), ints(0, 0, 0, 1, 1, 1))
    assert torch.equal(off, alone)


def test_only_chosen_rewards_are_conditioned() -> None:
    right, form = [1, 1, 0, 0], [1, 0, 1, 0]
    chosen = advantage(right, form, when_right=(True, False), whiten="none")
    assert torch.equal(chosen, advantage(right, form, when_right=False, whiten="none"))
    assert not torch.equal(chosen, advantage(right, form, whiten="none"))


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"weights is \(0, 0\), which switches every reward off"):
        advantage([1, 0], [1, 0], weights=(0, 0))
    with pytest.raises(ConfigError, match=r"weights\[1\] is -1"):
        advantage([1, 0], [1, 0], weights=(1, -1))
    with pytest.raises(ShapeError, match=r"rewards has shape \(2, 2\); .* weights \(1\)"):
        advantage([1, 0], [1, 0], weights=(1,))
    with pytest.raises(ConfigError, match="when_right is"):
        advantage([1, 0], [1, 0], when_right=(True,))
    with pytest.raises(ConfigError, match="whiten is 'batch'"):
        advantage([1, 0], [1, 0], whiten="batch")
    with pytest.raises(ConfigError, match="num_tokens is None"):
        advantage([1, 0], [1, 0], whiten="tokens")
    with pytest.raises(InputError, match="fewer than 2 tokens"):
        advantage([1, 0], [1, 0], whiten="tokens", num_tokens=ints(1, 0))
    for name in ("group_eps", "batch_eps"):
        with pytest.raises(ConfigError, match=name):
            advantage([1, 0], [1, 0], **{name: 0.0})
    rows = bools(1, 0), ints(0, 0)
    with pytest.raises(InputError, match=r"rewards\[0\]\[1\] is nan"):
        decoupled_advantage(floats(1, math.nan)[None], *rows)
    with pytest.raises(InputError, match=r"rewards\[0\]\[0\] is -1.0 and counts only where"):
        decoupled_advantage(floats(-1, 0)[None], *rows)
    assert decoupled_advantage(floats(-1, 0)[None], *rows, when_right=False).tolist() != [0, 0]
    with pytest.raises(ShapeError, match="rewards has shape"):
        decoupled_advantage(floats(1, 0), *rows)
    with pytest.raises(ShapeError, match="rewards has type list"):
        decoupled_advantage([[1.0, 0.0]], *rows)  # type: ignore[arg-type]
