"""Exits without training (spec page budget, EAT and DEER): hand numbers and edge cases."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensors import floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import entropy_exit, trial_confidence

# m = 2, 1.68, 1.248, .8288, .5573, .3824, .2734; v = 0, .0922, .2233, .2921, .2416, .1725, .1142
FALLING = floats(2, 1.2, 0.6, 0.2, 0.15, 0.12, 0.11)


@pytest.mark.parametrize(
    ("warm_up", "threshold", "paragraph"),
    # just above and just below each v; at the warm-up of 1 even the rising start is quiet enough for .1
    [(1, 0.0921, None), (1, 0.0923, 1), (2, 0.1143, 6), (2, 0.1726, 5), (2, 0.2417, 2), (3, 0.2417, 4), (3, 0.2922, 3)],
)
def test_budget_8_eat(warm_up: int, threshold: float, paragraph: int | None) -> None:
    assert entropy_exit(FALLING, rate=0.4, warm_up=warm_up, threshold=threshold) == paragraph


def test_budget_8_eat_its_variance_by_the_page() -> None:
    # an exit at i says v_i < threshold: each v from above and from below
    for place, v in enumerate((0.0922, 0.2233, 0.2921, 0.2416, 0.1725, 0.1142), start=1):
        options: dict[str, Any] = {"rate": 0.4, "warm_up": place}
        assert entropy_exit(FALLING[: place + 1], threshold=v + 6e-5, **options) == place
        assert entropy_exit(FALLING[: place + 1], threshold=v - 6e-5, **options) is None


def test_budget_7_eat_edges() -> None:
    options: dict[str, Any] = {"rate": 0.4, "threshold": 0.01}
    assert entropy_exit(floats(1, 1, 1, 1), warm_up=2, **options) == 2  # constant
    assert entropy_exit(floats(1, 1), warm_up=2, **options) is None  # shorter than the warm-up
    assert entropy_exit(floats(1), warm_up=1, **options) is None
    assert entropy_exit(floats(), warm_up=1, **options) is None


def test_budget_8_deer() -> None:
    # (.99 + .97 + .90)/3; (.99 * .97 * .90)^(1/3) = .864270^(1/3); the least is .90
    trial = floats(0.6, 0.99, 0.97, 0.90)
    assert trial_confidence(trial, mean="arithmetic") == pytest.approx(0.9533, abs=5e-5)
    assert trial_confidence(trial) == pytest.approx(0.9525, abs=5e-5)
    assert sum(c > 0.95 for c in (0.9533, trial_confidence(trial), float(trial[1:].min()))) == 2


def test_budget_7_deer_edges() -> None:
    for mean in ("arithmetic", "geometric"):
        assert trial_confidence(floats(0.9), mean=mean) == 0 == trial_confidence(floats(), mean=mean)
    assert trial_confidence(floats(1, 0, 1)) == 0 and trial_confidence(floats(0, 1, 1)) == 1


@pytest.mark.parametrize(("option", "value"), [("rate", 0.0), ("rate", 1.1), ("warm_up", 0), ("threshold", 0.0)])
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} is"):
        entropy_exit(FALLING, **{"rate": 0.4, "warm_up": 1, "threshold": 0.1, option: value})  # type: ignore[arg-type]


def test_bad_series_are_refused_by_name() -> None:
    options: dict[str, Any] = {"rate": 0.4, "warm_up": 1, "threshold": 0.1}
    with pytest.raises(InputError, match=r"entropies\[1\] is -1.0; pass at least 0"):
        entropy_exit(floats(1, -1), **options)
    with pytest.raises(InputError, match=r"entropies\[0\] is nan"):
        entropy_exit(floats(math.nan), **options)
    with pytest.raises(InputError, match=r"probabilities\[1\] is 1.5; pass a number in \[0, 1\]"):
        trial_confidence(floats(1, 1.5))
    with pytest.raises(ConfigError, match="mean is 'least'"):
        trial_confidence(floats(1, 1), mean="least")
    for bad in (ints(1, 1), torch.ones(1, 1), [1.0]):
        with pytest.raises(ShapeError, match="probabilities"):
            trial_confidence(bad)  # type: ignore[arg-type]
