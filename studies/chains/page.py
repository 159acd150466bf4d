"""The page of the chains study."""

from __future__ import annotations

from statistics import mean

from studies.page import Page, Section, Table, average, listed, pct
from studies.summary import Numbers, Summary

ARMS = {
    "dler": "DLER",
    "grpo": "GRPO, no length term, as many sampled tokens",
    "sft": "SFT on the shortest right samples, as many sampled tokens",
    "random": "DLER with a coin for a reward",
    "high-lr": "DLER at thirty times the learning rate",
}


def of(summary: Summary, arm: str) -> list[Numbers]:
    """An arm's runs that went to the end, by seed."""
    return [run for run in summary.runs.values() if run["arm"] == arm and "collapsed" not in run]


def sections(summary: Summary) -> list[Section]:
    oracle = next(run["oracle_tokens"] for run in summary.runs.values() if "oracle_tokens" in run)
    about = (
        f"2,000 held-out problems of levels 2 to 7, the same for all; one pass takes {oracle:.1f} tokens. Means over "
        "three seeds; in brackets the least and the most of the seeds. Differences in points, paired."
    )
    return [
        Section("By arm", [about, by_arm(summary)]),
        Section("Controls", [controls(summary), collapses(summary)]),
        Section("The untouched model by temperature", [temperatures(summary)]),
    ]


def by_arm(summary: Summary) -> Table:
    head = ("arm", "accuracy, T=1", "difference", "greedy", "difference", "tokens", "fewer, %",
            "removable removed, %")  # fmt: skip
    return Table(head, [arm_row(label, found) for arm, label in ARMS.items() if (found := of(summary, arm))])


def arm_row(label: str, found: list[Numbers]) -> list[str]:
    return [
        label, pct(average(found, "after", "accuracy")), ranged(found, "difference"),
        pct(average(found, "after_greedy", "accuracy")), ranged(found, "difference_greedy"),
        f"{average(found, 'after', 'mean_tokens'):.1f}", pct(average(found, "tokens_saved")),
        pct(average(found, "removable_share")),
    ]  # fmt: skip


def ranged(found: list[Numbers], what: str) -> str:
    values = [100 * run[what]["estimate"] for run in found]
    return f"{mean(values):+.1f} ({min(values):+.1f} to {max(values):+.1f})"


def collapses(summary: Summary) -> str:
    found = [run for run in summary.runs.values() if "collapsed" in run]
    steps = listed((run["last_step"]["step"] for run in found), "d")
    return (
        f"{ARMS['high-lr']} collapsed in every seed, at steps {steps}: no group had a right and a wrong answer, "
        "nothing was left to learn from, and the run ended with that error."
    )


def controls(summary: Summary) -> Table:
    found = of(summary, "dler")
    sides = {"DLER": [run["after"] for run in found]}
    sides |= {"base cut at the new length": [run["controls"]["cut"] for run in found]}
    sides |= {"base stopped after one pass": [run["controls"]["first-pass"] for run in found]}
    rows = [(name, pct(average(one, "accuracy")), f"{average(one, 'mean_tokens'):.1f}") for name, one in sides.items()]
    return Table(("", "accuracy, %", "tokens"), rows)


def temperatures(summary: Summary) -> Table:
    found = [run["temperatures"] for run in of(summary, "base")]
    rows = [
        (at, pct(average(found, at, "accuracy")), f"{average(found, at, 'mean_tokens'):.1f}",
         pct(average(found, at, "truncation_rate")))
        for at in found[0]
    ]  # fmt: skip
    return Table(("temperature", "accuracy, %", "tokens", "cut, %"), rows)


def findings(summary: Summary) -> list[str]:
    dler, grpo, sft = (of(summary, arm) for arm in ("dler", "grpo", "sft"))
    return [
        f"DLER removes {pct(average(dler, 'removable_share'))} % of the removable tokens and is "
        f"{mean(100 * run['difference']['estimate'] for run in dler):+.1f} points more accurate at temperature 1; "
        f"greedily, where the base is right in {pct(average(dler, 'before_greedy', 'accuracy'))} %, it changes "
        f"little. GRPO without a length term removes {pct(average(grpo, 'removable_share'))} % on as many sampled "
        f"tokens, SFT on the shortest right samples {pct(average(sft, 'removable_share'))} %. Paid by a coin the model "
        "gets worse and no shorter, and cutting the base's answers at the new length loses nearly all of them."
    ]


PAGE = Page(
    study="chains",
    file="study-chains.md",
    title="shortening the verbose reasoner",
    question="What does the demo's method gain beside what must be beaten: RL without a length term, SFT, a coin?",
    findings=findings,
    limits=[
        "Nothing was registered before. Three seeds, one tiny model whose repeated passes are known to be removable."
    ],
    sections=sections,
)
