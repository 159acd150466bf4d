"""What the studies' pictures share: panels, how a file is written, and whether it shows what would be drawn now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.reporting.drawing import save_png, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from studies.page import Picture
    from studies.summary import Summary

DPI = 110


def panels(count: int, size: tuple[float, float], *, constrained: bool = False) -> tuple[Figure, Any]:
    """A figure of so many panels side by side, and the panels (one alone as itself)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained" if constrained else None)
    return figure, figure.subplots(1, count)


def drawn(picture: Picture, summary: Summary) -> tuple[Figure, str]:
    """A picture, and a checksum of what it shows."""
    with styled(formulas=True):
        figure = picture.draw(summary)
    return figure, "shows " + hashlib.sha256("\n".join(content(figure)).encode()).hexdigest()[:16]


def is_stale(picture: Picture, summary: Summary, path: Path) -> bool:
    """Whether a file shows anything else than the picture drawn now; pixels, which fonts decide, are not compared."""
    from PIL import Image

    if not path.is_file():
        return True
    with Image.open(path) as there:
        return there.info.get("Source") != drawn(picture, summary)[1]


def write(picture: Picture, summary: Summary, path: Path) -> None:
    """Draw a picture into its file."""
    figure, about = drawn(picture, summary)
    with styled(formulas=True):
        save_png(figure, path, dpi=picture.dpi, about=about)


def content(figure: Figure) -> Iterator[str]:
    """All that a figure shows but for what is laid out by the size of its words: points, colors, scales and words."""
    for axes in figure.axes:
        yield f"{axes.get_xscale()} {axes.get_yscale()} {numbers([*axes.get_xlim(), *axes.get_ylim()])}"
        yield from words(axes)
        for line in axes.lines:
            if line.get_gid() != "leader":
                look = (line.get_color(), line.get_marker(), line.get_linestyle(), line.get_linewidth())
                yield f"{look} {numbers(line.get_xydata())}"
        for points in axes.collections:
            yield f"{numbers(points.get_facecolor())} {numbers(points.get_offsets())}"


def words(axes: Axes) -> Iterator[str]:
    legend = axes.get_legend()
    title = axes.get_title() or axes.get_title(loc="left")
    yield from (title, axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in axes.texts))
    yield from (text.get_text() for text in legend.get_texts()) if legend is not None else ()


def numbers(values: ArrayLike) -> str:
    """To four digits, so that another machine's last bit is no other picture."""
    import numpy as np

    return " ".join(f"{value:.4g}" for value in np.asarray(values, dtype=float).ravel())
