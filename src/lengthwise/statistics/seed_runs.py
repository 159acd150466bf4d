"""One side of a comparison as arrays: the runs (seeds) of one model on the same problems, and their uncertainty.

Shapes: K runs, P problems, S samples per problem (S may differ), D draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lengthwise.statistics.bootstrap import (
    CELLS_AT_ONCE,
    Draws,
    Interval,
    Metric,
    bootstrap,
    cluster_bootstraps,
    drawn_means,
    ratio_of_columns,
    safe_ratio,
)
from lengthwise.statistics.tradeoff_scores import Weights, accuracy_at_tokens, cut_curve, efficiency_scores

Scalar = TypeVar("Scalar", bound=np.generic)
Rows = Sequence[Sequence[NDArray[np.bool_]]]


@dataclass(frozen=True)
class Side:
    """K runs on the same P problems: ``correct`` (right and finished), ``finished`` bool [K,P,S] and ``num_tokens``."""

    correct: Rows
    finished: Rows
    num_tokens: Sequence[Sequence[NDArray[np.int64]]]

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """Accuracy and mean tokens of each run on each problem, float [K,P,2]."""
        per_problem = ([row.mean() for run in table for row in run] for table in (self.correct, self.num_tokens))
        return np.stack([np.reshape(column, (len(self.correct), -1)) for column in per_problem], axis=2)

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        # Share cut, then sums over a problem's samples of ended, right, wrong and their tokens.
        return np.array(
            [
                [
                    [(~f).mean(), f.sum(), c.sum(), (~c).sum(), (f * n).sum(), (c * n).sum(), (~c * n).sum(), n.sum()]
                    for c, f, n in zip(*run, strict=True)
                ]
                for run in zip(self.correct, self.finished, self.num_tokens, strict=True)
            ],
            dtype=np.float64,
        )

    def intervals(self, rng: np.random.Generator) -> dict[str, Interval]:
        """Every basic quantity with its interval over problems, and over runs where there are several."""
        efficiency = ratio_of_columns(4, 9)
        metrics: Mapping[str, Metric] = {
            "accuracy": lambda m: m[:, 0],
            "mean_tokens": lambda m: m[:, 1],
            "truncation_rate": lambda m: m[:, 2],
            "tokens_finished": ratio_of_columns(6, 3),
            "tokens_correct": ratio_of_columns(7, 4),
            "tokens_wrong": ratio_of_columns(8, 5),
            "accuracy_given_finished": ratio_of_columns(4, 3),
            "token_efficiency": lambda m: 1000 * efficiency(m),
        }
        return cluster_bootstraps(np.concatenate([self.means, self._sums], axis=2), metrics, rng=rng)

    @cached_property
    def _pooled(self) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """All responses, short ones first: correct, tokens, each one's share of the mean, (run, problem) [2,N]."""
        sizes = np.array([[len(row) for row in run] for run in self.correct])
        correct, tokens = (np.concatenate([row for run in t for row in run]) for t in (self.correct, self.num_tokens))
        owner = np.stack(np.unravel_index(np.repeat(np.arange(sizes.size), sizes.ravel()), sizes.shape))
        shares = 1.0 / (sizes.size * np.repeat(sizes.ravel(), sizes.ravel()))
        order = np.argsort(tokens, kind="stable")
        return correct[order], tokens[order], shares[order], owner[:, order]

    def cut_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean tokens and accuracy of the responses cut at each of their lengths, both [U]."""
        correct, tokens, share, _ = self._pooled
        curve_tokens, curve_accuracy = cut_curve(correct, tokens, share[None])
        return curve_tokens[0], curve_accuracy[0]

    def accuracy_at(
        self, tokens: NDArray[np.float64], problems: NDArray[np.int64], runs: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Accuracy at mean ``tokens`` [D] on the forced-cut curve of the drawn problems and runs; NaN outside it."""
        correct, lengths, share, (run, problem) = self._pooled
        step = max(1, CELLS_AT_ONCE // len(lengths))
        found = []
        for first in range(0, len(tokens), step):
            part = slice(first, first + step)
            weights = share * problems[part][:, problem] * runs[part][:, run]
            found.append(accuracy_at_tokens(tokens[part], *cut_curve(correct, lengths, weights)))
        return np.concatenate(found)


def over_runs(runs: Sequence[Sequence[NDArray[Scalar]]]) -> list[NDArray[Scalar]]:
    """The samples of every problem over all runs of a side."""
    return [np.concatenate(rows) for rows in zip(*runs, strict=True)]


def paired_intervals(a: Side, b: Side, *, weights: Weights, rng: np.random.Generator) -> dict[str, Interval]:
    """What changed from side ``a`` to side ``b`` on the same problems, all on the same draws.

    ``accuracy_difference`` b - a; ``tokens_ratio`` b / a; ``accuracy_efficiency_score`` with ``a`` as its
    reference; ``matched``: accuracy of b less that of a cut to b's mean tokens, undefined where b is longer
    than a or shorter than a's shortest response.
    """

    def statistic(drawn: Draws) -> dict[str, NDArray[np.float64]]:
        means = [
            drawn_means(side.means, drawn.problems, runs).T for side, runs in zip((a, b), drawn.seeds, strict=True)
        ]
        (accuracy_a, tokens_a), (accuracy_b, tokens_b) = means
        cut = a.accuracy_at(tokens_b, drawn.problems, drawn.seeds[0])
        return {
            "accuracy_difference": accuracy_b - accuracy_a,
            "tokens_ratio": safe_ratio(tokens_b, tokens_a),
            "accuracy_efficiency_score": efficiency_scores([accuracy_b, tokens_b, accuracy_a, tokens_a], weights),
            # A run against itself: two sums in unlike order, so what is left of 0 is rounding.
            "matched": np.round(accuracy_b - cut, 12) + 0.0,
        }

    return bootstrap(statistic, problems=a.means.shape[1], seeds=(len(a.means), len(b.means)), rng=rng)
