"""The picture of a repair: harm against accuracy, one line per way to choose what is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lengthwise.files import replacing

STYLES = (
    ("#0f766e", "o"), ("#7d838c", "s"), ("#b45309", "^"), ("#3b82f6", "D"), ("#be123c", "v"), ("#3f454d", "P"),
    ("#d97706", "X"), ("#6d28d9", "<"), ("#15803d", "*"), ("#db2777", "h"),
)  # fmt: skip
Points = Sequence[tuple[float, float, str]]
"""Accuracy and harm in percent, with a label for the point (a fraction) or none."""


def plot_harm(panels: Mapping[str, Mapping[str, Points]], path: Path, *, accuracy: str = "accuracy, %") -> None:
    """Draw one panel per title; in each, lines by name through their points in order. Written whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(panels), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        _panel(axis, title, lines, accuracy)
    with replacing(path) as partial, partial.open("wb") as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _panel(axis: Any, title: str, lines: Mapping[str, Points], accuracy: str) -> None:
    for number, (name, points) in enumerate(lines.items()):
        colour, marker = STYLES[number % len(STYLES)]
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        axis.plot(xs, ys, color=colour, marker=marker, markersize=5, linewidth=1.4, label=name)
        for x, y, label in points:
            if label and number == 0:  # the same fractions on all lines
                axis.annotate(label, (x, y), textcoords="offset points", xytext=(5, 5), fontsize=7, color=colour)
    axis.set(title=title, xlabel=accuracy, ylabel="harmful score, % (lower is better)", xlim=(-3, 103), ylim=(-3, 103))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, loc="best")
