"""The page and the picture of the Ada-R1 study."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import TYPE_CHECKING, Any

from studies.ada_r1.condense import FIRST, GREEDY, SAMPLED, SEEDS, TRAINED
from studies.figures import panels
from studies.page import NOT_RUN, Claim, Page, Picture, Section, Table, listed, pct, verdict
from studies.summary import Numbers, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {
    "long": "long (the verbose reasoner)",
    "short": "short (the terse reasoner)",
    "merged": "merged, 0.8 of long",
    "dpo-only": "DPO only, no merge",
    "group": "merge, group-level pairs",
    "ada-r1": "Ada-R1: merge, both levels",
    "merged-half": "merged, 0.5 of each",
    "narrow": "Ada-R1, the authors' pair rule",
}
"""The registered arms, then those beside them."""
Runs = dict[str, list[Numbers]]
Differences = Mapping[str, list[float]]
"""Accuracy of "one less another" arm in points: estimate and interval."""


def of_round(summary: Summary, prefix: str = "") -> Runs:
    """A round's own runs by arm, in the order of seeds; only arms of which all seeds are there."""
    found = {}
    for arm in LABELS:
        names = [f"{prefix}{arm}-{seed}" for seed in SEEDS]
        if all(name in summary.runs for name in names):
            found[arm] = [summary.runs[name] for name in names]
    return found


def mean_of(run: Numbers, what: str, how: str = SAMPLED, level: str | None = None) -> float:
    """Mean over a run's problems, or over those of a level, of right answers, one-pass answers or tokens."""
    parts = [found for name, found in run["levels"].items() if level in (None, name)]
    return float(sum(part[how][what] for part in parts) / sum(part["problems"] for part in parts))


def over_seeds(runs: list[Numbers], what: str, how: str = SAMPLED, level: str | None = None) -> float:
    return mean(mean_of(run, what, how, level) for run in runs)


def ratios(a: list[Numbers], b: list[Numbers]) -> list[float]:
    """Mean tokens of `a` over those of `b`, seed by seed."""
    return [mean_of(x, "tokens") / mean_of(y, "tokens") for x, y in zip(a, b, strict=True)]


def average_change(arm: list[Numbers], long: list[Numbers], what: str) -> float:
    """Mean over ALL sets (levels) of the relative change in %, 100 (x_arm - x_long) / x_long."""
    levels = long[0]["levels"]
    changes = [over_seeds(arm, what, level=level) / over_seeds(long, what, level=level) - 1 for level in levels]
    return 100 * mean(changes)


def style_gap(runs: list[Numbers]) -> list[float]:
    """Share of one-pass answers at the lowest level less that at the highest, in points, seed by seed."""
    low, *_, high = runs[0]["levels"]
    return [100 * (mean_of(run, "one_pass", level=low) - mean_of(run, "one_pass", level=high)) for run in runs]


def judge(effect: Numbers, runs: Runs, differences: Differences) -> tuple[str, str]:
    """Seen or not seen, and the numbers."""
    arm = runs[effect["arm"]]
    if effect["kind"] == "style":
        gaps = style_gap(arm)
        return verdict(min(gaps) > effect["least"]), f"{mean(gaps):+.1f} points ({listed(gaps, '+.1f')})"
    shares = ratios(arm, runs[effect["against"]])
    points = differences[f"{effect['arm']} less {effect['against']}"]
    _, low, high = points
    holds = max(shares) <= effect.get("tokens_at_most", float("inf"))
    holds &= low >= effect.get("accuracy_low_at_least", -float("inf"))
    holds &= high <= effect.get("accuracy_high_at_most", float("inf"))
    return verdict(holds), f"tokens x {mean(shares):.3f} ({listed(shares, '.3f')}), accuracy {interval(points)}"


def interval(points: list[float]) -> str:
    estimate, low, high = points
    return f"{estimate:+.2f} points ({low:+.2f} to {high:+.2f})"


