"""The page of records beside each other, and its plot."""

from __future__ import annotations

from pathlib import Path

from lengthwise.files import atomic_write_text
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.figures import tradeoff, write_tradeoff
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Curve, Mark
from lengthwise.runs.compare_records import RecordsComparison, claims

REFERENCE_LOOK = ("c-before", "square")
LOOKS = (("c-after", "dot"), ("c-control", "dot"), ("c-after", "diamond"), ("c-control", "diamond"))
"""Kind and shape of the marks after the reference, in turn: what a page and a picture both can show."""


def build_page(result: RecordsComparison, out: Path) -> Path:
    """Write the comparison as one HTML file without external requests, and its plot as a PNG beside it."""
    marks, curves = _marks(result), _curves(result)
    looks = [(mark.kind, mark.shape) for mark in marks]
    page = render(
        "compare_records.html.j2",
        result=result,
        headline=conclusion(result),
        claims=claims(result),
        plot=tradeoff(marks, curves),
        data=data,
        looks=looks,
    )
    atomic_write_text(out, page)
    write_tradeoff(marks, curves, out.with_suffix(".png"))
    return out


def conclusion(result: RecordsComparison) -> str:
    """The comparison in one sentence: of several the shortest that is shown to be so, and is not shown to be worse."""
    found = [(side.name, side.against) for side in result.sides if side.against is not None]
    if len(found) > 1:
        found = [
            (name, change)
            for name, change in found
            if (change.tokens_ratio.ends or (1.0, 1.0))[1] < 1
            and (change.accuracy_difference.ends or (0.0, 0.0))[1] >= 0
        ]
        first = f"Of {len(result.sides) - 1} records "
        if not found:
            return f"{first}none is shorter than {result.reference} beyond noise without being less accurate beyond it."
        first += (
            f"{len(found)} {'is' if len(found) == 1 else 'are'} shorter beyond noise and not less accurate beyond it: "
        )
    else:
        first = ""
    name, change = min(found, key=lambda one: one[1].tokens_ratio.estimate or 1.0)
    ratio, gain = change.tokens_ratio, change.accuracy_difference
    tokens, points = data.span(ratio, lambda value: data.number(value, 2)), data.span(gain, data.points)
    return (
        f"{first}{name} takes {data.number(ratio.estimate, 2)} of {result.reference}'s tokens"
        f"{f' ({tokens})' if tokens else ''} at {data.points(gain.estimate)} points of accuracy"
        f"{f' ({points})' if points else ''}."
    )


def _marks(result: RecordsComparison) -> list[Mark]:
    marks = []
    for index, side in enumerate(result.sides):
        kind, shape = REFERENCE_LOOK if index == 0 else LOOKS[(index - 1) % len(LOOKS)]
        summary = side.summary
        ends = (summary.mean_tokens_interval.ends, summary.accuracy_interval.ends)
        marks.append(Mark(summary.mean_tokens, summary.accuracy, side.label, kind, shape, *ends))
    return marks


def _curves(result: RecordsComparison) -> list[Curve]:
    cut = result.forced_cuts
    best = [side.summary for side in result.sides if side.name in result.front]
    front = sorted((summary.mean_tokens, summary.accuracy) for summary in best)
    curves = [Curve(cut["tokens"], cut["accuracy"], f"{result.reference}, its own answers cut", "c-before thin")]
    if len(front) > 1:
        curves.append(Curve([x for x, _ in front], [y for _, y in front], "front", "c-control dashed"))
    return curves
