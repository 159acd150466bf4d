"""One drawing for page and file: by matplotlib, at fixed places, as SVG inside a page or as a PNG."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from lengthwise.files import replacing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

COLORS = {
    "before": "#8d939c", "after": "#0f766e", "control": "#3f454d", "wrong": "#b42318", "r1": "#c2410c",
    "r2": "#6d4aa8", "r3": "#2563a8", "r4": "#a1700c", "r5": "#b0306a", "soft": "#5f6670", "rule": "#e5e6e2",
    "ink": "#1b1e23",
}  # fmt: skip
"""The page's colors on light paper, by their names in `style.css`: a PNG has these, a page follows light and dark."""
RUN_COLORS = ("after", "r1", "r2", "r3", "r4", "r5")
"""What the CSS classes c-run0 to c-run5 are called above."""
PIXELS_PER_INCH, PNG_DPI = 72, 108
TEXT, LABEL = 12.0, 12.5
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "lengthwise", "font.family": ["DejaVu Sans"],
    "path.simplify": False, "lines.solid_joinstyle": "round", "lines.solid_capstyle": "round",
}  # fmt: skip
"""Text stays text, and the font that lengths are measured in is matplotlib's own: alike on every machine."""
DOTS = (0, (2, 4))
"""How a dotted line is drawn, and shown in the legend."""
MARKERS = {"dot": ("o", 10), "ring": ("o", 16), "square": ("s", 9), "diamond": ("D", 8), "speck": ("o", 5)}
"""matplotlib's shape and size of ours."""


def color_of(kind: str) -> str:
    """The color on light paper of a CSS class: ``c-after``, ``c-run2`` ..."""
    name = kind.split()[0].removeprefix("c-")
    return COLORS[RUN_COLORS[int(name[3:])] if name.startswith("run") else name]


class Entry(NamedTuple):
    """A line of the legend; `shape` is that of a mark, or line, with a CSS class."""

    label: str
    kind: str
    shape: str


@dataclass
class Drawing:
    """A figure with one pair of axes, placed in pixels, and what page and file show each in its own way."""

    figure: Figure
    axes: Axes
    title: str
    tips: dict[str, str] = field(default_factory=dict)
    labels: list[Text] = field(default_factory=list)
    legend: list[Entry] = field(default_factory=list)

    def tip(self, artist: Artist, text: str) -> None:
        """What a page says where the pointer rests on an artist."""
        name = f"tip-{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = text


@contextmanager
def styled(*, formulas: bool = False) -> Iterator[None]:
    """matplotlib's own defaults and ours, whatever a user's settings are; for drawing and for writing.

    `formulas`: what stands between two dollar signs is one, as in the ticks of logarithmic axes.
    """
    from matplotlib import style

    with style.context(["default", STYLE | {"text.parse_math": formulas}]):
        yield