def claims(summary: Summary) -> dict[str, list[Claim]]:
    """Both rounds; the arms that were not trained are the same in both."""
    runs = of_round(summary)
    first = {arm: found for arm, found in runs.items() if arm not in TRAINED} | of_round(summary, FIRST)
    return {
        "Second round": [claim(effect, runs, summary.across["second"]) for effect in summary.plan["effects"]],
        "First round": [claim(effect, first, summary.across["first"]) for effect in summary.plan["effects"]],
    }


def claim(effect: Numbers, runs: Runs, differences: Differences) -> Claim:
    missing = [effect[side] for side in ("arm", "against") if side in effect and effect[side] not in runs]
    if missing:
        return Claim(effect["claim"], f"no three seeds of {', '.join(missing)}", NOT_RUN)
    word, measured = judge(effect, runs, differences)
    return Claim(effect["claim"], measured, word)


def registered(summary: Summary) -> list[str]:
    plan = summary.plan
    return [
        plan["set_up"],
        f"{plan['rule']} In brackets: by seed, or a 95 % interval. Amended {plan['amendment']}",
    ]


def sections(summary: Summary) -> list[Section]:
    runs, first = of_round(summary), of_round(summary, FIRST)
    about = (
        "Fewer: tokens in % below the long model's. Sets: mean over **all** six sets (the levels) of the relative "
        "change in %; the paper's own average of accuracy is over three of its five sets, ours leaves none out."
    )
    return [
        Section(
            "Arms, means over seeds", [about, arms(runs, summary.across["second"]), first_round(summary, runs, first)]
        ),
        Section("Accuracy in % at mean tokens, and one-pass answers in %, by level", [by_level(runs)]),
        Section("Pilot, samples and pairs", [pilot(summary), pairs(runs)]),
    ]


def first_round(summary: Summary, runs: Runs, first: Runs) -> str:
    """What the round with too many training problems gave, in a sentence."""
    told = "; ".join(
        f"{LABELS[arm]} {over_seeds(found, 'tokens'):.1f} tokens, "
        f"{interval(summary.across['first'][f'{arm} less long'])}"
        for arm, found in first.items()
        if arm in runs
    )
    return f"In the first round (600 training problems): {told}."


def arms(runs: Runs, differences: Differences) -> Table:
    rows = []
    for arm, found in runs.items():
        fewer = f"{100 * (1 - mean(ratios(found, runs['long']))):.1f}"
        points = "" if arm == "long" else interval(differences[f"{arm} less long"])
        sets = [f"{average_change(found, runs['long'], what):+.1f}" for what in ("right", "tokens")]
        rows.append(
            [
                LABELS[arm], pct(over_seeds(found, "right"), 2), points, f"{over_seeds(found, 'tokens'):.1f}",
                "" if arm == "long" else fewer, pct(over_seeds(found, "one_pass")),
                pct(over_seeds(found, "right", GREEDY), 2), "" if arm == "long" else ", ".join(sets),
            ]
        )  # fmt: skip
    head = ("arm", "accuracy, T = 0.6", "difference from long", "tokens", "fewer, %", "one pass, %", "greedy",
            "sets: accuracy, tokens, %")  # fmt: skip
    return Table(head, rows)


SHOWN = ("long", "short", "merged", "ada-r1")


def by_level(runs: Runs) -> Table:
    """The lowest, the middle and the highest levels."""
    levels = [level for level in runs["long"][0]["levels"] if level in ("2", "5", "7")]
    rows = [[LABELS[arm], *(at_level(runs[arm], level) for level in levels)] for arm in SHOWN]
    return Table(["arm", *(f"level {level}" for level in levels)], rows)


def at_level(found: list[Numbers], level: str) -> str:
    right, tokens, once = (over_seeds(found, what, level=level) for what in ("right", "tokens", "one_pass"))
    return f"{pct(right)} at {tokens:.1f}, {pct(once)}"


