"""Small charts as SVG text: colours come from the page's CSS, so they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 14, 44


@dataclass(frozen=True)
class Point:
    """A labelled point; `low` and `high` are its vertical interval. `kind` is a CSS class."""

    x: float
    y: float
    label: str
    kind: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A curve; `kind` is a CSS class."""

    xs: Sequence[float]
    ys: Sequence[float]
    label: str
    kind: str


@dataclass(frozen=True)
class Frame:
    """Data ranges mapped to the drawing area."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical place of a value; up is more."""
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` steps of 1, 2 or 5."""
    span = max(high - low, 1e-9)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # A single value would give one tick, and an axis needs two.
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def number(value: float, percent: bool = False) -> str:
    """A tick label."""
    if percent:
        return f"{100 * value:.0f}%"
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def chart(
    *,
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line] = (),
    points: Sequence[Point] = (),
    percent: bool = False,
    mark_x: tuple[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Curves and labelled points over linear axes; nothing to draw gives an empty text."""
    xs = [x for line in lines for x in line.xs] + [p.x for p in points]
    ys = [y for line in lines for y in line.ys]
    ys += [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    if not xs or not ys:
        return ""
    if mark_x is not None:
        xs.append(mark_x[0])
    x_ticks = nice_ticks(min(xs) if lines and not points else 0, max(xs))
    y_ticks = nice_ticks(*(y_range or (min(0.0, *ys), max(ys))), 4)
    frame = Frame(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    parts = [_axes(frame, x_ticks, y_ticks, x_label, y_label, percent)]
    if mark_x is not None:
        parts.append(_mark(frame, *mark_x))
    parts += [_curve(frame, line) for line in lines]
    parts += [_point(frame, point, percent) for point in points]
    return _svg(title, "".join(parts)) + _legend(
        [(line.label, line.kind) for line in lines] + [(point.label, point.kind) for point in points]
    )


def bars(
    *,
    title: str,
    x_label: str,
    y_label: str,
    groups: Sequence[str],
    series: Sequence[tuple[str, str, Sequence[float]]],
    percent: bool = False,
    label_every: int = 1,
) -> str:
    """Grouped bars: `series` holds (label, CSS class, one value per group)."""
    values = [v for _, _, vs in series for v in vs]
    if not values:
        return ""
    y_ticks = nice_ticks(0, max(*values, 1e-9), 4)
    frame = Frame(0, len(groups), 0, y_ticks[-1])
    parts = [_axes(frame, [], y_ticks, x_label, y_label, percent)]
    wide = 0.8 / len(series)
    for place, (label, kind, ys) in enumerate(series):
        for index, value in enumerate(ys):
            x, top = frame.x(index + 0.1 + wide * place), frame.y(value)
            width = frame.x(wide) - frame.x(0)
            tip = escape(f"{label}, {groups[index]}: {number(value, percent)}")
            parts.append(
                f'<rect class="bar {kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}"><title>{tip}</title></rect>'
            )
    for index, name in enumerate(groups):
        if index % label_every == 0:
            parts.append(_text(frame.x(index + 0.5), HEIGHT - BOTTOM + 16, name, "tick", "middle"))
    return _svg(title, "".join(parts)) + _legend([(label, kind) for label, kind, _ in series])


def _svg(title: str, body: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _text(x: float, y: float, text: str, kind: str, anchor: str, extra: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _axes(
    frame: Frame, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str, y_label: str, percent: bool
) -> str:
    base = HEIGHT - BOTTOM
    parts = []
    for tick in y_ticks:
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, number(tick, percent), "tick", "end"))
    parts += [_text(frame.x(t), base + 16, number(t), "tick", "middle") for t in x_ticks]
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "label", "middle"))
    middle = (TOP + base) / 2
    parts.append(_text(12, middle, y_label, "label", "middle", f' transform="rotate(-90 12 {middle:.0f})"'))
    return "".join(parts)


def _mark(frame: Frame, value: float, label: str) -> str:
    x = frame.x(value)
    line = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return line + _text(x + 5, HEIGHT - BOTTOM - 8, label, "tick", "start")


def _curve(frame: Frame, line: Line) -> str:
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(line.xs, line.ys, strict=True))
    return f'<polyline class="curve {line.kind}" points="{path}"><title>{escape(line.label)}</title></polyline>'


def _point(frame: Frame, point: Point, percent: bool) -> str:
    x, y = frame.x(point.x), frame.y(point.y)
    tip = escape(f"{point.label}: {number(point.y, percent)} at {point.x:.1f}")
    bar = ""
    if point.low is not None and point.high is not None:
        bar = f'<line class="whisker {point.kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(point.low):.1f}" '
        bar += f'y2="{frame.y(point.high):.1f}"/>'
    return f'{bar}<circle class="dot {point.kind}" cx="{x:.1f}" cy="{y:.1f}" r="5.5"><title>{tip}</title></circle>'


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<li><span class="key {kind}"></span>{escape(label)}</li>' for label, kind in entries)
    return f'<ul class="legend">{items}</ul>'
