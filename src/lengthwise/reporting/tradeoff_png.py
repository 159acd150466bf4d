"""The plot of accuracy against tokens as a PNG file on white, for places that show no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lengthwise.files import replacing
from lengthwise.reporting.figures import RUN_COLOURS, Curve, Mark, known
from lengthwise.reporting.label_placement import Box, label_places, leader

COLOURS = {"c-before": "#7d838c", "c-after": "#0f766e", "c-control": "#3f454d"}
COLOURS |= {f"c-run{place}": colour for place, colour in enumerate(RUN_COLOURS)}
SHAPES = {"dot": "o", "ring": "o", "square": "s", "diamond": "D", "speck": "."}
HALF, REACH = 9.0, 400.0
"""Half a mark's width with some room, and how far a label may stand from its mark, in pixels."""


def picture(marks: Sequence[Mark], curves: Sequence[Curve], path: Path, *, oracle: float | None = None) -> None:
    """The plot of `figures.tradeoff`, every mark labelled beside it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve in curves:
        xs, ys = zip(*known(curve), strict=True)
        axes.plot(xs, ys, color=COLOURS[curve.kind.split()[0]], lw=1, alpha=0.6, zorder=1)
    for mark in marks:
        _draw(axes, mark)
    if oracle is not None:
        axes.axvline(oracle, color=COLOURS["c-after"], ls=":", lw=1, zorder=0)
    axes.set(xlabel="mean response tokens", ylabel="accuracy", ylim=(0, 1.04))
    axes.set_xlim(0, 1.1 * max(mark.x_span[1] if mark.x_span else mark.x for mark in marks))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    canvas.draw()
    label_marks(axes, canvas.get_renderer(), marks, curves)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def _draw(axes: Any, mark: Mark) -> None:
    colour, ring = COLOURS[mark.kind], mark.shape == "ring"
    errors = [
        None if ends is None else [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]
        for value, ends in ((mark.x, mark.x_span), (mark.y, mark.y_span))
    ]
    size = 10 if ring else 5 if mark.shape == "speck" else 6
    axes.errorbar(
        [mark.x], [mark.y], xerr=errors[0], yerr=errors[1], fmt=SHAPES[mark.shape], ms=size,
        mfc="none" if ring else colour, color=colour, capsize=3, lw=1,
    )  # fmt: skip


def label_marks(axes: Any, renderer: Any, marks: Sequence[Mark], curves: Sequence[Curve]) -> None:
    """Write each mark's label at a free place of drawn axes, with a thin line to it where that is not close by."""
    from matplotlib.patheffects import withStroke

    def box(low: tuple[float, float], high: tuple[float, float], room: float) -> Box:
        (left, bottom), (right, top) = axes.transData.transform([low, high])
        return (left - room, bottom - room, right + room, top + room)

    named = [mark for mark in marks if mark.label]
    points = [tuple(axes.transData.transform((mark.x, mark.y))) for mark in named]
    texts = [
        axes.text(
            0,
            0,
            mark.label,
            transform=None,
            fontsize=6.5,
            color=COLOURS[mark.kind],
            va="bottom",
            zorder=5,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
        for mark in named
    ]
    lines = [box(point, point, 3) for curve in curves for point in known(curve)]
    for mark in marks:
        lines += [box((mark.x_span[0], mark.y), (mark.x_span[1], mark.y), 4)] if mark.x_span else []
        lines += [box((mark.x, mark.y_span[0]), (mark.x, mark.y_span[1]), 4)] if mark.y_span else []
    sizes = [(extent.width + 4, extent.height) for extent in (text.get_window_extent(renderer) for text in texts)]
    places = label_places(
        points, sizes, inside=tuple(axes.bbox.extents), lines=lines, reach=REACH,
        taken=[box((mark.x, mark.y), (mark.x, mark.y), HALF) for mark in marks],
    )  # fmt: skip
    for mark, text, point, place in zip(named, texts, points, places, strict=True):
        if place is None:
            text.remove()
            continue
        text.set_position((place[0] + 2, place[1]))
        if (end := leader(point, place)) is not None:
            axes.plot(*zip(point, end, strict=True), transform=None, color=COLOURS[mark.kind], lw=0.5, zorder=4)
