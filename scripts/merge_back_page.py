"""The merge-back study's page and picture, from its raw JSON and the effects that were registered before the runs.

`make_tables.py` writes the page; ``python scripts/merge_back_page.py`` draws the picture.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean
from textwrap import wrap
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "merge_back_study"
REGISTERED = ROOT / "benchmarks" / "merge_back_registered.json"
PICTURE = ROOT / "docs" / "img" / "merge-back.png"
SEEDS = (0, 1, 2)
PAPER = (0.25, "global", 0.7)
KINDS = {"global": "largest, all tensors together", "tensor": "largest of each tensor", "random": "drawn at random",
         "bottom": "smallest"}  # fmt: skip
Points = dict[tuple[float, str, float], dict[str, Any]]
"""One seed's merges by density, kind and scale."""


def points_of(seed: int) -> Points:
    """Everything measured of one seed; the interpolation has density 1."""
    found: Points = {}
    for path in sorted(RESULTS.glob(f"grid-{seed}-*.json")):
        grid = json.loads(path.read_text())
        found |= {(grid["density"], point["kind"], point["scale"]): point for point in grid["points"]}
    return found


def common_points() -> tuple[list[Points], int]:
    """Every seed's merges, those only that all seeds have measured, and how many some seed has."""
    seeds = [points_of(seed) for seed in SEEDS]
    common = set.intersection(*(set(points) for points in seeds))
    return [{key: points[key] for key in sorted(common)} for points in seeds], len(set.union(*map(set, seeds)))


def line(points: Points, temperature: str) -> list[tuple[float, float]]:
    """Plain interpolation as (tokens, accuracy in %), by tokens."""
    found = [p[temperature] for (_, kind, _), p in points.items() if kind == "interpolation"]
    return sorted((p["mean_tokens"], 100 * p["accuracy"]) for p in found)


def at_tokens(curve: list[tuple[float, float]], tokens: float) -> float | None:
    """Accuracy of a curve at a number of tokens; None outside of it."""
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 <= tokens <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)
    return None


def gain(points: Points, temperature: str, kind: str, densities: list[float]) -> float | None:
    """Points of accuracy over interpolation at equal tokens, mean over the merges that its line covers."""
    curve, found = line(points, temperature), []
    for (density, own, _), point in points.items():
        if own == kind and density in densities:
            reached = at_tokens(curve, point[temperature]["mean_tokens"])
            if reached is not None:
                found.append(100 * point[temperature]["accuracy"] - reached)
    return mean(found) if found else None


def measured(points: Points, effect: dict[str, Any]) -> float | None:
    """What an effect comes to in one seed: positive is the registered way."""
    at = effect["temperature"]

    def get(density: float, kind: str, scale: float, key: str = "mean_tokens") -> float:
        return float(points[density, kind, scale][at][key])

    base, tuned, merged = get(1.0, "interpolation", 0.0), get(1.0, "interpolation", 1.0), get(*PAPER)
    if effect["id"] == "between":
        return min(merged - tuned, base - merged)
    if effect["id"] == "gives-back":
        return 100 * (get(*PAPER, key="accuracy") - get(1.0, "interpolation", 1.0, "accuracy"))
    if effect["id"] == "top-interpolation":
        return gain(points, at, "global", effect["densities"])
    if effect["id"] == "top-random":
        return get(PAPER[0], "random", PAPER[2]) - merged
    if effect["id"] == "bottom":
        return 10.0 - 100 * (base - get(0.5, "bottom", 1.0)) / (base - tuned)
    if effect["id"] == "scope":
        return 10.0 - 100 * abs(get(PAPER[0], "tensor", PAPER[2]) / merged - 1)
    by_density: dict[float, list[float]] = {}
    for (density, kind, scale), point in sorted(points.items()):
        if kind == "global" or (kind == "interpolation" and scale >= 0.3):
            by_density.setdefault(density, []).append(point[at]["mean_tokens"])
    return min(before - after for row in by_density.values() for before, after in pairwise(row))


UNITS = {
    "between": "tokens from the nearer end", "gives-back": "points", "top-interpolation": "points",
    "top-random": "tokens", "bottom": "points of share below a tenth", "scope": "points inside of 10 %",
    "monotone": "tokens, the smallest step",
}  # fmt: skip


def verdict(effect: dict[str, Any], seeds: list[Points]) -> tuple[str, str]:
    """Seen or not seen, and the numbers."""
    found = [measured(points, effect) for points in seeds]
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return "not comparable", f"{len(found) - len(values)} of {len(found)} seeds have no merge on the line"
    shown = f"{mean(values):+.1f} {UNITS[effect['id']]} ({', '.join(f'{value:+.1f}' for value in values)})"
    return ("seen" if min(values) > 0 and mean(values) >= effect["margin"] else "not seen"), shown


