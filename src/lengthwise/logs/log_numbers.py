"""What a graded log says, as values; ``to_dict`` is what ``--json`` prints."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lengthwise.json_types import JsonObject
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.json_form import Result
from lengthwise.statistics.outside_scores import FirstRight

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class TokenNumbers(Result):
    """A distribution of tokens over so many responses."""

    responses: int
    mean: float | None
    median: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class RightParts(Result):
    """Mean tokens of a right response, in thinking and in answer, before and after the first right statement."""

    thinking_before: float
    thinking_after: float
    answer_before: float
    answer_after: float


@dataclass(frozen=True)
class AfterRight(Result):
    """Tokens after the first right statement, over right responses where it was found (``located``).

    ``mean`` and ``share`` (of these responses' tokens), ``tokens`` and ``parts``: None where none was found.
    """

    right: int
    located: int
    tokens: int | None
    mean: float | None
    share: float | None
    parts: RightParts | None
    share_interval: Interval


@dataclass(frozen=True)
class Abandoned(Result):
    """Responses in which the right answer stands, and how many of them end wrong, by how."""

    stated: int
    abandoned: int
    other_answer: int
    cut: int
    unclosed: int
    rate: float | None


@dataclass(frozen=True)
class LogCategory(Result):
    """Means over the problems of one category."""

    accuracy: float
    mean_tokens: float
    truncation_rate: float
    after_right_share: float | None
    problems: int
    responses: int
    accuracy_interval: Interval
    mean_tokens_interval: Interval


@dataclass(frozen=True)
class KeptAtBudget(Result):
    """What a forced cut of the same responses after ``budget`` tokens leaves; ``kept``: of the right answers."""

    budget: int
    accuracy: float
    kept: float | None
    mean_tokens: float
    truncation_rate: float


@dataclass(frozen=True)
class CurvePoints(Result):
    """The same column by column, at budgets that are dense enough for a figure."""

    budget: Sequence[int]
    accuracy: Sequence[float]
    mean_tokens: Sequence[float]


@dataclass(frozen=True)
class Histogram(Result):
    """How many right and wrong responses have lengths from one edge up to the next."""

    edges: Sequence[int]
    right: Sequence[int]
    wrong: Sequence[int]


@dataclass(frozen=True)
class Money(Result):
    """What the tokens cost, in the unit of the price; per right answer None where none is right."""

    price_per_million: float
    total: float
    after_right: float | None
    per_right: float | None


@dataclass(frozen=True)
class NextStep(Result):
    """What the numbers suggest: in words, the command that tries it (None: nothing to run), and what was assumed."""

    says: str
    command: str | None
    assumes: str

    def about(self, model: str, data: str) -> NextStep:
        """The step with a model and problems in its command, in place of MODEL and DATA."""
        if self.command is None:
            return self
        known = {"MODEL": shlex.quote(model), "DATA": shlex.quote(data)}
        return replace(self, command=" ".join(known.get(word, word) for word in self.command.split(" ")))


@dataclass(frozen=True, kw_only=True)
class OutsideScores(Result):
    """Scores of outside benchmarks (`--metrics all`); see `statistics.outside_scores`.

    ``t_max``: the limit of the areas. Over thinking tokens, as the benchmark has it, ``area`` and ``area_as_code`` (its
    code multiplies means), None where they were not counted; over all response tokens ``area_all_tokens``. ``f1``: of
    the area without the hard categories and the accuracy in them, None unless both are there. ``ock_score``: of
    response tokens. ``first_right``: tokens of the thinking before the first right answer.
    """

    t_max: int
    area: float | None
    area_as_code: float | None
    area_all_tokens: float
    hard: Sequence[str]
    f1: float | None
    ock_score: float
    first_right: FirstRight | None


@dataclass(frozen=True, kw_only=True)
class LogNumbers(Result):
    """Every number of a log; see `summary.summarise`."""

    problems: int
    responses: int
    timeouts: int
    comparison_errors: Mapping[str, int]
    accuracy: float
    accuracy_interval: Interval
    mean_tokens: float
    mean_tokens_interval: Interval
    truncation_rate: float
    truncation_rate_interval: Interval
    unclosed_rate: float
    empty_rate: float
    tokens: Mapping[str, TokenNumbers | None]
    token_efficiency: float | None
    after_right: AfterRight
    abandoned: Abandoned
    pass_at_k: Mapping[str, float]
    majority_at_k: Mapping[str, float] | None
    by_category: Mapping[str, LogCategory]
    cap: int
    curve: Sequence[KeptAtBudget]
    curve_points: CurvePoints
    histogram: Histogram
    money: Money | None
    warning: str | None
    next_steps: Sequence[NextStep]
    outside_scores: OutsideScores | None = None


@dataclass(frozen=True)
class LeftOutReason(Result):
    """Why rows were left out, how many, and where the first of them stands; ``first`` in words."""

    reason: str
    rows: int
    first_line: int
    first: str | None = None


@dataclass(frozen=True)
class LeftOutRows(Result):
    """Rows that were left out, by reason."""

    rows: int
    reasons: Sequence[LeftOutReason]


@dataclass(frozen=True)
class Agreement(Result):
    """A verdict of the log's own beside ours: responses that have both, and those that one side alone has right."""

    verdict: str
    responses: int
    right_by_the_log_alone: int
    right_by_ours_alone: int


@dataclass(frozen=True, kw_only=True)
class GradeSummary(LogNumbers):
    """The numbers of a log with how it was read: what `lengthwise grade --json` prints, and reports show.

    ``read_as``: the first line of a report; ``format``: that format's name. ``problems_by``, ``finished_by``: what told
    problems apart and finished responses, in rows; ``verdicts_by``: whose verdicts count, ``ours`` or the log's by
    name. ``agreement``: one for each of the log's verdicts beside which ours stand. ``context``: what a record of the
    log says of itself.
    """

    log: str
    read_as: str = ""
    format: str = ""
    problems_by: Mapping[str, int]
    finished_by: Mapping[str, int]
    stopped_by: Mapping[str, int]
    verdicts_by: Mapping[str, int] = field(default_factory=dict)
    agreement: Sequence[Agreement] = ()
    context: Mapping[str, object]
    left_out: LeftOutRows
    notes: Sequence[str]

    def to_dict(self) -> JsonObject:
        """JSON-ready, what the log is first."""
        found = super().to_dict()
        return {name: found[name] for name in ("log", "read_as", "format")} | found

    @classmethod
    def read(cls, found: Mapping[str, object]) -> GradeSummary:
        """The summary in a JSON object; what else stands there is passed over."""
        return _reader().validate_python(found)


@functools.cache
def _reader() -> TypeAdapter[GradeSummary]:
    from pydantic import TypeAdapter

    return TypeAdapter(GradeSummary)
