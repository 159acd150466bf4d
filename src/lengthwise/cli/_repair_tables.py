"""What `lengthwise repair` shows: counts of the layers, and harm beside accuracy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from lengthwise.repair.report import RepairReport
    from lengthwise.runs.repair_sweep import Sweep
    from lengthwise.statistics.harm import Percentage


def layer_table(report: RepairReport) -> Table:
    """Counts by the last part of the layers' names: all query projections in one line, and so on."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layers", no_wrap=True)
    unscored = [] if report.from_mask else ["rows without score"]
    for name in ("number", "weights", "removed", "share", *unscored):
        table.add_column(name, justify="right", no_wrap=True)
    sums: dict[str, list[int]] = {}
    for name, layer in report.layers.items():
        kind = sums.setdefault(name.removesuffix(".weight").rsplit(".", 1)[-1], [0, 0, 0, 0])
        for place, value in enumerate((1, math.prod(layer.shape), layer.removed, layer.uninformative_rows or 0)):
            kind[place] += value
    for name, (number, weights, removed, empty) in sums.items():
        cells = [str(number), str(weights), str(removed), f"{removed / max(1, weights):.2%}"]
        table.add_row(name, *cells, *([str(empty)] if unscored else []))
    return table


def sweep_table(sweep: Sweep) -> Table:
    """Harm and accuracy for every way to choose and every fraction, with 95 % intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("removed by", no_wrap=True)
    for name in ("fraction", "harm, %", "95 %", "accuracy, %", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in sweep.points:
        cells = [*_interval(point.measured.harm), *_interval(point.measured.accuracy)]
        table.add_row(point.arm, f"{point.achieved:.4g}", *cells)
    return table


def _interval(found: Percentage) -> tuple[str, str]:
    span = "-" if found.low is None or found.high is None else f"{found.low:.1f} to {found.high:.1f}"
    return f"{found.percent:.1f}", span
