"""Trade-off scores of a run against a reference, and accuracy compared at equal length.

Pure functions of numbers. A reference run is part of every score, so a score prints its own and refuses to
share a table with one that has another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lengthwise.errors import InputError, ShapeError

Weights = tuple[float, float, float]
AES_WEIGHTS: Weights = (1.0, 3.0, 5.0)


class EfficiencyScore(float):
    """An accuracy-efficiency score: a float that carries, and prints, its weights and its reference.

    ``weights`` (alpha, beta, gamma); ``accuracy_ref``, ``tokens_ref``: the reference run's values.
    """

    weights: Weights
    accuracy_ref: float
    tokens_ref: float

    def __new__(cls, value: float, weights: Weights, accuracy_ref: float, tokens_ref: float) -> EfficiencyScore:
        """Attach the weights and the reference to a value."""
        score = super().__new__(cls, value)
        score.weights, score.accuracy_ref, score.tokens_ref = weights, accuracy_ref, tokens_ref
        return score

    def __getnewargs__(self) -> tuple[float, Weights, float, float]:  # type: ignore[override]
        return float(self), self.weights, self.accuracy_ref, self.tokens_ref

    def __repr__(self) -> str:
        weights = ", ".join(f"{weight:g}" for weight in self.weights)
        reference = f"accuracy {self.accuracy_ref:g}, tokens {self.tokens_ref:g}"
        return f"{float(self):.4f} (AES, weights {weights}; reference {reference})"

    __str__ = __repr__


def accuracy_efficiency_score(
    *, accuracy: float, tokens: float, accuracy_ref: float, tokens_ref: float, weights: Weights = AES_WEIGHTS
) -> EfficiencyScore:
    """Accuracy-efficiency score (AES) of a run against a reference run.

    ``dL = (L_ref - L)/L_ref``, ``dA = (A - A_ref)/A_ref``; ``alpha*dL + beta*|dA|`` if ``dA >= 0``, else
    ``alpha*dL - gamma*|dA|``. ``weights`` (alpha, beta, gamma). 0 for the reference itself. Accuracies and
    tokens in any one unit (the score has no scale). ``accuracy_ref = 0`` or ``tokens_ref = 0`` raises: the
    score is undefined. O1-Pruner, arXiv 2501.12570.
    """
    given = {"accuracy": accuracy, "tokens": tokens, "accuracy_ref": accuracy_ref, "tokens_ref": tokens_ref}
    for name, value in given.items():
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} is {value}; give a finite number >= 0")
    for name in ("accuracy_ref", "tokens_ref"):
        if given[name] == 0:
            raise InputError(f"{name} is 0: the score is relative to it and undefined; choose another reference")
    weights = check_weights(weights)
    score = efficiency_scores([np.asarray(float(x)) for x in given.values()], weights)
    return EfficiencyScore(float(score), weights, float(accuracy_ref), float(tokens_ref))


def check_weights(weights: Sequence[float]) -> Weights:
    """Read three finite weights >= 0 (alpha, beta, gamma), or raise."""
    values = tuple(float(weight) for weight in weights)
    if len(values) != 3 or not all(math.isfinite(value) and value >= 0 for value in values):
        raise InputError(f"weights is {weights}; give (alpha, beta, gamma), three finite numbers >= 0")
    return values


def efficiency_scores(columns: Sequence[NDArray[np.float64]], weights: Weights) -> NDArray[np.float64]:
    """The formula of `accuracy_efficiency_score` over arrays of one shape; NaN where a reference is 0.

    ``columns``: accuracy, tokens, accuracy of the reference, tokens of the reference.
    """
    accuracy, tokens, accuracy_ref, tokens_ref = columns
    alpha, beta, gamma = weights
    with np.errstate(divide="ignore", invalid="ignore"):
        saved = (tokens_ref - tokens) / tokens_ref
        gained = (accuracy - accuracy_ref) / accuracy_ref
        score = alpha * saved + np.where(gained >= 0, beta * np.abs(gained), -gamma * np.abs(gained))
    return np.where((accuracy_ref == 0) | (tokens_ref == 0), np.nan, score)


def check_same_reference(scores: Mapping[str, EfficiencyScore]) -> None:
    """Raise unless all scores share weights and reference: others do not belong in one table."""
    named = list(scores.items())
    for name, score in named[1:]:
        first_name, first = named[0]
        for field in ("weights", "accuracy_ref", "tokens_ref"):
            mine, theirs = getattr(score, field), getattr(first, field)
            if mine != theirs:
                raise InputError(
                    f"{field} of {name} is {mine} but of {first_name} {theirs}; scores of unlike weights or "
                    "reference cannot share a table: compute them all against one run"
                )


@dataclass(frozen=True)
class GainRatio:
    """Gain, token ratio and their quotient (see `gain_ratio`)."""

    gain: float
    ratio: float
    score: float


def gain_ratio(
    accuracy: Sequence[float],
    tokens: Sequence[float],
    accuracy_ref: Sequence[float],
    tokens_ref: Sequence[float],
) -> GainRatio:
    """SIRI's trade-off over test sets: ``mean max(A/A_ref - 1, 0)`` over ``mean L/L_ref``.

    One value per set in each list. It ignores losses of accuracy: never report it alone. SIRI, arXiv
    2509.25176; the aggregation is inferred from the paper's tables.
    """
    names = ("accuracy", "tokens", "accuracy_ref", "tokens_ref")
    columns = [np.asarray(c, dtype=np.float64) for c in (accuracy, tokens, accuracy_ref, tokens_ref)]
    for name, column in zip(names, columns, strict=True):
        if column.ndim != 1 or len(column) == 0 or len(column) != len(columns[0]):
            raise ShapeError(f"{name} has shape {column.shape}; give one value per test set, as in accuracy")
        lowest_wanted = ">= 0" if name == "accuracy" else "> 0"
        if not np.isfinite(column).all() or (column < 0).any() or (name != "accuracy" and (column == 0).any()):
            raise InputError(f"{name} is {column.tolist()}; every value must be finite and {lowest_wanted}")
    a, n, a_ref, n_ref = columns
    gain = float(np.maximum(a / a_ref - 1.0, 0.0).mean())
    ratio = float((n / n_ref).mean())
    return GainRatio(gain=gain, ratio=ratio, score=gain / ratio)


Point = tuple[float, float]
"""(mean tokens, accuracy)."""


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points (tokens, accuracy) that no other dominates, sorted by tokens; equal points are all kept.

    A point is dominated if another has no more tokens and no less accuracy, one of them strictly. An empty
    list gives an empty list.
    """
    kept: list[Point] = []
    best = -math.inf
    # Sorted by tokens, then falling accuracy: whatever dominates a point stands before it.
    for tokens, acc in sorted(_points(points, "points"), key=lambda point: (point[0], -point[1])):
        if acc > best or (kept and (tokens, acc) == kept[-1]):
            kept.append((tokens, acc))
            best = acc
    return kept


