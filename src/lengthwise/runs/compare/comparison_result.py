"""What came of a comparison, as values: every setting's numbers and cost, the table, pairs, and what may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lengthwise.json_types import JsonObject
from lengthwise.methods.declaration import Value
from lengthwise.runs.compare.plan_values import Plan
from lengthwise.runs.compare_records import RecordsComparison
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.json_form import Result

BASE = "base"
"""What the untouched model is called in tables."""


@dataclass(frozen=True)
class Point(Result):
    """Accuracy and mean tokens, over all seeds."""

    accuracy: float
    mean_tokens: float


@dataclass(frozen=True)
class FailedRun(Result):
    """Why a run could not go on, and the numbers of its last step."""

    reason: str
    last_step: Mapping[str, float]

    @property
    def step(self) -> int:
        """How far it came."""
        return int(self.last_step.get("step", 0))


@dataclass(frozen=True, kw_only=True)
class SettingResult(Result):
    """One setting of an arm: its `options` as they came out, what it reached, and what a run of it cost.

    `validation` and `test` are None where a run of it `failed`, which holds the failures by seed.
    """

    value: Value
    options: Mapping[str, object]
    validation: Point | None
    test: Point | None
    failed: Mapping[str, FailedRun]
    sampled_tokens: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ArmResult(Result):
    """An arm with the place of the setting that was `chosen` on validation; None where each has a run that failed."""

    name: str
    method: str
    knob: str
    settings: Sequence[SettingResult]
    chosen: int | None
    sampled_tokens: float
    seconds: float

    @property
    def reported(self) -> SettingResult | None:
        """The chosen setting."""
        return None if self.chosen is None else self.settings[self.chosen]


@dataclass(frozen=True)
class PairResult(Result):
    """Two sides paired over problems: accuracy of `b` less that of `a`, tokens of `b` over those of `a`."""

    a: str
    b: str
    accuracy_difference: Interval
    tokens_ratio: Interval


@dataclass(frozen=True)
class MatchedLengths(Result):
    """Accuracy of every arm at mean `tokens`, one interval each."""

    tokens: Sequence[float]
    accuracy: Mapping[str, Sequence[Interval]]


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Result):
    """What came of a comparison.

    `table`: the untouched model, the chosen settings, the controls and the baselines against each other; None where
    there is nothing beside the model. `controls`: as `arms`, of what learned from a reward that says nothing. `pairs`:
    between arms, `control_pairs`: of arms against controls; `matched`: accuracy at equal lengths, where lengths
    overlap. `findings`: what may be said. `report` and `picture` are files.
    """

    model: str
    source: str
    lab: bool
    seeds: Sequence[int]
    margin: float
    choose: str
    plan: Plan
    train: Mapping[str, object]
    arms: Sequence[ArmResult]
    controls: Sequence[ArmResult]
    baselines: Sequence[str]
    oracle_tokens: float | None
    frontier: Sequence[tuple[float, float]] | None
    table: RecordsComparison | None
    pairs: Sequence[PairResult]
    control_pairs: Sequence[PairResult]
    matched: MatchedLengths | None
    findings: Sequence[str] = ()
    report: str = ""
    picture: str = ""

    @property
    def trained(self) -> list[ArmResult]:
        """The arms, then the controls."""
        return [*self.arms, *self.controls]

    def to_dict(self) -> JsonObject:
        """As JSON has it; the plan without its settings, which stand in the arms."""
        return {**super().to_dict(), "plan": self.plan.shared()}
