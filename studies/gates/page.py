"""The page of the gate study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from studies.gates.plan import ARMS, FINE, OTHER_FINES, PUBLISHED, SEEDS
from studies.page import NOT_RUN, Claim, Page, Section, Table, pct, verdict
from studies.summary import Numbers, Summary

ABOUT = (
    "Chains of levels 6 and up; GRPO with division by the spread; an answer earns 1 if it is right, less a fine times "
    "its share of the start's mean length (at most 1), also where it is wrong. What keeps accuracy: a filter on "
    "verdicts, or a gate that keeps the fine from wrong answers? After verl-recipe #125; gates: [gates](gates.md)."
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
Arms = Mapping[tuple[str, float], Sequence[Numbers]]
"""The runs of an arm and a fine, by seed."""


class MissingRunsError(Exception):
    """A seed that an effect needs is not there."""


class Found(dict[tuple[str, float], list[Numbers]]):
    """The runs of an arm and a fine, by seed; asking for one without all of its seeds raises."""

    def __missing__(self, key: tuple[str, float]) -> list[Numbers]:
        raise MissingRunsError(key)


def arms_of(summary: Summary) -> Found:
    """Arms whose seeds are all there."""
    found: dict[tuple[str, float], list[Numbers]] = {}
    for run in summary.runs.values():
        if run["arm"] in ARMS:
            found.setdefault((run["arm"], run["fine"]), []).append(run)
    ordered = {key: sorted(runs, key=lambda run: run["seed"]) for key, runs in found.items()}
    return Found({key: runs for key, runs in ordered.items() if [run["seed"] for run in runs] == list(SEEDS)})


def untouched(summary: Summary) -> Numbers:
    found: Numbers = summary.runs["untouched"]["measured"]
    return found


# ------------------------------------------------------------------------------------------------ the effects


def accuracies(arms: Found, arm: str, fine: float = FINE) -> list[float]:
    return [run["measured"]["accuracy"] for run in arms[arm, fine]]


def differences(arms: Found, one: str, other: str) -> list[float]:
    """By seed, in accuracy."""
    return [a - b for a, b in zip(accuracies(arms, one), accuracies(arms, other), strict=True)]


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
    found = [(run["halved"]["wrong_tokens"], run["halved"]["accuracy"]) for run in arms["none", FINE]]
    shown = "; ".join(f"{length or 'never'} before {right or 'never'}" for length, right in found)
    return shown, all(length and right and length < right for length, right in found)


def no_collapse(arms: Found, bound: float, start: Numbers) -> tuple[str, bool]:
    found = [value / start["accuracy"] for value in accuracies(arms, "reversed")]
    return f"{mean(found):.2f} of the start ({', '.join(f'{value:.2f}' for value in found)})", min(found) >= bound


def groups_kept(arms: Found, bound: float, _: Numbers) -> tuple[str, bool]:
    shaped, verdicts = (mean(run["kept_share"] for run in arms[arm, FINE]) for arm in ("shaped", "verdicts"))
    return f"{pct(shaped)} and {pct(verdicts)} %", shaped >= bound and verdicts <= 0.75


EFFECTS: dict[str, Callable[[Found, float, Numbers], tuple[str, bool]]] = {
    "E1": verdicts_save, "E2": shaped_does_not, "E3": gate_as_good, "E4": dose, "E5": length_first, "E6": no_collapse,
    "E7": groups_kept,
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


# ------------------------------------------------------------------------------------------------ tables


def sections(summary: Summary) -> list[Section]:
    arms, start = arms_of(summary), untouched(summary)
    return [ends(arms, start), course(arms), Section("Limits", ["\n".join(f"- {t}" for t in summary.plan["limits"])])]


def ends(arms: Found, start: Numbers) -> Section:
    head = ("arm", "fine", "accuracy, % (by seed)", "tokens", "tokens of wrong answers", "groups kept, %",
            "groups all wrong, %")  # fmt: skip
    rows = [["untouched", "", pct(start["accuracy"]), f"{start['tokens']:.1f}", f"{start['wrong_tokens']:.1f}", "", ""]]
    rows += [end_row(arm, fine, arms[arm, fine]) for fine in (FINE, *OTHER_FINES) for arm in ARMS if (arm, fine) in arms]
    told = "\n".join(f"- {arm}: {text}" for arm, text in TOLD.items())
    return Section("Ends", [told, "Means over seeds; groups over all steps.", Table(head, rows)])


def end_row(arm: str, fine: float, runs: Sequence[Numbers]) -> list[str]:
    right = [run["measured"]["accuracy"] for run in runs]
    wrong = [run["measured"]["wrong_tokens"] for run in runs if run["measured"]["wrong_tokens"] is not None]
    return [
        arm, f"{fine:g}", f"{pct(mean(right))} ({', '.join(map(pct, right))})",
        f"{mean(run['measured']['tokens'] for run in runs):.1f}", f"{mean(wrong):.1f}" if wrong else "",
        pct(mean(run["kept_share"] for run in runs)), pct(mean(run["all_wrong"] for run in runs)),
    ]  # fmt: skip


def course(arms: Found) -> Section:
    """Step by step, the arms of #125: what moves first."""
    about = "Every eighth step of the fine .3, means over seeds: accuracy, %; tokens of the shortest tenth of the wrong."
    rows = [
        [arm, what, *(moved(runs, field, place, scale) for place in range(len(runs[0]["course"][field])))]
        for arm in PUBLISHED
        if (arm, FINE) in arms and (runs := arms[arm, FINE])
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
    about=[ABOUT],
    registered=registered,
    claims=claims,
    sections=sections,
)
