"""The pictures of the lab's study: each method's settings against what is possible, and SIRI's cap and length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from matplotlib import colormaps

from lengthwise.reporting.mark_labels import label_marks
from lengthwise.reporting.plot_values import Mark
from studies.figures import panels
from studies.lab.condense import LOWEST_FLOOR
from studies.lab.numbers import PAPER_METHODS, Study, average, curves, grouped, readings
from studies.summary import Numbers, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {"dler": "o", "da-dler": "s", "drpo": "D", "siri": "^", "grpo-lambda": "v", "t-ppo": "P", "adaptive": "X"}
COLORS = {method: colormaps["tab10"](place) for place, method in enumerate(PAPER_METHODS)}


def draw_points(axes: Any, study: Study, world: str, across: Callable[[Sequence[Numbers]], float]) -> list[Mark]:
    """The papers' methods with a line through their settings, the baselines in gray; what of it is to be labeled."""
    shown = grouped(study, world)
    marks = []
    papers = (group for group in shown if group.suite == "methods")
    for method, groups in itertools.groupby(papers, key=lambda group: group.method):
        points = sorted((across(group.runs), 100 * average(group.runs, "accuracy")) for group in groups)
        color = COLORS[method]
        axes.plot(*zip(*points, strict=True), color=color, linewidth=0.8, alpha=0.6)
        axes.scatter(*zip(*points, strict=True), color=color, marker=MARKS[method], s=48, label=method, zorder=3)
        marks += [Mark(x, y, "", "c-before") for x, y in points]
    for group in shown:
        if group.suite == "baselines":
            x, y = across(group.runs), 100 * average(group.runs, "accuracy")
            axes.scatter([x], [y], color="0.55", s=22)
            name = group.method if group.setting == "usual" else f"{group.method} {group.setting}"
            marks.append(Mark(x, y, name, "c-before"))
    return marks


def untouched(axes: Any, at: float, accuracy: float) -> None:
    axes.scatter([at], [100 * accuracy], color="black", marker="*", s=140, label="untouched")


def witnesses(summary: Summary) -> Figure:
    study, (figure, axes) = Study.of_summary(summary), panels(1, (9, 6))
    corners, fixed = curves()
    lines = (("-", "exact frontier", corners), (":", "best fixed number of readings", fixed))
    for style, label, curve in lines:
        accuracies = [100 * p.accuracy for p in curve]
        axes.plot([p.readings for p in curve], accuracies, color="black", linestyle=style, label=label)
    axes.set(xlabel="readings", ylabel="accuracy, %")
    marks = draw_points(axes, study, "witnesses", readings)
    base = study.base("witnesses")["test"]
    untouched(axes, base["distance"]["readings"], base["accuracy"])
    axes.set(xlim=(-0.5, 32), ylim=(45, 100))
    return finish(figure, axes, marks)


def chains(summary: Summary) -> Figure:
    study, (figure, axes) = Study.of_summary(summary), panels(1, (9, 6))
    marks = draw_points(axes, study, "chains", lambda runs: average(runs, "tokens"))
    base = study.base("chains")["test"]
    untouched(axes, base["tokens"], base["accuracy"])
    axes.axvline(base["distance"]["oracle_tokens"], color="black", linestyle=":", label="one pass")
    axes.set(xlabel="tokens", ylabel="accuracy, %")
    return finish(figure, axes, marks)


def siri(summary: Summary) -> Figure:
    """How SIRI's length follows its cap: the mean over seeds of one setting."""
    runs = Study.of_summary(summary).of("methods", "witnesses", "siri", LOWEST_FLOOR)
    columns = [run["training"]["columns"] for run in runs]
    figure, axes = panels(1, (9, 4))
    caps = columns[0]["cap"]
    lengths = [mean(now) for now in zip(*(own["mean_tokens"] for own in columns), strict=False)]
    axes.plot(range(1, len(caps) + 1), caps, color="black", linestyle=":", label="cap")
    axes.plot(range(1, len(lengths) + 1), lengths, label="mean tokens")
    axes.set(xlabel="step", ylabel="tokens")
    return finish(figure, axes)


def finish(figure: Figure, axes: Axes, marks: Sequence[Mark] = ()) -> Figure:
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.tight_layout()
    label_marks(axes, marks, size=6.5, reach=400)
    return figure
