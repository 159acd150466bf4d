"""The page of an evaluation of long contexts: accuracy by length, heat maps by place, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lengthwise.reporting import plot_data as data
from lengthwise.reporting.figures import series
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Curve

KINDS = ("c-run0", "c-run1", "c-run2", "c-run3", "c-run4", "c-run5", "c-before", "c-control")


def page(result: Mapping[str, Any]) -> str:
    """The report of `evaluate_context` as one HTML page without external requests."""
    plots = [(task, _plot(result, task)) for task in result["tasks"]]
    return render("context.html.j2", result=result, plots=plots, data=data, cells=cells, heat=_heat(result), size=size)


def cells(arm: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    """An arm's cells of one task."""
    return [cell for cell in arm["cells"] if cell["task"] == task]


def size(tokens: int) -> str:
    """A length as people write it: 4k for 4096."""
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"


def _value(cell: Mapping[str, Any]) -> float:
    return float(cell["accuracy" if "accuracy" in cell else "perplexity"]["estimate"])


def _plot(result: Mapping[str, Any], task: str) -> Any:
    curves = []
    for index, arm in enumerate(result["arms"]):
        found = cells(arm, task)
        kind = KINDS[index % len(KINDS)] + (" dashed" if index >= len(KINDS) else "")
        curves.append(Curve([cell["length"] for cell in found], [_value(cell) for cell in found], arm["name"], kind))
    if task != "perplexity":
        return series(f"{task}: accuracy by length", curves, percent=True, top=1, x_label="prompt tokens", wide=True)
    # A collapsed model has a perplexity of thousands; beside it the others would lie on one line.
    least = min(y for curve in curves for y in curve.ys if y is not None)
    cut = [Curve(c.xs, [min(y, 10 * least) if y is not None else None for y in c.ys], c.label, c.kind) for c in curves]
    return series("perplexity by length", cut, x_label="document tokens", wide=True)


def _heat(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One map per arm and task that knows where the evidence stands: rows of places, columns of lengths."""
    maps = []
    for arm in result["arms"]:
        for task in result["tasks"]:
            found = [cell for cell in cells(arm, task) if any(place["rows"] for place in cell.get("places", ()))]
            if not found:
                continue
            rows = []
            for number, place in enumerate(found[0]["places"]):
                values = [cell["places"][number] for cell in found]
                rows.append({"from": place["from"], "to": place["from"] + 1 / len(found[0]["places"]), "cells": values})
            maps.append({"arm": arm["name"], "task": task, "lengths": [cell["length"] for cell in found], "rows": rows})
    return maps
