"""The page of the study that sets TRL with our adapter beside our engine."""

from __future__ import annotations

from statistics import mean

from studies.page import NOT_RUN, Claim, Page, Section, Table, pct, verdict
from studies.summary import Numbers, Summary
from studies.trl_chains.condense import share_removed

ARMS = {"engine": "our engine", "trl": "TRL, one process", "trl-2": "TRL, two processes"}
TOKENS_APART, ACCURACY_APART = 5, 0.05


def of(summary: Summary, arm: str) -> list[Numbers]:
    return [run for run in summary.runs.values() if run["arm"] == arm]


def claims(summary: Summary) -> dict[str, list[Claim]]:
    tokens, accuracy = (summary.across[name] for name in ("tokens_ratio", "accuracy_difference"))
    shares = removed(summary)
    points = [100 * accuracy[name] for name in ("estimate", "low", "high")]
    found = {
        "tokens": (
            f"{tokens['estimate']:.3f} ({tokens['low']:.3f} to {tokens['high']:.3f})",
            verdict(tokens["low"] <= 1 <= tokens["high"]),
        ),
        "accuracy": (
            f"{points[0]:+.1f} points ({points[1]:+.1f} to {points[2]:+.1f})",
            verdict(points[1] <= 0 <= points[2]),
        ),
        "shortened": (f"{pct(min(shares))} % in the least run", verdict(min(shares) > 0.5)),
        "two-processes": two_processes(summary),
    }
    return {"": [Claim(effect["statement"], *found[effect["name"]]) for effect in summary.plan["effects"]]}


def removed(summary: Summary) -> list[float]:
    [base] = of(summary, "base")
    return [share_removed(base, run) for arm in ARMS for run in of(summary, arm)]


def two_processes(summary: Summary) -> tuple[str, str]:
    runs, one = of(summary, "trl-2"), of(summary, "trl")
    if not runs:
        return NOT_RUN, NOT_RUN
    apart = {name: runs[0][name] - mean(run[name] for run in one) for name in ("mean_tokens", "accuracy")}
    holds = abs(apart["mean_tokens"]) <= TOKENS_APART and abs(apart["accuracy"]) <= ACCURACY_APART
    return f"{apart['mean_tokens']:+.1f} tokens, {100 * apart['accuracy']:+.1f} points", verdict(holds)


def sections(summary: Summary) -> list[Section]:
    [base] = of(summary, "base")
    rows = [("untouched", "", pct(base["accuracy"]), f"{base['mean_tokens']:.1f}", "")]
    rows += [
        (label, str(run["seed"]), pct(run["accuracy"]), f"{run['mean_tokens']:.1f}", pct(share_removed(base, run)))
        for arm, label in ARMS.items()
        for run in of(summary, arm)
    ]
    return [Section("Runs", [Table(("engine", "seed", "accuracy, %", "tokens", "removable removed, %"), rows)])]


def findings(summary: Summary) -> list[str]:
    tokens, accuracy = (summary.across[name] for name in ("tokens_ratio", "accuracy_difference"))
    return [
        f"The two engines cannot be told apart: TRL's answers have {tokens['estimate']:.3f} of our tokens "
        f"({tokens['low']:.3f} to {tokens['high']:.3f}) at {100 * accuracy['estimate']:+.1f} points of accuracy "
        f"({100 * accuracy['low']:+.1f} to {100 * accuracy['high']:+.1f}). Both remove at least "
        f"{pct(min(removed(summary)))} % of the removable tokens. Two processes give what one gives."
    ]


PAGE = Page(
    study="trl_chains",
    file="study-trl.md",
    title="the same run by our engine and by TRL",
    question="Does DLER give the same model when TRL, with our [adapter](engines.md), takes the place of our engine?",
    registered=lambda summary: [f"Registered {summary.plan['registered']}: {summary.plan['settings']}."],
    claims=claims,
    findings=findings,
    limits=["One method, one world, three seeds, 60 batches; intervals are over problems and seeds."],
    sections=sections,
)
