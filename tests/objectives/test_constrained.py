"""LACONIC's price and its multiplier (spec page budget): hand numbers, a loop, invariants and edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import constrained_cost, gate, order_gap, updated_multiplier

SCRIPT: dict[str, Any] = {"target": 1500, "max_tokens": 4096}


def same(result: torch.Tensor, *expected: float, digits: float = 5e-5) -> None:
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, floats(*expected), rtol=0, atol=digits)


def test_budget_8_price_of_the_excess() -> None:
    # n/1500 - 1 = 0, 0, 1, 1.7307; times .08
    n = ints(1000, 1500, 3000, 4096)
    same(constrained_cost(floats(0, 0, 0, 0), n, multiplier=0.08, hit=0.0, **SCRIPT), 0, 0, -0.08, -0.1385)


def test_budget_8_right_and_wrong_with_the_fine_at_the_cap() -> None:
    # .1 * (0, 1, 1.7307), and .1 more at 4096
    r, n = floats(1, 1, 1, 0, 0, 0), ints(1500, 3000, 4096, 800, 3000, 4096)
    same(constrained_cost(r, n, multiplier=0.1, **SCRIPT), 1, 0.9, 0.7269, 0, -0.1, -0.2731)
    caps = torch.full((6,), 4096)
    same(constrained_cost(r, n, multiplier=0.1, target=1500, max_tokens=caps), 1, 0.9, 0.7269, 0, -0.1, -0.2731)


def test_budget_8_the_price_is_capped() -> None:
    # .5 * 5.4 = 2.7, at most .4; .1 more at the cap
    result = constrained_cost(floats(1, 1), ints(16000, 16384), target=2500, multiplier=0.5, max_tokens=16384)
    same(result, 0.6, 0.5, digits=1e-12)


def test_budget_8_dual_steps() -> None:
    # .02 * (2500/1500 - 1) = .01333; + .02 * (2100/1500 - 1) = .008; + .02 * (1100/1500 - 1) = -.00533
    moves, multiplier = [], 0.0
    for lengths in ((3000, 2000), (2400, 1800), (1200, 1000)):
        multiplier = updated_multiplier(multiplier, ints(*lengths), target=1500, rate=0.02, high=1.0)
        moves.append(multiplier)
    assert moves == pytest.approx([0.01333, 0.02133, 0.01600], abs=5e-6)


def test_budget_8_signed_and_excess_only() -> None:
    # mean 2100: .02 * .4; excesses 0 and 1: .02 * .5
    steps = [
        updated_multiplier(0.0, ints(1200, 3000), target=1500, rate=0.02, high=1.0, form=form)
        for form in ("signed", "excess")
    ]
    assert steps == pytest.approx([0.008, 0.010])


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed: int) -> None:
    make = torch.Generator().manual_seed(seed)
    n = torch.randint(0, 5000, (80,), generator=make)
    r = torch.rand(80, generator=make, dtype=torch.float64) * 2 - 1
    caps = torch.randint(2000, 5000, (80,), generator=make)
    expected = [
        float(r[i]) - min(0.3 * max(0, (int(n[i]) - 900) / 900), 0.5) - 0.2 * (int(n[i]) >= int(caps[i]))
        for i in range(80)
    ]
    result = constrained_cost(r, n, target=900, multiplier=0.3, max_tokens=caps, most=0.5, hit=0.2)
    torch.testing.assert_close(result, floats(*expected))


# ---- invariants (budget section 9) ------------------------------------------------------------------------


def test_budget_9_the_price_is_free_up_to_the_target_rises_and_ends() -> None:
    n = torch.arange(0, 5000, 7)
    price = -constrained_cost(torch.zeros(len(n), dtype=torch.float64), n, multiplier=0.3, **SCRIPT)
    assert not price[n <= 1500].any()
    assert (price.diff() >= 0).all() and (price[n > 1500] > 0).all() and float(price.max()) == pytest.approx(0.5)
    plain = torch.rand(len(n), dtype=torch.float64)
    assert torch.equal(constrained_cost(plain, n, multiplier=0.0, hit=0.0, **SCRIPT), plain)


def test_budget_9_the_multiplier_stays_in_its_bounds_and_rests_at_the_target() -> None:
    assert updated_multiplier(0.07, ints(1000, 2000), target=1500, rate=0.5, high=0.1) == 0.07
    assert updated_multiplier(0.07, ints(9000), target=1500, rate=0.5, high=0.1) == 0.1
    assert updated_multiplier(0.07, ints(1), target=1500, rate=0.5, low=0.03, high=0.1) == 0.03
    assert updated_multiplier(0.07, ints(1), target=1500, rate=0.5, high=0.1, form="excess") == 0.07


def test_most_and_hit_below_the_gap_of_the_verdicts_keep_right_above_wrong() -> None:
    # .4 + .1 < .9: a right answer at the cap earns 1 - .5 = .5, a wrong one of one token .1
    correct, n, group = bools(1, 0), ints(16384, 1), ints(0, 0)
    paid = constrained_cost(floats(1, 0.1), n, target=2500, multiplier=5.0, max_tokens=16384)
    assert float(order_gap(paid, correct, group)) == pytest.approx(0.4)
    # beyond it, the gate and its floor do
    dear = constrained_cost(floats(1, 0.1), n, target=2500, multiplier=5.0, max_tokens=16384, most=2.0)
    assert float(order_gap(dear, correct, group)) < 0
    assert float(order_gap(gate(floats(1, 0.1), dear, correct, group, kind="right", floor=0.1), correct, group)) > 0


# ---- edge cases (budget section 7) ------------------------------------------------------------------------


def test_a_target_that_never_costs_is_refused() -> None:
    for cap in (1500, 1000, ints(4096, 1500)):
        with pytest.raises(ConfigError, match=r"target is 1500 but the cap is 1\d00, so no length would ever cost"):
            constrained_cost(floats(1, 1), ints(1, 1), target=1500, multiplier=0.1, max_tokens=cap)


def test_empty_batches() -> None:
    assert constrained_cost(floats(), ints(), multiplier=0.1, **SCRIPT).shape == (0,)
    assert constrained_cost(floats(), ints(), multiplier=0.1, target=5, max_tokens=ints()).shape == (0,)
    with pytest.raises(InputError, match="num_tokens has no row"):
        updated_multiplier(0.0, ints(), target=1500, rate=0.1, high=1.0)


@pytest.mark.parametrize("option", ["multiplier", "most", "hit", "target", "max_tokens"])
def test_options_of_the_price_out_of_range_are_refused(option: str) -> None:
    options = {"multiplier": 0.1, **SCRIPT, option: -1}
    with pytest.raises(ConfigError, match=f"{option} is -1"):
        constrained_cost(floats(1), ints(1), **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [("target", 0), ("rate", -0.1), ("low", -0.1), ("high", math.nan), ("multiplier", 0.5), ("form", "mean")],
)
def test_options_of_the_multiplier_out_of_range_are_refused(option: str, value: Any) -> None:
    options = {"multiplier": 0.0, "target": 5, "rate": 0.1, "low": 0.0, "high": 0.2, option: value}
    with pytest.raises(ConfigError, match=f"{option} is"):
        updated_multiplier(options.pop("multiplier"), ints(1), **options)


def test_bad_rows_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"num_tokens\[0\] is -1"):
        constrained_cost(floats(1), ints(-1), multiplier=0.1, **SCRIPT)
    with pytest.raises(InputError, match=r"rewards\[0\] is nan"):
        constrained_cost(floats(math.nan), ints(1), multiplier=0.1, **SCRIPT)
    with pytest.raises(ShapeError, match="num_tokens"):
        updated_multiplier(0.0, floats(1), target=5, rate=0.1, high=0.2)
