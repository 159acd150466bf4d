"""The labels of a plot's marks, at free places of drawn axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lengthwise.reporting.drawing import COLORS, LABEL, color_of
from lengthwise.reporting.label_placement import Box, label_places, leader
from lengthwise.reporting.plot_values import Curve, Mark, known

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from matplotlib.transforms import BboxBase

REACH, ROOM = 90.0, 7.0
"""How far a label may stand from its mark, and half a mark's width with some room, in pixels."""


def label_marks(
    axes: Axes,
    marks: Sequence[Mark],
    curves: Sequence[Curve] = (),
    *,
    size: float = LABEL,
    reach: float = REACH,
) -> tuple[list[Text], list[Mark]]:
    """Write each mark's label at a free place, with a thin line to it where that is not close by.

    Marks and other labels stay free; intervals and curves where all else is farther away. Returns the texts,
    and the marks whose label found no place within `reach` pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[arg-type, no-untyped-call]
    figure.draw(renderer)
    named = [mark for mark in marks if mark.label]
    texts = [_text(axes, mark, size) for mark in named]
    extents = [text.get_window_extent(renderer) for text in texts]
    points = [(float(x), float(y)) for x, y in (axes.transData.transform((mark.x, mark.y)) for mark in named)]
    taken = [_box(axes, (m.x, m.y), (m.x, m.y), ROOM) for m in marks]
    places = label_places(
        points, [(extent.width + 4, extent.height) for extent in extents], inside=_extents(axes.bbox),
        taken=taken, lines=_lines(axes, marks, curves), reach=reach,
    )  # fmt: skip
    width, height = figure.bbox.size
    kept, unplaced = [], []
    for mark, text, point, place in zip(named, texts, points, places, strict=True):
        if place is None:
            text.remove()
            unplaced.append(mark)
            continue
        kept.append(text)
        text.set_position(((place[0] + place[2]) / 2 / width, (place[1] + place[3]) / 2 / height))
        if (end := leader(point, place)) is not None:
            xs, ys = zip(point, end, strict=True)
            line = [x / width for x in xs], [y / height for y in ys]
            axes.plot(*line, transform=figure.transFigure, color=color_of(mark.kind), lw=0.8, alpha=0.7, zorder=4,
                      gid="leader", in_layout=False)  # fmt: skip
    return kept, unplaced


def _text(axes: Axes, mark: Mark, size: float) -> Text:
    """A label at a share of the figure, so that it stands in the same place at every resolution."""
    color = COLORS["ink"] if mark.kind in ("c-before", "c-control") else color_of(mark.kind)
    return axes.text(
        0, 0, mark.label, transform=axes.figure.transFigure, fontsize=size, color=color, ha="center",
        va="center_baseline", zorder=5, gid="label", in_layout=False,
    )  # fmt: skip


def _extents(box: BboxBase) -> Box:
    return (float(box.x0), float(box.y0), float(box.x1), float(box.y1))


def _lines(axes: Axes, marks: Sequence[Mark], curves: Sequence[Curve]) -> list[Box]:
    lines = [_box(axes, point, point, 3) for curve in curves for point in known(curve)]
    for mark in marks:
        lines += [_box(axes, (mark.x_span[0], mark.y), (mark.x_span[1], mark.y), 2)] if mark.x_span else []
        lines += [_box(axes, (mark.x, mark.y_span[0]), (mark.x, mark.y_span[1]), 2)] if mark.y_span else []
    return lines


def _box(axes: Axes, low: tuple[float, float], high: tuple[float, float], room: float) -> Box:
    (left, bottom), (right, top) = axes.transData.transform([low, high])
    return (float(left) - room, float(bottom) - room, float(right) + room, float(top) + room)
