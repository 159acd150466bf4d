"""The page and the picture of the guarded study."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import TYPE_CHECKING

from lengthwise.reporting.harm_plot import HarmPoint, harm_figure
from lengthwise.statistics.harm import accuracy_at_harm
from studies.guarded.condense import KNOBS
from studies.page import NOT_RUN, NOT_SEEN, SEEN, Claim, Page, Picture, Section, Table, listed, verdict
from studies.summary import Numbers, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"full": "All weights attacked", "lora": "A LoRA adapter attacked"}
SEEDS = 3
Runs = list[Numbers]
Curve = list[tuple[float, float]]
"""Harm and accuracy in percent, in the order of the knob."""


def of_kind(summary: Summary, kind: str) -> Runs:
    return [run for run in summary.runs.values() if run["kind"] == kind]


def knob(point: Numbers) -> tuple[str, float]:
    name = next(name for name in KNOBS if name in point)
    return name, point[name]


def curves(run: Numbers, arm: str) -> list[Curve]:
    """One curve a draw, each from the attacked model on."""
    start = run["stages"]["attacked"]
    found = []
    for draw in sorted({point.get("draw", 0) for point in run["arms"][arm]}):
        points = [start, *(point for point in run["arms"][arm] if point.get("draw", 0) == draw)]
        found.append([(point["harm"], point["accuracy"]) for point in points])
    return found


def at_harm(run: Numbers, arm: str, level: float) -> float | None:
    """Accuracy at a level of harm, mean over draws that reach it."""
    found = [accuracy_at_harm([h for h, _ in c], [a for _, a in c], level) for c in curves(run, arm)]
    reached = [value for value in found if value is not None]
    return mean(reached) if reached else None


def advantage(run: Numbers, better: str, worse: str, levels: Iterable[float]) -> float | None:
    """Points of accuracy at equal harm, mean over the levels that both sides reach; None where there is none."""
    pairs = [(at_harm(run, better, level), at_harm(run, worse, level)) for level in levels]
    found = [a - b for a, b in pairs if a is not None and b is not None]
    return mean(found) if found else None


def judge(effect: Numbers, plan: Numbers, runs: Runs) -> tuple[str, str]:
    """Seen, not seen or not run, and the numbers."""
    if len(runs) < SEEDS:
        return NOT_RUN, f"{len(runs)} seeds"
    if effect["id"].startswith("acceptance"):
        harms = [[run["stages"][stage]["harm"] for stage in ("able", "aligned", "attacked")] for run in runs]
        holds = all(able >= 90 and aligned <= 10 and attacked >= 50 for able, aligned, attacked in harms)
        shown = "; ".join(" → ".join(f"{harm:.1f}" for harm in row) for row in harms)
        return verdict(holds), f"harm by seed: {shown}"
    if "better" in effect:
        found = [advantage(run, effect["better"], effect["worse"], plan["levels"]) for run in runs]
    else:
        key = 0 if effect["id"] == "harm-falls" else 1
        found = [curve[0][key] - curve[-1][key] for curve in (curves(run, "zero scored")[0] for run in runs)]
    values = [value for value in found if value is not None]
    margin = plan["margin_points"] if "better" in effect else 10.0
    if len(values) < len(runs):
        return "not comparable", f"{len(runs) - len(values)} of {len(runs)} seeds share no level of harm"
    shown = f"{mean(values):+.1f} points ({listed(values, '+.1f')})"
    if mean(values) >= margin and min(values) > 0:
        return SEEN, shown
    return ("the opposite" if mean(values) <= -margin and max(values) < 0 else NOT_SEEN), shown


def claims(summary: Summary) -> dict[str, list[Claim]]:
    plan = summary.plan
    found = [(effect, *judge(effect, plan, of_kind(summary, effect["kind"]))) for effect in plan["effects"]]
    return {"": [Claim(effect["claim"], shown, word) for effect, word, shown in found]}


def registered(summary: Summary) -> list[str]:
    plan = summary.plan
    return [f"{plan['set_up']} {plan['rule']} Margin: {plan['margin_points']:g} points."]


def findings(summary: Summary) -> list[str]:
    judged = {effect["id"]: judge(effect, summary.plan, of_kind(summary, effect["kind"]))
              for effect in summary.plan["effects"]}  # fmt: skip
    beats = [shown for name, (_, shown) in judged.items() if name.startswith("score-random")]
    return [
        "Repair takes harm away and accuracy with it. The score does not reliably beat removal at random at equal harm "
        f"(zeroing {beats[0]}; setting back {beats[1]}; a LoRA adapter {beats[2]}). Task arithmetic, which needs the "
        "model before its alignment too, keeps far more."
    ]


def sections(summary: Summary) -> list[Section]:
    found = []
    for kind, title in KINDS.items():
        runs = of_kind(summary, kind)
        if runs:
            equal = "Accuracy (both tasks) at equal harm, mean over the seeds that get there; in brackets how many do."
            found.append(Section(title, [equal, harm_table(runs, summary.plan["levels"]), overlaps(runs)]))
    return found


def harm_table(runs: Runs, levels: list[float]) -> Table:
    rows = []
    for arm in runs[0]["arms"]:
        cells = []
        for level in levels:
            found = [value for run in runs if (value := at_harm(run, arm, level)) is not None]
            cells.append(f"{mean(found):.1f} ({len(found)})" if found else "-")
        rows.append([arm, *cells])
    return Table(["way", *(f"harm {level:g} %" for level in levels)], rows)


def at_setting(runs: Runs, arm: str, setting: tuple[str, float]) -> list[Numbers]:
    return [point for run in runs for point in run["arms"][arm] if knob(point) == setting]


def overlaps(runs: Runs) -> str:
    found = {name: mean(run["overlaps_at_0.1"][name] for run in runs) for name in runs[0]["overlaps_at_0.1"]}
    shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    return f"Overlap (Jaccard) of the score's mask at fraction 0.1: {shown} (utility: scored on the user's task)."


def draw(summary: Summary) -> Figure:
    """Means over seeds and draws."""
    panels: dict[str, dict[str, list[HarmPoint]]] = {}
    for kind, title in KINDS.items():
        runs = of_kind(summary, kind)
        start = [run["stages"]["attacked"] for run in runs]
        panels[title] = {}
        for arm in runs[0]["arms"] if runs else ():
            settings = dict.fromkeys(knob(point) for point in runs[0]["arms"][arm])
            points = [(start, "")] + [(at_setting(runs, arm, own), f"{own[1]:g}") for own in settings]
            panels[title][arm] = [
                HarmPoint(mean(p["accuracy"] for p in group), mean(p["harm"] for p in group), label)
                for group, label in points
            ]
    return harm_figure(panels, accuracy="accuracy on both tasks, %")


PAGE = Page(
    study="guarded",
    file="study-guarded.md",
    title="repairing the guarded model",
    question="Does taking out the weights that the score names undo a harmful fine-tuning, and better than chance "
    "does?",
    about=[
        "A tiny model learns two tasks when a prompt is *marked* (able), then to refuse marked prompts (aligned), then "
        "is fine-tuned on a user's rows, a fifth of which are marked and comply (attacked).",
    ],
    registered=registered,
    claims=claims,
    findings=findings,
    limits=["Three seeds; harm is a made-up, harmless class of requests."],
    sections=sections,
    pictures=[Picture("guarded.png", "Harm against accuracy", draw)],
)
