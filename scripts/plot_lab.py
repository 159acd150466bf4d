"""Draw the lab study's pictures: ``python scripts/plot_lab.py`` writes docs/img/study-*.png from the raw JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from lab_numbers import ROOT, MissingRunError, Study, average, curves, load, readings
from tables_lab import PAPER_METHODS, grouped

from lengthwise.evaluation.report_figures import Mark
from lengthwise.evaluation.report_picture import label_marks

IMAGES = ROOT / "docs" / "img"
DPI = 110
MARKS = {"dler": "o", "da-dler": "s", "drpo": "D", "siri": "^", "grpo-lambda": "v", "t-ppo": "P", "adaptive": "X"}
COLOURS = dict(zip(PAPER_METHODS, plt.get_cmap("tab10").colors, strict=False))


def frontier_axes() -> tuple[Any, Any]:
    figure, axes = plt.subplots(figsize=(9, 6))
    corners, fixed = curves()
    axes.plot([p.readings for p in corners], [100 * p.accuracy for p in corners], color="black", label="exact frontier")
    axes.plot([p.readings for p in fixed], [100 * p.accuracy for p in fixed], color="black", linestyle=":",
              label="best fixed number of readings")  # fmt: skip
    axes.set(xlabel="readings", ylabel="accuracy, %")
    return figure, axes


def draw_points(axes: Any, study: Study, world: str, across: Any) -> list[Mark]:
    """The papers' methods with a line through their settings, the baselines in grey; what of it is to be labelled."""
    shown = grouped(study, world)
    marks = []
    for method, group in itertools.groupby((g for g in shown if g[0] == "methods"), key=lambda g: g[1]):
        points = sorted((across(o), 100 * average(o, "accuracy")) for *_, o in group)
        axes.plot(*zip(*points, strict=True), color=COLOURS[method], linewidth=0.8, alpha=0.6)
        axes.scatter(
            *zip(*points, strict=True), color=COLOURS[method], marker=MARKS[method], s=48, label=method, zorder=3
        )
        marks += [Mark(x, y, "", "c-before") for x, y in points]
    for suite, method, setting, outcomes in shown:
        if suite == "baselines":
            x, y = across(outcomes), 100 * average(outcomes, "accuracy")
            axes.scatter([x], [y], color="0.55", s=22)
            marks.append(Mark(x, y, method if setting == "usual" else f"{method} {setting}", "c-before"))
    return marks


def draw_witnesses(study: Study) -> None:
    figure, axes = frontier_axes()
    marks = draw_points(axes, study, "witnesses", readings)
    base = study.base("witnesses")["test"]
    axes.scatter(
        [base["distance"]["readings"]], [100 * base["accuracy"]], color="black", marker="*", s=140, label="untouched"
    )
    axes.set(xlim=(-0.5, 32), ylim=(45, 100))
    finish(figure, axes, "study-witnesses.png", marks)


def draw_chains(study: Study) -> None:
    figure, axes = plt.subplots(figsize=(9, 6))
    marks = draw_points(axes, study, "chains", lambda outcomes: average(outcomes, "tokens"))
    base = study.base("chains")["test"]
    axes.scatter([base["tokens"]], [100 * base["accuracy"]], color="black", marker="*", s=140, label="untouched")
    axes.axvline(base["distance"]["oracle_tokens"], color="black", linestyle=":", label="one pass")
    axes.set(xlabel="tokens", ylabel="accuracy, %")
    finish(figure, axes, "study-chains.png", marks)


def finish(figure: Any, axes: Any, name: str, marks: Sequence[Mark] = ()) -> None:
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.set_dpi(DPI)
    figure.tight_layout()
    figure.canvas.draw()
    label_marks(axes, figure.canvas.get_renderer(), marks, ())
    figure.savefig(IMAGES / name, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def draw_lengths(study: Study) -> None:
    """How SIRI's length follows its cap: the mean over seeds of one setting."""
    outcomes = study.of("methods", "witnesses", "siri", study.settings("methods", "witnesses", "siri")[0])
    figure, axes = plt.subplots(figsize=(9, 4))
    steps = [s["step"] for s in outcomes[0]["steps"]]
    axes.plot(steps, [s["cap"] for s in outcomes[0]["steps"]], color="black", linestyle=":", label="cap")
    rows = list(zip(*(o["steps"] for o in outcomes), strict=False))
    axes.plot(steps[: len(rows)], [mean(s["mean_tokens"] for s in row) for row in rows], label="mean tokens")
    axes.set(xlabel="step", ylabel="tokens")
    finish(figure, axes, "study-siri.png")


def main() -> None:
    study = load()
    IMAGES.mkdir(exist_ok=True)
    for draw in (draw_witnesses, draw_chains, draw_lengths):
        try:
            draw(study)
        except MissingRunError as missing:
            print(f"{draw.__name__}: {missing} is not there yet")


if __name__ == "__main__":
    main()
