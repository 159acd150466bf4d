"""What `lengthwise repair` shows: counts of the layers, and harm beside accuracy."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table


def layer_table(report: dict[str, Any]) -> Table:
    """Counts by the last part of the layers' names: all query projections in one line, and so on."""
    scored = "mask" not in report
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layers", no_wrap=True)
    for name in ("number", "weights", "removed", "share", *(["rows without score"] if scored else [])):
        table.add_column(name, justify="right", no_wrap=True)
    sums: dict[str, list[int]] = {}
    for name, row in report["layers"].items():
        kind = sums.setdefault(name.removesuffix(".weight").rsplit(".", 1)[-1], [0, 0, 0, 0])
        weights = math.prod(row["shape"])
        for place, value in enumerate((1, weights, row["removed"], row.get("uninformative_rows", 0))):
            kind[place] += value
    for name, (number, weights, removed, empty) in sums.items():
        cells = [str(number), str(weights), str(removed), f"{removed / max(1, weights):.2%}"]
        table.add_row(name, *cells, *([str(empty)] if scored else []))
    return table


def sweep_table(sweep: dict[str, Any]) -> Table:
    """Harm and accuracy for every way to choose and every fraction, with 95 % intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("removed by", no_wrap=True)
    for name in ("fraction", "harm, %", "95 %", "accuracy, %", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in sweep["points"]:
        cells = [cell for name in ("harm", "accuracy") for cell in _interval(point[name])]
        table.add_row(point["arm"], f"{point['achieved']:.4g}", *cells)
    return table


def _interval(found: dict[str, Any]) -> tuple[str, str]:
    span = "-" if found["low"] is None else f"{found['low']:.1f} to {found['high']:.1f}"
    return f"{found['percent']:.1f}", span
