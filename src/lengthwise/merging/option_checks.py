"""Checks of merge options; each message names the option, its value and its range."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lengthwise.errors import ConfigError


def model_weights(weights: Sequence[float] | None, models: int) -> list[float]:
    """One finite weight per model, 1 each by default.

    Raises:
        ConfigError: no model at all, another number of weights, or one that is not finite.
    """
    if models < 1:
        raise ConfigError("no model to merge was given; give at least one")
    if weights is None:
        return [1.0] * models
    if len(weights) != models:
        raise ConfigError(f"weights has {len(weights)} numbers for {models} models; give one per model")
    for weight in weights:
        check_finite("a weight", weight)
    return [float(weight) for weight in weights]


def check_share(name: str, value: float) -> None:
    """Refuse what is not in [0, 1]; there is no reading in percent."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value}; pass a share from 0 to 1 (0.25 is a quarter)")


def check_finite(name: str, value: float) -> None:
    """Refuse NaN, infinity and what is no number."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{name} is {value}; pass a finite number")


def check_seed(value: int) -> None:
    """Refuse a seed below 0."""
    if value < 0:
        raise ConfigError(f"seed is {value}; give a number from 0 on")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse what is not among the choices, listing them."""
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(choices)}")
