"""The page of the study of recent methods and of combinations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import mean, variance

from studies.lab.claims import above_fixed
from studies.lab.numbers import Group, MissingRunError, Study, average, readings, regret, removable, test
from studies.lab.page import best, chain_row, points, witness_row
from studies.page import NOT_RUN, Claim, Page, Section, Table, pct, verdict
from studies.recent.plan import OPTIONS, SEEDS, trials
from studies.summary import Numbers, Summary, load

PRICED = ("baselines", "witnesses", "linear-price", "price0.002-long")
PLAIN = (*OPTIONS, "laconic", "gdpo", "on-policy-sft")
"""The methods on the reasoners without modes."""
UNGATED = ("gdpo", "on-policy-sft")
SHORT, LONG = 5, 12
"""Readings between which regrets are compared."""
LOSS, ENOUGH = 0.01, 0.6


def groups_of(summary: Summary, suite: str, world: str) -> list[Group]:
    """The settings of a world, with two modes or without, whose seeds are all there; in the order of the plan."""
    found: dict[tuple[str, str], list[Numbers]] = {}
    for trial in trials():
        if trial.suite == suite and trial.world.removesuffix("-modes") == world and trial.name in summary.runs:
            found.setdefault((trial.method, trial.setting), []).append(summary.runs[trial.name])
    return [Group(suite, *key, runs) for key, runs in found.items() if len(runs) == len(SEEDS)]


def needed(summary: Summary, suite: str, world: str) -> list[Group]:
    """The same; raises where a run of the plan is missing."""
    wanted = {
        trial.name for trial in trials() if trial.suite == suite and trial.world.removesuffix("-modes") == world
    }  # fmt: skip
    if not wanted <= summary.runs.keys():
        raise MissingRunError(f"{suite}-{world}")
    return groups_of(summary, suite, world)


def lab() -> Study:
    """The lab's study, whose runs stand beside these."""
    return Study.of_summary(load("lab"))


def regrets(runs: Iterable[Numbers]) -> list[float]:
    """By seed."""
    found = sorted(runs, key=lambda run: run["seed"])
    return [float(test(run)["distance"]["regret"]) for run in found]


def combined(summary: Summary, name: str) -> list[float]:
    """Regrets of a combination by seed."""
    found = [group for group in groups_of(summary, "combined", "witnesses") if group.method == name]
    if not found:
        raise MissingRunError(name)
    return regrets(found[0].runs)


# ------------------------------------------------------------------------------------------------ the effects


def asking(summary: Summary) -> list[Group]:
    """All settings and combinations on witnesses with 5 to 12 mean readings."""
    found = [*needed(summary, "recent", "witnesses"), *needed(summary, "combined", "witnesses")]
    return [group for group in found if SHORT <= readings(group.runs) <= LONG]


def nearest(summary: Summary) -> Group:
    """The one of least regret."""
    found = asking(summary)
    if not found:
        raise MissingRunError("none asks 5 to 12 times")
    return min(found, key=lambda group: regret(group.runs))


def beyond_errors(one: Sequence[float], other: Sequence[float]) -> float:
    """How many standard errors of the difference the mean of one is below the other's; runs are not paired."""
    error = math.sqrt(variance(one) / len(one) + variance(other) / len(other))
    return (mean(other) - mean(one)) / error if error else math.inf * (mean(other) - mean(one))


def price_long() -> list[float]:
    return regrets(lab().of(*PRICED))


def less(better: str, worse: str) -> Callable[[Summary], float]:
    """How much less regret one combination has than another, means of seeds."""
    return lambda summary: mean(combined(summary, worse)) - mean(combined(summary, better))


def clearly_above_fixed(summary: Summary) -> float:
    found = [above_fixed(group.runs) for group in asking(summary) if group.suite == "recent"]
    return max((difference - 2 * error for difference, error in found), default=-1.0)


def removing(summary: Summary) -> float:
    """How many methods remove enough at some setting that loses at most a point."""
    base = lab().base("chains")
    held = {
        group.method
        for group in needed(summary, "recent", "chains")
        if group.method in PLAIN
        and average(group.runs, "accuracy") >= base["test"]["accuracy"] - LOSS
        and removable(group.runs, base) >= ENOUGH
    }
    return len(held)


