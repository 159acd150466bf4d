"""DRPO's weights of right answers (spec page drpo): hand numbers, a loop, invariants and edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError
from lengthwise.objectives import drpo_weights

C = 8192


def random_rows(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    correct = torch.rand(60, generator=make) < 0.5
    return correct, torch.randint(1, 9, (60,), generator=make), torch.randint(-2, 12, (60,), generator=make)


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        # exp(-n/819.2) = .295039, .087044, .007576, .0000454; their sum .389705
        pytest.param(0.1, [0.757085, 0.223357, 0.019441, 0.000117], id="drpo-8-row1-lam-.1"),
        pytest.param(0.2, [0.582815, 0.316562, 0.093393, 0.007230], id="drpo-8-row2-lam-.2"),
        pytest.param(0.5, [0.410361, 0.321467, 0.197278, 0.070893], id="drpo-8-row2-lam-.5"),
        pytest.param(math.inf, [0.25, 0.25, 0.25, 0.25], id="drpo-8-row3-lam-inf"),
    ],
)
def test_weights_hand_numbers(lam: float, expected: list[float]) -> None:
    weights = drpo_weights(bools(1, 1, 1, 1), ints(1000, 2000, 4000, 8192), ints(0, 0, 0, 0), lam=lam, max_tokens=C)
    torch.testing.assert_close(weights, floats(*expected), rtol=0, atol=6e-7)


def test_drpo_8_row4() -> None:
    """819.2 tokens are C * lam: e/(e + 1). With whole tokens: 8192 apart at C 81920."""
    weights = drpo_weights(bools(1, 1), ints(10, 8202), ints(3, 3), lam=0.1, max_tokens=81920)
    torch.testing.assert_close(weights, floats(0.731059, 0.268941), rtol=0, atol=5e-7)


def test_weights_against_a_loop() -> None:
    correct, num_tokens, group_ids = random_rows(0)
    rewards = {
        "linear": lambda n: 1 - n / 10,
        "quadratic": lambda n: 1 - (n / 10) ** 2,
        "cosine": lambda n: 0.5 + 0.5 * math.cos(math.pi * n / 10),
    }
    for kind, reward in rewards.items():
        expected = []
        for i in range(60):
            group = [j for j in range(60) if group_ids[j] == group_ids[i] and correct[j]]
            total = sum(math.exp(reward(int(num_tokens[j])) / 0.3) for j in group)
            expected.append(math.exp(reward(int(num_tokens[i])) / 0.3) / total if correct[i] else 0.0)
        options = {"lam": 0.3, "max_tokens": 10}
        result = drpo_weights(correct, num_tokens, group_ids, length_reward=kind, **options)
        torch.testing.assert_close(result, floats(*expected))
        own = torch.tensor([reward(int(n)) for n in num_tokens], dtype=torch.float64)
        torch.testing.assert_close(drpo_weights(correct, num_tokens, group_ids, length_reward=own, **options), result)


def test_weights_invariants() -> None:
    """drpo-9: positive, sum 1, fall with length, ignore a common shift and the lengths of wrong rows."""
    correct, num_tokens, group_ids = random_rows(1)
    options = {"lam": 0.2, "max_tokens": 100}
    weights = drpo_weights(correct, num_tokens, group_ids, **options)
    assert (weights[correct] > 0).all()
    assert not weights[~correct].any()
    for group in group_ids.unique():
        rows = (group_ids == group) & correct
        if rows.any():
            assert float(weights[rows].sum()) == pytest.approx(1)
            order = torch.argsort(num_tokens[rows], stable=True)
            n, w = num_tokens[rows][order], weights[rows][order]
            assert ((w.diff() < 0) == (n.diff() > 0)).all()
    moved = torch.where(correct, num_tokens + 50, num_tokens + 3)
    torch.testing.assert_close(drpo_weights(correct, moved, group_ids, **options), weights)


def test_weights_edges() -> None:
    def weights(*rows: torch.Tensor, **options: Any) -> list[float]:
        return drpo_weights(*rows, **({"lam": 0.1, "max_tokens": 10} | options)).tolist()

    assert weights(bools(1, 0, 0), ints(9, 1, 2), ints(0, 0, 0)) == [1, 0, 0]  # one correct
    assert weights(bools(1, 1), ints(7, 7), ints(0, 0)) == [0.5, 0.5]  # equal lengths
    assert weights(bools(1, 0), ints(7, 7), ints(0, 1)) == [1, 0]  # groups of one
    assert weights(bools(), ints(), ints()) == []
    with pytest.raises(InputError, match=r"num_tokens\[1\] is 11 but max_tokens is 10"):
        weights(bools(1, 1), ints(7, 11), ints(0, 0))
    assert weights(bools(1, 1), ints(11, 11), ints(0, 0), allow_over_cap=True) == [0.5, 0.5]


@pytest.mark.parametrize("lam", [0.0, -0.1, math.nan, -math.inf, "0.1"])
def test_a_lam_that_is_no_temperature_is_refused(lam: object) -> None:
    with pytest.raises(ConfigError, match="lam is"):
        drpo_weights(bools(1), ints(1), ints(0), lam=lam, max_tokens=5)  # type: ignore[arg-type]


def test_a_finite_lam_that_makes_all_weights_alike_is_refused_with_the_way_out() -> None:
    # exp(1/lam) < 1.01 from lam = 1/ln(1.01) = 100.4992 on
    rows = bools(1, 1), ints(1, 5), ints(0, 0)
    with pytest.raises(ConfigError, match=r"lam is 100\.5, so large .* pass math\.inf"):
        drpo_weights(*rows, lam=100.5, max_tokens=5)
    weights = drpo_weights(*rows, lam=100.4, max_tokens=5)
    assert weights[0] > weights[1]
