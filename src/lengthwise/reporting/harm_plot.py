"""The picture of a repair: harm against accuracy, one line per way to choose what is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from lengthwise.reporting.drawing import save_png, styled
from lengthwise.reporting.mark_labels import label_marks
from lengthwise.reporting.plot_values import Mark, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = (
    ("#0f766e", "o"), ("#7d838c", "s"), ("#b45309", "^"), ("#3b82f6", "D"), ("#be123c", "v"), ("#3f454d", "P"),
    ("#d97706", "X"), ("#6d28d9", "<"), ("#15803d", "*"), ("#db2777", "h"),
)  # fmt: skip
DPI = 110
TITLE_LETTERS = 78


@dataclass(frozen=True)
class HarmPoint:
    """Accuracy and harm in percent with their intervals, where there are some, and a label (a fraction) or none."""

    accuracy: float
    harm: float
    label: str = ""
    accuracy_span: Span | None = None
    harm_span: Span | None = None


Points = Sequence[HarmPoint]


def plot_harm(panels: Mapping[str, Mapping[str, Points]], path: Path, *, accuracy: str = "accuracy, %") -> None:
    """Draw one panel per title; in each, lines by name through their points in order. Written whole or not at all."""
    with styled():
        save_png(harm_figure(panels, accuracy=accuracy), path, dpi=DPI)


def harm_figure(panels: Mapping[str, Mapping[str, Points]], *, accuracy: str = "accuracy, %") -> Figure:
    """What `plot_harm` writes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(panels), 4.8), dpi=DPI, layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _panel(axes, title, lines, accuracy)
    for axes, lines in zip(figure.axes, panels.values(), strict=True):
        # the same fractions on all lines, so the first one's are named
        first, *rest = list(lines.values()) or [[]]
        named = [Mark(point.accuracy, point.harm, point.label, "c-control") for point in first]
        others = [Mark(point.accuracy, point.harm, "", "c-control") for points in rest for point in points]
        label_marks(axes, [*named, *others], size=7)
    return figure


def _panel(axes: Axes, title: str, lines: Mapping[str, Points], accuracy: str) -> None:
    for number, (name, points) in enumerate(lines.items()):
        color, marker = STYLES[number % len(STYLES)]
        xs, ys = [point.accuracy for point in points], [point.harm for point in points]
        axes.plot(xs, ys, color=color, marker=marker, markersize=5, linewidth=1.4, label=name)
        for point in points:
            _interval(axes, point, color)
    axes.set_title(fill(title, TITLE_LETTERS), fontsize=9.5, loc="left")
    axes.set(xlabel=accuracy, ylabel="harmful score, % (lower is better)", xlim=(-3, 103), ylim=(-3, 103))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def _interval(axes: Axes, point: HarmPoint, color: str) -> None:
    for xs, ys in (
        (point.accuracy_span, (point.harm, point.harm)),
        ((point.accuracy, point.accuracy), point.harm_span),
    ):
        if xs is not None and ys is not None:
            axes.plot(xs, ys, color=color, linewidth=1.2, alpha=0.6)
