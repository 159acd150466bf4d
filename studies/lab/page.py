"""The page of the lab's study."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import mean

from studies.lab import pictures
from studies.lab.claims import NEVER, STATISTICS, ablation_pairs, above_fixed, last
from studies.lab.numbers import (
    PAPER_METHODS,
    Group,
    MissingRunError,
    Study,
    average,
    grouped,
    readings,
    regret,
    removable,
    test,
)
from studies.page import NOT_SEEN, SEEN, Claim, Page, Picture, Section, Table, pct, verdict
from studies.summary import Numbers, Summary

KINDS = {"page": "The papers' pages: what a small run should show", "ordering": "Orderings that the papers report",
         "target": "Our own targets"}  # fmt: skip
WORLDS = ("witnesses", "chains")
OPEN = "open"
MARGIN, ALL = 0.01, 1.0
VOTES, BASELINES = 8, 5


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


# ------------------------------------------------------------------------------------------------ what was registered


def claims(summary: Summary) -> dict[str, list[Claim]]:
    """Every registered claim by its registered threshold, by kind."""
    study = Study.of_summary(summary)
    found = [(entry["kind"], judge(entry, study)) for entry in summary.plan["entries"]]
    return {title: [claim for own, claim in found if own == kind] for kind, title in KINDS.items()}


def judge(entry: Numbers, study: Study) -> Claim:
    """Seen, not seen, or open where runs are missing."""
    [(kind, bound)] = entry["threshold"].items()
    value, word = None, OPEN
    with suppress(MissingRunError):
        value = float(STATISTICS[entry["id"]](study))
        word = verdict(value >= bound if kind == "at_least" else value <= bound)
    source = entry["source"].partition(",")[0]
    source = "" if source == "this project" else source
    return Claim(entry["claim"], shown(value), word, f"{'≥' if kind == 'at_least' else '≤'} {bound:g}", source)


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < NEVER else "never"


def registered(summary: Summary) -> list[str]:
    plan = summary.plan
    return [
        f"Registered {plan['written']}. Each run measures {plan['each_run_measures']}. "
        f"{len(plan['amendments'])} amendments, each before the runs that it concerns, and the statistic behind each "
        "effect stand in `registered.json`. Shares and regrets are fractions: .01 is a point.",
    ]


def findings(summary: Summary) -> list[str]:
    found, study = claims(summary), Study.of_summary(summary)
    orderings = [claim for claim in found[KINDS["ordering"]] if claim.verdict != OPEN]
    small = [claim.verdict for claim in found[KINDS["page"]]]
    base = study.base("witnesses")["test"]["distance"]
    asking = [group for group in grouped(study, "witnesses") if 5 <= readings(group.runs) <= 12]
    nearest = min(asking, key=lambda group: regret(group.runs))
    return [
        f"**The lab agrees with {sum(claim.verdict == SEEN for claim in orderings)} of {len(orderings)} published "
        f"orderings.** Of what the pages expect of a small run, {small.count(SEEN)} of {len(small)} effects are seen, "
        f"{small.count(NOT_SEEN)} are not, {small.count(OPEN)} are open (runs are missing); why stands in the "
        f"[lab notes](lab-notes.md), where we know. Nearest to the exact frontier at 5 to 12 readings comes "
        f"{nearest.method} ({nearest.setting}): regret {pct(regret(nearest.runs))} points at "
        f"{readings(nearest.runs):.1f} readings, where the untouched model has {pct(base['regret'])} at "
        f"{base['readings']:.1f}.",
    ]


# ------------------------------------------------------------------------------------------------ tables


def sections(summary: Summary) -> list[Section]:
    study = Study.of_summary(summary)
    return [witnesses(study), chains(study), modes(study), ablation(study), votes(study)]


def best(groups: Sequence[Group], value: Callable[[Group], float]) -> list[Group]:
    """Every method's setting with the largest value, in the order of methods."""
    found: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        found.setdefault((group.world, group.method), []).append(group)
    return [max(own, key=value) for own in found.values()]


def shown_best(groups: Sequence[Group], value: Callable[[Group], float]) -> list[Group]:
    """The papers' methods, then the best of the baselines."""
    found = best(groups, value)
    baselines = sorted((group for group in found if group.method not in PAPER_METHODS), key=value, reverse=True)
    return [group for group in found if group.method in PAPER_METHODS] + baselines[:BASELINES]


