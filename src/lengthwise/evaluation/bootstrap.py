"""Uncertainty: the cluster bootstrap over problems.

Problems are drawn with replacement, each with all its samples, and the metric is recomputed; the interval is
the percentile interval with linear quantiles. More samples per problem do not replace problems. Two runs on
the same problems are paired: every draw takes the same problems for both.

Shapes: P problems, F columns of per-problem values, D draws. The caller passes a seeded generator, so the
same seed gives the same interval. ``P = 1`` gives no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lengthwise.errors import InputError, ShapeError
from lengthwise.evaluation.scores import AES_WEIGHTS, Weights, check_weights, efficiency_scores

DRAWS = 2000
LEVEL = 0.95
MAX_DROPPED = 0.05
_CELLS_AT_ONCE = 4_000_000  # bounds the [D,P] count matrix to tens of megabytes

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Column means [D,F] -> values [D], NaN where undefined."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with its bootstrap interval.

    ``estimate`` is ``None`` where the metric is undefined on the data itself. ``low`` and ``high`` are
    ``None`` with one problem, or when over 5 % of the draws were undefined (``dropped`` counts them).
    """

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    draws: int
    dropped: int

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and ``value`` lies outside it: what a claim of a difference needs."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    def to_dict(self) -> dict[str, Any]:
        """Fields as a JSON-ready dictionary."""
        return dict(vars(self))


def cluster_bootstrap(
    columns: ArrayLike,
    metric: Metric,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Bootstrap a metric of column means over problems.

    ``columns`` float [P,F]: per-problem values (means over samples, or sums for a pooled ratio).
    ``metric`` maps column means [D,F] to values [D], vectorised over draws; NaN marks an undefined value.
    Both runs of a paired comparison are columns of one array, so a draw takes the same problems for both.
    Undefined draws are dropped and counted. Raises for no problems, values that are not finite, ``draws < 1``
    and a level outside (0, 1).
    """
    return cluster_bootstraps(columns, {"": metric}, rng=rng, draws=draws, level=level)[""]


def cluster_bootstraps(
    columns: ArrayLike,
    metrics: Mapping[str, Metric],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Bootstrap several metrics on the same draws; each gets the interval `cluster_bootstrap` gives it alone."""
    table = np.asarray(columns, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ShapeError(f"columns has shape {table.shape}; pass [problems, columns], at least one of each")
    if not np.isfinite(table).all():
        raise InputError("columns holds values that are not finite; leave problems without a value out")
    if draws < 1 or not 0 < level < 1:
        raise InputError(f"draws is {draws} and level {level}; wanted draws >= 1 and 0 < level < 1")
    whole = _drawn_means(table, np.ones((1, len(table)), dtype=np.int64))
    estimates = {name: _defined(metric(whole)[0]) for name, metric in metrics.items()}
    if len(table) == 1:
        return {name: Interval(estimate, None, None, level, draws, 0) for name, estimate in estimates.items()}
    means = np.concatenate([_drawn_means(table, counts) for counts in _draw_counts(len(table), draws, rng)])
    return {name: _percentiles(estimates[name], metric(means), level) for name, metric in metrics.items()}


def _percentiles(estimate: float | None, values: NDArray[np.float64], level: float) -> Interval:
    kept = values[np.isfinite(values)]
    dropped = len(values) - len(kept)
    if estimate is None or dropped > MAX_DROPPED * len(values):
        return Interval(estimate, None, None, level, len(values), dropped)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(kept, (tail, 1.0 - tail), method="linear")
    return Interval(estimate, float(low), float(high), level, len(values), dropped)


def mean_interval(values: ArrayLike, *, rng: np.random.Generator, draws: int = DRAWS, level: float = LEVEL) -> Interval:
    """Interval of a mean over problems; ``values`` [P] are per-problem means."""
    return cluster_bootstrap(_columns(values=values), lambda m: m[:, 0], rng=rng, draws=draws, level=level)


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Interval of ``sum numerator / sum denominator``, both [P] and recomputed in every draw.

    With sums over a problem's samples it is a pooled ratio (tokens of finished responses per finished
    response); with the per-problem means of two runs it is their paired ratio (tokens of B over tokens of A).
    A draw whose denominator is 0 is undefined.
    """
    columns = _columns(numerator=numerator, denominator=denominator)
    return cluster_bootstrap(columns, ratio_of_columns(0, 1), rng=rng, draws=draws, level=level)


def ratio_of_columns(numerator: int, denominator: int) -> Metric:
    """The metric ``mean of one column / mean of another``; undefined where the denominator is 0."""

    def ratio(means: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            below = means[:, denominator]
            return np.where(below == 0, np.nan, means[:, numerator] / below)

    return ratio


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, rng: np.random.Generator, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Interval of ``mean b - mean a`` for two runs on the same problems; both [P] per-problem means.

    A difference is claimed only if the interval excludes 0. A run against itself gives [0, 0].
    """
    columns = _columns(a=a, b=b)
    return mean_interval(columns[:, 1] - columns[:, 0], rng=rng, draws=draws, level=level)


def paired_efficiency_score(
    accuracy: ArrayLike,
    tokens: ArrayLike,
    accuracy_ref: ArrayLike,
    tokens_ref: ArrayLike,
    *,
    rng: np.random.Generator,
    weights: Sequence[float] = AES_WEIGHTS,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Interval:
    """Interval of the accuracy-efficiency score of a run against its reference, on the same problems.

    All four are per-problem means [P]. Draws in which the reference has no correct answer are undefined.
    """
    checked: Weights = check_weights(weights)
    columns = _columns(accuracy=accuracy, tokens=tokens, accuracy_ref=accuracy_ref, tokens_ref=tokens_ref)
    return cluster_bootstrap(
        columns, lambda m: efficiency_scores(list(m.T), checked), rng=rng, draws=draws, level=level
    )


def _columns(**named: ArrayLike) -> NDArray[np.float64]:
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in named.items()}
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.ndim != 1 or array.shape != first.shape:
            raise ShapeError(
                f"{name} has shape {array.shape} and {first_name} {first.shape}; pass one value per problem, "
                "the same problems in each"
            )
    return np.stack(list(arrays.values()), axis=1)


def _draw_counts(problems: int, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each problem is drawn: int [d,P] in chunks, every row summing to P."""
    at_once = max(1, _CELLS_AT_ONCE // problems)
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        drawn = rng.integers(0, problems, size=(size, problems))
        cells = (drawn + problems * np.arange(size)[:, None]).ravel()
        yield np.bincount(cells, minlength=size * problems).reshape(size, problems)


def _drawn_means(table: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    weights = counts.astype(np.float64)

    def means(column: NDArray[np.float64]) -> NDArray[np.float64]:
        # A column of one value has exactly that mean, so its interval has no width.
        if (column == column[0]).all():
            return np.full(len(weights), column[0])
        return weights @ column / len(column)

    # Column by column, so that equal columns give exactly equal means: a run against itself.
    return np.stack([means(np.ascontiguousarray(column)) for column in table.T], axis=1)


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
