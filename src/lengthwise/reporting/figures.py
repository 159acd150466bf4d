"""The plots of all pages: pure functions of numbers; the same drawing goes into a page and, where asked, a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from lengthwise.reporting.drawing import (
    COLORS,
    DOTS,
    MARKERS,
    TEXT,
    Drawing,
    Entry,
    blank,
    color_of,
    inline_svg,
    styled,
    write_png,
)  # fmt: skip
from lengthwise.reporting.mark_labels import label_marks
from lengthwise.reporting.plot_values import Bar, Chart, Curve, Mark, Span, known, running_mean, tick_texts, ticks

WIDE = {"width": 900.0, "left": 58.0, "right": 24.0}
APART, PAD = 0.005, 0.02
"""Between curves with intervals, so that they do not hide one another's, and beside the axis: shares of its width."""
WIDTHS = {"thin": 1.6, "faint": 1.0, "dashed": 1.5}
"""How wide a curve is whose kind says so; others are 2 wide."""


def tradeoff(marks: Sequence[Mark], curves: Sequence[Curve] = (), *, oracle: float | None = None) -> Markup:
    """Accuracy against mean tokens: points with intervals and labels, curves, the oracle length as a line.

    A label that finds no free place goes to the legend. No point gives an empty text.
    """
    if not marks:
        return Markup("")
    with styled():
        return inline_svg(_tradeoff(marks, curves, oracle))


def write_tradeoff(marks: Sequence[Mark], curves: Sequence[Curve], path: Path, *, oracle: float | None = None) -> None:
    """`tradeoff` as a PNG file on white, for places that show no HTML."""
    with styled():
        write_png(_tradeoff(marks, curves, oracle), path)


def series(
    title: str,
    curves: Sequence[Curve],
    *,
    percent: bool = False,
    top: float | None = None,
    x_label: str = "step",
    wide: bool = False,
) -> Markup:
    """Curves over training steps, or over `x_label`; long ones are drawn thin with their running mean on top.

    `top` fixes the upper end of the axis; a `wide` chart takes the whole page and is not smoothed. Curves without a
    single value are left out; none gives an empty text.
    """
    drawn = [curve for curve in curves if known(curve)]
    if not drawn:
        return Markup("")
    with styled():
        return inline_svg(_series(Chart(title, drawn, x_label, percent, top), wide=wide))


def chart_by_length(chart: Chart) -> Markup:
    """A wide chart of curves over lengths, with their intervals."""
    with styled():
        return inline_svg(_series(chart, wide=True))


def write_chart_by_length(chart: Chart, path: Path) -> None:
    """`chart_by_length` as a PNG file on white."""
    with styled():
        write_png(_series(chart, wide=True), path)


