"""Uncertainty: the cluster bootstrap over problems, and over seeds where a side has several.

Problems are drawn with replacement, each with all its samples, and the metric is recomputed; the interval is
the percentile interval with linear quantiles. More samples per problem do not replace problems. Two runs on
the same problems are paired: every draw takes the same problems for both. A side measured with several seeds
(runs) has them drawn too, each side for itself, and a draw's value is the mean over the drawn seeds.

Shapes: P problems, K seeds of a side, F columns of per-problem values, D draws. The caller passes a seeded
generator, so the same seed gives the same interval. ``P = 1`` gives no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lengthwise.errors import InputError, ShapeError
from lengthwise.statistics.json_form import Result

DRAWS = 2000
LEVEL = 0.95
MAX_DROPPED = 0.05
CELLS_AT_ONCE = 4_000_000
"""Entries of the largest matrix that is held at once: tens of megabytes."""

Metric = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Column means [D,F] -> values [D], NaN where undefined."""


@dataclass(frozen=True)
class Draws:
    """How often each problem was drawn, the same for every side, and each seed of every side.

    ``problems`` int [D,P], rows summing to P; ``seeds``: per side int [D,K], rows summing to its K.
    """

    problems: NDArray[np.int64]
    seeds: tuple[NDArray[np.int64], ...]


Statistic = Callable[[Draws], Mapping[str, NDArray[np.float64]]]
"""Draws -> values [D] by name, NaN where undefined."""


@dataclass(frozen=True)
class Interval(Result):
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

    @property
    def ends(self) -> tuple[float, float] | None:
        """Where it begins and ends; None where there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def bootstrap(
    statistic: Statistic,
    *,
    problems: int,
    seeds: Sequence[int] = (1,),
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Bootstrap statistics of one side, or of several on the same problems, all on the same draws.

    ``seeds`` holds the number of seeds of each side. Every draw takes ``problems`` problems with replacement,
    the same for all sides, and then each side's own seeds with replacement; a side with a single seed keeps
    it, so its interval is that over problems alone. ``statistic`` is called with parts of the draws, and once
    with everything drawn exactly once for the estimates. Undefined draws are dropped and counted.

    Raises:
        InputError: ``problems``, ``seeds`` or ``draws`` below 1, a level outside (0, 1).
    """
    if problems < 1 or not seeds or min(seeds) < 1:
        raise InputError(f"problems is {problems} and seeds {list(seeds)}; wanted at least 1 of each")
    if draws < 1 or not 0 < level < 1:
        raise InputError(f"draws is {draws} and level {level}; wanted draws >= 1 and 0 < level < 1")
    once = Draws(np.ones((1, problems), dtype=np.int64), tuple(np.ones((1, k), dtype=np.int64) for k in seeds))
    estimates = {name: _defined(values[0]) for name, values in statistic(once).items()}
    if problems == 1:
        return {name: Interval(estimate, None, None, level, draws, 0) for name, estimate in estimates.items()}
    drawn_seeds = [np.concatenate(list(_draw_counts(k, draws, rng))) for k in seeds]
    parts, start = [], 0
    for counts in _draw_counts(problems, draws, rng):
        stop = start + len(counts)
        parts.append(statistic(Draws(counts, tuple(drawn[start:stop] for drawn in drawn_seeds))))
        start = stop
    return {
        name: _percentiles(estimate, np.concatenate([part[name] for part in parts]), level)
        for name, estimate in estimates.items()
    }


def cluster_bootstraps(
    columns: ArrayLike,
    metrics: Mapping[str, Metric],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Bootstrap metrics of column means, all on the same draws.

    ``columns`` float [P,F], or [K,P,F] with several seeds: per-problem values (means over samples, or sums for
    a pooled ratio). A metric maps column means [D,F] to values [D], vectorised over draws; NaN marks an
    undefined value. Raises for no problems and values that are not finite.
    """
    table = check_columns(columns, "columns")

    def statistic(drawn: Draws) -> dict[str, NDArray[np.float64]]:
        means = drawn_means(table, drawn.problems, drawn.seeds[0])
        return {name: metric(means) for name, metric in metrics.items()}

    return bootstrap(statistic, problems=table.shape[1], seeds=(len(table),), rng=rng, draws=draws, level=level)


def mean_interval(values: ArrayLike, *, rng: np.random.Generator, draws: int = DRAWS, level: float = LEVEL) -> Interval:
    """Interval of a mean over problems; ``values`` [P], or [K,P] with several seeds, are per-problem means."""
    columns = np.asarray(values, dtype=np.float64)[..., None]
    return cluster_bootstraps(columns, {"": lambda m: m[:, 0]}, rng=rng, draws=draws, level=level)[""]


def ratio_of_columns(numerator: int, denominator: int) -> Metric:
    """The metric ``mean of one column / mean of another``; undefined where the denominator is 0."""
    return lambda means: safe_ratio(means[:, numerator], means[:, denominator])


def safe_ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """``above / below``, NaN where ``below`` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, above / below)


def check_columns(columns: ArrayLike, name: str) -> NDArray[np.float64]:
    """Read finite values [P,F] or [K,P,F] into float [K,P,F], or raise."""
    table = np.asarray(columns, dtype=np.float64)
    if table.ndim == 2:
        table = table[None]
    if table.ndim != 3 or table.size == 0:
        raise ShapeError(
            f"{name} has shape {table.shape}; pass [problems, columns] or [seeds, problems, columns], at least one "
            "of each"
        )
    if not np.isfinite(table).all():
        raise InputError(f"{name} holds values that are not finite; leave problems without a value out")
    return table


def drawn_means(
    table: NDArray[np.float64], problems: NDArray[np.int64], seeds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Column means of the drawn problems and seeds: ``table`` [K,P,F], counts [D,P] and [D,K] -> [D,F]."""
    weights = problems.astype(np.float64)

    def means(column: NDArray[np.float64]) -> NDArray[np.float64]:
        # A column of one value has exactly that mean, so its interval has no width.
        if (column == column[0]).all():
            return np.full(len(weights), column[0])
        return weights @ column / len(column)

    # Column by column, so that equal columns give exactly equal means: a run against itself.
    by_seed = np.array([[means(np.ascontiguousarray(column)) for column in seed.T] for seed in table])
    first, shares = by_seed[0], seeds.T[:, None, :]
    mixed = (shares * by_seed).sum(axis=0) / len(table)
    # Seeds of one value have exactly that mean, for the same reason.
    drawn: NDArray[np.float64] = np.where((by_seed == first).all(axis=0), first, mixed).T
    return drawn


def _draw_counts(size: int, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each of ``size`` is drawn: int [d,size] in parts, every row summing to ``size``."""
    at_once = max(1, CELLS_AT_ONCE // size)
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        if size == 1:
            yield np.ones((rows, 1), dtype=np.int64)
            continue
        drawn = rng.integers(0, size, size=(rows, size))
        cells = (drawn + size * np.arange(rows)[:, None]).ravel()
        yield np.bincount(cells, minlength=size * rows).reshape(rows, size)


def _percentiles(estimate: float | None, values: NDArray[np.float64], level: float) -> Interval:
    kept = values[np.isfinite(values)]
    dropped = len(values) - len(kept)
    if estimate is None or dropped > MAX_DROPPED * len(values):
        return Interval(estimate, None, None, level, len(values), dropped)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(kept, (tail, 1.0 - tail), method="linear")
    return Interval(estimate, float(low), float(high), level, len(values), dropped)


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
