"""The page of the lab's study."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from statistics import mean

from studies.lab import pictures
from studies.lab.claims import NEVER, STATISTICS, ablation_pairs, above_fixed, last
from studies.lab.numbers import Group, MissingRunError, Study, average, grouped, readings, regret, removable, test
from studies.page import NOT_SEEN, SEEN, Claim, Page, Picture, Section, Table, pct, verdict
from studies.summary import Numbers, Summary

KINDS = {"page": "The papers' pages: what a small run should show", "ordering": "Orderings that the papers report",
         "target": "Our own targets"}  # fmt: skip
WORLDS = ("witnesses", "chains")
OPEN = "open"


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
    study.used.clear()
    [(kind, bound)] = entry["threshold"].items()
    value, word = None, OPEN
    with suppress(MissingRunError):
        value = float(STATISTICS[entry["id"]](study))
        word = verdict(value >= bound if kind == "at_least" else value <= bound)
    used = 0 if value is None else len(study.used)
    return Claim(
        entry["claim"], shown(value), word, f"{kind.replace('_', ' ')} {bound:g}", entry["source"], entry["statistic"],
        f"{used} of {entry['n']}",
    )  # fmt: skip


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < NEVER else "never"


def registered(summary: Summary) -> list[str]:
    found = claims(summary)
    orderings = [claim for claim in found[KINDS["ordering"]] if claim.verdict != OPEN]
    small = [claim.verdict for claim in found[KINDS["page"]]]
    plan = summary.plan
    return [
        f"**The lab agrees with {sum(claim.verdict == SEEN for claim in orderings)} of {len(orderings)} published "
        f"orderings.** Of what the pages expect of a small run, {small.count(SEEN)} of {len(small)} effects are seen, "
        f"{small.count(NOT_SEEN)} are not, {small.count(OPEN)} are open (runs are missing). Why an effect is not seen "
        "stands in the [lab notes](lab-notes.md), where we know.",
        f"Registered {plan['written']}. Each run measures {plan['each_run_measures']}. Amendments:",
        "\n".join(f"- {text}" for text in plan["amendments"]),
    ]


# ------------------------------------------------------------------------------------------------ tables


def sections(summary: Summary) -> list[Section]:
    study = Study.of_summary(summary)
    return [witnesses(study), chains(study), modes(study), ablation(study), votes(study), entropy(study)]


def witnesses(study: Study) -> Section:
    spent = study.base("witnesses")["test"]
    about = (
        f"The untouched asker: {pct(spent['accuracy'])} % at {spent['distance']['readings']:.1f} readings, regret "
        f"{pct(spent['distance']['regret'])} points. Regret is how far accuracy is below the exact frontier at the "
        "run's own mean readings; *above fixed*: how far it is above the best rule that asks equally often whatever "
        "the readings say. Means over seeds, in points; by level: regret at the level's own readings."
    )
    head = ("method", "setting", "seeds", "accuracy, %", "readings", "regret", "above fixed",
            "readings at .6, .7, .8, .97", "regret at .6, .7, .8, .97", "unseen q: readings, regret",
            "ended early")  # fmt: skip
    return Section("Witnesses", [about, Table(head, [witness_row(group) for group in grouped(study, "witnesses")])])


def witness_row(group: Group) -> list[str]:
    runs = group.runs
    levels = [test(run)["distance"]["levels"] for run in runs]
    names = sorted(levels[0], key=float)
    unseen = [run["measured"]["unseen"]["distance"] for run in runs]
    return [
        group.method, group.setting, str(len(runs)), pct(average(runs, "accuracy")), f"{readings(runs):.1f}",
        pct(regret(runs)), points(above_fixed(runs)[0]),
        ", ".join(f"{mean(own[n]['readings'] for own in levels):.1f}" for n in names),
        ", ".join(pct(mean(own[n]["regret"] for own in levels)) for n in names),
        f"{mean(u['readings'] for u in unseen):.1f}, {pct(mean(u['regret'] for u in unseen))}", ended(runs),
    ]  # fmt: skip


def ended(runs: Sequence[Numbers]) -> str:
    return ", ".join(f"step {run['steps']}" for run in runs if run["ended"])


def chains(study: Study) -> Section:
    base = study.base("chains")
    spent = base["test"]
    about = (
        f"The untouched reasoner: {pct(spent['accuracy'])} % at {spent['tokens']:.1f} tokens; one pass takes "
        f"{spent['distance']['oracle_tokens']:.1f}. Levels 1 to 5 are trained on, 2 to 5 measured; levels 6 to 9 are "
        "never trained on. Means over seeds."
    )
    head = ("method", "setting", "seeds", "accuracy, %", "tokens", "removable removed, %", "cut, %",
            "unseen levels: accuracy, tokens", "ended early")  # fmt: skip
    return Section("Chains", [about, Table(head, [chain_row(base, group) for group in grouped(study, "chains")])])


def chain_row(base: Numbers, group: Group) -> list[str]:
    runs = group.runs
    return [
        group.method, group.setting, str(len(runs)), pct(average(runs, "accuracy")), f"{average(runs, 'tokens'):.1f}",
        pct(removable(runs, base)), pct(average(runs, "cut")),
        at_tokens([run["measured"]["unseen"] for run in runs], 0), ended(runs),
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
        vote_row(group, study.base(world)["test"]["votes"], k)
        for world in WORLDS
        for group in grouped(study, world)
        if group.suite == "methods"
        for k in (1, 8, 64)
    ]
    head = ("world", "method", "setting", "k", "tokens", "latency", "majority@k, %", "base, same tokens",
            "base, same latency", "pass@k, %", "base, same tokens")  # fmt: skip
    about = (
        "k answers cost k times the mean tokens; their latency is the longest of them, in tokens. The untouched "
        "model's numbers are interpolated between its own k; a dash means that it cannot be had so cheaply, or that "
        "its 64 answers cost less."
    )
    return Section("Many short answers or few long ones", [about, Table(head, rows)])


def vote_row(group: Group, base: Sequence[Numbers], k: int) -> list[str]:
    at = [next(vote for vote in test(run)["votes"] if vote["k"] == k) for run in group.runs]
    tokens, latency, majority, passed = (
        mean(vote[name] for vote in at) for name in ("tokens", "latency", "majority", "pass")
    )
    return [
        group.world, group.method, group.setting, str(k), f"{tokens:.0f}", f"{latency:.0f}", pct(majority),
        against(base, "tokens", tokens, "majority"), against(base, "latency", latency, "majority"),
        pct(passed), against(base, "tokens", tokens, "pass"),
    ]  # fmt: skip


def against(base: Sequence[Numbers], axis: str, value: float, field: str) -> str:
    for left, right in itertools.pairwise(base):
        if left[axis] <= value <= right[axis] and right[axis] > left[axis]:
            share = (value - left[axis]) / (right[axis] - left[axis])
            return pct(left[field] + share * (right[field] - left[field]))
    return "-"


def entropy(study: Study) -> Section:
    rows = []
    for world in WORLDS:
        rows.append([world, "untouched", "", *entropies([study.base(world)["test"]])])
        rows += [
            [world, group.method, group.setting, *entropies([test(run) for run in group.runs])]
            for group in grouped(study, world)
            if group.suite == "methods"
        ]
    about = (
        "Nats a token, over the tokens that the model wrote itself; where it stops: at the answer mark; where it "
        "goes on: at an ask (witnesses) or at a re-check (chains)."
    )
    head = ("world", "method", "setting", "all tokens", "where it stops", "where it goes on")
    return Section("Entropy", [about, Table(head, rows)])


def entropies(found: Sequence[Numbers]) -> list[str]:
    shown = []
    for name in ("all", "stop", "again"):
        values = [part["entropy"][name] for part in found if part["entropy"][name] is not None]
        shown.append(f"{mean(values):.3f}" if values else "never")
    return shown


PAGE = Page(
    study="lab",
    file="study-lab.md",
    title="every method against an exact frontier",
    about=["Worlds: witnesses (when to stop; the best rule is known) and chains (one pass is enough)."],
    registered=registered,
    claims=claims,
    sections=sections,
    pictures=[
        Picture("study-witnesses.png", "Accuracy against readings in witnesses", pictures.witnesses),
        Picture("study-chains.png", "Accuracy against tokens in chains", pictures.chains),
        Picture("study-siri.png", "SIRI: the cap and the mean length, step by step", pictures.siri),
    ],
)
