"""The report: one HTML file without external requests, light and dark, rebuilt from a run's files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise.engine.runlog import read_metrics
from lengthwise.errors import InputError
from lengthwise.evaluation.charts import Line, Point, bars, chart
from lengthwise.evaluation.metrics import accuracy_at_budget
from lengthwise.evaluation.records import Record
from lengthwise.files import atomic_write_text, read_json, replacing

REPORT, PICTURE = "report.html", "report.png"
BINS = 24
MAIN = ("before", "after", "before-greedy", "after-greedy")
LABELS = {
    "before": "before, T=1",
    "after": "after, T=1",
    "before-greedy": "before, greedy",
    "after-greedy": "after, greedy",
    "control-cut": "control: base cut at the new length",
    "control-first-pass": "control: base stopped after one pass",
}
KINDS = {
    "before": "c-before",
    "after": "c-after",
    "before-greedy": "c-before hollow",
    "after-greedy": "c-after hollow",
}


@dataclass(frozen=True)
class Run:
    """What a run's folder holds; parts that are not there are empty or None."""

    folder: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    records: dict[str, Record]
    outcome: dict[str, Any]
    samples: list[dict[str, Any]]

    @property
    def seed(self) -> int:
        """The run's seed, which its bootstrap intervals use too."""
        return int(self.config.get("seed", 0))

    @property
    def name(self) -> str:
        """The folder's name: how a run is called beside others."""
        return self.folder.resolve().name