def least_accuracy(summary: Summary) -> float:
    """The lowest accuracy of a run behind the gate right, less the untouched reasoner's."""
    base = lab().base("chains")["test"]["accuracy"]
    gated = [group for group in needed(summary, "recent", "chains") if group.method in {*PLAIN} - {*UNGATED}]
    return min(test(run)["accuracy"] for group in gated for run in group.runs) - base


STATISTICS: dict[str, Callable[[Summary], float]] = {
    "target": lambda summary: regret(nearest(summary).runs),
    "beyond-errors": lambda summary: beyond_errors(regrets(nearest(summary).runs), price_long()),
    "summed": lambda summary: mean(price_long()) - mean(combined(summary, "price-summed")),
    "fast": less("price-fast", "price-summed"),
    "hot": less("price-hot", "price-fast"),
    "stated": less("price-stated", "price-summed"),
    "fixed": clearly_above_fixed,
    "removable": removing,
    "no-collapse": least_accuracy,
}


def judge(effect: Numbers, summary: Summary) -> Claim:
    """Seen, not seen, or not run where runs are missing."""
    [(kind, bound)] = ((kind, effect[kind]) for kind in ("at_least", "at_most") if kind in effect)
    wanted = f"{kind.replace('_', ' ')} {bound:g}"
    try:
        value = STATISTICS[effect["id"]](summary)
    except MissingRunError:
        return Claim(effect["claim"], "", NOT_RUN, wanted)
    return Claim(
        effect["claim"], f"{value:.3g}", verdict(value >= bound if kind == "at_least" else value <= bound), wanted
    )


def claims(summary: Summary) -> dict[str, list[Claim]]:
    return {"": [judge(effect, summary) for effect in summary.plan["effects"]]}


def registered(summary: Summary) -> list[str]:
    plan = summary.plan
    made = "\n".join(f"- {name}: {text}" for name, text in plan["combinations"].items())
    return [f"Registered {plan['registered']}. {plan['protocol']}", f"Combinations:\n{made}", plan["choices"]]


def findings(summary: Summary) -> list[str]:
    try:
        found = nearest(summary)
    except MissingRunError:
        return []
    return [
        f"Nearest to the exact frontier at 5 to 12 readings comes {found.method} ({found.setting}): regret "
        f"{pct(regret(found.runs))} points at {readings(found.runs):.1f} readings "
        f"({points(above_fixed(found.runs)[0])} points against the best fixed number); the "
        f"plain price's long runs have {pct(mean(price_long()))}."
    ]


# ------------------------------------------------------------------------------------------------ tables


def sections(summary: Summary) -> list[Section]:
    head = ("method", "setting", "seeds", "accuracy, %", "readings", "regret", "above fixed")
    ask = best(groups_of(summary, "recent", "witnesses"), lambda group: above_fixed(group.runs)[0])
    old = Group("baselines", "linear-price", PRICED[3], lab().of(*PRICED))
    rows = [witness_row(group) for group in (*ask, *groups_of(summary, "combined", "witnesses"), old)]
    told = (
        "Each method's setting that is best above fixed, chosen on the problems that it is shown on; then the "
        "combinations and the plain price's long runs. Means over seeds, in points. The older methods: "
        "[the lab's study](study-lab.md)."
    )
    return [Section("Witnesses", [told, Table(head, rows)]), chains(summary)]


def chains(summary: Summary) -> Section:
    base = lab().base("chains")
    head = ("method", "setting", "seeds", "accuracy, %", "tokens", "removable removed, %",
            "unseen levels: accuracy, tokens")  # fmt: skip
    shown = best(
        groups_of(summary, "recent", "chains"),
        lambda group: removable(group.runs, base) - (average(group.runs, "accuracy") < base["test"]["accuracy"] - LOSS),
    )
    about = "Each method's setting that removes most at a loss of at most a point, chosen likewise."
    return Section("Chains", [about, Table(head, [chain_row(base, group) for group in shown])])


PAGE = Page(
    study="recent",
    file="study-recent.md",
    title="recent methods, and combinations nobody has published",
    question="How near do the methods of 2026 come to what is possible, and does a combination come nearer?",
    registered=registered,
    claims=claims,
    findings=findings,
    sections=sections,
    limits=[
        "Three seeds; regrets are at each run's own readings. Methods that ask in words ran on other reasoners than "
        "the rest, with two modes. Knobs are the methods' own, not tuned to the lab."
    ],
)
