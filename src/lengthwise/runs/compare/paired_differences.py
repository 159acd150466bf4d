"""Methods against each other: paired differences of every pair, and accuracy at equal mean tokens along their settings.

Shapes: K seeds of a side, P problems, D draws. All numbers come from the same draws of problems; each side's seeds are
drawn for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lengthwise.runs.compare.comparison_result import PairResult
from lengthwise.statistics.bootstrap import Draws, Interval, bootstrap, drawn_means, safe_ratio
from lengthwise.statistics.seed_runs import Side
from lengthwise.statistics.tradeoff_scores import accuracy_at_tokens

Means = Mapping[str, NDArray[np.float64]]
"""Side -> accuracy and mean tokens by draw, float [D,2]."""


def paired(sides: Mapping[str, Side], pairs: Sequence[tuple[str, str]] | None = None, *, seed: int) -> list[PairResult]:
    """Pairs of sides, by default all: accuracy of the second less the first's, tokens over the first's."""
    pairs = list(combinations(sides, 2)) if pairs is None else pairs
    if not pairs:
        return []

    def statistic(means: Means) -> dict[str, NDArray[np.float64]]:
        found = {}
        for place, (a, b) in enumerate(pairs):
            found[f"accuracy {place}"] = means[b][:, 0] - means[a][:, 0]
            found[f"tokens {place}"] = safe_ratio(means[b][:, 1], means[a][:, 1])
        return found

    intervals = _drawn(sides, statistic, seed=seed)
    return [
        PairResult(a, b, intervals[f"accuracy {place}"], intervals[f"tokens {place}"])
        for place, (a, b) in enumerate(pairs)
    ]


def matched(
    curves: Mapping[str, Sequence[Side]], base: Side, tokens: Sequence[float], *, seed: int
) -> dict[str, list[Interval]]:
    """Accuracy of every arm at given mean tokens, by straight lines between its settings and the untouched model.

    A point between two is what drawing lots between the two models gives. Outside an arm's range: no number.
    """
    sides = {"": base, **{f"{arm} {i}": side for arm, these in curves.items() for i, side in enumerate(these)}}

    def statistic(means: Means) -> dict[str, NDArray[np.float64]]:
        found = {}
        for arm, these in curves.items():
            points = np.stack([means[""], *(means[f"{arm} {i}"] for i in range(len(these)))], axis=1)  # [D,U,2]
            # Of equal lengths the most accurate stands last, which is the one that is taken there.
            order = np.lexsort((points[..., 0], points[..., 1]), axis=1)
            accuracy, lengths = (np.take_along_axis(points[..., k], order, axis=1) for k in (0, 1))
            for place, at in enumerate(tokens):
                found[f"{arm} {place}"] = accuracy_at_tokens(np.full(len(points), float(at)), lengths, accuracy)
        return found

    intervals = _drawn(sides, statistic, seed=seed)
    return {arm: [intervals[f"{arm} {place}"] for place in range(len(tokens))] for arm in curves}


def _drawn(
    sides: Mapping[str, Side], statistic: Callable[[Means], dict[str, NDArray[np.float64]]], *, seed: int
) -> dict[str, Interval]:
    tables = [side.means for side in sides.values()]

    def of(drawn: Draws) -> dict[str, NDArray[np.float64]]:
        means = [drawn_means(table, drawn.problems, runs) for table, runs in zip(tables, drawn.seeds, strict=True)]
        return statistic(dict(zip(sides, means, strict=True)))

    return bootstrap(
        of, problems=tables[0].shape[1], seeds=[len(table) for table in tables], rng=np.random.default_rng(seed)
    )
