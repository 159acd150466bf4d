"""The tables of a run's report as text: its records, what changed between them, and the run beside others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise.reporting import plot_data as data
from lengthwise.reporting.plot_data import Run
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.records import Record
from lengthwise.statistics.results import RecordSummary

SHAPES = {data.CUT: "square", data.FIRST_PASS: "diamond"}


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """A record's row: what it is called and drawn as, and its numbers as text.

    `forced`: its responses were cut on purpose. `finished` is empty unless the cap bounds the mean length.
    """

    name: str
    label: str
    kind: str
    shape: str
    accuracy: str
    accuracy_span: str
    tokens: str
    tokens_span: str
    cut: str
    finished: str
    right: str
    wrong: str
    efficiency: str
    cap: str
    problems: str
    warning: str | None
    forced: bool


@dataclass(frozen=True)
class Group:
    """Rows under one heading."""

    name: str
    rows: Sequence[RecordRow]


@dataclass(frozen=True, kw_only=True)
class ChangeRow:
    """What changed between two records, and what may be claimed of it."""

    label: str
    points: str
    points_span: str
    ratio: str
    ratio_span: str
    claim: str


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One of several runs beside each other."""

    kind: str
    run: str
    method: str
    before_tokens: str
    after_tokens: str
    saved: str
    before_accuracy: str
    after_accuracy: str
    points: str
    points_span: str
    removable: str


def groups_of(run: Run) -> list[Group]:
    """The main table: rows by group."""
    groups: dict[str, list[RecordRow]] = {}
    for name, record in run.records.items():
        row = _record_row(name, record, run.summaries[name])
        groups.setdefault(data.record_group(name, record), []).append(row)
    return [Group(name, rows) for name, rows in groups.items()]


def _record_row(name: str, record: Record, found: RecordSummary) -> RecordRow:
    return RecordRow(
        name=name,
        label=data.record_label(name, record),
        kind=kind_of(name),
        shape=shape_of(name),
        accuracy=data.percent(found.accuracy),
        accuracy_span=data.span(found.accuracy_interval, data.percent),
        tokens=data.number(found.mean_tokens),
        tokens_span=data.span(found.mean_tokens_interval, data.number),
        cut=data.percent(found.truncation_rate),
        finished=data.number(found.tokens_finished) if found.warning else "",
        right=data.number(found.tokens_correct),
        wrong=data.number(found.tokens_wrong),
        efficiency=data.number(found.token_efficiency),
        cap=f"{found.cap:,}",
        problems=f"{found.problems:,}",
        warning=found.warning,
        forced="recut_from" in record.context,
    )


def kind_of(name: str) -> str:
    """The CSS class of a record's marks."""
    when = name.split("-")[0]
    return f"c-{when}" if when in ("before", "after") else "c-control"


def shape_of(name: str) -> str:
    """The shape of a record's mark."""
    return "ring" if name.endswith(data.GREEDY) else SHAPES.get(name, "dot")


def changes_of(run: Run) -> list[ChangeRow]:
    """Paired differences: what may be claimed."""
    rows = []
    for a, b, label in (
        ("before", "after", "after against before, sampled"),
        ("before-greedy", "after-greedy", "after against before, greedy"),
        (data.FIRST_PASS, "after", "after against the base stopped after its first pass"),
    ):
        change = run.compared(a, b)
        if change is not None:
            gain, ratio = change.accuracy_difference, change.tokens_ratio
            rows.append(
                ChangeRow(
                    label=label,
                    points=data.points(gain.estimate),
                    points_span=data.span(gain, data.points),
                    ratio=data.number(ratio.estimate, 3),
                    ratio_span=data.span(ratio, lambda v: data.number(v, 3)),
                    claim=_claim(gain),
                )
            )
    return rows


def _claim(gain: Interval) -> str:
    if gain.ends is None or gain.estimate is None:
        return "none: no interval"
    if not gain.excludes(0.0):
        return "none: the interval holds 0"
    return "more accurate" if gain.estimate > 0 else "less accurate"


def row_of(run: Run, kind: str) -> RunRow:
    """A run with its measurement before and after, drawn as `kind`."""
    before, after = run.summaries["before"], run.summaries["after"]
    change = run.compared("before", "after")
    gain = None if change is None else change.accuracy_difference
    return RunRow(
        kind=kind,
        run=run.name,
        method=str(run.method.get("name", data.DASH)),
        before_tokens=data.number(before.mean_tokens),
        after_tokens=data.number(after.mean_tokens),
        saved=data.percent(run.tokens_saved),
        before_accuracy=data.percent(before.accuracy),
        after_accuracy=data.percent(after.accuracy),
        points=data.points(None if gain is None else gain.estimate),
        points_span="" if gain is None else data.span(gain, data.points),
        removable=data.percent(run.outcome.get("removable_share")),
    )
