"""What a comparison will do, as values: the plan that its runs read, and what `--dry-run` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from lengthwise.json_types import JsonObject
from lengthwise.methods.declaration import Value
from lengthwise.runs.compare.arms import Settled
from lengthwise.statistics.json_form import Result, plain


@dataclass(frozen=True, kw_only=True)
class Plan(Result):
    """Every setting's options by arm, and the sampled tokens that each run may spend.

    `cap` is that of methods with another knob; `mean_tokens` and `accuracy` are the untouched model's on validation.
    """

    cap: int
    mean_tokens: float
    accuracy: float
    token_budget: int
    settings: Mapping[str, Sequence[Mapping[str, Settled]]]

    def shared(self) -> JsonObject:
        """What is the same for all runs."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self) if field.name != "settings"}


@dataclass(frozen=True, kw_only=True)
class ArmPlan(Result):
    """An arm as it was asked for, and the options of its `settings` where they are known already."""

    name: str
    knob: str
    values: Sequence[Value]
    options: Mapping[str, Value]
    settings: Sequence[Mapping[str, Settled]] | None


@dataclass(frozen=True, kw_only=True)
class DryRun(Result):
    """What a comparison will take; `token_budget_is_bound`: a run may take less, by the model's own lengths."""

    model: str
    problems: Mapping[str, int]
    eval_cap: int
    thinking: str | None
    arms: Sequence[ArmPlan]
    seeds: Sequence[int]
    baselines: Sequence[str]
    controls: Sequence[str]
    runs: int
    token_budget: int
    token_budget_is_bound: bool
    tokens: int
    seconds_per_run: float
    seconds_of_base: float
    memory_bytes_per_run: int
