"""What the studies' pictures share: matplotlib without a screen, panels, and how a file is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

DPI = 110


def panels(count: int, size: tuple[float, float], *, constrained: bool = False) -> tuple[Any, Any]:
    """A figure of so many panels side by side, and the panels (one alone as itself)."""
    return pyplot.subplots(1, count, figsize=size, constrained_layout=constrained)


def save(figure: Any, path: Path, *, dpi: int = DPI) -> None:
    """Write a figure and forget it."""
    figure.savefig(path, dpi=dpi, metadata={"Software": None})  # no version: equal pictures are equal files
    pyplot.close(figure)
