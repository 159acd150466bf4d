"""The report's charts as SVG text: pure functions of numbers.

Colours come from the page's CSS classes, so a chart follows light and dark. All text goes through
``Markup.format``, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lengthwise.reporting.label_placement import Box, label_places, leader

Values = Sequence[float | None]
CHARACTER = 7.8
"""Width of a bold character of a label, generously, in the chart's units."""
REACH = 90.0
"""How far a label may stand from its point, in the chart's units; beyond that it goes to the legend."""
RADII = {"dot": 5, "ring": 8, "speck": 2.5}
RUN_COLOURS = ("#0f766e", "#c2410c", "#6d4aa8", "#2563a8", "#a1700c", "#b0306a")
"""The page's colours of runs beside each other: CSS classes c-run0 to c-run5, on white."""


@dataclass(frozen=True)
class Mark:
    """A point with its intervals. `shape` is dot, ring, square, diamond or speck; `kind` a CSS class.

    A point without a label gets neither a text nor a place in the legend.
    """

    x: float
    y: float
    label: str
    kind: str
    shape: str = "dot"
    x_span: tuple[float, float] | None = None
    y_span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curve:
    """A curve; it breaks where a value is None. `kind` is a CSS class."""

    xs: Sequence[float]
    ys: Values
    label: str
    kind: str


def known(curve: Curve) -> list[tuple[float, float]]:
    """A curve's points, without those that have no value."""
    return [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if y is not None]


