"""From a run's records to its outcome: before, after, controls and what may be claimed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.json_types import JsonObject
from lengthwise.runs.run_folder import RECORDS
from lengthwise.runs.shortening.auto_cap import CapChoice
from lengthwise.runs.shortening.stages import FinishedStage
from lengthwise.statistics.json_form import Result
from lengthwise.statistics.metrics import removable_share
from lengthwise.statistics.records import Record, compare
from lengthwise.statistics.results import Comparison, RecordSummary

MAIN = ("before", "after", "before-greedy", "after-greedy")
WHERE_KNOWN = ("oracle_tokens", "removable_share", "cap_choice")
"""What an outcome leaves out where it has none."""


@dataclass(frozen=True, kw_only=True)
class Measurements(Result):
    """What was measured of a run's models, and what changed, paired over problems.

    `controls` and `apart` by name: what was measured of the untouched model beside it, and sets apart from the main
    one. `oracle_tokens`: mean length of the shortest sound answers, where that is known; `removable_share` is
    (L_before - L_after) / (L_before - L_oracle), by sampling at temperature 1.
    """

    before: RecordSummary
    after: RecordSummary
    before_greedy: RecordSummary
    after_greedy: RecordSummary
    controls: Mapping[str, RecordSummary]
    apart: Mapping[str, RecordSummary]
    difference: Comparison
    difference_greedy: Comparison
    tokens_saved: float
    levels_apart: Sequence[str]
    oracle_tokens: float | None
    removable_share: float | None

    def to_dict(self) -> JsonObject:
        """As JSON has it: what is not known is left out."""
        return {
            name: value for name, value in super().to_dict().items() if value is not None or name not in WHERE_KNOWN
        }


@dataclass(frozen=True, kw_only=True)
class Outcome(Measurements):
    """What came of a run: its measurements, what it cost, and where its model and its report are.

    `train_seconds` and `sampled_tokens` are those of the loop and of all `stages`. `cap_choice`: how `--cap auto`
    chose the cap.
    """

    weights_sha_before: str
    weights_sha_after: str
    train_seconds: float
    sampled_tokens: int
    skipped_steps: int
    stages: Mapping[str, FinishedStage]
    model: str
    report: str
    cap_choice: CapChoice | None = None


def measurements_of(
    folder: Path, *, seed: int, oracle_tokens: float | None = None, levels_apart: Sequence[str] = ()
) -> Measurements:
    """The numbers of a finished run, from its records; `seed` is the bootstrap's."""
    records = {path.stem: Record.load(path) for path in sorted((folder / RECORDS).glob("[!.]*.json"))}
    found = {name: record.summary(seed=seed) for name, record in records.items()}
    before, after = found["before"].mean_tokens, found["after"].mean_tokens

    def change(suffix: str = "") -> Comparison:
        return compare(records[f"before{suffix}"], records[f"after{suffix}"], seed=seed, allow=("model",))

    return Measurements(
        before=found["before"],
        after=found["after"],
        before_greedy=found["before-greedy"],
        after_greedy=found["after-greedy"],
        controls={n.removeprefix("control-"): s for n, s in found.items() if n.startswith("control-")},
        apart={n: s for n, s in found.items() if n not in MAIN and not n.startswith("control-")},
        difference=change(),
        difference_greedy=change("-greedy"),
        tokens_saved=1 - after / before,
        levels_apart=levels_apart,
        oracle_tokens=oracle_tokens,
        removable_share=None if oracle_tokens is None else removable_share(before, after, oracle_tokens),
    )