def _series(chart: Chart, *, wide: bool) -> Drawing:
    curves, percent = chart.curves, chart.percent
    values = [y for curve in curves for _, y in known(curve)]
    values += [end for curve in curves for span in curve.spans if span is not None for end in span]
    low, high = min(0.0, *values), chart.top if chart.top is not None else max(values)
    steps = [x for curve in curves for x in curve.xs]
    first, last = min(steps), max(steps) if max(steps) > min(steps) else min(steps) + 1
    x_ticks = [x for x, _ in chart.across] or [t for t in ticks(first, last, 8 if wide else 4) if first <= t <= last]
    y_ticks = ticks(low, high if high > low else low + 1, 5 if wide else 4)
    size = {**WIDE, "height": 300.0} if wide else {"width": 340.0, "height": 214.0, "left": 54.0, "right": 14.0}
    drawing = blank(chart.title, **size, top=12)
    pad = PAD * (last - first) if any(curve.spans for curve in curves) else 0.0
    _axes(drawing, (first - pad, last + pad), x_ticks, y_ticks, chart.x_label, "", percent)
    if chart.across:
        drawing.axes.set_xticks(x_ticks, [text for _, text in chart.across])
    for place, curve in enumerate(curves):
        aside = (place - (len(curves) - 1) / 2) * APART * (last - first) if curve.spans else 0.0
        moved = replace(curve, xs=[x + aside for x in curve.xs])
        _smoothed(drawing, moved, 0 if wide else len(curve.ys) // 20)
        _intervals(drawing, moved, percent)
    drawing.legend = [Entry(c.label, c.kind, "line") for c in curves] if len(curves) > 1 else []
    return drawing


def histogram(
    edges: Sequence[float],
    shares: Sequence[tuple[str, str, Sequence[float], float]],
    *,
    title: str = "Response tokens before and after",
) -> Markup:
    """Overlaid histograms of response tokens: (label, CSS class, share per bin, mean), the mean as a line."""
    y_ticks = ticks(0, max(v for _, _, values, _ in shares for v in values), 4)
    x_ticks = [t for t in ticks(edges[0], edges[-1], 8) if t <= edges[-1]]
    with styled():
        drawing = blank(title, **WIDE, height=300, top=20)
        spread = (edges[0], edges[-1])
        _axes(drawing, spread, x_ticks, y_ticks, "response tokens", "share of responses", True)
        for label, kind, values, _ in shares:
            for low, high, value in zip(edges, edges[1:], values, strict=False):
                if value > 0:
                    [bar] = drawing.axes.bar(low, value, 0.94 * (high - low), align="edge", color=color_of(kind))
                    bar.set(alpha=0.62, clip_on=False)
                    drawing.tip(bar, f"{label}, {low:.0f} to {high - 1:.0f} tokens: {value:.1%}")
        for label, kind, _, mean in shares:
            [line] = drawing.axes.plot([mean] * 2, [0, 1.02 * y_ticks[-1]], color=color_of(kind), lw=1.5, clip_on=False)
            drawing.tip(line, f"{label}: mean {mean:.1f} tokens")
        drawing.legend = [Entry(f"{label}, mean {mean:.1f}", kind, "square") for label, kind, _, mean in shares]
        return inline_svg(drawing)


def grouped_bars(title: str, y_label: str, groups: Sequence[tuple[str, Sequence[Bar]]], *, percent: bool) -> Markup:
    """Groups of bars with intervals over a named axis; bars of a group stand side by side."""
    ends = [v for _, bars in groups for bar in bars for v in (bar.value, bar.span[1] if bar.span else 0.0)]
    with styled():
        drawing = blank(title, 500, 290, left=50, right=14, top=12)
        _axes(drawing, (0, len(groups)), [], ticks(0, 1 if percent else max(*ends, 1e-9), 4), "level", y_label, percent)
        drawing.axes.set_xticks([place + 0.5 for place in range(len(groups))], [name for name, _ in groups])
        for index, (name, bars) in enumerate(groups):
            wide = 0.7 / max(1, len(bars))
            for place, bar in enumerate(bars):
                _bar(drawing, index + 0.15 + wide * (place + 0.5), 0.95 * wide, bar, name, percent)
        drawing.legend = [Entry(bar.label, bar.kind.split()[0], "square") for bar in groups[0][1]]
        return inline_svg(drawing)


def _bar(drawing: Drawing, at: float, wide: float, bar: Bar, group: str, percent: bool) -> None:
    [drawn] = drawing.axes.bar(at, bar.value, wide, color=color_of(bar.kind))
    drawn.set(alpha=0.35 if "apart" in bar.kind else 1.0, clip_on=False)
    shown = "{:.1%}" if percent else "{:.1f}"
    drawing.tip(drawn, f"{bar.label}, level {group}: {shown.format(bar.value)}{_ends(bar.span, shown)}")
    if bar.span:
        drawing.axes.plot([at] * 2, bar.span, color=COLORS["ink"], alpha=0.55, linewidth=1.2, clip_on=False)


def _tradeoff(marks: Sequence[Mark], curves: Sequence[Curve], oracle: float | None) -> Drawing:
    right = max([m.x_span[1] if m.x_span else m.x for m in marks] + [x for c in curves for x in c.xs])
    across = ticks(0, 1.02 * max(right, oracle or 0, 1.0), 8)
    drawing = blank("Accuracy against mean response tokens", **WIDE, height=430, top=22, bottom=50)
    _axes(drawing, (0, across[-1]), across, ticks(0, 1, 5), "mean response tokens", "accuracy", True)
    for curve in curves:
        _curve(drawing, curve)
    for mark in marks:
        _mark(drawing, mark)
    drawing.labels, unplaced = label_marks(drawing.axes, marks, curves)
    drawing.legend = [Entry(c.label, c.kind, "line") for c in curves]
    drawing.legend += [Entry(m.label, m.kind, m.shape) for m in unplaced]
    if oracle is not None:
        line = drawing.axes.axvline(oracle, color=COLORS["after"], linewidth=1, alpha=0.8, zorder=1)
        line.set_linestyle(DOTS)
        drawing.legend.append(Entry(f"shortest sound answers: {oracle:.1f}", "c-after dotted", "line"))
    return drawing


def _axes(
    drawing: Drawing, spread: tuple[float, float], x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str,
    y_label: str, percent: bool,
) -> None:  # fmt: skip
    axes = drawing.axes
    axes.set(xlim=spread, ylim=(y_ticks[0], y_ticks[-1]))
    axes.set_yticks(y_ticks, tick_texts(y_ticks, percent=percent))
    axes.set_xticks(x_ticks, tick_texts(x_ticks) if len(x_ticks) > 1 else [f"{t:,.0f}" for t in x_ticks])
    height, soft = drawing.figure.bbox.height, COLORS["soft"]
    middle = axes.get_position()
    text = drawing.figure.text
    text((middle.x0 + middle.x1) / 2, 6 / height, x_label, ha="center", va="baseline", fontsize=TEXT, color=soft)
    if y_label:
        # rotation_mode: so that the page's own font is centered too
        text(12 / drawing.figure.bbox.width, (middle.y0 + middle.y1) / 2, y_label, rotation=90, ha="center",
             va="baseline", rotation_mode="anchor", fontsize=TEXT, color=soft)  # fmt: skip


def _smoothed(drawing: Drawing, curve: Curve, window: int) -> None:
    if window < 2 or curve.kind.endswith("dashed"):
        _curve(drawing, curve)
        return
    _curve(drawing, Curve(curve.xs, curve.ys, curve.label, f"{curve.kind} faint"))
    _curve(drawing, Curve(curve.xs, running_mean(curve.ys, window), curve.label, curve.kind))


def _curve(drawing: Drawing, curve: Curve) -> None:
    words = curve.kind.split()
    width = next((WIDTHS[word] for word in reversed(words) if word in WIDTHS), 2.0)
    color, alpha = color_of(curve.kind), 0.32 if "faint" in words else 1.0
    ys = [math.nan if y is None else y for y in curve.ys]
    [line] = drawing.axes.plot(curve.xs, ys, color=color, alpha=alpha, linewidth=width, clip_on=False, zorder=2)
    if "dashed" in words:
        line.set_linestyle((0, (5 / width, 5 / width)))
    drawing.tip(line, curve.label)
    # A lone value between gaps would be an invisible line.
    gaps = [True, *map(math.isnan, ys), True]
    lone = [place for place, gap in enumerate(gaps[1:-1]) if not gap and gaps[place] and gaps[place + 2]]
    if lone:
        xs, ys = [curve.xs[place] for place in lone], [ys[place] for place in lone]
        drawing.axes.plot(xs, ys, "o", color=color, alpha=alpha, ms=width, mew=0, clip_on=False, zorder=2)


def _intervals(drawing: Drawing, curve: Curve, percent: bool) -> None:
    """A curve's values with their intervals."""
    color, shown = color_of(curve.kind), "{:.1%}" if percent else "{:.2f}"
    for x, y, span in zip(curve.xs, curve.ys, curve.spans, strict=False):
        if y is None:
            continue
        if span is not None:
            drawing.axes.plot([x, x], span, color=color, linewidth=1.5, clip_on=False, zorder=3)
        [dot] = drawing.axes.plot([x], [y], "o", color=color, ms=6, mew=0, clip_on=False, zorder=3.5)
        drawing.tip(dot, f"{curve.label}: {shown.format(y)}{_ends(span, shown)}")


def _ends(span: Span | None, shown: str) -> str:
    """An interval in brackets, where there is one."""
    return "" if span is None else f" ({shown.format(span[0])} to {shown.format(span[1])})"


def _mark(drawing: Drawing, mark: Mark) -> None:
    axes, color = drawing.axes, color_of(mark.kind)
    errors = [
        None if ends is None else [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]
        for value, ends in ((mark.x, mark.x_span), (mark.y, mark.y_span))
    ]
    bars = axes.errorbar([mark.x], [mark.y], xerr=errors[0], yerr=errors[1], fmt="none", ecolor=color, elinewidth=1.5,
                         capsize=4, capthick=1.5, zorder=3)  # fmt: skip
    for part in bars.get_children():
        part.set(color=color, clip_on=False)
    marker, size = MARKERS[mark.shape]
    [drawn] = axes.plot([mark.x], [mark.y], marker, ms=size, color=color, mew=0, zorder=3.5, clip_on=False)
    if mark.shape == "ring":
        drawn.set(mfc="none", mew=2)
    right, tokens = _ends(mark.y_span, "{:.1%}"), _ends(mark.x_span, "{:.1f}")
    drawing.tip(
        drawn, f"{mark.label}{': ' if mark.label else ''}accuracy {mark.y:.1%}{right}, {mark.x:.1f} tokens{tokens}"
    )
