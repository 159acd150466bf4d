"""The page of the adaptive study."""

from __future__ import annotations

from statistics import mean

from studies.page import NOT_RUN, SEEN, Claim, Page, Section, Table, average, pct, verdict
from studies.summary import Numbers, Summary

ARMS = {
    "adaptive": "adaptive",
    "strong": "adaptive, switch_weight .5",
    "sharp": "adaptive, switch_weight .5, hinge with margin 2",
    "obey": "adaptive, switch_weight .5, hinge with margin 2, obey",
    "by-mode": "adaptive, switch_weight 1, obey, short_cap 12, baseline mode, groups of 32",
    "opened": "adaptive, control opener, switch_loss nll, switch_weight 1, short_cap 12, baseline mode, groups of 32",
    "lead": "the same with delta 1/16 (long must lead by more than one answer of sixteen)",
    "no-switch": "without the switching loss",
    "no-deduction": "without the deduction",
}
JUDGED = {
    "witnesses": ("strong", "sharp", "obey", "by-mode", "opened", "lead"),
    "chains": ("adaptive", "sharp", "obey", "by-mode", "opened"),
    "first-chains": ("adaptive",),
}
"""The arms that what was registered is said of."""
TITLES = {"witnesses": "witnesses", "chains": "chains", "first-chains": "chains, first base"}
STORIES = {
    "witnesses": "A short answer asks for one reading of a hidden bit, a long one for up to 31. Easy: level .97, where "
    "one reading is nearly always right; hard: levels .6 and .7.",
    "chains": "A short answer says the result at once, a long one works the chain. Easy: level 1, which has few "
    "distinct problems, nearly all of them practised on; hard: levels 5 to 7. Seed 0 of `adaptive` and `sharp` "
    "practised level 1 as one prompt in thirty; all else practised every level equally often.",
    "first-chains": "As above; that base has no level on which short answers suffice (level 1: .7 of them are right, "
    ".95 of the long ones), so there is nothing to tell apart. The base was taught anew after this.",
}
MODES = ("always long", "always short")
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
            title = f"{TITLES[setting]}: {arm}, {seeds}"
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
    shown = f"{100 * min(gaps):.1f} least, {100 * mean(gaps):.1f} mean"
    return [
        (shown, "at least 50", verdict(min(gaps) >= 0.5)),
        (f"{100 * mean(better):+.1f}", "above -2", verdict(mean(better) > -0.02)),
        (f"{mean(lengths):.2f}", "below 1", verdict(mean(lengths) < 1)),
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
    return f"{100 * mean(values):+.1f}", wanted, verdict(mean(values) > least)


def sections(summary: Summary) -> list[Section]:
    return [section(name, found) for name in TITLES if any((found := of(summary, name)).values())]


def section(setting: str, found: Runs) -> Section:
    """Means over seeds."""
    first = next(found[arm] for arm in JUDGED[setting] if found[arm])
    rows = [row(label, [run["base"][name] for run in first.values()]) for name, label in ASKED.items()]
    rows += [row(arm, [run["last"] for run in found[arm].values()]) for arm in ARMS if found[arm]]
    head = ("arm", "seeds", "opens short: easy, hard, %", "gap", "accuracy: all, easy, hard, %", "tokens")
    return Section(TITLES[setting].capitalize(), [STORIES[setting], Table(head, rows)])


def row(name: str, found: list[Numbers]) -> list[str]:
    shown = ", ".join(f"{100 * average(found, ease, 'short'):.0f}" for ease in ("easy", "hard"))
    accuracies = ", ".join(pct(average(found, ease, "accuracy")) for ease in ("all", "easy", "hard"))
    return [name, str(len(found)), shown, f"{100 * mean(map(gap, found)):+.0f}", accuracies,
            f"{average(found, 'all', 'tokens'):.1f}"]  # fmt: skip


def registered(summary: Summary) -> list[str]:
    arms = "\n".join(f"- `{arm}`: {words}" for arm, words in ARMS.items() if arm != words)
    return [
        "Bare prompts, which before training open by a coin; means over levels. `adaptive` and `strong` were "
        "registered first; `sharp`, `obey`, `by-mode`, `opened` and `lead` are amendments, each before its own runs "
        "and judged by the same statistics and thresholds. `no-switch` and `no-deduction` have the method's defaults "
        "in all else, so beside most arms the last two effects compare more than that one part. Arms beyond the "
        "defaults:",
        arms,
    ]


def findings(summary: Summary) -> list[str]:
    found = claims(summary)
    counts = {title: [claim.verdict for claim in group].count(SEEN) for title, group in found.items()}
    best = max(counts, key=lambda title: counts[title])
    gaps = next(iter(found[best])).measured
    return [
        f"Only one arm shows all that was registered: {best}, {counts[best]} of {len(found[best])}, with a gap of "
        f"{gaps}. As registered first, with the method's own settings, the model does not learn to choose by "
        "difficulty on either world. On chains the choice is learnt (`by-mode`, `opened`), but bare accuracy stays "
        "below the better single mode."
    ]


PAGE = Page(
    study="adaptive",
    file="study-adaptive.md",
    title="one model that chooses long or short by itself",
    question="Does one model learn to answer shortly on easy prompts and at length on hard ones?",
    about=[
        "The method, `adaptive`, is our reconstruction of Adaptive Deep Reasoning (arXiv 2505.20101), whose constants "
        "and formulas are not available.",
    ],
    registered=registered,
    claims=claims,
    findings=findings,
    limits=["One to four seeds an arm; the arms that work were found by trying, each registered before its runs only."],
    sections=sections,
)
