"""Draw the lab study's pictures: ``python scripts/plot_lab.py`` writes docs/img/study-*.png from the raw JSON."""

from __future__ import annotations

import itertools
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from lab_numbers import ROOT, MissingRunError, Study, average, curves, load, readings
from tables_lab import PAPER_METHODS, grouped

IMAGES = ROOT / "docs" / "img"
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


def draw_points(axes: Any, study: Study, world: str, across: Any) -> None:
    """The papers' methods with a line through their settings; the baselines in grey with their names."""
    shown = grouped(study, world)
    for method, group in itertools.groupby((g for g in shown if g[0] == "methods"), key=lambda g: g[1]):
        points = sorted((across(o), 100 * average(o, "accuracy")) for *_, o in group)
        axes.plot(*zip(*points, strict=True), color=COLOURS[method], linewidth=0.8, alpha=0.6)
        axes.scatter(
            *zip(*points, strict=True), color=COLOURS[method], marker=MARKS[method], s=48, label=method, zorder=3
        )
    grey = [
        (100 * average(outcomes, "accuracy"), across(outcomes), method if setting == "usual" else f"{method} {setting}")
        for suite, method, setting, outcomes in shown
        if suite == "baselines"
    ]
    named: list[tuple[float, float]] = []
    width = 0.2 * max(x for _, x, _ in grey) if grey else 0.0
    for y, x, name in sorted(grey, reverse=True):
        axes.scatter([x], [y], color="0.55", s=22)
        if all(abs(x - other) > width or abs(y - height) > 1.3 for height, other in named):  # the rest: in the table
            named.append((y, x))
            axes.annotate(name, (x, y), fontsize=6.5, color="0.35", xytext=(3, 3), textcoords="offset points")


def draw_witnesses(study: Study) -> None:
    figure, axes = frontier_axes()
    draw_points(axes, study, "witnesses", readings)
    base = study.base("witnesses")["test"]
    axes.scatter(
        [base["distance"]["readings"]], [100 * base["accuracy"]], color="black", marker="*", s=140, label="untouched"
    )
    axes.set(xlim=(-0.5, 32), ylim=(45, 100))
    finish(figure, axes, "study-witnesses.png")


def draw_chains(study: Study) -> None:
    figure, axes = plt.subplots(figsize=(9, 6))
    draw_points(axes, study, "chains", lambda outcomes: average(outcomes, "tokens"))
    base = study.base("chains")["test"]
    axes.scatter([base["tokens"]], [100 * base["accuracy"]], color="black", marker="*", s=140, label="untouched")
    axes.axvline(base["distance"]["oracle_tokens"], color="black", linestyle=":", label="one pass")
    axes.set(xlabel="tokens", ylabel="accuracy, %")
    finish(figure, axes, "study-chains.png")


def finish(figure: Any, axes: Any, name: str) -> None:
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(IMAGES / name, dpi=110, metadata={"Software": None})
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
