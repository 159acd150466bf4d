"""The report of a comparison: one HTML file without external requests, and its main plot as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lengthwise.files import atomic_write_text
from lengthwise.reporting import plot_data as data
from lengthwise.reporting.drawing import RUN_COLORS
from lengthwise.reporting.figures import tradeoff, write_tradeoff
from lengthwise.reporting.pages import render
from lengthwise.reporting.plot_values import Curve, Mark, tick_texts
from lengthwise.runs.compare.findings import claim, verdict

SHAPES = ("dot", "square", "diamond")
"""Shapes of arms beyond the number of colours."""
CONTROL = ("c-control", "ring")


def build_page(result: Mapping[str, Any], out: Path) -> Path:
    """Write the page of a result (see `result.result_of`), and the picture of its plot beside it."""
    looks = {row["name"]: _look(place) for place, row in enumerate(result["arms"])}
    looks |= {row["name"]: CONTROL for row in result["controls"]}
    marks, curves = _marks(result, looks), _curves(result, looks)
    page = render(
        "compare.html.j2",
        result=result,
        data=data,
        looks=looks,
        plot=tradeoff(marks, curves, oracle=result["oracle_tokens"]),
        measured=_measured(result, looks),
        pairs=_pairs(result),
        costs=_costs(result),
        lengths=_lengths(result),
    )
    atomic_write_text(out, page)
    if marks:
        write_tradeoff(marks, curves, out.with_suffix(".png"), oracle=result["oracle_tokens"])
    return out


def _look(place: int) -> tuple[str, str]:
    return f"c-run{place % len(RUN_COLORS)}", SHAPES[place // len(RUN_COLORS) % len(SHAPES)]


def _records(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return result["table"]["records"] if result["table"] is not None else []


def _look_of(result: Mapping[str, Any], looks: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
    if name == "base":
        return "c-before", "square"
    return looks.get(name, ("c-control", "diamond"))


def _marks(result: Mapping[str, Any], looks: Mapping[str, tuple[str, str]]) -> list[Mark]:
    marks = []
    for row in _records(result):
        kind, shape = _look_of(result, looks, row["name"])
        summary = row["summary"]
        spans = [summary[f"{name}_interval"] for name in ("mean_tokens", "accuracy")]
        ends = [None if span["low"] is None else (span["low"], span["high"]) for span in spans]
        marks.append(Mark(summary["mean_tokens"], summary["accuracy"], row["name"], kind, shape, *ends))
    for arm in result["arms"]:
        for place, one in enumerate(arm["settings"]):
            if place != arm["chosen"] and one["test"] is not None:
                marks.append(
                    Mark(one["test"]["mean_tokens"], one["test"]["accuracy"], "", looks[arm["name"]][0], "speck")
                )
    return marks


def _curves(result: Mapping[str, Any], looks: Mapping[str, tuple[str, str]]) -> list[Curve]:
    curves = []
    for arm in result["arms"]:
        points = sorted((o["test"]["mean_tokens"], o["test"]["accuracy"]) for o in arm["settings"] if o["test"])
        if len(points) > 1:
            curves.append(_line(points, f"{arm['name']}, all its settings", f"{looks[arm['name']][0]} thin faint"))
    if result["table"] is not None:
        cut = result["table"]["forced_cuts"]
        points = list(zip(cut["tokens"], cut["accuracy"], strict=True))
        curves.append(_line(points, "base, its own answers cut", "c-before thin"))
        front = [row["summary"] for row in _records(result) if row["name"] in result["table"]["front"]]
        best = sorted((summary["mean_tokens"], summary["accuracy"]) for summary in front)
        curves.append(_line(best, "front", "c-control dashed"))
    if result["frontier"] is not None:
        curves.append(_line([(x, y) for x, y in result["frontier"]], "exact frontier", "c-after dashed"))
    return curves


def _line(points: Sequence[tuple[float, float]], label: str, kind: str) -> Curve:
    return Curve([x for x, _ in points], [y for _, y in points], label, kind)


def _measured(result: Mapping[str, Any], looks: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """The main table: rows by group, as text."""
    arms = {arm["name"]: arm for arm in [*result["arms"], *result["controls"]]}
    groups: dict[str, list[dict[str, Any]]] = {"Untouched": [], "Methods": [], "Controls": [], "Free baselines": []}
    place = {"base": "Untouched"} | {arm["name"]: "Methods" for arm in result["arms"]}
    place |= {arm["name"]: "Controls" for arm in result["controls"]}
    for row in _records(result):
        name, summary, against = row["name"], row["summary"], row["against_reference"]
        arm = arms.get(name)
        found = {
            "name": name,
            "setting": "" if arm is None else f"{arm['knob']} {arm['settings'][arm['chosen']]['value']}",
            "look": _look_of(result, looks, name),
            "accuracy": (data.percent(summary["accuracy"]), data.span(summary["accuracy_interval"], data.percent)),
            "tokens": (data.number(summary["mean_tokens"]), data.span(summary["mean_tokens_interval"], data.number)),
            "cut": data.percent(summary["truncation_rate"]),
            "front": name in result["table"]["front"],
            "warning": summary["warning"],
            "gain": ("", ""), "ratio": ("", ""), "matched": ("", ""), "verdict": "",
        }  # fmt: skip
        if against is not None:
            gain, ratio, cut = (against[key] for key in ("accuracy_difference", "tokens_ratio", "matched"))
            found |= {
                "gain": (data.points(gain["estimate"]), data.span(gain, data.points)),
                "ratio": (data.number(ratio["estimate"], 2), data.span(ratio, lambda v: data.number(v, 2))),
                "matched": (data.points(cut["estimate"]), data.span(cut, data.points)),
                "verdict": verdict(gain, result["margin"]),
            }
        groups[place.get(name, "Free baselines")].append(found)
    return [{"name": name, "rows": rows} for name, rows in groups.items() if rows]


def _pairs(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for pair in [*result["pairs"], *result["control_pairs"]]:
        gain, ratio = pair["accuracy_difference"], pair["tokens_ratio"]
        rows.append(
            {
                "name": f"{pair['b']} against {pair['a']}",
                "gain": (data.points(gain["estimate"]), data.span(gain, data.points)),
                "gain_claim": claim(gain, 0.0, "more accurate", "less accurate"),
                "ratio": (data.number(ratio["estimate"], 2), data.span(ratio, lambda v: data.number(v, 2))),
                "ratio_claim": claim(ratio, 1.0, "longer", "shorter"),
            }
        )
    return rows


def _costs(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every setting: what it was, what it reached on validation and on test, and what it cost."""
    rows = []
    for arm in [*result["arms"], *result["controls"]]:
        for place, one in enumerate(arm["settings"]):
            points = [one[name] or {"accuracy": None, "mean_tokens": None} for name in ("validation", "test")]
            rows.append(
                {
                    "arm": arm["name"],
                    "setting": f"{arm['knob']} {one['value']}",
                    "resolved": _resolved(one, arm["knob"]),
                    "chosen": place == arm["chosen"],
                    "points": [(data.percent(p["accuracy"]), data.number(p["mean_tokens"])) for p in points],
                    "sampled": f"{one['sampled_tokens'] / 1e6:.2f}",
                    "seconds": data.number(one["seconds"], 0),
                    "failed": [f"seed {seed}: {why['reason']}" for seed, why in one["failed"].items()],
                }
            )
    return rows


def _lengths(result: Mapping[str, Any]) -> list[str]:
    """The mean lengths at which accuracies are compared, with as many decimals as tell them apart."""
    found = result["matched"]["tokens"] if result["matched"] else []
    return tick_texts(found) if len(found) > 1 else [data.number(at, 0) for at in found]


def _resolved(one: Mapping[str, Any], knob: str) -> str:
    value = one["options"][knob]
    shown = f"{value:.3g}" if isinstance(value, float) else str(value)
    return "" if shown == str(one["value"]) else shown