def page() -> str:
    """The page's text."""
    registered = json.loads(REGISTERED.read_text())
    lines = [
        "# Study: merging back after RL",
        "",
        *wrap(
            "Generated by `scripts/make_tables.py` from `benchmarks/results/merge_back_study/*.json`; do not edit. "
            f"Made by `python benchmarks/merge_back_study.py`. {registered['set_up']}",
            width=119,
        ),
        "",
        "The lab is a teaching and regression instrument, not evidence about large models.",
        "",
        *(["![Accuracy against tokens of the merges](img/merge-back.png)", ""] if PICTURE.is_file() else []),
        "## Registered effects",
        "",
        *wrap(f"Registered {registered['registered']}. {registered['rule']}", width=119),
        "",
        "| effect | verdict | measured, mean (by seed) |",
        "|---|---|---|",
    ]
    seeds, measured_in_some = common_points()
    if measured_in_some > len(seeds[0]):
        left_out = measured_in_some - len(seeds[0])
        lines[-2:-2] = [f"{len(seeds[0])} merges are measured in all seeds; {left_out} that are not are left out.", ""]
    for effect in registered["effects"]:
        found = verdict(effect, seeds) if seeds[0] else ("not run", "")
        lines.append(f"| {effect['claim']} | {found[0]} | {found[1]} |")
    if seeds[0]:
        lines += grids(seeds) + interpolation(seeds) + gains(seeds)
    return "\n".join(lines + made_by()) + "\n"


def over_seeds(seeds: list[Points], key: tuple[float, str, float], temperature: str) -> str:
    found = [points[key][temperature] for points in seeds]
    return f"{100 * mean(p['accuracy'] for p in found):.1f} at {mean(p['mean_tokens'] for p in found):.1f}"


def grids(seeds: list[Points]) -> list[str]:
    """Accuracy at tokens by density and scale, a table for each temperature."""
    lines: list[str] = []
    for temperature in ("0.6", "1.0"):
        lines += ["", f"## Accuracy in % at mean tokens, temperature {temperature}, means over seeds", ""]
        scales = sorted({scale for _, kind, scale in seeds[0] if kind == "global"})
        lines += ["| entries kept | density | " + " | ".join(f"scale {scale:g}" for scale in scales) + " |"]
        lines += ["|" + "---|" * (2 + len(scales))]
        for kind, label in KINDS.items():
            for density in sorted({d for d, own, _ in seeds[0] if own == kind}):
                keys = [(density, kind, scale) for scale in scales]
                cells = [over_seeds(seeds, key, temperature) if key in seeds[0] else "" for key in keys]
                lines.append(f"| {label} | {density:g} | " + " | ".join(cells) + " |")
    return lines


def interpolation(seeds: list[Points]) -> list[str]:
    """Density 1: scale 0 is the base, scale 1 DLER."""
    lines = ["", "## All entries: plain interpolation from the base (0) to DLER (1)", ""]
    lines += ["| scale | temperature 0.6 | temperature 1 |", "|---|---|---|"]
    for key in sorted(key for key in seeds[0] if key[1] == "interpolation"):
        lines.append(f"| {key[2]:g} | {over_seeds(seeds, key, '0.6')} | {over_seeds(seeds, key, '1.0')} |")
    return lines


def gains(seeds: list[Points]) -> list[str]:
    """Against interpolation at equal tokens, by kind and density."""
    lines = ["", "## Points of accuracy over interpolation at equal tokens, means over scales and seeds", ""]
    lines += ["| entries kept | density | temperature 0.6 | temperature 1 | share of the change's norm at scale 1 |"]
    lines += ["|---|---|---|---|---|"]
    for kind, label in KINDS.items():
        for density in sorted({d for d, own, _ in seeds[0] if own == kind}):
            cells = []
            for temperature in ("0.6", "1.0"):
                found = [gain(points, temperature, kind, [density]) for points in seeds]
                values = [value for value in found if value is not None]
                cells.append(f"{mean(values):+.1f}" if values else "outside of the line")
            norms = [points[density, kind, 1.0]["norm_share"] for points in seeds if (density, kind, 1.0) in points]
            norm = f"{mean(norms):.3f}" if norms else ""
            lines.append(f"| {label} | {density:g} | {cells[0]} | {cells[1]} | {norm} |")
    return lines


def made_by() -> list[str]:
    rows = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    made = {f"`{row['command']}` at `{row['commit'][:12]}`, torch {row['torch']}" for row in rows}
    return ["", "## Made by", "", *(f"- {line}" for line in sorted(made))] if made else []


def draw() -> None:
    """Accuracy against tokens: the line of interpolation, and the merges of each kind, one panel a temperature."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seeds, _ = common_points()
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    marks = {
        "global": ("o", "#0b6e99"),
        "tensor": ("s", "#d9822b"),
        "random": ("x", "#999999"),
        "bottom": ("v", "#8a4f7d"),
    }
    for panel, temperature in zip(panels, ("0.6", "1.0"), strict=True):
        for place, points in enumerate(seeds):
            curve = line(points, temperature)
            panel.plot(*zip(*curve, strict=True), color="#333333", lw=1, alpha=0.6,
                       label="interpolation (a line a seed)" if place == 0 else None)  # fmt: skip
            for kind, (mark, colour) in marks.items():
                found = [p[temperature] for (_, own, _), p in points.items() if own == kind]
                panel.plot([p["mean_tokens"] for p in found], [100 * p["accuracy"] for p in found], mark, color=colour,
                           ms=4, alpha=0.7, label=KINDS[kind] if place == 0 else None)  # fmt: skip
            best = points[PAPER][temperature]
            panel.plot(best["mean_tokens"], 100 * best["accuracy"], "*", color="#c0392b", ms=11,
                       label="density 0.25, scale 0.7" if place == 0 else None)  # fmt: skip
        panel.set_title(f"temperature {float(temperature):g}")
        panel.set_xlabel("mean tokens")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("accuracy, %")
    panels[1].legend(fontsize=8)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    draw()
