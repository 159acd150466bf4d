"""What came of an evaluation: what `grade` says of its log, what only drawing knows, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.generation.measurement import Drawn
from lengthwise.json_types import JsonObject
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.runs.compare_records import Named, RecordsComparison, claims, compare_records
from lengthwise.runs.evaluation_notes import notes_of
from lengthwise.runs.records_page import build_page
from lengthwise.statistics.records import Record


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation, as ``summary.json`` holds it.

    ``graded``: the summary of `log_grading.grade_log`. ``problems_left_out``: why, one text each. ``computed_in``: the
    numbers in words, None for a server. ``native_budget``: what the trial of the server's own budget showed, and
    ``budget_broken`` what the responses did where it was not kept.
    ``comparison``: with the baseline. ``files``: what was written, by what it is.
    """

    graded: GradeSummary
    record: Record
    drawn: Drawn
    problems_left_out: Sequence[str]
    dtype: str | None
    computed_in: str | None
    native_budget: JsonObject | None
    budget_broken: str | None
    comparison: RecordsComparison | None
    files: Mapping[str, str]

    @property
    def unclosed_rate(self) -> float:
        """Share of the responses that never close their thinking."""
        return self.graded.unclosed_rate

    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        own = notes_of(self.record.context, self.drawn, self.graded.responses, self.problems_left_out)
        if self.native_budget is not None:
            own.append(str(self.native_budget["note"]))
        if self.budget_broken is not None:
            own.append(self.budget_broken)
        computed = [] if self.computed_in is None else [f"computed in {self.computed_in}"]
        against = [] if self.comparison is None else _claims(self.comparison)
        return [*own, *self.graded.notes, *computed, *against]

    def to_dict(self) -> dict[str, object]:
        """As ``summary.json`` has it."""
        spent, left_out = self.drawn.spent_tokens, self.problems_left_out
        return {
            **self.graded.to_dict(),
            "context": {**self.graded.context, **self.record.context},
            "forced": self.drawn.forced,
            "repeats": self.drawn.repeats,
            "spent_tokens": None if spent is None else spent.to_dict(),
            "intervention": self.record.context["intervention"],
            "native_budget": self.native_budget,
            "problems_left_out": {"problems": len(left_out), "first": left_out[0] if left_out else None},
            "dtype": self.dtype,
            "notes": self.notes(),
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "files": dict(self.files),
        }


def compared(baseline: Record, record: Record, page: Path) -> RecordsComparison:
    """The comparison with the baseline, with its page."""
    reference = Named(f"{baseline.name} (baseline)", (baseline,))
    result = compare_records([reference, Named(record.name, (record,))])
    build_page(result, page)
    return result


def _claims(comparison: RecordsComparison) -> list[str]:
    """What a comparison allows to say, one line each."""
    found = []
    for row in claims(comparison):
        span = f" ({row.span})" if row.span else ""
        found.append(f"against {comparison.reference}: {row.quantity} {row.value}{span}: {row.claim}")
    return found
