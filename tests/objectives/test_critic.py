"""The value loss and the likelihood of rewarded rows (spec page t-ppo): hand numbers, loops, splits and edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensors import bools, floats

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import clipped_value, explained_variance, positive_lm


@pytest.mark.parametrize(
    ("value", "old", "target", "expected", "slope"),
    [
        # clip(1, -.3, .8) = .8: max(1, .64); clip(0, .4, 1.5) = .4: max(1, .36)
        pytest.param(1.0, 0.2, 0.0, 0.5, 1.0, id="t-ppo-value-row-a"),
        pytest.param(0.0, 0.9, 1.0, 0.5, -1.0, id="t-ppo-value-row-b"),
        # the clip is the worse one: clip(1, 1.5, 2.6) = 1.5, error 1.5, no gradient
        pytest.param(1.0, 2.0, 0.0, 1.125, 0.0, id="t-ppo-value-clipped"),
    ],
)
def test_value_loss_hand_numbers(value: float, old: float, target: float, expected: float, slope: float) -> None:
    values = floats(value)[None].requires_grad_()
    loss, stats = clipped_value(values, floats(old)[None], floats(target)[None], torch.ones(1, 1, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected)
    assert torch.autograd.grad(loss, values)[0].item() == pytest.approx(slope)
    assert stats["value_clipped"] == float(slope == 0)


def value_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """values, old_values, returns, mask; unfinished rows have no token in the mask."""
    make = torch.Generator().manual_seed(seed)
    values, old, returns = 0.8 * torch.randn(3, 10, 6, generator=make, dtype=torch.float64)
    lengths = torch.randint(0, 7, (10,), generator=make)
    lengths[0] = 0
    return values, old, returns, torch.arange(6)[None, :] < lengths[:, None]


def naive_value_loss(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    rows = []
    for i in range(len(mask)):
        v, o, g = values[i][mask[i]], old[i][mask[i]], returns[i][mask[i]]
        if len(v):
            bounded = torch.minimum(torch.maximum(v, o - 0.5), o + 0.6)
            rows.append(torch.maximum((v - g) ** 2, (bounded - g) ** 2).mean())
    return 0.5 * torch.stack(rows).mean()


def test_value_loss_against_a_loop_finite_differences_and_micro_batches() -> None:
    values, old, returns, mask = value_batch(7)
    fast, slow = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss, stats = clipped_value(fast, old, returns, mask)
    expected = naive_value_loss(slow, old, returns, mask)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, fast), torch.autograd.grad(expected, slow))
    assert torch.autograd.gradcheck(lambda v: clipped_value(v, old, returns, mask)[0], (fast,))
    rows = int((mask.sum(1) > 0).sum())
    parts = [clipped_value(values[p], old[p], returns[p], mask[p], normaliser=rows) for p in (slice(3), slice(3, 10))]
    torch.testing.assert_close(parts[0][0] + parts[1][0], loss.detach())
    torch.testing.assert_close({k: parts[0][1][k] + parts[1][1][k] for k in stats}, stats)


def test_unfinished_fillers_do_not_change_the_scale_of_the_value_loss() -> None:
    """Defect 6 of the page."""
    values, old, returns, mask = value_batch(8)
    rows = mask.any(1)
    filled, _ = clipped_value(values, old, returns, mask)
    torch.testing.assert_close(clipped_value(values[rows], old[rows], returns[rows], mask[rows])[0], filled)


def test_no_done_response_gives_zero_losses_and_gradients() -> None:
    values, old, returns, mask = value_batch(9)
    values.requires_grad_()
    none = torch.zeros_like(mask)
    loss, stats = clipped_value(values, old, returns, none)
    assert loss == stats["value_tokens"] == 0
    assert not torch.autograd.grad(loss, values)[0].any()
    likelihood = positive_lm(values, mask, torch.zeros(10, dtype=torch.bool))
    assert likelihood == 0
    assert not torch.autograd.grad(likelihood, values)[0].any()


def test_likelihood_of_positive_rows() -> None:
    # rows of 3, 1 and 2 tokens, the first two positive: -(-1 - 2 - 3 - 4)/4
    mask = torch.arange(3)[None, :] < torch.tensor([[3], [1], [2]])
    logp = torch.tensor([[-1.0, -2, -3], [-4, math.nan, 9], [math.nan, -5, 0]], dtype=torch.float64).requires_grad_()
    loss = positive_lm(logp, mask, bools(1, 1, 0))
    assert loss.item() == 2.5
    expected = -0.25 * torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.equal(torch.autograd.grad(loss, logp)[0], expected)
    parts = sum(positive_lm(logp[p], mask[p], bools(1, 1, 0)[p], normaliser=4) for p in (slice(1), slice(1, 3)))
    torch.testing.assert_close(parts, loss)


def test_explained_variance() -> None:
    # errors 0 and -1 (variance .5), targets 1 and 3 (variance 2): 1 - .25
    mask = bools(1, 1, 0)[None]
    values, targets = floats(1, 4, 9)[None], floats(1, 3, 7)[None]
    assert explained_variance(values, targets, mask) == pytest.approx(0.75)
    assert explained_variance(targets, targets, mask) == 1.0
    assert explained_variance(values, torch.ones_like(values), mask) is None  # constant targets
    assert explained_variance(values, targets, bools(1, 0, 0)[None]) is None


@pytest.mark.parametrize("garbage", [math.nan, math.inf])
def test_padding_does_not_reach_the_value_loss(garbage: float) -> None:
    values, old, returns, mask = value_batch(10)
    clean = clipped_value(values, old, returns, mask)[0]
    spoilt = [x.masked_fill(~mask, garbage) for x in (values, old, returns)]
    spoilt[0].requires_grad_()
    loss, _ = clipped_value(*spoilt, mask)
    assert torch.equal(loss, clean)
    assert not torch.autograd.grad(loss, spoilt[0])[0][~mask].any()


def test_bad_input_is_refused_by_name() -> None:
    values, old, returns, mask = value_batch(11)
    rows = int((mask.sum(1) > 0).sum())
    spoilt = torch.full_like(values, math.inf)
    calls: list[tuple[type[Exception], str, Any]] = [
        (ConfigError, "clip_low", lambda: clipped_value(values, old, returns, mask, clip_low=-1.0)),
        (ConfigError, "clip_high", lambda: clipped_value(values, old, returns, mask, clip_high=math.nan)),
        (ConfigError, "normaliser", lambda: clipped_value(values, old, returns, mask, normaliser=0)),
        (InputError, f"normaliser is 2 but {rows}", lambda: clipped_value(values, old, returns, mask, normaliser=2)),
        (InputError, "returns row", lambda: clipped_value(values, old, spoilt, mask)),
        (ShapeError, "old_values has shape", lambda: clipped_value(values, old[:, 1:], returns, mask)),
        (ShapeError, "values has dtype", lambda: clipped_value(values.bfloat16(), old, returns, mask)),
        (ConfigError, "normaliser", lambda: positive_lm(values, mask, mask.any(1), normaliser=-1)),
        (InputError, "logp row", lambda: positive_lm(spoilt, mask, mask.any(1))),
        (ShapeError, "positive", lambda: positive_lm(values, mask, mask)),
        (InputError, "returns row", lambda: explained_variance(values, spoilt, mask)),
    ]
    for error, message, call in calls:
        with pytest.raises(error, match=message):
            call()
