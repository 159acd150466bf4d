"""The page of the adaptive study."""

from __future__ import annotations

from statistics import mean

from studies.page import NOT_RUN, Claim, Page, Section, Table, verdict
from studies.summary import Numbers, Summary

ARMS = {
    "adaptive": "adaptive",
    "strong": "adaptive, switch_weight .5",
    "sharp": "adaptive, switch_weight .5, hinge with margin 2",
    "obey": "adaptive, switch_weight .5, hinge with margin 2, obey",
    "by-mode": "adaptive, switch_weight 1, obey, short_cap 12, baseline mode, groups of 32",
    "opened": "adaptive, control opener, switch_loss nll, switch_weight 1, short_cap 12, baseline mode, groups of 32",
    "lead": "the same with delta 1/16: long must lead by more than one answer of sixteen",
    "no-switch": "without the switching loss",
    "no-deduction": "without the deduction",
}
JUDGED = {
    "witnesses": ("strong", "sharp", "obey", "by-mode", "opened", "lead"),
    "chains": ("adaptive", "sharp", "obey", "by-mode", "opened"),
    "first-chains": ("adaptive",),
}
"""The arms that what was registered is said of."""
TITLES = {
    "witnesses": "Witnesses, `lab:witnesses-modes`",
    "chains": "Chains, `lab:chains-modes`",
    "first-chains": "Chains with the first base",
}
STORIES = {
    "witnesses": "A short answer asks for one reading of a hidden bit, a long one for up to 31. Easy: level .97, where "
    "one reading is nearly always right; hard: levels .6 and .7. 16 x 16 rollouts a step. The method's defaults and "
    "more are in [the lab's study](study-lab.md); its setting `opened` is the arm with delta 1/16 here.",
    "chains": "A short answer says the result at once, a long one works the chain, twice or more. Easy: level 1, which "
    "has few distinct problems, nearly all of them practised on; hard: levels 5 to 7. 16 x 8 rollouts a step. Seed 0 "
    "of `adaptive` and `sharp` practised each distinct problem once, so level 1 was one prompt in thirty; all else "
    "practised every level equally often.",
    "first-chains": "As above, easy: levels 1 and 2. That base has no level on which short answers suffice (level 1: "
    ".7 of them are right, .95 of the long ones), so there is nothing to tell apart, and what was registered is not "
    "seen. The base of chains was taught anew after this.",
}
MODES = ("always long", "always short")
SHARES = "Share of answers that open short in %, and how much more often on easy than on hard levels; accuracy in %."
ASKED = {"bare": "untouched", "always long": "untouched, asked for long", "always short": "untouched, for short"}
Runs = dict[str, dict[int, Numbers]]
"""A setting's runs by arm and seed."""


def of(summary: Summary, setting: str) -> Runs:
    found: Runs = {arm: {} for arm in ARMS}
    for run in summary.runs.values():
        if run["setting"] == setting:
            found[run["arm"]][run["seed"]] = run
    return found


def gap(point: Numbers) -> float:
    """How much more often easy prompts open short than hard ones."""
    easy, hard = (point[ease] if isinstance(point[ease], float) else point[ease]["short"] for ease in ("easy", "hard"))
    return float(easy - hard)


def at_half(run: Numbers) -> Numbers:
    return next(point for point in run["curve"] if 2 * point["step"] >= run["steps"])


def claims(summary: Summary) -> dict[str, list[Claim]]:
    """Every judged arm of every setting against the same effects."""
    groups = {}
    for setting, judged in JUDGED.items():
        found = of(summary, setting)
        for arm in (arm for arm in judged if found[arm]):
            seeds = f"{len(found[arm])} seeds" if len(found[arm]) > 1 else "one seed"
            title = f"{TITLES[setting]}: {ARMS[arm]}, {seeds}"
            numbers = effects(found, arm)
            groups[title] = [
                Claim(effect["name"], measured, word, wanted)
                for effect, (measured, wanted, word) in zip(summary.plan["effects"], numbers, strict=True)
            ]
    return groups