def load_run(folder: Path) -> Run:
    """Read a run's folder, finished or not.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"RUN is {str(folder)!r}: no such folder")

    def optional(name: str, default: Any) -> Any:
        return read_json(folder / name) if (folder / name).is_file() else default

    records = {path.stem: Record.load(path) for path in sorted((folder / "records").glob("*.json"))}
    # What LABELS does not name follows it, before ahead of after.
    ordered = [*LABELS, *sorted((n for n in records if n not in LABELS), key=lambda n: (not n.startswith("before"), n))]
    return Run(
        folder,
        optional("config.json", {}),
        read_metrics(folder),
        {name: records[name] for name in ordered if name in records},
        optional("outcome.json", {}),
        optional("samples.json", []),
    )


def build_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the HTML report of one run, or of several beside each other, and a PNG of its main plot.

    Several runs give the shared plot and table first, then each run's own part. `out` is by default
    ``report.html`` in the (first) run's folder, ``comparison.html`` beside it for several. Missing files leave
    their parts out.

    Raises:
        InputError: no folder given, or one that is not there.
    """
    if not folders:
        raise InputError("folders is empty; name at least one run")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    runs = [load_run(Path(folder)) for folder in folders]
    default = runs[0].folder / REPORT if len(runs) == 1 else runs[0].folder.parent / "comparison.html"
    target = Path(out) if out is not None else default
    environment = Environment(
        loader=PackageLoader("lengthwise.evaluation"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report.html.j2").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        shared=_shared(runs) if len(runs) > 1 else "",
        runs=[_view(run) for run in runs],
    )
    atomic_write_text(target, page)
    if any(run.records for run in runs):
        _picture(runs, target.with_suffix(".png"))
    return target


def _view(run: Run) -> dict[str, Any]:
    missing = [n for n, v in (("records", run.records), ("metrics", run.metrics), ("outcome", run.outcome)) if not v]
    warnings = [f"step {row['step']}: {text}" for row in run.metrics for text in row.get("warnings", [])]
    rows = _table(run)
    warnings += [f"{row['label']}: {row['warning']}" for row in rows if row["warning"]]
    return {
        "name": run.name,
        "lab": bool(run.config.get("lab")),
        "headline": _headline(run),
        "method": run.config.get("method", {}),
        "facts": _facts(run),
        "rows": rows,
        "apart": run.outcome.get("levels_apart", []),
        "main_plot": _main_plot(run),
        "training": _training_plots(run.metrics),
        "histogram": _histogram(run),
        "levels": _level_plots(run),
        "samples": run.samples,
        "warnings": warnings,
        "missing": missing,
        "config": json.dumps({k: v for k, v in run.config.items() if k != "environment"}, indent=2),
        "environment": run.config.get("environment", {}),
    }


def _headline(run: Run) -> str:
    o = run.outcome
    if not o:
        return "This run has not finished."
    gain = o["difference"]["accuracy_difference"]
    interval = "" if gain["low"] is None else f" ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} points, paired)"
    return (
        f"{o['before']['mean_tokens']:.1f} tokens became {o['after']['mean_tokens']:.1f}, "
        f"{o['tokens_saved']:.0%} fewer; accuracy {o['before']['accuracy']:.1%} became "
        f"{o['after']['accuracy']:.1%}{interval}."
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    o = run.outcome
    facts = []
    if o:
        facts.append(("fewer tokens", f"{o['tokens_saved']:.1%}"))
    if "removable_share" in o:
        facts.append(("of the removable tokens", f"{o['removable_share']:.1%}"))
    if o:
        facts.append(("accuracy, T=1", f"{100 * o['difference']['accuracy_difference']['estimate']:+.1f} pts"))
        greedy = o["difference_greedy"]["accuracy_difference"]["estimate"]
        facts.append(("accuracy, greedy", f"{100 * greedy:+.1f} pts"))
        facts.append(("training", f"{o['train_seconds']:.0f} s"))
    return facts


def _table(run: Run) -> list[dict[str, Any]]:
    rows = []
    for name, record in run.records.items():
        summary = record.summary(seed=run.seed)
        low, high = summary["accuracy_interval"]["low"], summary["accuracy_interval"]["high"]
        rows.append(
            {
                "label": LABELS.get(name, name.replace("-", ", ", 1).replace("-", " ")),
                "kind": _kind(name),
                "accuracy": f"{summary['accuracy']:.1%}",
                "interval": "" if low is None else f"{low:.1%} to {high:.1%}",
                "tokens": f"{summary['mean_tokens']:.1f}",
                "right": _or_dash(summary["tokens_correct"]),
                "wrong": _or_dash(summary["tokens_wrong"]),
                "cut": f"{summary['truncation_rate']:.1%}",
                "efficiency": _or_dash(summary["token_efficiency"]),
                "problems": summary["problems"],
                "warning": None if "recut_from" in record.context else summary["warning"],
            }
        )
    return rows


def _kind(name: str) -> str:
    if name.startswith("control"):
        return "c-control" if name == "control-cut" else "c-control2"
    return KINDS.get(name, "c-other")


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _points(run: Run, *, prefix: str = "") -> list[Point]:
    points = []
    for name, record in run.records.items():
        if name in MAIN or name.startswith("control"):
            summary = record.summary(seed=run.seed)
            interval = summary["accuracy_interval"]
            kind = _kind(name)
            label = prefix + LABELS.get(name, name)
            points.append(
                Point(summary["mean_tokens"], summary["accuracy"], label, kind, interval["low"], interval["high"])
            )
    return points


def _budget_curve(record: Record, label: str) -> Line:
    cap = int(record.context["cap"])
    longest = int(max(max(row) for row in record.num_tokens))
    budgets = sorted({int(b) for b in np.linspace(1, min(cap, longest), 60)})
    ys = [accuracy_at_budget(record.correct, record.num_tokens, b, cap=cap) for b in budgets]
    return Line(budgets, ys, label, "c-before thin")


def _main_plot(run: Run) -> str:
    lines = [_budget_curve(run.records["before"], "before, cut at every budget")] if "before" in run.records else []
    points = _points(run)
    if lines and points:
        # The curve explains the points; beyond them it only squeezes the plot.
        limit = 1.3 * max(p.x for p in points)
        kept = [(x, y) for x, y in zip(lines[0].xs, lines[0].ys, strict=True) if x <= limit]
        lines = [Line([x for x, _ in kept], [y for _, y in kept], lines[0].label, lines[0].kind)]
    oracle = run.outcome.get("oracle_tokens")
    return chart(
        title="accuracy against tokens",
        x_label="mean response tokens",
        y_label="accuracy",
        lines=lines,
        points=points,
        percent=True,
        mark_x=None if oracle is None else (oracle, "one pass"),
        y_range=(0, 1),
    )


def _shared(runs: Sequence[Run]) -> str:
    points = []
    for index, run in enumerate(runs):
        for point in _points(run):
            if point.label in (LABELS["before"], LABELS["after"]):
                after = point.label == LABELS["after"]
                kind = f"c-run{index % 6}" if after else "c-before"
                points.append(Point(point.x, point.y, f"{run.name}: {point.label}", kind, point.low, point.high))
    return chart(
        title="runs compared", x_label="mean response tokens", y_label="accuracy", points=points, percent=True,
        y_range=(0, 1),
    )  # fmt: skip


def _training_plots(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    if not metrics:
        return []
    steps = [row["step"] for row in metrics]

    def line(key: str, label: str, kind: str) -> Line:
        return Line(steps, [row[key] for row in metrics], label, kind)

    plots = (
        ("tokens", "Length", [line("mean_tokens", "mean tokens", "c-after"), line("cap", "cap", "c-control dashed")]),
        ("share", "Right and cut", [
            line("accuracy", "accuracy", "c-after"), line("cut_rate", "cut", "c-control"),
            line("uniform_groups", "uniform groups", "c-control2"),
        ]),
        ("nats", "Entropy", [line("entropy", "entropy per token", "c-after")]),
        ("share", "Clipped tokens", [
            line("clip_high_share", "upper bound", "c-after"), line("clip_low_share", "lower bound", "c-control"),
        ]),
    )  # fmt: skip
    return [
        (title, chart(title=title, x_label="step", y_label=unit, lines=lines, percent=title == "Right and cut"))
        for unit, title, lines in plots
    ]


def _histogram(run: Run) -> str:
    if "before" not in run.records or "after" not in run.records:
        return ""
    lengths = {n: np.concatenate([np.asarray(row) for row in run.records[n].num_tokens]) for n in ("before", "after")}
    top = max(int(v.max()) for v in lengths.values())
    edges = np.linspace(0, top + 1, BINS + 1)
    series = [(n, KINDS[n], [float(c) / len(v) for c in np.histogram(v, edges)[0]]) for n, v in lengths.items()]
    names = [f"{edge:.0f}" for edge in edges[:-1]]
    return bars(
        title="token histogram", x_label="response tokens", y_label="share of responses", groups=names,
        series=series, percent=True, label_every=4,
    )  # fmt: skip


def _level_plots(run: Run) -> list[tuple[str, str]]:
    if "before" not in run.records or "after" not in run.records:
        return []
    tables = {n: run.records[n].by_category() for n in ("before", "after")}
    levels = list(tables["before"])
    plots = []
    for key, title, percent in (("accuracy", "Accuracy by level", True), ("mean_tokens", "Tokens by level", False)):
        series = [(n, KINDS[n], [tables[n][level][key] for level in levels]) for n in tables]
        svg = bars(
            title=title, x_label="level", y_label=key.replace("_", " "), groups=levels, series=series, percent=percent
        )
        plots.append((title, svg))
    return [plot for plot in plots if plot[1]]


def _picture(runs: Sequence[Run], path: Path) -> None:
    """The main plot as PNG, for places that show no HTML."""
    from matplotlib.figure import Figure

    colours = {"c-before": "#8a8f98", "c-after": "#0f766e", "c-control": "#c2410c", "c-control2": "#a16207"}
    figure = Figure(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    for run in runs:
        if "before" in run.records:
            curve = _budget_curve(run.records["before"], "before, cut at every budget")
            axes.plot(curve.xs, curve.ys, color=colours["c-before"], lw=1, alpha=0.7, label=curve.label)
        for point in _points(run, prefix=f"{run.name}: " if len(runs) > 1 else ""):
            colour = colours[point.kind.split()[0]]
            face = "white" if "hollow" in point.kind else colour
            errors = None
            if point.low is not None and point.high is not None:
                errors = [[max(0.0, point.y - point.low)], [max(0.0, point.high - point.y)]]
            axes.errorbar([point.x], [point.y], yerr=errors, fmt="o", ms=7, color=colour, mfc=face, label=point.label)
    oracle = runs[0].outcome.get("oracle_tokens")
    if oracle is not None:
        axes.axvline(oracle, color="#8a8f98", ls=":", lw=1)
        axes.text(oracle + 1, 0.02, "one pass", color="#5b616b", fontsize=8)
    widest = max(point.x for run in runs for point in _points(run))
    axes.set(xlabel="mean response tokens", ylabel="accuracy", ylim=(0, 1.03), xlim=(0, 1.3 * widest))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7.5, loc="lower right")
    with replacing(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