def best_asking(study: Study) -> list[Group]:
    return shown_best(grouped(study, "witnesses"), lambda group: above_fixed(group.runs)[0])


def best_shortening(study: Study) -> list[Group]:
    """By the removable tokens removed, among the settings that lose at most a point; without any, by accuracy."""
    base = study.base("chains")

    def value(group: Group) -> float:
        accuracy = average(group.runs, "accuracy")
        kept = accuracy >= base["test"]["accuracy"] - MARGIN
        return removable(group.runs, base) if kept else accuracy - ALL

    return shown_best(grouped(study, "chains"), value)


def witnesses(study: Study) -> Section:
    spent = study.base("witnesses")["test"]
    about = (
        f"The untouched asker: {pct(spent['accuracy'])} % at {spent['distance']['readings']:.1f} readings, regret "
        f"{pct(spent['distance']['regret'])} points. Regret is how far accuracy is below the exact frontier at the "
        "run's own mean readings; *above fixed*: how far it is above the best rule that asks equally often whatever "
        "the readings say. Each method's setting that is best above fixed, chosen on the problems "
        "that it is shown on; means over seeds, in points; of the baselines the five best."
    )
    head = ("method, setting, seeds", "accuracy, %", "readings", "regret", "above fixed")
    return Section("Witnesses", [about, Table(head, [witness_row(group) for group in best_asking(study)])])


def named(group: Group) -> str:
    return f"{group.method}, {group.setting}, {len(group.runs)}"


def witness_row(group: Group) -> list[str]:
    runs = group.runs
    return [
        named(group), pct(average(runs, "accuracy")), f"{readings(runs):.1f}",
        pct(regret(runs)), points(above_fixed(runs)[0]),
    ]  # fmt: skip


def chains(study: Study) -> Section:
    base = study.base("chains")
    spent = base["test"]
    about = (
        f"The untouched reasoner: {pct(spent['accuracy'])} % at {spent['tokens']:.1f} tokens; one pass takes "
        f"{spent['distance']['oracle_tokens']:.1f}. Levels 1 to 5 are trained on, 2 to 5 measured; levels 6 to 9 are "
        "never trained on. Each method's setting that removes most at a loss of at most a point, chosen likewise; "
        "means over seeds."
    )
    head = ("method, setting, seeds", "accuracy, %", "tokens", "removable removed, %",
            "unseen levels: accuracy, tokens")  # fmt: skip
    return Section("Chains", [about, Table(head, [chain_row(base, group) for group in best_shortening(study)])])


def chain_row(base: Numbers, group: Group) -> list[str]:
    runs = group.runs
    return [
        named(group), pct(average(runs, "accuracy")), f"{average(runs, 'tokens'):.1f}",
        pct(removable(runs, base)), at_tokens([run["measured"]["unseen"] for run in runs], 0),
    ]  # fmt: skip


def at_tokens(found: Sequence[Numbers], digits: int = 1) -> str:
    return f"{pct(mean(part['accuracy'] for part in found))} at {mean(part['tokens'] for part in found):.{digits}f}"


def modes(study: Study) -> Section:
    groups = [group for world in ("chains-modes", "witnesses-modes") for group in grouped(study, world)]
    head = ("world", "method", "setting", "seeds", "accuracy, %", "tokens", "opens long by level, %", "always long",
            "always short")  # fmt: skip
    about = "Bare prompts, and the same model asked for a mode."
    return Section("Two modes", [about, Table(head, [mode_row(group) for group in groups])])


def mode_row(group: Group) -> list[str]:
    runs = group.runs
    own = [test(run)["levels"] for run in runs]
    names = sorted(own[0], key=float)
    return [
        group.world.partition("-")[0], group.method, group.setting, str(len(runs)), pct(average(runs, "accuracy")),
        f"{average(runs, 'tokens'):.1f}",
        ", ".join(f"{name}: {pct(mean(levels[name]['opens_long'] for levels in own))}" for name in names),
        *(at_tokens([run["measured"][mode] for run in runs]) for mode in ("long", "short")),
    ]  # fmt: skip


