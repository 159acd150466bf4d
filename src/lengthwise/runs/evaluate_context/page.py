"""The page of an evaluation of long contexts: accuracy by length, heat maps by place, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from lengthwise.files import atomic_write_text
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.figures import chart_by_length, write_chart_by_length
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Chart, Curve, Span
from lengthwise.runs.evaluate_context.conclusion import PERPLEXITY, conclusion, size
from lengthwise.runs.evaluate_context.results import AnswerCell, ArmResult, Cell, ContextResult, PerplexityCell, Place

KINDS = ("c-run0", "c-run1", "c-run2", "c-run3", "c-run4", "c-run5", "c-before", "c-control")
MOST_TIMES = 10
"""Perplexities are drawn up to so many times the lowest: beside a collapsed model the others would lie on one line."""


@dataclass(frozen=True)
class CellRow:
    """A line of a task's table, as text; `arm` stands on the first line of each."""

    arm: str
    length: str
    tokens: str
    rows: int
    value: str
    span: str
    short: int


@dataclass(frozen=True)
class HeatCell:
    """Accuracy where the evidence stands in one part of the text; `share` of the color, in percent."""

    value: str
    note: str
    share: int


@dataclass(frozen=True)
class HeatMap:
    """An arm on a task: rows of places, as (from, to) in text, and columns of lengths."""

    arm: str
    lengths: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell]]]


@dataclass(frozen=True)
class LossTable:
    """Mean loss by position in the longest documents: up to which token, and each arm's losses."""

    ends: Sequence[int]
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class TaskView:
    """All of one task; `losses` of perplexity alone."""

    title: str
    plot: Markup
    rows: Sequence[CellRow]
    maps: Sequence[HeatMap]
    losses: LossTable | None


def build_page(result: ContextResult, out: Path) -> None:
    """Write the report as one HTML page without external requests, and its first task's plot as a PNG beside it."""
    asked = result.settings.reading
    page = render(
        "context.html.j2",
        headline=conclusion(result),
        tasks=[_task(result.arms, task) for task in asked.tasks],
        arms=result.arms,
        limit=result.settings.limit,
        seed=result.settings.seed,
        longest=size(max(asked.lengths)),
        dash=data.DASH,
    )
    atomic_write_text(out, page)
    write_chart_by_length(_chart(result.arms, asked.tasks[0]), out.with_suffix(".png"))


def _task(arms: Sequence[ArmResult], task: str) -> TaskView:
    maps = [found for arm in arms if (found := _heat(arm, task)) is not None]
    losses = _losses(arms) if task == PERPLEXITY else None
    chart = _chart(arms, task)
    return TaskView(
        chart.title, chart_by_length(chart), [row for arm in arms for row in _rows(arm, task)], maps, losses
    )


def _rows(arm: ArmResult, task: str) -> list[CellRow]:
    digits = 2 if task == PERPLEXITY else 1
    rows = []
    for place, cell in enumerate(arm.of(task)):
        value, span = _texts(cell, digits)
        tokens = cell.tokens if isinstance(cell, AnswerCell) else cell.length
        name = arm.name if place == 0 else ""
        rows.append(CellRow(name, size(cell.length), data.number(tokens, 0), cell.rows, value, span, cell.short))
    return rows


def _texts(cell: Cell, digits: int) -> tuple[str, str]:
    if isinstance(cell, AnswerCell):
        return data.percent(cell.accuracy.estimate), data.span(cell.accuracy, data.percent)
    return data.number(cell.perplexity.estimate, digits), data.span(cell.perplexity, lambda v: data.number(v, digits))


def _chart(arms: Sequence[ArmResult], task: str) -> Chart:
    """Lengths on a logarithmic axis: people double them."""
    curves = [_curve(arm.name, arm.of(task), place) for place, arm in enumerate(arms)]
    lengths = sorted({cell.length for arm in arms for cell in arm.of(task)})
    across = [(math.log2(length), size(length)) for length in lengths]
    if task == PERPLEXITY:
        top = MOST_TIMES * min(y for curve in curves for y in curve.ys if y is not None)
        curves = [_below(curve, top) for curve in curves]
        return Chart("perplexity by length", curves, "document tokens", across=across)
    return Chart(f"{task}: accuracy by length", curves, "prompt tokens", percent=True, top=1, across=across)


def _curve(name: str, cells: Sequence[Cell], place: int) -> Curve:
    kind = KINDS[place % len(KINDS)] + (" dashed" if place >= len(KINDS) else "")
    values, spans = [cell.measured.estimate for cell in cells], [cell.measured.ends for cell in cells]
    return Curve([math.log2(cell.length) for cell in cells], values, name, kind, spans)


def _below(curve: Curve, top: float) -> Curve:
    ys = [y if y is None else min(y, top) for y in curve.ys]
    spans: list[Span | None] = [ends and (min(ends[0], top), min(ends[1], top)) for ends in curve.spans]
    return Curve(curve.xs, ys, curve.label, curve.kind, spans)


def _heat(arm: ArmResult, task: str) -> HeatMap | None:
    """The map of an arm on a task; None where the task does not know where the evidence stands."""
    cells = [cell for cell in arm.of(task) if isinstance(cell, AnswerCell) and any(at.rows for at in cell.places)]
    if not cells:
        return None
    parts = len(cells[0].places)
    rows = []
    for number, place in enumerate(cells[0].places):
        name = f"{place.start:.0%} to {place.start + 1 / parts:.0%}"
        rows.append((name, [_heat_cell(cell.places[number]) for cell in cells]))
    return HeatMap(arm.name, [size(cell.length) for cell in cells], rows)


def _heat_cell(place: Place) -> HeatCell:
    if place.accuracy is None:
        return HeatCell(data.DASH, "", 0)
    span = data.span(place.accuracy, data.percent)
    note = f"{place.rows} row{'s' if place.rows != 1 else ''}{f', {span}' if span else ''}"
    return HeatCell(data.percent(place.accuracy.estimate), note, round(70 * (place.accuracy.estimate or 0.0)))


def _losses(arms: Sequence[ArmResult]) -> LossTable:
    last = [(arm.name, cell) for arm in arms if isinstance(cell := arm.of(PERPLEXITY)[-1], PerplexityCell)]
    rows = [(name, [data.number(loss, 3) for _, loss, _ in cell.by_position]) for name, cell in last]
    return LossTable([to for to, _, _ in last[0][1].by_position], rows)
