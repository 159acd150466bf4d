"""The page and the picture of the merge-back study."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING

from studies.figures import panels
from studies.page import Claim, Page, Picture, Section, Table, listed, pct, verdict
from studies.summary import Numbers, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = (0, 1, 2)
PAPER = (0.25, "global", 0.7)
KINDS = {"global": "largest, all tensors together", "tensor": "largest of each tensor", "random": "drawn at random",
         "bottom": "smallest"}  # fmt: skip
TEMPERATURES = ("0.6", "1.0")
Key = tuple[float, str, float]
"""Density, kind and scale of a merge; the interpolation has density 1."""
Points = dict[Key, Numbers]
"""One seed's merges."""


def points_of(summary: Summary, seed: int) -> Points:
    return {
        (run["density"], run["kind"], run["scale"]): run
        for run in summary.runs.values()
        if run["seed"] == seed and "kind" in run
    }


def common_points(summary: Summary) -> tuple[list[Points], int]:
    """Every seed's merges, those only that all seeds have measured, and how many some seed has."""
    seeds = [points_of(summary, seed) for seed in SEEDS]
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


def measured(points: Points, effect: Numbers) -> float | None:
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


def judge(effect: Numbers, seeds: list[Points]) -> tuple[str, str]:
    """Seen or not seen, and the numbers."""
    found = [measured(points, effect) for points in seeds]
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return "not comparable", f"{len(found) - len(values)} of {len(found)} seeds have no merge on the line"
    shown = f"{mean(values):+.1f} {UNITS[effect['id']]} ({listed(values, '+.1f')})"
    return verdict(min(values) > 0 and mean(values) >= effect["margin"]), shown


def claims(summary: Summary) -> dict[str, list[Claim]]:
    seeds, _ = common_points(summary)
    found = [(effect, *judge(effect, seeds)) for effect in summary.plan["effects"]]
    return {"": [Claim(effect["claim"], shown, word) for effect, word, shown in found]}


def registered(summary: Summary) -> list[str]:
    plan, (seeds, measured_in_some) = summary.plan, common_points(summary)
    told = [f"{plan['set_up']} {plan['rule']} Measured: the mean, and by seed."]
    left_out = measured_in_some - len(seeds[0])
    if left_out:
        told.append(f"{len(seeds[0])} merges are measured in all seeds; {left_out} that are not are left out.")
    return told


def sections(summary: Summary) -> list[Section]:
    seeds, _ = common_points(summary)
    told = "Accuracy in % at mean tokens, means over seeds; scale 0 is the base, 1 with all entries DLER."
    return [
        Section("Merges", [told, grid(seeds)]),
        Section("Points of accuracy over interpolation at equal tokens, means over scales and seeds", [gains(seeds)]),
    ]


def over_seeds(seeds: list[Points], key: Key, temperature: str) -> str:
    found = [points[key][temperature] for points in seeds]
    return f"{pct(mean(p['accuracy'] for p in found))} at {mean(p['mean_tokens'] for p in found):.1f}"


def densities(seeds: list[Points], kind: str) -> list[float]:
    return sorted({density for density, own, _ in seeds[0] if own == kind})


SHOWN: tuple[Key, ...] = (
    (1.0, "interpolation", 0.0), (1.0, "interpolation", 0.3), (1.0, "interpolation", 0.5), (1.0, "interpolation", 0.7),
    (1.0, "interpolation", 1.0), (0.1, "global", 1.0), PAPER, (0.25, "global", 1.0), (0.5, "global", 0.7),
    (0.25, "tensor", 0.7), (0.25, "random", 0.7), (0.5, "bottom", 1.0),
)  # fmt: skip
"""The interpolation, the paper's merge, and what it is compared with."""


def grid(seeds: list[Points]) -> Table:
    """Accuracy at tokens of the merges that are shown, at both temperatures."""
    rows = [
        [KINDS.get(kind, "all"), f"{density:g}", f"{scale:g}", *(over_seeds(seeds, key, at) for at in TEMPERATURES)]
        for key in SHOWN
        if key in seeds[0]
        for density, kind, scale in [key]
    ]
    return Table(("entries kept", "density", "scale", "temperature 0.6", "temperature 1"), rows)