@dataclass(frozen=True)
class Bar:
    """One bar of a group, with its interval; `kind` is a CSS class."""

    value: float
    label: str
    kind: str
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Frame:
    """Data ranges mapped to a drawing area of `width` x `height` with room for tick labels."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: float
    height: float
    left: float = 46
    right: float = 14
    top: float = 12
    bottom: float = 40

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return self.left + (value - self.x0) / (self.x1 - self.x0) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Vertical place of a value; up is more."""
        return self.base - (value - self.y0) / (self.y1 - self.y0) * (self.base - self.top)

    @property
    def base(self) -> float:
        """Vertical place of the horizontal axis."""
        return self.height - self.bottom


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` steps of 1, 2 or 5."""
    raw = max(high - low, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def tick_texts(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Labels with as many decimals as the steps between them need."""
    scale, sign = (100.0, "%") if percent else (1.0, "")
    step = scale * (values[1] - values[0])
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{scale * v:,.{digits}f}{sign}" for v in values]


def tradeoff(marks: Sequence[Mark], curves: Sequence[Curve] = (), *, oracle: float | None = None) -> Markup:
    """Accuracy against mean tokens: points with intervals and labels, curves, the oracle length as a line.

    A label that finds no free place goes to the legend. No point gives an empty text.
    """
    if not marks:
        return Markup("")
    right = max([m.x_span[1] if m.x_span else m.x for m in marks] + [x for c in curves for x in c.xs])
    x_ticks, y_ticks = ticks(0, 1.02 * max(right, oracle or 0, 1.0), 8), ticks(0, 1, 5)
    frame = Frame(0, x_ticks[-1], 0, 1, 900, 430, left=58, right=24, top=22, bottom=50)
    parts = [_axes(frame, x_ticks, y_ticks, "mean response tokens", "accuracy", percent=True)]
    taken = []
    if oracle is not None:
        x, text = frame.x(oracle), f"shortest sound answers: {oracle:.1f}"
        parts.append(_line("oracle", x, frame.top, x, frame.base))
        parts.append(_text(x + 6, frame.base - 8, text, "label"))
        taken.append((x, frame.base - 20, x + 6 + CHARACTER * len(text), frame.base - 5))
    parts += [_curve(frame, curve) for curve in curves]
    parts += [_whiskers(frame, mark) for mark in marks]
    parts += [_shape(frame, mark) for mark in marks]
    labels, unplaced = _labels(frame, marks, taken, curves)
    legend = [(c.label, c.kind, "line") for c in curves] + [(m.label, m.kind, m.shape) for m in unplaced]
    return _svg(frame, "Accuracy against mean response tokens", [*parts, labels]) + _legend(legend)


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
    drawn = [c for c in curves if any(y is not None for y in c.ys)]
    if not drawn:
        return Markup("")
    steps = [x for c in drawn for x in c.xs]
    high = top if top is not None else max(y for c in drawn for y in c.ys if y is not None)
    low = min(0.0, *(y for c in drawn for y in c.ys if y is not None))
    y_ticks = ticks(low, high if high > low else low + 1, 4)
    last = max(steps) if max(steps) > min(steps) else min(steps) + 1
    x_ticks = [t for t in ticks(min(steps), last, 8 if wide else 4) if min(steps) <= t <= last]
    size = {"width": 900, "height": 300, "left": 58, "right": 24} if wide else {"width": 340, "height": 214, "left": 44}
    frame = Frame(min(steps), last, y_ticks[0], y_ticks[-1], **size)
    parts = [_axes(frame, x_ticks, y_ticks, x_label, "", percent=percent)]
    for curve in drawn:
        window = 0 if wide else len(curve.ys) // 20
        if window < 2 or curve.kind.endswith("dashed"):
            parts.append(_curve(frame, curve))
            continue
        parts.append(_curve(frame, Curve(curve.xs, curve.ys, curve.label, f"{curve.kind} faint")))
        parts.append(_curve(frame, Curve(curve.xs, running_mean(curve.ys, window), curve.label, curve.kind)))
    legend = [(c.label, c.kind, "line") for c in drawn]
    return _svg(frame, title, parts) + (_legend(legend) if len(drawn) > 1 else Markup(""))


def running_mean(values: Values, window: int) -> list[float | None]:
    """Mean of the last `window` values that are there; None where there is none."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        there = [v for v in values[max(0, end - window) : end] if v is not None]
        means.append(sum(there) / len(there) if there else None)
    return means


def histogram(
    edges: Sequence[float],
    shares: Sequence[tuple[str, str, Sequence[float], float]],
    *,
    title: str = "Response tokens before and after",
) -> Markup:
    """Overlaid histograms of response tokens: (label, CSS class, share per bin, mean), the mean as a tick."""
    y_ticks = ticks(0, max(v for _, _, values, _ in shares for v in values), 4)
    x_ticks = [t for t in ticks(edges[0], edges[-1], 8) if t <= edges[-1]]
    frame = Frame(edges[0], edges[-1], 0, y_ticks[-1], 900, 300, left=58, right=24, top=20)
    parts = [_axes(frame, x_ticks, y_ticks, "response tokens", "share of responses", percent=True)]
    for label, kind, values, _ in shares:
        for low, high, value in zip(edges, edges[1:], values, strict=False):
            if value > 0:
                tip = f"{label}, {low:.0f} to {high - 1:.0f} tokens: {value:.1%}"
                box = (frame.x(low), frame.y(value), frame.x(high) - 1)
                parts.append(_rect(f"bar veil {kind}", *box, frame.base, tip))
    for label, kind, _, mean in shares:
        x = frame.x(mean)
        parts.append(_line(f"whisker {kind}", x, frame.top - 4, x, frame.base, f"{label}: mean {mean:.1f} tokens"))
    legend = [(f"{label}, mean {mean:.1f}", kind, "square") for label, kind, _, mean in shares]
    return _svg(frame, title, parts) + _legend(legend)


def grouped_bars(title: str, y_label: str, groups: Sequence[tuple[str, Sequence[Bar]]], *, percent: bool) -> Markup:
    """Groups of bars with intervals over a named axis; bars of a group stand side by side."""
    ends = [v for _, bars in groups for bar in bars for v in (bar.value, bar.span[1] if bar.span else 0.0)]
    y_ticks = ticks(0, 1 if percent else max(*ends, 1e-9), 4)
    frame = Frame(0, len(groups), 0, y_ticks[-1], 500, 290, left=50)
    parts = [_axes(frame, [], y_ticks, "level", y_label, percent=percent)]
    for index, (name, bars) in enumerate(groups):
        wide = 0.7 / max(1, len(bars))
        for place, bar in enumerate(bars):
            low, high = frame.x(index + 0.15 + wide * place), frame.x(index + 0.15 + wide * (place + 1)) - 1.5
            shown = f"{bar.value:.1%}" if percent else f"{bar.value:.1f}"
            tip = f"{bar.label}, level {name}: {shown}"
            parts.append(_rect(f"bar {bar.kind}", low, frame.y(bar.value), high, frame.base, tip))
            if bar.span:
                x = (low + high) / 2
                parts.append(_line("error", x, frame.y(bar.span[0]), x, frame.y(bar.span[1])))
        parts.append(_text(frame.x(index + 0.5), frame.base + 17, name, "tick", "middle"))
    legend = [(bar.label, bar.kind.split()[0], "square") for bar in groups[0][1]]
    return _svg(frame, title, parts) + _legend(legend)


def _svg(frame: Frame, title: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>')
    return head.format(frame.width, frame.height, title, Markup("").join(parts))


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> Markup:
    whole = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return whole.format(kind, x, y, anchor, text)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, tip: str = "") -> Markup:
    whole = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}">{}</line>')
    return whole.format(kind, x1, y1, x2, y2, _tip(tip))


def _rect(kind: str, left: float, top: float, right: float, base: float, tip: str) -> Markup:
    whole = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">{}</rect>')
    return whole.format(kind, left, top, max(right - left, 0.5), base - top, _tip(tip))


def _tip(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup("")


def _axes(
    frame: Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str, *, percent: bool
) -> Markup:
    parts = []
    for value, text in zip(y_ticks, tick_texts(y_ticks, percent=percent), strict=True):
        parts.append(_line("rule", frame.left, frame.y(value), frame.width - frame.right, frame.y(value)))
        parts.append(_text(frame.left - 8, frame.y(value) + 4, text, "tick", "end"))
    texts = tick_texts(x_ticks) if len(x_ticks) > 1 else [f"{t:,.0f}" for t in x_ticks]
    for value, text in zip(x_ticks, texts, strict=True):
        parts.append(_text(frame.x(value), frame.base + 17, text, "tick", "middle"))
    parts.append(_line("axis", frame.left, frame.base, frame.width - frame.right, frame.base))
    parts.append(_text((frame.left + frame.width - frame.right) / 2, frame.height - 6, x_label, "name", "middle"))
    if y_label:
        middle = (frame.top + frame.base) / 2
        turned = Markup(
            '<text class="name" x="12" y="{0:.1f}" text-anchor="middle" transform="rotate(-90 12 {0:.1f})">'
        )
        parts.append(turned.format(middle) + Markup("{}</text>").format(y_label))
    return Markup("").join(parts)


def _curve(frame: Frame, curve: Curve) -> Markup:
    runs: list[list[str]] = [[]]
    for x, y in zip(curve.xs, curve.ys, strict=True):
        if y is None:
            runs.append([])
        else:
            runs[-1].append(f"{frame.x(x):.1f},{frame.y(y):.1f}")
    # A lone value between gaps would be an invisible line; doubling it lets the round cap show it.
    whole = Markup('<polyline class="curve {}" points="{}">{}</polyline>')
    paths = [run if len(run) > 1 else run * 2 for run in runs if run]
    return Markup("").join(whole.format(curve.kind, " ".join(path), _tip(curve.label)) for path in paths)


def _whiskers(frame: Frame, mark: Mark) -> Markup:
    x, y, end = frame.x(mark.x), frame.y(mark.y), 4.0
    parts, kind = [], f"whisker {mark.kind}"
    if mark.y_span:
        low, high = (frame.y(v) for v in mark.y_span)
        parts = [_line(kind, x, low, x, high), *(_line(kind, x - end, v, x + end, v) for v in (low, high))]
    if mark.x_span:
        low, high = (frame.x(v) for v in mark.x_span)
        parts += [_line(kind, low, y, high, y), *(_line(kind, v, y - end, v, y + end) for v in (low, high))]
    return Markup("").join(parts)


def _shape(frame: Frame, mark: Mark) -> Markup:
    x, y = frame.x(mark.x), frame.y(mark.y)
    tip = _tip(f"{mark.label}: accuracy {mark.y:.1%}, {mark.x:.1f} tokens")
    if mark.shape in RADII:
        whole = Markup('<circle class="{} {}" cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>')
        return whole.format("ring" if mark.shape == "ring" else "dot", mark.kind, x, y, RADII[mark.shape], tip)
    turn = Markup(' transform="rotate(45 {:.1f} {:.1f})"').format(x, y) if mark.shape == "diamond" else ""
    whole = Markup('<rect class="dot {}" x="{:.1f}" y="{:.1f}" width="9" height="9"{}>{}</rect>')
    return whole.format(mark.kind, x - 4.5, y - 4.5, turn, tip)


def _labels(
    frame: Frame, marks: Sequence[Mark], taken: Sequence[Box], curves: Sequence[Curve]
) -> tuple[Markup, list[Mark]]:
    """Each mark's label at a free place close to it, and the marks that found none."""
    named = [mark for mark in marks if mark.label]
    points = [(frame.x(mark.x), frame.y(mark.y)) for mark in named]
    lines = [(frame.x(x) - 3, frame.y(y) - 3, frame.x(x) + 3, frame.y(y) + 3) for c in curves for x, y in known(c)]
    for mark in marks:
        x, y = frame.x(mark.x), frame.y(mark.y)
        lines += [(frame.x(mark.x_span[0]), y - 1, frame.x(mark.x_span[1]), y + 1)] if mark.x_span else []
        lines += [(x - 1, frame.y(mark.y_span[1]), x + 1, frame.y(mark.y_span[0]))] if mark.y_span else []
    places = label_places(
        points, [(CHARACTER * len(mark.label), 15.0) for mark in named], reach=REACH, lines=lines,
        inside=(frame.left, 0.0, frame.width, frame.base),
        taken=[*taken, *((frame.x(m.x) - 7, frame.y(m.y) - 7, frame.x(m.x) + 7, frame.y(m.y) + 7) for m in marks)],
    )  # fmt: skip
    parts, unplaced = [], []
    for mark, point, place in zip(named, points, places, strict=True):
        if place is None:
            unplaced.append(mark)
            continue
        parts.append(_text((place[0] + place[2]) / 2, place[3] - 3, mark.label, f"label {mark.kind}", "middle"))
        if (end := leader(point, place)) is not None:
            parts.insert(0, _line(f"leader {mark.kind}", *point, *end))
    return Markup("").join(parts), unplaced


def _legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    item = Markup('<li><span class="key {} {}"></span>{}</li>')
    items = Markup("").join(item.format(shape, kind, label) for label, kind, shape in entries)
    return Markup('<ul class="legend">{}</ul>').format(items) if entries else Markup("")