def pilot(summary: Summary) -> str:
    """The setting that the rule chose on validation problems, and how far apart the tried ones were."""
    found = [run for run in summary.runs.values() if "pilot" in run]
    floor = next(one["accuracy"] for one in found if one["pilot"] == "long") - summary.plan["pilot_margin_points"] / 100
    chosen = min((one for one in found if one["accuracy"] >= floor), key=lambda one: one["mean_tokens"])
    tried = [one for one in found if one["pilot"] != "long"]
    least = min(tried, key=lambda one: one["accuracy"])
    return (
        f"{summary.plan['pilot_rule']} Of {len(tried)} settings it chose rate {chosen['lr']:g}, beta "
        f"{chosen['beta']:g}, epsilon {chosen['epsilon']:g} ({pct(chosen['accuracy'])} % at "
        f"{chosen['mean_tokens']:.1f} tokens); the worst, rate {least['lr']:g}, was right in "
        f"{pct(least['accuracy'])} %."
    )


def pairs(runs: Runs) -> str:
    """What the samples say of the problems, and how many pairs came of them."""
    told = [
        f"{run['pairs']['pairs']['group']} group and {run['pairs']['pairs']['instance']} instance pairs "
        f"({run['pairs']['preferred']['all'].get('short', 0)} of {run['pairs']['problems']} problems prefer short)"
        for run in runs["ada-r1"]
    ]
    return f"Pairs of Ada-R1, by seed: {'; '.join(told)}."


def findings(summary: Summary) -> list[str]:
    runs, points = of_round(summary), summary.across["second"]
    ada, merged = runs["ada-r1"], runs["merged-half"]
    return [
        f"Ada-R1 answers in {100 * (1 - mean(ratios(ada, runs['long']))):.0f} % fewer tokens than the long model at "
        f"{interval(points['ada-r1 less long'])} of accuracy. Group-level pairs do nearly all of that; instance pairs "
        f"add {100 * (1 - mean(ratios(ada, runs['group']))):.1f} %. Merging the two models in equal parts, without any "
        f"training, is shorter and more often right still ({over_seeds(merged, 'tokens'):.1f} tokens, "
        f"{interval(points['merged-half less long'])}), so on these chains the DPO has little to prove."
    ]


def draw(summary: Summary) -> Figure:
    """Accuracy against tokens of all arms, and the share of one-pass answers by level."""
    runs = of_round(summary)
    rounds = [(arm, found, "o-", "") for arm, found in runs.items()]
    rounds += [(arm, found, "x--", ", first round") for arm, found in of_round(summary, FIRST).items()]
    figure, (left, right) = panels(2, (11, 4.6), constrained=True)
    levels = list(runs["long"][0]["levels"])
    colors = {arm: f"C{place}" for place, arm in enumerate(LABELS)}
    for arm, found, mark, which in rounds:
        style: dict[str, Any] = {"color": colors[arm], "label": LABELS[arm] + which}
        at_tokens, accuracy = ([mean_of(run, what) for run in found] for what in ("tokens", "right"))
        left.plot(at_tokens, [100 * value for value in accuracy], mark[0], **style)
        shares = [100 * over_seeds(found, "one_pass", level=level) for level in levels]
        right.plot([int(level) for level in levels], shares, mark, **style)
    left.axvline(over_seeds(runs["long"], "tokens") / 2, color="#999999", lw=1, ls="--")
    left.set(
        xlabel="mean tokens (dashed: half of the long model's)", ylabel="accuracy, %", title="A point a seed, T = 0.6"
    )
    right.set(xlabel="level", ylabel="one-pass answers, %", title="Share of short answers")
    for panel in (left, right):
        panel.grid(alpha=0.25)
    left.legend(fontsize=7)
    return figure


PAGE = Page(
    study="ada_r1",
    file="study-ada-r1.md",
    title="Ada-R1 on chains",
    question="Does merging a long and a short reasoner, then DPO on pairs, give the short answers at no loss?",
    registered=registered,
    claims=claims,
    findings=findings,
    limits=["The two models are taught from one another, so that merging them is easier than in the paper."],
    sections=sections,
    pictures=[Picture("ada-r1.png", "Accuracy against tokens, and one-pass answers by level", draw)],
)