def gains(seeds: list[Points]) -> Table:
    """Against interpolation at equal tokens, by kind and density."""
    rows = []
    for kind, label in KINDS.items():
        for density in densities(seeds, kind):
            cells = []
            for temperature in TEMPERATURES:
                found = [gain(points, temperature, kind, [density]) for points in seeds]
                values = [value for value in found if value is not None]
                cells.append(f"{mean(values):+.1f}" if values else "outside of the line")
            norms = [points[density, kind, 1.0]["norm_share"] for points in seeds if (density, kind, 1.0) in points]
            rows.append([label, f"{density:g}", *cells, f"{mean(norms):.3f}" if norms else ""])
    head = ("entries kept", "density", "temperature 0.6", "temperature 1", "share of the change's norm at scale 1")
    return Table(head, rows)


def findings(summary: Summary) -> list[str]:
    seeds, _ = common_points(summary)
    tuned = (1.0, "interpolation", 1.0)
    return [
        f"At temperature 0.6 there is nothing to give back: DLER has {over_seeds(seeds, tuned, '0.6')} tokens, the "
        f"paper's merge {over_seeds(seeds, PAPER, '0.6')}. At temperature 1 the merge is less often right than DLER "
        f"({over_seeds(seeds, PAPER, '1.0')} against {over_seeds(seeds, tuned, '1.0')}). Keeping the largest entries "
        "is a little better than plain interpolation at equal tokens at temperature 1, and no better at 0.6."
    ]


MARKS = {"global": ("o", "#0b6e99"), "tensor": ("s", "#d9822b"), "random": ("x", "#999999"), "bottom": ("v", "#8a4f7d")}


def draw(summary: Summary) -> Figure:
    """Accuracy against tokens: the line of interpolation, and the merges of each kind, one panel a temperature."""
    seeds, _ = common_points(summary)
    figure, both = panels(2, (11, 4.6), constrained=True)
    for panel, temperature in zip(both, TEMPERATURES, strict=True):
        for place, points in enumerate(seeds):
            draw_seed(panel, points, temperature, labeled=place == 0)
        panel.set_title(f"temperature {float(temperature):g}")
        panel.set_xlabel("mean tokens")
        panel.grid(alpha=0.25)
    both[0].set_ylabel("accuracy, %")
    both[1].legend(fontsize=8)
    return figure


def draw_seed(panel: object, points: Points, temperature: str, *, labeled: bool) -> None:
    def named(label: str) -> str | None:
        return label if labeled else None

    plot = panel.plot  # type: ignore[attr-defined]
    curve = line(points, temperature)
    plot(*zip(*curve, strict=True), color="#333333", lw=1, alpha=0.6, label=named("interpolation (a line a seed)"))
    for kind, (mark, color) in MARKS.items():
        found = [p[temperature] for (_, own, _), p in points.items() if own == kind]
        plot([p["mean_tokens"] for p in found], [100 * p["accuracy"] for p in found], mark, color=color, ms=4,
             alpha=0.7, label=named(KINDS[kind]))  # fmt: skip
    best = points[PAPER][temperature]
    plot(best["mean_tokens"], 100 * best["accuracy"], "*", color="#c0392b", ms=11,
         label=named("density 0.25, scale 0.7"))  # fmt: skip


PAGE = Page(
    study="merge_back",
    file="study-merge-back.md",
    title="merging back after RL",
    question="After DLER, does putting back only the largest changes of the weights give accuracy back, as the paper "
    "says?",
    registered=registered,
    claims=claims,
    findings=findings,
    limits=[
        "Three seeds of one tiny model, which lost no accuracy to begin with; the paper's purpose is a model that did."
    ],
    sections=sections,
    pictures=[Picture("merge-back.png", "Accuracy against tokens of the merges", draw)],
)
