"""The report: one HTML file without external requests, light and dark, rebuilt from a run's files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from lengthwise.errors import InputError
from lengthwise.files import atomic_write_text
from lengthwise.output_paths import check_file_target, real
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.drawing import RUN_COLORS
from lengthwise.reporting.figures import grouped_bars, histogram, series, tradeoff, write_tradeoff
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_data import Run, load_run
from lengthwise.reporting.plot_values import Bar, Curve, Mark
from lengthwise.reporting.run_tables import (
    ChangeRow,
    Group,
    RecordRow,
    RunRow,
    changes_of,
    groups_of,
    kind_of,
    row_of,
    shape_of,
)

REPORT, COMPARISON = "report.html", "comparison.html"
BINS = 40
CURVE_LABEL = "base, its own answers cut at every budget"


def build_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the HTML report of one run, or of several beside each other, and a PNG of its main plot.

    `out` is by default ``run_report.html`` in the run's folder, for several runs ``comparison.html`` beside the first
    one's folder; the PNG has the same name. Files that are missing leave their parts out and are named in the
    report. Runs measured unlike the first one (cap, problems, grader, ...) get no place in the shared table.

    Raises:
        InputError: no folder given, one that is not there, or one whose config is no run's.
        ConfigError: a target that cannot be written.
        CheckpointError: a file that is there but damaged.
    """
    if not folders:
        raise InputError("folders is empty; name at least one run")
    runs = [load_run(Path(folder)) for folder in folders]
    default = runs[0].folder / REPORT if len(runs) == 1 else real(runs[0].folder).parent / COMPARISON
    target = Path(out) if out is not None else default
    for file in (target, target.with_suffix(".png")):
        check_file_target("out", file)
    page = render(
        "report.html.j2",
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared",
        shared=_shared(runs) if len(runs) > 1 else None,
        runs=[_view(run) for run in runs],
    )
    atomic_write_text(target, page)
    prefixes = [f"{run.name}: " if len(runs) > 1 else "" for run in runs]
    marks = [
        replace(m, label=prefix + m.label) for run, prefix in zip(runs, prefixes, strict=True) for m in _marks(run)
    ]
    if marks:
        curves = [curve for run in runs for curve in _curves(run)]
        write_tradeoff(marks, curves, target.with_suffix(".png"), oracle=_oracle(runs[0]))
    return target


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Everything the template shows of one run, as text and charts."""

    name: str
    lab: bool
    method: Mapping[str, object]
    model: object
    headline: str
    progress: str
    missing: Sequence[str]
    facts: Sequence[tuple[str, str, str]]
    plot: Markup
    groups: Sequence[Group]
    changes: Sequence[ChangeRow]
    score: str
    context: str
    training: Sequence[tuple[str, Markup]]
    histogram: Markup
    levels: Sequence[tuple[str, Markup]]
    apart: Sequence[str]
    samples: Sequence[Mapping[str, object]]
    warnings: Sequence[tuple[str, Sequence[int]]]
    config: Sequence[tuple[str, str]]
    environment: Sequence[tuple[str, str]]

    @property
    def cuts(self) -> list[RecordRow]:
        """The rows whose mean length is bounded by the cap."""
        return [row for group in self.groups for row in group.rows if row.warning]


@dataclass(frozen=True)
class Shared:
    """What several runs share: a plot and a table of those measured like the first, and why others were not."""

    headline: str
    plot: Markup
    rows: Sequence[RunRow]
    refused: Sequence[tuple[str, str]]


def _view(run: Run) -> RunView:
    environment = run.config.get("environment", {})
    return RunView(
        name=run.name,
        lab=bool(run.config.get("lab")),
        method=run.method,
        model=run.config.get("model"),
        headline=_headline(run),
        progress=_progress(run),
        missing=run.missing,
        facts=_facts(run),
        plot=tradeoff(_marks(run), _curves(run), oracle=_oracle(run)),
        groups=groups_of(run),
        changes=changes_of(run),
        score=_score(run),
        context=_context(run),
        training=_training(run),
        histogram=_histogram(run),
        levels=_level_charts(run) if run.levels else [],
        apart=[level.name for level in run.levels if level.apart],
        samples=run.samples,
        warnings=data.warnings_of(run),
        config=data.settings({k: v for k, v in run.config.items() if k != "environment"}) if run.config else [],
        environment=data.settings(environment) if environment else [],
    )


def _headline(run: Run) -> str:
    change = run.compared("before", "after")
    if change is None:
        there = "before" in run.summaries and "after" in run.summaries
        return "Before and after were measured unlike." if there else "This run has no measurement before and after."
    before, after = run.summaries["before"], run.summaries["after"]
    saved, removable = run.tokens_saved, run.outcome.get("removable_share")
    gone = f", {data.percent(removable)} of the removable ones" if data.finite(removable) else ""
    share = "" if saved is None else f" ({abs(saved):.0%} {'fewer' if saved >= 0 else 'more'}{gone})"
    interval = data.span(change.accuracy_difference, data.points)
    return (
        f"Answers went from {data.number(before.mean_tokens)} to {data.number(after.mean_tokens)} tokens"
        f"{share}; accuracy from {data.percent(before.accuracy)} to {data.percent(after.accuracy)}"
        + (f" (paired difference {interval} points)." if interval else ".")
    )


def _progress(run: Run) -> str:
    """How far an unfinished run is; empty for a finished one."""
    if run.outcome:
        return ""
    done, wanted = (run.metrics[-1]["step"] if run.metrics else 0), run.config.get("steps")
    return f"This run is not finished: {done}{f' of {wanted}' if wanted else ''} training steps are done."


def _facts(run: Run) -> list[tuple[str, str, str]]:
    """The key numbers as (name, value, note)."""
    facts: list[tuple[str, str, str]] = []
    for suffix, name in (("", "accuracy, sampled"), (data.GREEDY, "accuracy, greedy")):
        change = run.compared(f"before{suffix}", f"after{suffix}")
        if change is not None:
            before, after = (run.summaries[f"{when}{suffix}"] for when in ("before", "after"))
            interval = data.span(change.accuracy_difference, data.points)
            if not suffix:
                ratio = data.span(change.tokens_ratio, lambda v: f"{v:.2f}")
                tokens = (data.number(before.mean_tokens), data.number(after.mean_tokens))
                facts.append(("mean tokens", " → ".join(tokens), f"ratio {ratio}" if ratio else ""))
            shares = (data.percent(before.accuracy), data.percent(after.accuracy))
            facts.append((name, " → ".join(shares), f"{interval} points" if interval else ""))
    if data.finite(run.outcome.get("removable_share")):
        oracle = _oracle(run)
        note = "" if oracle is None else f"all: {oracle:.1f} tokens left"
        facts.append(("removable removed", data.percent(run.outcome["removable_share"]), note))
    if run.metrics and data.finite(run.metrics[-1].get("seconds")):
        facts.append(("training time", _duration(run.metrics[-1]["seconds"]), f"{run.metrics[-1]['step']} steps"))
    return facts


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _score(run: Run) -> str:
    """The accuracy-efficiency score with all that belongs to it; empty where undefined."""
    change = run.compared("before", "after")
    score = None if change is None else change.accuracy_efficiency_score
    if score is None or score.estimate is None:
        return ""
    weights = ", ".join(f"{weight:g}" for weight in score.weights)
    interval = data.span(score, lambda v: data.number(v, 2))
    return f"{score.estimate:.2f}{f' ({interval})' if interval else ''}, weights ({weights}), reference: before"


def _context(run: Run) -> str:
    """What the first record was measured under: numbers never travel without it."""
    record = next(iter(run.records.values()), None)
    if record is None:
        return ""
    named = ("data", "samples", "top_p", "grader", "tokenizer", "template")
    return " · ".join(f"{key} {record.context[key]}" for key in named if record.context.get(key) is not None)


def _oracle(run: Run) -> float | None:
    oracle = run.outcome.get("oracle_tokens")
    return float(oracle) if oracle is not None and data.finite(oracle) else None


def _marks(run: Run) -> list[Mark]:
    marks = []
    for name, record in run.records.items():
        if data.record_group(name, record) != "Measured apart":
            found = run.summaries[name]
            label = data.record_label(name, record) + (", greedy" if name.endswith(data.GREEDY) else "")
            spans = (found.mean_tokens_interval.ends, found.accuracy_interval.ends)
            marks.append(Mark(found.mean_tokens, found.accuracy, label, kind_of(name), shape_of(name), *spans))
    return marks


def _curves(run: Run) -> list[Curve]:
    if "before" not in run.records:
        return []
    tokens, shares = data.budget_curve(run.records["before"])
    return [Curve(tokens, shares, CURVE_LABEL, "c-before thin")]


def _training(run: Run) -> list[tuple[str, Markup]]:
    steps = [row["step"] for row in run.metrics]

    def curve(key: str, label: str, kind: str) -> Curve:
        values = [row.get(key) for row in run.metrics]
        return Curve(steps, [v if data.finite(v) else None for v in values], label, kind)

    charts = [
        ("Tokens", [curve("mean_tokens", "mean", "c-after"), curve("cap", "cap", "c-before dashed")], False, None),
        ("Accuracy in training", [curve("accuracy", "accuracy", "c-after")], True, 1.0),
        (
            "Cut answers, uniform groups",
            [curve("cut_rate", "cut", "c-after"), curve("uniform_groups", "uniform groups", "c-before")],
            True,
            1.0,
        ),
        ("Entropy, nats per token", [curve("entropy", "entropy", "c-after")], False, None),
        (
            "Tokens clipped",
            [curve("clip_high_share", "upper bound", "c-after"), curve("clip_low_share", "lower bound", "c-before")],
            True,
            None,
        ),
        ("KL to the start, nats per token", [curve("reference_kl", "KL", "c-after")], False, None),
    ]
    drawn = [(title, series(title, curves, percent=share, top=top)) for title, curves, share, top in charts]
    return [(title, chart) for title, chart in drawn if chart]


def _histogram(run: Run) -> Markup:
    if "before" not in run.records or "after" not in run.records:
        return Markup("")
    lengths = {n: np.concatenate([np.asarray(row) for row in run.records[n].num_tokens]) for n in ("before", "after")}
    longest = max(int(values.max()) for values in lengths.values()) + 1
    wide = max(1, -(-longest // BINS))
    edges = [float(e) for e in range(0, longest + wide, wide)]
    bars = [
        (n, kind_of(n), [float(c) / len(v) for c in np.histogram(v, edges)[0]], float(v.mean()))
        for n, v in lengths.items()
    ]
    return histogram(edges, bars)


def _level_charts(run: Run) -> list[tuple[str, Markup]]:
    charts = []
    for title, key in (("Accuracy by level", "accuracy"), ("Tokens by level", "tokens")):
        groups = []
        for level in run.levels:
            bars = [
                Bar(interval.estimate, when, f"{kind_of(when)}{' apart' if level.apart else ''}", interval.ends)
                for when, interval in getattr(level, key).items()
            ]
            groups.append((level.name + ("*" if level.apart else ""), bars))
        charts.append((title, grouped_bars(title, key, groups, percent=key == "accuracy")))
    return charts


def _shared(runs: Sequence[Run]) -> Shared:
    first = next((run for run in runs if "before" in run.records), None)
    alike: list[Run] = []
    refused: list[tuple[str, str]] = []
    for run in runs:
        if first is None or run.tokens_saved is None:
            refused.append((run.name, "it has no measurement before and after that can be compared"))
            continue
        why = data.unlike(first.records["before"], run.records["before"])
        if why is None:
            alike.append(run)
        else:
            refused.append((run.name, why))
    marks: list[Mark] = []
    rows = []
    for index, run in enumerate(alike):
        kind = f"c-run{index % len(RUN_COLORS)}"
        before, after = (next(mark for mark in _marks(run) if mark.label == when) for when in ("before", "after"))
        # Runs from one base share its measurement: one square for all of them.
        if not any((mark.x, mark.y, mark.kind) == (before.x, before.y, before.kind) for mark in marks):
            marks.append(replace(before, shape="square"))
        marks.append(replace(after, label=run.name, kind=kind))
        rows.append(row_of(run, kind))
    return Shared(_shared_headline(alike, rows), tradeoff(marks), rows, refused)


def _shared_headline(runs: Sequence[Run], rows: Sequence[RunRow]) -> str:
    """Which run saves the most, and what that does to accuracy; empty without two to compare."""
    if len(runs) < 2:
        return ""
    saved = [run.tokens_saved or 0.0 for run in runs]
    most = rows[saved.index(max(saved))]
    points = f"{most.points} points of accuracy" + (f" ({most.points_span})" if most.points_span else "")
    return (
        f"Of {len(runs)} runs on the same problems {most.run} saves the most: {most.saved} of the tokens, at {points}."
    )