ABLATIONS: dict[str, tuple[str, str]] = {"witnesses": ("cap27", "cap45"), "chains": ("cap44", "cap64")}


def ablation(study: Study) -> Section:
    about = (
        "4 updates a batch, all 16 mixtures, one seed a world. Each line compares 8 runs with 8 that differ in one "
        "part only. Lengths while learning and uniform groups are those of the last ten steps."
    )
    return Section("DLER's parts", [about, *(part for world in ABLATIONS for part in ablation_table(study, world))])


def ablation_table(study: Study, world: str) -> list[str | Table]:
    parts = {"normalisation: batch, group": ("batch", "group"), "clip: .28, .2": ("clip0.28", "clip0.2"),
             "dynamic sampling: on, off": ("dynamic", "all"),
             " and ".join(ABLATIONS[world]): ABLATIONS[world]}  # fmt: skip
    pairs = {label: ablation_pairs(study, one, other, world) for label, (one, other) in parts.items()}
    shown = {
        "accuracy, %, at tokens": lambda side: at_tokens([test(run) for run in side]),
        "length while learning": lambda side: f"{mean(last(run, 'mean_tokens') for run in side):.1f}",
        "uniform groups, %": lambda side: pct(mean(last(run, "uniform_groups") for run in side)),
    }
    if world == "witnesses":
        shown["regret, points"] = lambda side: pct(regret(side))
    runs = [run for pair in pairs["normalisation: batch, group"] for run in pair]
    uniform = sum(run["steps"] * run["training"]["uniform_groups"] for run in runs) / sum(run["steps"] for run in runs)
    rows = [
        [label, *(" / ".join(show(side) for side in zip(*found, strict=True)) for show in shown.values())]
        for label, found in pairs.items()
    ]
    about = f"{world.capitalize()}; {pct(uniform)} % of the groups drawn are uniform; with / without the part:"
    return [about, Table(["part", *shown], rows)]


def votes(study: Study) -> Section:
    """Majority votes at equal tokens and at equal latency, interpolated on the untouched model's curve."""
    rows = [
        vote_row(group, study.base(group.world)["test"]["votes"], VOTES)
        for group in (*best_asking(study), *best_shortening(study))
        if group.suite == "methods"
    ]
    head = ("world", "method", "setting", "tokens", "latency", "majority, %", "base, same tokens", "base, same latency")
    about = (
        f"Majority of {VOTES} answers, which cost {VOTES} times the mean tokens; their latency is the longest of them, "
        "in tokens. The untouched model's numbers are interpolated between its own counts; a dash means that it cannot "
        "be had so cheaply."
    )
    return Section("Many short answers or few long ones", [about, Table(head, rows)])


def vote_row(group: Group, base: Sequence[Numbers], k: int) -> list[str]:
    at = [next(vote for vote in test(run)["votes"] if vote["k"] == k) for run in group.runs]
    tokens, latency, majority = (mean(vote[name] for vote in at) for name in ("tokens", "latency", "majority"))
    return [
        group.world, group.method, group.setting, f"{tokens:.0f}", f"{latency:.0f}", pct(majority),
        against(base, "tokens", tokens, "majority"), against(base, "latency", latency, "majority"),
    ]  # fmt: skip


def against(base: Sequence[Numbers], axis: str, value: float, field: str) -> str:
    for left, right in itertools.pairwise(base):
        if left[axis] <= value <= right[axis] and right[axis] > left[axis]:
            share = (value - left[axis]) / (right[axis] - left[axis])
            return pct(left[field] + share * (right[field] - left[field]))
    return "-"


PAGE = Page(
    study="lab",
    file="study-lab.md",
    title="every method against an exact frontier",
    question="How near does every method come to what is possible, where that is known: witnesses (when to stop "
    "asking; the best rule is known) and chains (one pass is enough)?",
    registered=registered,
    claims=claims,
    findings=findings,
    limits=["One to three seeds a setting; models of two to four layers."],
    sections=sections,
    pictures=[
        Picture("study-witnesses.png", "Accuracy against readings in witnesses", pictures.witnesses),
        Picture("study-chains.png", "Accuracy against tokens in chains", pictures.chains),
        Picture("study-siri.png", "SIRI: the cap and the mean length, step by step", pictures.siri),
    ],
)
