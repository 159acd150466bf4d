"""T-PPO's mathematics (spec page t-ppo): windowed advantages, targets, masks, whitening and the value loss."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    clipped_surrogate,
    egae,
    gae,
    length_adaptive_lambda,
    returns_to_go,
    whitened,
    window_mask,
)

VALUES = torch.tensor([[0.2, 0.5, 0.1, 0.4]], dtype=torch.float64)
FOUR = torch.ones(1, 4, dtype=torch.bool)
NOTHING = torch.zeros_like(VALUES)
REWARD = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)


def random_windows(seed: int, rows: int = 12, width: int = 9) -> tuple[torch.Tensor, ...]:
    """token_rewards, values, mask, done, lam; unfinished rows fill the window."""
    make = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, width, generator=make, dtype=torch.float64)
    done = torch.rand(rows, generator=make) < 0.5
    lengths = torch.where(done, torch.randint(1, width + 1, (rows,), generator=make), width)
    mask = torch.arange(width)[None, :] < lengths[:, None]
    return rewards, values, mask, done, torch.rand(rows, generator=make, dtype=torch.float64)


# ---- advantages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "rewards", "gamma", "lam", "expected"),
    [
        # unfinished: deltas .5 - .2, .1 - .5, .4 - .1, .4 - .4 = .3, -.4, .3, 0
        pytest.param(0, NOTHING, 1.0, 1.0, [0.2, -0.1, 0.3, 0], id="t-ppo-unfinished-lam-1"),
        # .3 + .5 * -.25, -.4 + .5 * .3
        pytest.param(0, NOTHING, 1.0, 0.5, [0.175, -0.25, 0.3, 0], id="t-ppo-unfinished-lam-.5"),
        pytest.param(0, NOTHING, 1.0, 0.0, [0.3, -0.4, 0.3, 0], id="t-ppo-unfinished-lam-0"),
        # deltas .45 - .2, .09 - .5, .36 - .1, .36 - .4 = .25, -.41, .26, -.04; factor .45
        pytest.param(0, NOTHING, 0.9, 0.5, [0.114505, -0.3011, 0.242, -0.04], id="t-ppo-unfinished-gamma-.9"),
        # done, reward 1: last delta 1 - .4 = .6
        pytest.param(1, REWARD, 1.0, 1.0, [0.8, 0.5, 0.9, 0.6], id="t-ppo-done-lam-1"),
        pytest.param(1, REWARD, 1.0, 0.5, [0.25, -0.1, 0.6, 0.6], id="t-ppo-done-lam-.5"),
    ],
)
def test_egae_hand_numbers(done: int, rewards: torch.Tensor, gamma: float, lam: float, expected: list[float]) -> None:
    result = egae(rewards, VALUES, FOUR, bools(done), gamma=gamma, lam=lam)
    torch.testing.assert_close(result, floats(*expected)[None], rtol=0, atol=1e-12)
    if done:
        assert torch.equal(gae(rewards, VALUES, FOUR, gamma=gamma, lam=lam), result)
        assert returns_to_go(rewards, FOUR).tolist() == [[1.0] * 4]


def test_t_ppo_done_in_the_second_window() -> None:
    """W 4, six tokens: the current window has two, values .2 .5, reward 1: delta .3, .5; .3 + .5 * .5."""
    mask = bools(1, 1, 0, 0)[None]
    values = torch.tensor([[0.2, 0.5, 9.0, 9.0]], dtype=torch.float64)
    rewards = torch.tensor([[0.0, 1.0, 9.0, 9.0]], dtype=torch.float64)
    result = egae(rewards, values, mask, bools(1), lam=0.5)
    torch.testing.assert_close(result, floats(0.55, 0.5, 0, 0)[None])
    whole = torch.tensor([[0.0, 0, 0, 0, 0, 1]], dtype=torch.float64)
    assert returns_to_go(whole, torch.ones(1, 6, dtype=torch.bool)).tolist() == [[1.0] * 6]


def test_t_ppo_tail_ignore_row() -> None:
    """Unfinished, lam .5, tail_ignore 2: mask 1 1 0 0, A = .175 -.25 0 0."""
    mask = window_mask(FOUR, bools(0), window=4, tail_ignore=2)
    assert mask.tolist() == [[True, True, False, False]]
    result = egae(NOTHING, VALUES, FOUR, bools(0), lam=0.5) * mask
    torch.testing.assert_close(result, floats(0.175, -0.25, 0, 0)[None])


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("width", [1, 9, 150])
def test_egae_against_the_sum_of_the_page(width: int, gamma: float, per_row: bool) -> None:
    rewards, values, mask, done, lams = random_windows(0, width=width)
    expected = torch.zeros_like(values)
    for i in range(len(mask)):
        n, lam = int(mask[i].sum()), float(lams[i]) if per_row else 0.8
        after = [float(values[i, t + 1]) for t in range(n - 1)] + [0.0 if done[i] else float(values[i, n - 1])]
        deltas = [float(rewards[i, t]) + gamma * after[t] - float(values[i, t]) for t in range(n)]
        for t in range(n):
            expected[i, t] = sum((gamma * lam) ** k * deltas[t + k] for k in range(n - t))
    result = egae(rewards, values, mask, done, gamma=gamma, lam=lams if per_row else 0.8)
    torch.testing.assert_close(result, expected)


def test_returns_against_a_loop() -> None:
    rewards, _, mask, _, _ = random_windows(1, width=70)
    for gamma in (1.0, 0.9, 0.0):
        expected = torch.zeros_like(rewards)
        for i in range(len(mask)):
            for t in range(int(mask[i].sum())):
                expected[i, t] = sum(gamma ** (k - t) * rewards[i, k] for k in range(t, int(mask[i].sum())))
        torch.testing.assert_close(returns_to_go(rewards, mask, gamma=gamma), expected)


def test_unfinished_windows_need_no_ending() -> None:
    """t-ppo invariant 1: last A exactly 0; lam 1 gives V_last - V_t; a constant on V changes nothing."""
    _, values, mask, _, _ = random_windows(2)
    mask, done = torch.ones_like(mask), torch.zeros(len(mask), dtype=torch.bool)
    none = torch.zeros_like(values)
    result = egae(none, values, mask, done, lam=0.9)
    assert not result[:, -1].any()
    torch.testing.assert_close(egae(none, values, mask, done, lam=1.0), values[:, -1:] - values)
    torch.testing.assert_close(egae(none, values + 5.0, mask, done, lam=0.9), result)
    assert not egae(none, torch.full_like(values, 0.1), mask, done, lam=0.9).any()
    # a reward on the last token of an unfinished window is kept in delta
    none[:, -1] = 0.5
    torch.testing.assert_close(egae(none, values, mask, done, lam=0.9)[:, -1], floats(*[0.5] * 12))


def test_done_windows_are_plain_gae() -> None:
    """t-ppo invariant 2: with lam 1, gamma 1 and reward R, A_t = R - V_t and the target is R."""
    _, values, mask, _, _ = random_windows(3)
    rewards = torch.zeros_like(values)
    rewards[torch.arange(12), mask.sum(1) - 1] = -1.0
    torch.testing.assert_close(gae(rewards, values, mask, lam=1.0), torch.where(mask, -1.0 - values, 0.0))
    torch.testing.assert_close(returns_to_go(rewards, mask), -1.0 * mask.double())


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -1e30])
def test_padding_and_row_order_do_not_reach_the_advantages(garbage: float) -> None:
    rewards, values, mask, done, lams = random_windows(4)
    clean = egae(rewards, values, mask, done, lam=lams)
    rewards[~mask], values[~mask] = garbage, garbage
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    result = egae(rewards[order], values[order], mask[order], done[order], lam=lams[order])
    assert torch.equal(result, clean[order])
    assert not result[~mask[order]].any()
    assert not returns_to_go(rewards, mask)[~mask].any()


# ---- lambda and the window --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tokens", "done", "expected"),
    [
        # n_eff = 1000, 24576, 8192 + 4096, 16384 + 4096; 1 - 1/(.05 n_eff) = 1 - 1/50, 1/1228.8, 1/614.4, 1/1024
        pytest.param(1000, 1, 0.98, id="t-ppo-lam-done-1000"),
        pytest.param(24576, 1, 0.999186, id="t-ppo-lam-done-24576"),
        pytest.param(8192, 0, 0.998372, id="t-ppo-lam-unfinished-8192"),
        pytest.param(16384, 0, 0.999023, id="t-ppo-lam-unfinished-16384"),
        # the floor binds up to 400: 1 - 1/20 = .95; .05 * 20 <= 1 would be negative
        pytest.param(400, 1, 0.95, id="t-ppo-lam-floor-400"),
        pytest.param(20, 1, 0.95, id="t-ppo-lam-floor-20"),
        pytest.param(1, 1, 0.95, id="t-ppo-lam-floor-1"),
        pytest.param(0, 1, 0.95, id="t-ppo-lam-floor-0"),
    ],
)
def test_length_adaptive_lambda(num_tokens: int, done: int, expected: float) -> None:
    result = length_adaptive_lambda(ints(num_tokens), bools(done), window=8192)
    assert result.item() == pytest.approx(expected, abs=5e-7)


def test_lambda_never_falls_with_length_and_never_below_the_floor() -> None:
    lengths = torch.arange(3000)
    for done in (True, False):
        result = length_adaptive_lambda(lengths, torch.full((3000,), done), window=7, floor=0.3)
        assert (result.diff() >= 0).all()
        assert result.min() == 0.3
    # an odd window: n + 7 // 2
    one = length_adaptive_lambda(ints(97), bools(0), window=7)
    assert one.item() == pytest.approx(max(0.95, 1 - 1 / (0.05 * 100)))


def test_window_mask_without_a_tail_keeps_every_token() -> None:
    """Defect 3 of the page: a tail of 0 must not clear the window."""
    mask = torch.arange(5)[None, :] < torch.tensor([[5], [2]])
    assert torch.equal(window_mask(mask, bools(0, 1), window=5), mask)
    assert window_mask(mask, bools(0, 1), window=5, tail_ignore=4).sum(1).tolist() == [1, 2]


def test_masks_cover_a_response_once_over_its_rounds() -> None:
    """t-ppo invariant 3: 11 tokens in windows of 4, tail 1: 3 + 3 + 3 tokens learn, the final window fully."""
    learnt = 0
    for start in range(0, 11, 4):
        n = min(4, 11 - start)
        mask = window_mask(torch.arange(4)[None, :] < n, bools(start + n == 11), window=4, tail_ignore=1)
        learnt += int(mask.sum())
    assert learnt == 11 - 2


@pytest.mark.parametrize(
    ("window", "tail", "done", "lengths", "error", "message"),
    [
        (0, 0, 1, 3, ConfigError, "window is 0"),
        (3, -1, 1, 3, ConfigError, "tail_ignore is -1"),
        (3, 3, 1, 3, ConfigError, "tail_ignore is 3"),
        (2, 0, 1, 3, InputError, "row 0 is done with 3 tokens in a window of 2"),
        (4, 0, 0, 3, InputError, "row 0 is unfinished with 3 tokens in a window of 4"),
    ],
)
def test_window_mask_errors(
    window: int, tail: int, done: int, lengths: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        window_mask(torch.ones(1, lengths, dtype=torch.bool), bools(done), window=window, tail_ignore=tail)


# ---- whitening --------------------------------------------------------------------------------------------


def test_t_ppo_whiten_row() -> None:
    """Mean .1; variance (.01 + .04 + .04 + .01)/3 = .033333; .1/.182574, -.2/.182574, ..."""
    result = whitened(floats(0.2, -0.1, 0.3, 0)[None], FOUR)
    torch.testing.assert_close(result, floats(0.547722, -1.095445, 1.095445, -0.547722)[None], rtol=0, atol=1e-6)


def test_whitened_against_a_loop_with_holes_and_clamp() -> None:
    make = torch.Generator().manual_seed(5)
    values = torch.randn(6, 9, generator=make, dtype=torch.float64)
    mask = torch.rand(6, 9, generator=make) < 0.6
    mask[2] = False
    values[~mask] = math.nan
    entries = values[mask].tolist()
    mean, deviation = statistics.fmean(entries), math.sqrt(statistics.variance(entries) + 1e-8)
    for clamp in (None, 0.7):
        bound = math.inf if clamp is None else clamp
        expected = torch.zeros_like(values)
        for i, t in mask.nonzero().tolist():
            expected[i, t] = max(-bound, min(bound, (float(values[i, t]) - mean) / deviation))
        torch.testing.assert_close(whitened(values, mask, clamp=clamp), expected)


def test_whitening_nothing_or_one_token_gives_zeros() -> None:
    for mask in (torch.zeros(2, 3, dtype=torch.bool), torch.tensor([[1, 0, 0], [0, 0, 0]], dtype=torch.bool)):
        assert not whitened(torch.full((2, 3), 5.0), mask).any()
    assert whitened(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool)).shape == (0, 3)
    assert not whitened(torch.full((2, 3), 0.5), torch.ones(2, 3, dtype=torch.bool)).any()


def test_the_first_step_has_ratio_one_and_loss_minus_the_mean_advantage() -> None:
    """t-ppo invariant 4."""
    rewards, values, mask, done, lams = random_windows(6)
    credit = whitened(egae(rewards, values, mask, done, lam=lams), mask)
    loss, stats = clipped_surrogate(values, values, credit, mask)
    assert loss.item() == pytest.approx(-float(credit[mask].mean()))
    assert stats["clipped_high"] == stats["clipped_low"] == stats["dual_clipped"] == 0
    assert stats["ratio_sum"] == stats["tokens"]


# ---- bad input --------------------------------------------------------------------------------------------


def test_bad_input_is_refused_by_name() -> None:
    rewards, values, mask, done, _ = random_windows(11)
    gap = torch.ones_like(mask).index_fill(1, ints(2), False)
    calls: list[tuple[type[Exception], str, Any]] = [
        (ConfigError, "gamma", lambda: egae(rewards, values, mask, done, gamma=1.1)),
        (ConfigError, "lam", lambda: gae(rewards, values, mask, lam=-0.1)),
        (ConfigError, "gamma", lambda: returns_to_go(rewards, mask, gamma=2.0)),
        (InputError, r"lam\[0\]", lambda: egae(rewards, values, mask, done, lam=torch.full((12,), 1.5))),
        (ShapeError, "done has 11", lambda: egae(rewards, values, mask, done[:-1])),
        (ShapeError, "done has dtype", lambda: egae(rewards, values, mask, done.long())),
        (ShapeError, "values has shape", lambda: egae(rewards, values[:, 1:], mask, done)),
        (ShapeError, "mask", lambda: gae(rewards, values, None)),  # type: ignore[arg-type]
        (InputError, "mask row 0 has a token after", lambda: gae(rewards, values, gap)),
        (InputError, "mask has no row", lambda: egae(rewards[:0], values[:0], mask[:0], done[:0])),
        (InputError, "values row 0", lambda: gae(rewards, values.index_fill(1, ints(0), math.nan), mask)),
        (ConfigError, "window", lambda: length_adaptive_lambda(ints(1), bools(1), window=0)),
        (ConfigError, "alpha", lambda: length_adaptive_lambda(ints(1), bools(1), window=1, alpha=0.0)),
        (ConfigError, "floor", lambda: length_adaptive_lambda(ints(1), bools(1), window=1, floor=1.5)),
        (ConfigError, "clamp", lambda: whitened(values, mask, clamp=0.0)),
        (ConfigError, "eps", lambda: whitened(values, mask, eps=0.0)),
    ]  # fmt: skip
    for error, message, call in calls:
        with pytest.raises(error, match=message):
            call()