def effects(found: Runs, judged: str) -> list[tuple[str, str, str]]:
    """(measured, wanted, verdict) of each registered effect, in their order."""
    main, plain, equal = found[judged], found["no-switch"], found["no-deduction"]
    gaps = [gap(run["last"]) for run in main.values()]
    better = [run["last"]["all"]["accuracy"] - max(asked(run, m)["accuracy"] for m in MODES) for run in main.values()]
    lengths = [run["last"]["all"]["tokens"] / asked(run, "always long")["tokens"] for run in main.values()]
    slower = [gap(at_half(main[s])) - gap(at_half(plain[s])) for s in main.keys() & plain.keys()]
    pressure = [
        main[s]["last"]["easy"]["short"] - equal[s]["last"]["easy"]["short"] for s in main.keys() & equal.keys()
    ]
    shown = f"{100 * min(gaps):.1f} points in the least seed, {100 * mean(gaps):.1f} on average"
    return [
        (shown, "at least 50", verdict(min(gaps) >= 0.5)),
        (f"{100 * mean(better):+.1f} points", "above -2", verdict(mean(better) > -0.02)),
        (f"{mean(lengths):.2f} of always-long", "below 1", verdict(mean(lengths) < 1)),
        difference(slower, 0.10),
        difference(pressure, 0.05),
    ]


def asked(run: Numbers, mode: str) -> Numbers:
    """The untouched model asked for a mode, over all levels."""
    found: Numbers = run["base"][mode]["all"]
    return found


def difference(values: list[float], least: float) -> tuple[str, str, str]:
    wanted = f"above {100 * least:.0f}"
    if not values:
        return NOT_RUN, wanted, NOT_RUN
    return f"{100 * mean(values):+.1f} points", wanted, verdict(mean(values) > least)


def sections(summary: Summary) -> list[Section]:
    return [section(name, found) for name in TITLES if any((found := of(summary, name)).values())]


def section(setting: str, found: Runs) -> Section:
    first = next(found[arm] for arm in JUDGED[setting] if found[arm])
    rows = [row(label, seed, run["base"][name]) for seed, run in first.items() for name, label in ASKED.items()]
    rows += [row(label, seed, run["last"]) for arm, label in ARMS.items() for seed, run in found[arm].items()]
    return Section(
        TITLES[setting],
        [
            STORIES[setting],
            SHARES,
            Table(("arm", "seed", "easy", "hard", "gap", "accuracy", "easy", "hard", "tokens"), rows),
            "Gap in points by training step, mean over seeds:",
            curves(found, first),
        ],
    )


def row(name: str, seed: int, levels: Numbers) -> list[str]:
    shown = [f"{100 * levels[ease]['short']:.0f}" for ease in ("easy", "hard")]
    accuracies = [f"{100 * levels[ease]['accuracy']:.1f}" for ease in ("all", "easy", "hard")]
    return [name, str(seed), *shown, f"{100 * gap(levels):+.0f}", *accuracies, f"{levels['all']['tokens']:.1f}"]


def curves(found: Runs, first: dict[int, Numbers]) -> Table:
    """How fast the choice is learnt, arm by arm."""
    steps = [point["step"] for point in next(iter(first.values()))["curve"]]
    rows = []
    for arm, label in ARMS.items():
        if found[arm]:
            values = [
                mean(100 * gap(run["curve"][place]) for run in found[arm].values()) for place in range(len(steps))
            ]
            rows.append([label, *(f"{value:+.0f}" for value in values)])
    return Table(["arm", *map(str, steps)], rows)


PAGE = Page(
    study="adaptive",
    file="study-adaptive.md",
    title="one model that chooses long or short by itself",
    about=[
        "The method, `adaptive`, is our reconstruction of Adaptive Deep Reasoning (arXiv 2505.20101), whose constants "
        "and formulas are not available. Before training bare prompts open by a coin. Held-out problems, bare prompts "
        "unless said, temperature 1; means over levels. The runs without the switching loss or the deduction have the "
        "method's defaults in all else, so that beside most arms the last two rows compare more than that one part.",
    ],
    claims=claims,
    sections=sections,
)
