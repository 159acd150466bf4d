"""What plots show, as values: marks, curves and bars; and the round numbers at their axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Values = Sequence[float | None]
Span = tuple[float, float]
"""Where an interval begins and ends."""


@dataclass(frozen=True)
class Mark:
    """A point with its intervals. `shape` is dot, ring, square, diamond or speck; `kind` a CSS class.

    A point without a label gets neither a text nor a place in the legend.
    """

    x: float
    y: float
    label: str
    kind: str
    shape: str = "dot"
    x_span: Span | None = None
    y_span: Span | None = None


@dataclass(frozen=True)
class Curve:
    """A curve; it breaks where a value is None. `kind` is a CSS class; `spans` are the values' intervals, or none."""

    xs: Sequence[float]
    ys: Values
    label: str
    kind: str
    spans: Sequence[Span | None] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over one axis: `top` fixes the upper end; `across` are places and texts in place of round numbers."""

    title: str
    curves: Sequence[Curve]
    x_label: str
    percent: bool = False
    top: float | None = None
    across: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True)
class Bar:
    """One bar of a group, with its interval; `kind` is a CSS class."""

    value: float
    label: str
    kind: str
    span: Span | None = None


def known(curve: Curve) -> list[tuple[float, float]]:
    """A curve's points, without those that have no value."""
    return [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if y is not None]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` steps of 1, 2 or 5."""
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def tick_texts(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Labels with as many decimals as the steps between them need."""
    scale, sign = (100.0, "%") if percent else (1.0, "")
    step = scale * (values[1] - values[0])
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{scale * v:,.{digits}f}{sign}" for v in values]


def running_mean(values: Values, window: int) -> list[float | None]:
    """Mean of the last `window` values that are there; None where there is none."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        there = [v for v in values[max(0, end - window) : end] if v is not None]
        means.append(sum(there) / len(there) if there else None)
    return means
