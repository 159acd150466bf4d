"""The page of the chains study."""

from __future__ import annotations

from studies.page import Page, Section, Table, average, pct
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
    problems = (
        f"2,000 held-out problems of levels 2 to 7, the same for all; the oracle (one pass) takes {oracle:.1f} tokens."
    )
    paired = "Accuracy in %, differences in points with a paired 95 % interval over problems."
    return [
        Section("By arm and seed", [problems, paired, by_seed(summary)]),
        Section("Means over seeds", [means(summary)]),
        Section("Collapses", ["Runs that ended because nothing was left to learn from.", collapses(summary)]),
        Section("Controls of the DLER arm", [controls(summary)]),
        Section("The untouched model by temperature", [temperatures(summary)]),
    ]


def by_seed(summary: Summary) -> Table:
    both = ("before", "after", "difference")
    head = ("arm", "seed", *(f"accuracy {one}" for one in both), *(f"greedy {one}" for one in both),
            "tokens before", "after", "fewer, %", "removable removed, %", "sampled tokens, M",
            "training, s")  # fmt: skip
    return Table(head, [arm_row(label, run) for arm, label in ARMS.items() for run in of(summary, arm)])


def arm_row(label: str, run: Numbers) -> list[str]:
    return [
        label, str(run["seed"]), pct(run["before"]["accuracy"]), pct(run["after"]["accuracy"]),
        interval(run["difference"]), pct(run["before_greedy"]["accuracy"]), pct(run["after_greedy"]["accuracy"]),
        interval(run["difference_greedy"]), f"{run['before']['mean_tokens']:.1f}", f"{run['after']['mean_tokens']:.1f}",
        pct(run["tokens_saved"]), pct(run["removable_share"]), f"{run['sampled_tokens'] / 1e6:.2f}",
        f"{run['train_seconds']:.0f}",
    ]  # fmt: skip


def interval(found: Numbers) -> str:
    return f"{100 * found['estimate']:+.1f} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"


def means(summary: Summary) -> Table:
    head = ("arm", "seeds", "accuracy, T=1", "accuracy, greedy", "tokens", "fewer, %", "removable removed, %")
    rows = [
        (
            label, str(len(found)), pct(average(found, "after", "accuracy")),
            pct(average(found, "after_greedy", "accuracy")), f"{average(found, 'after', 'mean_tokens'):.1f}",
            pct(average(found, "tokens_saved")), pct(average(found, "removable_share")),
        )
        for arm, label in ARMS.items()
        if (found := of(summary, arm))
    ]  # fmt: skip
    return Table(head, rows)


def collapses(summary: Summary) -> Table:
    rows = [
        (ARMS[run["arm"]], str(run["seed"]), str(run["last_step"]["step"]), pct(run["last_step"]["accuracy"]),
         f"{run['last_step']['mean_tokens']:.1f}", run["collapsed"])
        for run in summary.runs.values()
        if "collapsed" in run
    ]  # fmt: skip
    return Table(("arm", "seed", "last step", "accuracy in training", "tokens", "why it ended"), rows)


def controls(summary: Summary) -> Table:
    rows = [
        (str(run["seed"]), *(f"{pct(found['accuracy'])} at {found['mean_tokens']:.1f}"
                             for found in (run["after"], run["controls"]["cut"], run["controls"]["first-pass"])))
        for run in of(summary, "dler")
    ]  # fmt: skip
    return Table(("seed", "DLER", "base cut at the new length", "base stopped after one pass"), rows)


def temperatures(summary: Summary) -> Table:
    rows = [
        (str(run["seed"]), temperature, pct(found["accuracy"]), f"{found['mean_tokens']:.1f}",
         pct(found["truncation_rate"]))
        for run in of(summary, "base")
        for temperature, found in run["temperatures"].items()
    ]  # fmt: skip
    return Table(("seed", "temperature", "accuracy", "tokens", "cut, %"), rows)


PAGE = Page(
    study="chains",
    file="study-chains.md",
    title="shortening the verbose reasoner",
    about=["The demo's method beside what must be beaten, three seeds. Nothing was registered before."],
    sections=sections,
)
