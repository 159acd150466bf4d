"""The picture of a repair: harm against accuracy, one line per way to choose what is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.reporting.drawing import save_png, styled
from lengthwise.reporting.mark_labels import label_marks
from lengthwise.reporting.plot_values import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = (
    ("#0f766e", "o"), ("#7d838c", "s"), ("#b45309", "^"), ("#3b82f6", "D"), ("#be123c", "v"), ("#3f454d", "P"),
    ("#d97706", "X"), ("#6d28d9", "<"), ("#15803d", "*"), ("#db2777", "h"),
)  # fmt: skip
DPI = 110
Points = Sequence[tuple[float, float, str]]
"""Accuracy and harm in percent, with a label for the point (a fraction) or none."""


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
        named = [Mark(x, y, label, "c-control") for points in list(lines.values())[:1] for x, y, label in points]
        others = [Mark(x, y, "", "c-control") for points in list(lines.values())[1:] for x, y, _ in points]
        label_marks(axes, [*named, *others], size=7)
    return figure


def _panel(axes: Axes, title: str, lines: Mapping[str, Points], accuracy: str) -> None:
    for number, (name, points) in enumerate(lines.items()):
        color, marker = STYLES[number % len(STYLES)]
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        axes.plot(xs, ys, color=color, marker=marker, markersize=5, linewidth=1.4, label=name)
    axes.set(title=title, xlabel=accuracy, ylabel="harmful score, % (lower is better)", xlim=(-3, 103), ylim=(-3, 103))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="best")