def matched_accuracy_difference(tokens: float, accuracy: float, *, baseline: Sequence[Point]) -> float | None:
    """Accuracy gained over the baseline at equal mean tokens.

    The baseline's curve is the linear interpolation of its points (tokens, accuracy); points of equal tokens
    count with their best accuracy. Outside the baseline's token range: ``None``, no extrapolation.
    """
    best: dict[float, float] = {}
    for n, a in _points(baseline, "baseline"):
        best[n] = max(a, best.get(n, -math.inf))
    if not best:
        raise InputError("baseline has no points; give at least one (tokens, accuracy)")
    _points([(tokens, accuracy)], "(tokens, accuracy)")
    xs = sorted(best)
    there = accuracy_at_tokens(np.array([tokens]), np.array([xs]), np.array([[best[x] for x in xs]]))[0]
    return None if math.isnan(there) else accuracy - float(there)


def cut_curve(
    correct: NDArray[np.bool_], num_tokens: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean tokens and accuracy of responses cut at each of their own lengths, from the shortest to the longest.

    ``correct``, ``num_tokens`` [N]: responses, pooled, short ones first; ``weights`` [D,N]: what each counts for in
    D draws, every row summing to 1. At budget ``b``: ``sum w * min(n, b)`` and ``sum w * correct * [n <= b]``.
    Returns tokens and accuracy, both [D,U] for the U distinct lengths, neither ever falling along a row. It is a
    forced cut of outputs that exist; linear interpolation is what drawing lots between two budgets gives.
    """
    lengths, starts = np.unique(num_tokens, return_index=True)
    ended = np.add.reduceat(weights, starts, axis=1).cumsum(axis=1)
    right = np.add.reduceat(weights * correct, starts, axis=1).cumsum(axis=1)
    # One token more of budget costs the share of responses that are longer.
    longer = np.maximum(0.0, 1.0 - ended[:, :-1])
    first = np.full((len(weights), 1), float(lengths[0]))
    return np.concatenate([first, lengths[0] + (longer * np.diff(lengths)).cumsum(axis=1)], axis=1), right


def accuracy_at_tokens(
    tokens: NDArray[np.float64], curve_tokens: NDArray[np.float64], curve_accuracy: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Linear interpolation of D curves, each at its own mean tokens; NaN outside a curve's range.

    ``tokens`` [D]; ``curve_tokens``, non-decreasing along a row, and ``curve_accuracy`` [D,U].
    """
    # Sums in another order differ by a rounding, which must not put a run outside its own curve.
    ends = curve_tokens[:, [0, -1]]
    near = np.abs(ends - tokens[:, None]) <= 1e-9 * np.abs(ends)
    at = np.where(near.any(axis=1), np.where(near[:, 1], ends[:, 1], ends[:, 0]), tokens)
    outside = (at < ends[:, 0]) | (at > ends[:, 1])
    # The last point that is not above; where several have its tokens the last one, the best.
    left = np.maximum((curve_tokens <= at[:, None]).sum(axis=1) - 1, 0)
    right = np.minimum(left + 1, curve_tokens.shape[1] - 1)
    rows = np.arange(len(tokens))
    x0, x1 = curve_tokens[rows, left], curve_tokens[rows, right]
    y0, y1 = curve_accuracy[rows, left], curve_accuracy[rows, right]
    share = np.divide(at - x0, x1 - x0, out=np.zeros_like(at), where=x1 > x0)
    return np.where(outside, np.nan, y0 + share * (y1 - y0))


def _points(points: Sequence[Point], name: str) -> list[Point]:
    for point in points:
        if len(point) != 2 or not all(math.isfinite(value) for value in point):
            raise InputError(f"{name} holds {point!r}; every point is (tokens, accuracy), both finite")
    return [(float(tokens), float(acc)) for tokens, acc in points]
