"""The report of a comparison: one HTML file without external requests, and its main plot as a PNG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.files import atomic_write_text
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.drawing import RUN_COLORS
from lengthwise.reporting.figures import tradeoff, write_tradeoff
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Curve, Mark, tick_texts
from lengthwise.runs.compare.comparison_result import (
    BASE,
    ArmResult,
    ComparisonResult,
    PairResult,
    Point,
    SettingResult,
)
from lengthwise.runs.compare.findings import claim, conclusion, verdict
from lengthwise.runs.compare_records import ComparedSide
from lengthwise.statistics.bootstrap import Interval

SHAPES = ("dot", "square", "diamond")
"""Shapes of arms beyond the number of colours."""
Look = tuple[str, str]
"""CSS class and shape."""
BASE_LOOK, CONTROL_LOOK, FREE_LOOK = ("c-before", "square"), ("c-control", "ring"), ("c-control", "diamond")
Cell = tuple[str, str]
"""A number and its interval, as text."""
EMPTY = ("", "")


@dataclass(frozen=True, kw_only=True)
class MeasuredRow:
    """A side of the main table, as text; what compares it is empty for the untouched model."""

    name: str
    setting: str
    look: Look
    accuracy: Cell
    tokens: Cell
    cut: str
    front: bool
    gain: Cell
    ratio: Cell
    matched: Cell
    verdict: str


@dataclass(frozen=True)
class Group:
    """Rows under one heading."""

    name: str
    rows: Sequence[MeasuredRow]


@dataclass(frozen=True)
class PairRow:
    """Two sides against each other, as text, with what may be claimed."""

    name: str
    gain: Cell
    gain_claim: str
    ratio: Cell
    ratio_claim: str


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """A setting: what it was and came out as, accuracy and tokens on validation and test, and what it cost."""

    arm: str
    setting: str
    resolved: str
    chosen: bool
    points: Sequence[Cell]
    sampled: str
    seconds: str
    failed: Sequence[str]


def build_page(result: ComparisonResult, out: Path) -> Path:
    """Write the page of a comparison, and the picture of its plot beside it."""
    looks = looks_of(result)
    marks, curves = _marks(result, looks), _curves(result, looks)
    page = render(
        "compare.html.j2",
        result=result,
        headline=conclusion(result),
        data=data,
        looks=looks,
        plot=tradeoff(marks, curves, oracle=result.oracle_tokens),
        measured=_measured(result, looks),
        pairs=[_pair(pair) for pair in (*result.pairs, *result.control_pairs)],
        costs=[_setting(arm, place) for arm in result.trained for place in range(len(arm.settings))],
        lengths=_lengths(result),
    )
    atomic_write_text(out, page)
    if marks:
        write_tradeoff(marks, curves, out.with_suffix(".png"), oracle=result.oracle_tokens)
    return out


def looks_of(result: ComparisonResult) -> dict[str, Look]:
    """How every side is drawn."""
    looks: dict[str, Look] = {BASE: BASE_LOOK} | dict.fromkeys(result.baselines, FREE_LOOK)
    looks |= {arm.name: _look(place) for place, arm in enumerate(result.arms)}
    return looks | {arm.name: CONTROL_LOOK for arm in result.controls}


def _look(place: int) -> Look:
    return f"c-run{place % len(RUN_COLORS)}", SHAPES[place // len(RUN_COLORS) % len(SHAPES)]


def _marks(result: ComparisonResult, looks: Mapping[str, Look]) -> list[Mark]:
    marks = []
    for side in result.table.sides if result.table is not None else ():
        found, (kind, shape) = side.summary, looks[side.name]
        spans = (found.mean_tokens_interval.ends, found.accuracy_interval.ends)
        marks.append(Mark(found.mean_tokens, found.accuracy, side.name, kind, shape, *spans))
    for arm in result.arms:
        others = [one.test for place, one in enumerate(arm.settings) if place != arm.chosen and one.test is not None]
        marks += [Mark(test.mean_tokens, test.accuracy, "", looks[arm.name][0], "speck") for test in others]
    return marks


def _curves(result: ComparisonResult, looks: Mapping[str, Look]) -> list[Curve]:
    curves = []
    for arm in result.arms:
        points = sorted((o.test.mean_tokens, o.test.accuracy) for o in arm.settings if o.test is not None)
        if len(points) > 1:
            curves.append(_line(points, f"{arm.name}, all its settings", f"{looks[arm.name][0]} thin faint"))
    if result.table is not None:
        cut = result.table.forced_cuts
        points = list(zip(cut["tokens"], cut["accuracy"], strict=True))
        curves.append(_line(points, "base, its own answers cut", "c-before thin"))
        front = [side.summary for side in result.table.sides if side.name in result.table.front]
        best = sorted((summary.mean_tokens, summary.accuracy) for summary in front)
        if len(best) > 1:
            curves.append(_line(best, "front", "c-control dashed"))
    if result.frontier is not None:
        curves.append(_line(result.frontier, "exact frontier", "c-after dashed"))
    return curves


def _line(points: Sequence[tuple[float, float]], label: str, kind: str) -> Curve:
    return Curve([x for x, _ in points], [y for _, y in points], label, kind)


def _measured(result: ComparisonResult, looks: Mapping[str, Look]) -> list[Group]:
    """The main table: rows by group."""
    if result.table is None:
        return []
    arms = {arm.name: arm for arm in result.trained}
    groups: dict[str, list[MeasuredRow]] = {"Untouched": [], "Methods": [], "Controls": [], "Free baselines": []}
    place = {BASE: "Untouched"} | {arm.name: "Methods" for arm in result.arms}
    place |= {arm.name: "Controls" for arm in result.controls}
    for side in result.table.sides:
        row = _row(side, arms.get(side.name), looks[side.name], result.table.front, result.margin)
        groups[place.get(side.name, "Free baselines")].append(row)
    return [Group(name, rows) for name, rows in groups.items() if rows]


def _row(side: ComparedSide, arm: ArmResult | None, look: Look, front: Sequence[str], margin: float) -> MeasuredRow:
    found, change = side.summary, side.against
    chosen = None if arm is None else arm.reported
    return MeasuredRow(
        name=side.name,
        setting="" if arm is None or chosen is None else f"{arm.knob} {chosen.value}",
        look=look,
        accuracy=(data.percent(found.accuracy), data.span(found.accuracy_interval, data.percent)),
        tokens=(data.number(found.mean_tokens), data.span(found.mean_tokens_interval, data.number)),
        cut=data.percent(found.truncation_rate),
        front=side.name in front,
        gain=EMPTY if change is None else _cell(change.accuracy_difference, data.points),
        ratio=EMPTY if change is None else _cell(change.tokens_ratio, _ratio),
        matched=EMPTY if change is None else _cell(change.matched, data.points),
        verdict="" if change is None else verdict(change.accuracy_difference, margin),
    )


def _cell(interval: Interval, text: Callable[[float | None], str]) -> Cell:
    return text(interval.estimate), data.span(interval, text)


def _ratio(value: float | None) -> str:
    return data.number(value, 2)


def _pair(pair: PairResult) -> PairRow:
    gain, ratio = pair.accuracy_difference, pair.tokens_ratio
    return PairRow(
        f"{pair.b} against {pair.a}",
        _cell(gain, data.points),
        claim(gain, 0.0, "more accurate", "less accurate"),
        _cell(ratio, _ratio),
        claim(ratio, 1.0, "longer", "shorter"),
    )


def _setting(arm: ArmResult, place: int) -> SettingRow:
    one = arm.settings[place]
    return SettingRow(
        arm=arm.name,
        setting=f"{arm.knob} {one.value}",
        resolved=_resolved(one, arm.knob),
        chosen=place == arm.chosen,
        points=[_point(point) for point in (one.validation, one.test)],
        sampled=f"{one.sampled_tokens / 1e6:.3g}",
        seconds=data.number(one.seconds, 0),
        failed=[f"seed {seed}: {why.reason}" for seed, why in one.failed.items()],
    )


def _point(point: Point | None) -> Cell:
    return (data.DASH, data.DASH) if point is None else (data.percent(point.accuracy), data.number(point.mean_tokens))


def _lengths(result: ComparisonResult) -> list[str]:
    """The mean lengths at which accuracies are compared, with as many decimals as tell them apart."""
    found = result.matched.tokens if result.matched is not None else []
    return tick_texts(found) if len(found) > 1 else [data.number(at, 0) for at in found]


def _resolved(one: SettingResult, knob: str) -> str:
    value = one.options[knob]
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return "" if shown == str(one.value) else shown