def blank(
    title: str, width: float, height: float, *, left: float, right: float, top: float, bottom: float = 40.0
) -> Drawing:
    """An empty drawing of so many pixels, with margins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH), dpi=PIXELS_PER_INCH)
    figure.patch.set_visible(False)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=COLORS["soft"], alpha=0.6)
    axes.tick_params(length=0, pad=8, labelsize=TEXT, labelcolor=COLORS["soft"])
    axes.grid(axis="y", color=COLORS["rule"], linewidth=1)
    return Drawing(figure, axes, title)


def inline_svg(drawing: Drawing) -> Markup:
    """The drawing as it stands in a page, with its legend below: no ids, no references, colors of the page's style."""
    written = StringIO()
    drawing.figure.savefig(written, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(written.getvalue())
    shapes = {found.get("id", ""): found for found in root.iter(f"{_SVG}path") if "id" in found.attrib}
    page = ElementTree.Element("svg", viewBox=root.get("viewBox", ""), role="img")
    page.set("aria-label", drawing.title)
    for child in root:
        page.extend(_plain(child, shapes, drawing.tips))
    return Markup(ElementTree.tostring(page, encoding="unicode")) + _html_legend(drawing.legend)


def write_png(drawing: Drawing, path: Path) -> None:
    """The drawing as a file on white, with its legend below; whole or not at all."""
    from matplotlib.patheffects import withStroke

    drawing.figure.patch.set(visible=True, facecolor="white")
    for label in drawing.labels:
        label.set_path_effects([withStroke(linewidth=3, foreground="white")])
    if drawing.legend:
        below = (0.0, -55 / (drawing.axes.bbox.height or 1))
        drawing.axes.legend(
            handles=[_handle(entry) for entry in dict.fromkeys(drawing.legend)], loc="upper left", bbox_to_anchor=below,
            ncols=2, frameon=False, fontsize=TEXT, borderaxespad=0, labelcolor=COLORS["soft"],
        )  # fmt: skip
    save_png(drawing.figure, path, dpi=PNG_DPI, tight=True)


def save_png(figure: Figure, path: Path, *, dpi: float, tight: bool = False, about: str = "") -> None:
    """Write a figure whole or not at all, without date and version; `about` stands in the file as its ``Source``."""
    said = {"Software": None, **({"Source": about} if about else {})}
    with replacing(path) as partial, partial.open("wb") as file:
        figure.savefig(file, format="png", dpi=dpi, metadata=said, bbox_inches="tight" if tight else None)


# ---- the legend ---------------------------------------------------------------------------------------------


def _html_legend(entries: Sequence[Entry]) -> Markup:
    item = Markup('<li><span class="key {} {}"></span>{}</li>')
    items = Markup("").join(item.format(entry.shape, entry.kind, entry.label) for entry in dict.fromkeys(entries))
    return Markup('<ul class="legend">{}</ul>').format(items) if entries else Markup("")


def _handle(entry: Entry) -> Artist:
    from matplotlib.lines import Line2D

    color = color_of(entry.kind)
    if entry.shape == "line":
        line = Line2D([], [], color=color, linewidth=1 if "dotted" in entry.kind else 2, label=entry.label)
        line.set_linestyle("--" if "dashed" in entry.kind else DOTS if "dotted" in entry.kind else "-")
        return line
    marker, size = MARKERS[entry.shape]
    face = "none" if entry.shape == "ring" else color
    return Line2D([], [], color=color, linestyle="", marker=marker, ms=min(size, 10), mfc=face, label=entry.label)


# ---- matplotlib's SVG as a part of a page -------------------------------------------------------------------

_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_FONT = re.compile(r"(?:(bold|\d00) )?([\d.]+)px")
_VARIABLES = {color: f"var(--{name})" for name, color in COLORS.items()}
_DEFAULTS = {
    ("font-size", f"{TEXT:g}px"), ("text-anchor", "start"), ("stroke-linecap", "butt"), ("stroke-linejoin", "miter"),
    ("stroke-linejoin", "round"),
}  # fmt: skip
"""What `style.css` says already, or what makes no difference."""


def _plain(
    element: ElementTree.Element, shapes: dict[str, ElementTree.Element], tips: dict[str, str]
) -> list[ElementTree.Element]:
    """An element as a page needs it: groups without a word are dissolved, shapes used by reference stand in full."""
    tag = element.tag.removeprefix(_SVG)
    if tag in ("metadata", "defs", "style"):
        return []
    if tag != "g":
        return [_shape(element, shapes) if tag in ("path", "use") else _text(element)]
    inside = [found for child in element for found in _plain(child, shapes, tips)]
    name = element.get("id", "")
    for text in inside if name == "label" else []:
        text.set("class", "label")
    if name not in tips and "transform" not in element.attrib:
        return inside
    group = ElementTree.Element("g", {"transform": _short(element.get("transform", ""))} if name not in tips else {})
    if name in tips:
        ElementTree.SubElement(group, "title").text = tips[name]
    group.extend(inside)
    return [group]


def _shape(element: ElementTree.Element, shapes: dict[str, ElementTree.Element]) -> ElementTree.Element:
    drawn = shapes[element.get(_HREF, "#")[1:]] if _HREF in element.attrib else element
    found = ElementTree.Element("path", d=_short(drawn.get("d", ""), 2 if drawn is not element else 1))
    if drawn is not element:
        found.set("transform", _short(f"translate({element.get('x', '0')} {element.get('y', '0')})"))
    elif "transform" in element.attrib:
        found.set("transform", _short(element.get("transform", "")))
    _styled(found, _style(drawn) | _style(element))
    return found


def _text(element: ElementTree.Element) -> ElementTree.Element:
    found = ElementTree.Element("text")
    style = _style(element)
    style.pop("font-family", None)  # the page's own
    font = _FONT.search(style.pop("font", ""))
    if font is not None:
        style |= {"font-size": f"{float(font[2]):g}px"} | ({"font-weight": font[1]} if font[1] else {})
    _styled(found, style)
    turned = element.get("transform", "")
    if "x" in element.attrib:
        found.set("x", _short(element.get("x", "")))
        found.set("y", _short(element.get("y", "")))
    if not turned.startswith(("rotate(-0 ", "rotate(0 ")):
        found.set("transform", _short(turned))
    found.text = element.text
    return found


def _style(element: ElementTree.Element) -> dict[str, str]:
    pairs = (part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part)
    return {name.strip(): _VARIABLES.get(value.strip(), value.strip()) for name, value in pairs}


def _styled(element: ElementTree.Element, style: dict[str, str]) -> None:
    style = {name: value for name, value in style.items() if (name, value) not in _DEFAULTS}
    if style:
        element.set("style", ";".join(f"{name}:{value}" for name, value in style.items()))


def _short(text: str, digits: int = 1) -> str:
    """Coordinates with so many decimals, and no more space than they need."""
    return " ".join(_NUMBER.sub(lambda found: f"{round(float(found[0]), digits) + 0.0:g}", text).split())
