"""What a log of graded responses says; every number is a query of the ledger."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lengthwise.data import natural_key
from lengthwise.json_types import JsonValue
from lengthwise.logs.graded_database import LOCATED, NO_CATEGORY, Ledger, Lengths
from lengthwise.logs.log_numbers import (
    Abandoned,
    AfterRight,
    CurvePoints,
    Histogram,
    KeptAtBudget,
    LogCategory,
    LogNumbers,
    Money,
    RightParts,
    TokenNumbers,
)
from lengthwise.logs.next_steps import next_steps, smallest_budget
from lengthwise.logs.outside import outside_scores
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.graded_problems import Graded, GradedProblem, record_of
from lengthwise.statistics.metrics import majority_at_k, pass_at_k
from lengthwise.statistics.records import Record
from lengthwise.statistics.results import CUT_WARNING

QUANTILES = (0.5, 0.95, 0.99)  # as `TokenNumbers` names them
GROUPS = {
    "total": ("num_tokens", "TRUE"),
    "thinking": ("thinking_tokens", "TRUE"),
    "answer": ("answer_tokens", "TRUE"),
    "right": ("num_tokens", "correct"),
    "wrong": ("num_tokens", "NOT correct"),
    "finished": ("num_tokens", "finished"),
}
# A wrong response in which the right answer stands, by what became of it; never closed comes before cut.
ABANDONED = {"other_answer": "another answer", "cut": "cut", "unclosed": "thinking never closed"}
MOST_CATEGORIES = 50
BUDGETS = 6  # powers of two up to the cap
CURVE_POINTS, BINS = 80, 40


def summarise(
    ledger: Ledger,
    *,
    cap: int,
    seed: int,
    price: float | None,
    log: str = "LOG",
    t_max: int | None = None,
    hard: Sequence[str] = (),
) -> LogNumbers:
    """Every number of a log.

    Means run over the samples of a problem, then over problems; quantiles, and means of a part of the responses
    (right, wrong, finished), are pooled. A quantity over nothing is None. ``price``: per million output tokens.
    ``log``: what commands call the log. ``t_max``: the limit of the outside scores, None: they are left out.
    """
    means = {name: value for name, value in ledger.means().items() if value is not None}
    intervals, curve = ledger.intervals(seed=seed), ledger.curve()
    lengths = {name: ledger.lengths(*group) for name, group in GROUPS.items()}
    after, gone = _after_right(ledger, intervals["after_right_share"]), _abandoned(ledger)
    right, total = lengths["right"].total, int(lengths["total"].values @ lengths["total"].counts)
    budget = smallest_budget(curve, cap)
    return LogNumbers(
        problems=ledger.problems,
        responses=lengths["total"].total,
        timeouts=ledger.sums(stopped="sum(stopped)")["stopped"],
        comparison_errors=ledger.counts("comparison_error"),
        accuracy=means["accuracy"],
        accuracy_interval=intervals["accuracy"],
        mean_tokens=means["mean_tokens"],
        mean_tokens_interval=intervals["mean_tokens"],
        truncation_rate=means["truncation_rate"],
        truncation_rate_interval=intervals["truncation_rate"],
        unclosed_rate=means["unclosed_rate"],
        empty_rate=means["empty_rate"],
        tokens={name: _quantiles(part, means, name) for name, part in lengths.items()},
        token_efficiency=1000 * right / total if total else None,
        after_right=after,
        abandoned=gone,
        pass_at_k=_pass_at_k(ledger.samples()),
        majority_at_k=_majority_at_k(ledger, seed),
        by_category=_by_category(ledger, seed),
        cap=cap,
        curve=[_at_budget(curve, tokens) for tokens in _budgets(cap)],
        curve_points=_curve_points(curve, cap),
        histogram=_histogram(lengths["right"], lengths["wrong"]),
        money=None if price is None else _money(price, total, right, after.tokens),
        warning=_cut_warning(means["truncation_rate"], cap, lengths["finished"].mean),
        next_steps=next_steps(
            None if budget is None else _at_budget(curve, budget),
            mean_tokens=means["mean_tokens"],
            all_tokens=total,
            after=after,
            gone=gone,
            right=lengths["right"],
            cap=cap,
            log=log,
        ),
        outside_scores=None
        if t_max is None
        else outside_scores(
            ledger, t_max=t_max, hard=hard, accuracy=means["accuracy"], mean_tokens=means["mean_tokens"]
        ),
    )


def record_of_log(ledger: Ledger, *, name: str, context: Mapping[str, JsonValue]) -> Record:
    """The same responses as a record, for comparing with others."""
    found = list(ledger.responses_by_problem())
    sizes = {len(rows) for _, _, rows in found}
    named = {category for _, category, _ in found} != {NO_CATEGORY}
    graded = [[Graded(bool(right), bool(done), tokens) for right, done, tokens in rows] for _, _, rows in found]
    problems = [
        GradedProblem(problem, category if named else None, rows)
        for (problem, category, _), rows in zip(found, graded, strict=True)
    ]
    return record_of(name, {**context, "samples": sizes.pop() if len(sizes) == 1 else None}, problems)


def _quantiles(lengths: Lengths, means: Mapping[str, float], name: str) -> TokenNumbers | None:
    if not lengths.total:
        return None
    weighted = {"total": "mean_tokens", "thinking": "thinking_tokens", "answer": "answer_tokens"}
    mean = means[weighted[name]] if name in weighted else lengths.mean
    return TokenNumbers(lengths.total, mean, *(lengths.quantile(share) for share in QUANTILES))


def _after_right(ledger: Ledger, interval: Interval) -> AfterRight:
    """Tokens before and after the first right statement, over right responses where it was found."""
    before_in_thinking = "min(thinking_tokens, tokens_to_right)"
    parts = {
        "thinking_before": before_in_thinking,
        "thinking_after": f"thinking_tokens - {before_in_thinking}",
        "answer_before": f"tokens_to_right - {before_in_thinking}",
        "answer_after": f"answer_tokens - (tokens_to_right - {before_in_thinking})",
    }
    sums = ledger.sums(
        right="sum(correct)",
        located=f"sum({LOCATED})",
        tokens=f"sum(tokens_after_right) FILTER (WHERE {LOCATED})",
        of=f"sum(num_tokens) FILTER (WHERE {LOCATED})",
        **{part: f"avg({what}) FILTER (WHERE {LOCATED})" for part, what in parts.items()},
    )
    counted = sums["located"] > 0
    return AfterRight(
        right=sums["right"],
        located=sums["located"],
        tokens=sums["tokens"],
        mean=sums["tokens"] / sums["located"] if counted else None,
        share=sums["tokens"] / sums["of"] if counted and sums["of"] else None,
        parts=RightParts(**{part: sums[part] for part in parts}) if counted else None,
        share_interval=interval,
    )


def _abandoned(ledger: Ledger) -> Abandoned:
    """Responses that state the right answer somewhere, and how many of them end wrong, by how."""
    kinds = {name: f"count(*) FILTER (WHERE abandoned = '{text}')" for name, text in ABANDONED.items()}
    found = ledger.sums(stated="sum(right_stated)", abandoned="count(abandoned)", **kinds)
    return Abandoned(**found, rate=found["abandoned"] / found["stated"] if found["stated"] else None)


def _ks(samples: Iterable[tuple[int, int, int]]) -> list[int]:
    smallest = min(n for n, _, _ in samples)
    return [2**power for power in range(smallest.bit_length())]


def _pass_at_k(samples: list[tuple[int, int, int]]) -> dict[str, float]:
    problems = sum(count for _, _, count in samples)
    return {str(k): sum(count * pass_at_k(n, right, k) for n, right, count in samples) / problems for k in _ks(samples)}


def _majority_at_k(ledger: Ledger, seed: int) -> dict[str, float] | None:
    """Majority@k; None where no answer was read, so that nothing can vote."""
    ks, problems = _ks(ledger.samples()), ledger.problems
    if not ledger.sums(votes="count(vote)")["votes"]:
        return None
    rng = np.random.default_rng(seed)

    # Problems whose votes split alike share one sum; only how often each answer comes matters, not what it says.
    @functools.lru_cache(maxsize=4096)
    def won(split: tuple[tuple[int, int], ...], silent: int, silent_right: int, k: int) -> float:
        keys: list[str | None] = [str(key) for key, (count, _) in enumerate(split) for _ in range(count)]
        right = [bool(correct) for count, correct in split for _ in range(count)]
        silence = [place < silent_right for place in range(silent)]
        return majority_at_k([keys + [None] * silent], [right + silence], k, rng=rng)

    totals = dict.fromkeys(ks, 0.0)
    for votes in ledger.votes():
        counts = Counter(vote for vote in votes if vote[0] is not None)
        split = tuple(sorted((count, correct) for (_, correct), count in counts.items()))
        silent = [correct for vote, correct in votes if vote is None]
        for k in ks:
            totals[k] += won(split, len(silent), sum(silent), k)
    return {str(k): total / problems for k, total in totals.items()}


def _by_category(ledger: Ledger, seed: int) -> dict[str, LogCategory]:
    """Means of the categories with the most problems, in natural order."""
    rows = ledger.categories(MOST_CATEGORIES)
    for row in rows:
        found = ledger.intervals(seed=seed, category=row["name"])
        row |= {f"{name}_interval": found[name] for name in ("accuracy", "mean_tokens")}
    rows.sort(key=lambda row: natural_key(row["name"]))
    return {row.pop("name"): LogCategory(**row) for row in rows}


def _budgets(cap: int) -> list[int]:
    powers = [2**power for power in range(cap.bit_length())]
    return sorted({*powers[-BUDGETS:], cap} - {0})


def _at_budget(curve: NDArray[np.float64], budget: int) -> KeptAtBudget:
    """What a forced cut of the same responses after ``budget`` tokens leaves."""
    lengths, weights, right, cut = curve.T
    inside = lengths <= budget
    accuracy, whole = float(right[inside].sum()), float(right.sum())
    return KeptAtBudget(
        budget=budget,
        accuracy=accuracy,
        kept=accuracy / whole if whole else None,
        mean_tokens=float(np.minimum(lengths, budget) @ weights),
        truncation_rate=float(weights[~inside].sum() + cut[inside].sum()),
    )


def _curve_points(curve: NDArray[np.float64], cap: int) -> CurvePoints:
    """The same, column by column, at budgets that are dense enough for a figure."""
    points = [_at_budget(curve, int(budget)) for budget in np.unique(np.linspace(0, cap, CURVE_POINTS).astype(int))]
    return CurvePoints(
        [point.budget for point in points],
        [point.accuracy for point in points],
        [point.mean_tokens for point in points],
    )


def _histogram(right: Lengths, wrong: Lengths) -> Histogram:
    """How many right and wrong responses have lengths from one edge up to the next."""
    longest = max(int(part.values[-1]) for part in (right, wrong) if part.total)
    edges = np.arange(0, longest + 1 + (wide := max(1, -(-(longest + 1) // BINS))), wide)
    counts = (np.histogram(part.values, edges, weights=part.counts)[0].astype(int).tolist() for part in (right, wrong))
    return Histogram(edges.tolist(), *counts)


def _money(price: float, total: int, right: int, after: int | None) -> Money:
    """What the tokens cost, in the unit of ``price``; per right answer None where none is right."""
    cost = total * price / 1e6
    return Money(
        price_per_million=price,
        total=cost,
        after_right=None if after is None else after * price / 1e6,
        per_right=cost / right if right else None,
    )


def _cut_warning(cut: float, cap: int, finished: float | None) -> str | None:
    if cut <= CUT_WARNING:
        return None
    shown = "none finished" if finished is None else f"finished responses have {finished:.1f}"
    return (
        f"{cut:.1%} of the responses were cut, the longest at {cap} tokens: the mean length is bounded by the cap; "
        f"{shown}"
    )
