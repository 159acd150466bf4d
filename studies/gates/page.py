"""The page of the gate study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

from studies.gates.plan import ARMS, BEYOND, FINE, LEVELS, OTHER_FINES, PUBLISHED, SEEDS, TAUGHT
from studies.page import NOT_RUN, Claim, Page, Section, Table, pct, verdict
from studies.summary import Numbers, Summary

QUESTION = (
    "GRPO with division by the spread fines answers by their length, wrong ones too: does it lose its accuracy, as in "
    "verl-recipe #125, and what keeps it: a filter on verdicts, or a [gate](gates.md) that keeps the fine from wrong "
    "answers?"
)
LIMITS = (
    "One small model that was taught to work every step, one task, one learning rate, three seeds. One pass is the "
    "shortest sound answer here; #125's task has no such floor. Whether groups that are all wrong are the cause is "
    "asked by the arms solved and right alone: the filter on verdicts leaves groups out that are all right, too.",
)
TOLD = {
    "none": "no filter, no gate",
    "shaped": "groups whose fined rewards are equal are left out",
    "verdicts": "groups whose verdicts are equal are left out",
    "right": "gate right",
    "solved": "gate solved",
    "rate-right": "gate rate-right",
    "reversed": "wrong answers are paid for length, not fined",
}
Key = tuple[str, float, str]
"""Arm, fine and mix of levels."""


class MissingRunsError(Exception):
    """A seed that an effect needs is not there."""


class Found(dict[Key, list[Numbers]]):
    """The runs of an arm, a fine and a mix, by seed; asking for one without all of its seeds raises."""

    def __missing__(self, key: Key) -> list[Numbers]:
        raise MissingRunsError(key)


def arms_of(summary: Summary) -> Found:
    """Arms whose seeds are all there."""
    found: dict[Key, list[Numbers]] = {}
    for run in summary.runs.values():
        if run["arm"] in ARMS:
            found.setdefault((run["arm"], run["fine"], run["mix"]), []).append(run)
    ordered = {key: sorted(runs, key=lambda run: run["seed"]) for key, runs in found.items()}
    return Found({key: runs for key, runs in ordered.items() if [run["seed"] for run in runs] == list(SEEDS)})


def untouched(summary: Summary, mix: str = BEYOND) -> Numbers:
    found: Numbers = summary.runs[f"untouched-{mix}"]["measured"]
    return found


# ------------------------------------------------------------------------------------------------ the effects


def accuracies(arms: Found, arm: str, fine: float = FINE, mix: str = BEYOND) -> list[float]:
    return [run["measured"]["accuracy"] for run in arms[arm, fine, mix]]


def differences(arms: Found, one: str, other: str, mix: str = BEYOND) -> list[float]:
    """By seed, in accuracy."""
    pairs = zip(accuracies(arms, one, FINE, mix), accuracies(arms, other, FINE, mix), strict=True)
    return [a - b for a, b in pairs]


def by_seed(values: Sequence[float]) -> str:
    return f"{100 * mean(values):+.1f} points ({', '.join(f'{100 * value:+.1f}' for value in values)})"


def verdicts_save(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    found = differences(arms, "verdicts", "none")
    return by_seed(found), min(found) >= bound


def shaped_does_not(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    found = differences(arms, "shaped", "none")
    return by_seed(found), mean(found) <= bound


def gate_as_good(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    found = differences(arms, "right", "verdicts")
    return by_seed(found), abs(mean(found)) <= bound


def dose(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    fines = sorted((FINE, *OTHER_FINES))
    plain, kept = ([mean(accuracies(arms, arm, fine)) for fine in fines] for arm in ("none", "verdicts"))
    shown = "; ".join(f"{name} {', '.join(map(pct, row))} %" for name, row in (("none", plain), ("verdicts", kept)))
    return shown, plain[0] > plain[1] > plain[2] and max(kept) - min(kept) <= bound


def length_first(arms: Found, _: float, __: Numbers) -> tuple[str, bool]:
    found = [(run["halved"]["wrong_tokens"], run["halved"]["accuracy"]) for run in arms["none", FINE, BEYOND]]
    shown = "; ".join(f"{length or 'never'} before {right or 'never'}" for length, right in found)
    return shown, all(length and right and length < right for length, right in found)


def no_collapse(arms: Found, bound: float, start: Numbers) -> tuple[str, bool]:
    found = [value / start["accuracy"] for value in accuracies(arms, "reversed")]
    return f"{mean(found):.2f} of the start ({', '.join(f'{value:.2f}' for value in found)})", min(found) >= bound


def groups_kept(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    shaped, verdicts = (mean(run["kept_share"] for run in arms[arm, FINE, BEYOND]) for arm in ("shaped", "verdicts"))
    return f"{pct(shaped)} and {pct(verdicts)} %", shaped >= bound and verdicts <= 0.75


def taught_hold(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    found = differences(arms, "verdicts", "none", TAUGHT)
    return by_seed(found), max(found) <= bound


EFFECTS: dict[str, Callable[[Found, float, Numbers], tuple[str, bool]]] = {
    "E1": verdicts_save, "E2": shaped_does_not, "E3": gate_as_good, "E4": dose, "E5": length_first, "E6": no_collapse,
    "E7": groups_kept, "E8": taught_hold,
}  # fmt: skip


def judge(effect: Numbers, summary: Summary) -> Claim:
    """Seen, not seen, or not run where a seed is missing."""
    try:
        shown, holds = EFFECTS[effect["id"]](arms_of(summary), effect["bound"], untouched(summary))
    except MissingRunsError:
        return Claim(f"{effect['id']}: {effect['claim']}", "", NOT_RUN)
    return Claim(f"{effect['id']}: {effect['claim']}", shown, verdict(holds))


def claims(summary: Summary) -> dict[str, list[Claim]]:
    return {"": [judge(effect, summary) for effect in summary.plan["effects"]]}


def registered(summary: Summary) -> list[str]:
    plan = summary.plan
    return [f"Registered {plan['registered']}. {plan['settings']}", plan["choices"], f"Expected: {plan['expected']}"]


def findings(summary: Summary) -> list[str]:
    """The arms in order of accuracy, and how often a group was all wrong."""
    arms, start = arms_of(summary), untouched(summary)
    order = sorted(((mean(accuracies(arms, arm)), arm) for arm in ARMS if (arm, FINE, BEYOND) in arms), reverse=True)
    if not order:
        return []
    wrong = mean(run["all_wrong"] for _, arm in order for run in arms[arm, FINE, BEYOND])
    ends = ", ".join(f"{arm} {pct(accuracy)} %" for accuracy, arm in order)
    return [
        f"At fine {FINE:g}, from {pct(start['accuracy'])} %: {ends} (means of seeds). {pct(wrong)} % of the groups "
        "drawn in these arms were all wrong."
    ]


# ------------------------------------------------------------------------------------------------ tables


def sections(summary: Summary) -> list[Section]:
    arms = arms_of(summary)
    return [ends(arms, summary), course(arms)]


def ends(arms: Found, summary: Summary) -> Section:
    head = ("levels", "arm", "fine", "accuracy, % (by seed)", "tokens", "tokens of wrong answers", "groups kept, %",
            "groups all wrong, %")  # fmt: skip
    rows = [
        row
        for mix, levels in LEVELS.items()
        for row in mix_rows(arms, untouched(summary, mix), mix, f"{levels[0]} to {levels[-1]}")
    ]
    told = "\n".join(f"- {arm}: {text}" for arm, text in TOLD.items())
    return Section("Ends", [told, "Means over seeds; groups over all steps.", Table(head, rows)])


def mix_rows(arms: Found, start: Numbers, mix: str, levels: str) -> list[list[str]]:
    """The untouched reasoner, then every arm that was run on these levels."""
    ends = [f"{start['tokens']:.1f}", f"{start['wrong_tokens']:.1f}", "", ""]
    keys = [(arm, fine, mix) for fine in (FINE, *OTHER_FINES) for arm in ARMS]
    rows = [[levels, "untouched", "", pct(start["accuracy"]), *ends]]
    return rows + [[levels, key[0], f"{key[1]:g}", *end_cells(arms[key])] for key in keys if key in arms]


def end_cells(runs: Sequence[Numbers]) -> list[str]:
    right = [run["measured"]["accuracy"] for run in runs]
    wrong = [run["measured"]["wrong_tokens"] for run in runs if run["measured"]["wrong_tokens"] is not None]
    return [
        f"{pct(mean(right))} ({', '.join(map(pct, right))})",
        f"{mean(run['measured']['tokens'] for run in runs):.1f}", f"{mean(wrong):.1f}" if wrong else "",
        pct(mean(run["kept_share"] for run in runs)), pct(mean(run["all_wrong"] for run in runs)),
    ]  # fmt: skip


def course(arms: Found) -> Section:
    """Step by step, the arms of #125: what moves first."""
    about = (
        "Every eighth step of the fine .3, means over seeds: accuracy, %; tokens of the shortest tenth of the wrong."
    )
    rows = [
        [arm, what, *(moved(runs, field, place, scale) for place in range(len(runs[0]["course"][field])))]
        for arm in PUBLISHED
        if (runs := arms.get((arm, FINE, BEYOND)))
        for what, field, scale in (("accuracy", "accuracy", 100), ("shortest wrong", "wrong_decile", 1))
    ]
    steps = [str(8 * place + 1) for place in range(max((len(row) - 2 for row in rows), default=0))]
    return Section("Step by step", [about, Table(["arm", "", *(f"step {step}" for step in steps)], rows)])


def moved(runs: Sequence[Numbers], field: str, place: int, scale: float) -> str:
    """The mean over seeds that have it there."""
    rows = [run["course"][field] for run in runs]
    found = [row[place] for row in rows if place < len(row) and row[place] is not None]
    return f"{scale * mean(found):.0f}" if found else "-"


PAGE = Page(
    study="gates",
    file="study-gates.md",
    title="what a fine on wrong answers' length does, and which gate stops it",
    question=QUESTION,
    registered=registered,
    claims=claims,
    findings=findings,
    sections=sections,
    limits=LIMITS,
)
