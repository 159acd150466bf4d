"""What is measured on records, as values: a summary, a curve, a comparison. ``to_dict`` is what JSON files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lengthwise.json_types import JsonValue
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.json_form import Result

CUT_WARNING = 0.05


@dataclass(frozen=True)
class BudgetPoint(Result):
    """What a forced cut of the same responses after ``budget`` tokens leaves."""

    budget: int
    accuracy: float
    mean_tokens: float
    truncation_rate: float


@dataclass(frozen=True)
class CategoryNumbers(Result):
    """Means over the problems of one category."""

    accuracy: float
    mean_tokens: float
    truncation_rate: float
    problems: int


@dataclass(frozen=True)
class SeedNumbers(Result):
    """The numbers of one run of a side; ``seed`` None: its record does not say."""

    name: str
    seed: JsonValue
    accuracy: float
    mean_tokens: float
    truncation_rate: float


@dataclass(frozen=True, kw_only=True)
class RecordSummary(Result):
    """Every basic quantity of a record, each with its bootstrap interval; a quantity over no response is None.

    ``warning``: with over 5 % of responses cut, that the mean length is bounded by the cap.
    """

    accuracy: float
    mean_tokens: float
    truncation_rate: float
    tokens_finished: float | None
    tokens_correct: float | None
    tokens_wrong: float | None
    accuracy_given_finished: float | None
    token_efficiency: float | None
    problems: int
    responses: int
    cap: int
    temperature: JsonValue
    warning: str | None
    accuracy_interval: Interval
    mean_tokens_interval: Interval
    truncation_rate_interval: Interval
    tokens_finished_interval: Interval
    tokens_correct_interval: Interval
    tokens_wrong_interval: Interval
    accuracy_given_finished_interval: Interval
    token_efficiency_interval: Interval


@dataclass(frozen=True)
class Reference(Result):
    """Accuracy and mean tokens that a score refers to."""

    accuracy: float
    tokens: float


@dataclass(frozen=True)
class ScoreInterval(Interval):
    """An accuracy-efficiency score with its interval, its weights and its reference."""

    weights: tuple[float, ...]
    reference: Reference


@dataclass(frozen=True)
class MatchedInterval(Interval):
    """Accuracy of a side less that of the reference's own responses cut to ``tokens``, the side's mean.

    ``reference_accuracy``: that of the cut; None where it is undefined.
    """

    tokens: float
    reference_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """What changed from side ``a`` to side ``b``; see `records.compare`."""

    a: str
    b: str
    accuracy_difference: Interval
    tokens_ratio: Interval
    accuracy_efficiency_score: ScoreInterval
    matched: MatchedInterval
    curves: Mapping[str, Sequence[BudgetPoint]]
    seeds: Mapping[str, Sequence[SeedNumbers]]
    recut_from: Mapping[str, JsonValue]
    interventions: Mapping[str, JsonValue]
    unknown: Sequence[str]


def cut_warning(cut: float, cap: int, finished: float | None) -> str | None:
    """What to say where more than `CUT_WARNING` of the responses were cut; ``finished``: mean tokens of the others."""
    if cut <= CUT_WARNING:
        return None
    shown = "none" if finished is None else f"{finished:.1f}"
    return (
        f"{cut:.1%} of the responses were cut at {cap} tokens: the mean length is bounded by the cap; finished "
        f"responses have {shown}"
    )
