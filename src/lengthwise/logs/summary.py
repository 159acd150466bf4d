"""What a log of graded responses says, as one JSON-ready value; every number is a query of the ledger."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.logs.graded_database import LOCATED, NO_CATEGORY, Ledger, Lengths
from lengthwise.statistics.graded_problems import Graded, GradedProblem, record_of
from lengthwise.statistics.metrics import majority_at_k, pass_at_k
from lengthwise.statistics.records import Record
from lengthwise.statistics.results import CUT_WARNING

QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}
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


def summarise(ledger: Ledger, *, cap: int, seed: int, price: float | None) -> dict[str, Any]:
    """Every number of a log.

    Means run over the samples of a problem, then over problems; quantiles, and means of a part of the responses
    (right, wrong, finished), are pooled. A quantity over nothing is None. ``price``: per million output tokens.
    """
    means = ledger.means()
    intervals = {name: interval.to_dict() for name, interval in ledger.intervals(seed=seed).items()}
    lengths = {name: ledger.lengths(*group) for name, group in GROUPS.items()}
    after = _after_right(ledger)
    curve = ledger.curve()
    right, total = lengths["right"].total, int(lengths["total"].values @ lengths["total"].counts)
    cut = means["truncation_rate"] or 0.0
    return {
        "problems": ledger.problems,
        "responses": lengths["total"].total,
        "timeouts": ledger.sums(stopped="sum(stopped)")["stopped"],
        "comparison_errors": ledger.counts("comparison_error"),
        "accuracy": means["accuracy"],
        "accuracy_interval": intervals["accuracy"],
        "mean_tokens": means["mean_tokens"],
        "mean_tokens_interval": intervals["mean_tokens"],
        "truncation_rate": cut,
        "truncation_rate_interval": intervals["truncation_rate"],
        "unclosed_rate": means["unclosed_rate"],
        "empty_rate": means["empty_rate"],
        "tokens": {name: _quantiles(part, means, name) for name, part in lengths.items()},
        "token_efficiency": 1000 * right / total if total else None,
        "after_right": {**after, "share_interval": intervals["after_right_share"]},
        "abandoned": _abandoned(ledger),
        "pass_at_k": _pass_at_k(ledger.samples()),
        "majority_at_k": _majority_at_k(ledger, seed),
        "by_category": _by_category(ledger, seed),
        "cap": cap,
        "curve": [_at_budget(curve, budget) for budget in _budgets(cap)],
        "curve_points": _curve_points(curve, cap),
        "histogram": _histogram(lengths["right"], lengths["wrong"]),
        "money": None if price is None else _money(price, total, right, after["tokens"]),
        "warning": None if cut <= CUT_WARNING else _cut_warning(cut, cap, lengths["finished"].mean),
    }


def record_of_log(ledger: Ledger, *, name: str, context: dict[str, Any]) -> Record:
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


def _quantiles(lengths: Lengths, means: dict[str, Any], name: str) -> dict[str, Any] | None:
    if not lengths.total:
        return None
    weighted = {"total": "mean_tokens", "thinking": "thinking_tokens", "answer": "answer_tokens"}
    mean = means[weighted[name]] if name in weighted else lengths.mean
    shares = {quantile: lengths.quantile(share) for quantile, share in QUANTILES.items()}
    return {"responses": lengths.total, "mean": mean, **shares}


def _after_right(ledger: Ledger) -> dict[str, Any]:
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
    return {
        "right": sums["right"],
        "located": sums["located"],
        "tokens": sums["tokens"],
        "mean": sums["tokens"] / sums["located"] if counted else None,
        "share": sums["tokens"] / sums["of"] if counted and sums["of"] else None,
        "parts": {part: sums[part] for part in parts} if counted else None,
    }


def _abandoned(ledger: Ledger) -> dict[str, Any]:
    """Responses that state the right answer somewhere, and how many of them end wrong, by how."""
    kinds = {name: f"count(*) FILTER (WHERE abandoned = '{text}')" for name, text in ABANDONED.items()}
    found = ledger.sums(stated="sum(right_stated)", abandoned="count(abandoned)", **kinds)
    return {**found, "rate": found["abandoned"] / found["stated"] if found["stated"] else None}


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


def _by_category(ledger: Ledger, seed: int) -> dict[str, dict[str, Any]]:
    """Means of the categories with the most problems, in natural order."""
    rows = ledger.categories(MOST_CATEGORIES)
    for row in rows:
        found = ledger.intervals(seed=seed, category=row["name"])
        row |= {f"{name}_interval": found[name].to_dict() for name in ("accuracy", "mean_tokens")}
    rows.sort(
        key=lambda row: (not row["name"].isdecimal(), int(row["name"]) if row["name"].isdecimal() else 0, row["name"])
    )
    return {row.pop("name"): row for row in rows}


def _budgets(cap: int) -> list[int]:
    powers = [2**power for power in range(cap.bit_length())]
    return sorted({*powers[-BUDGETS:], cap} - {0})


def _at_budget(curve: NDArray[np.float64], budget: int) -> dict[str, Any]:
    """What a forced cut of the same responses after ``budget`` tokens leaves."""
    lengths, weights, right, cut = curve.T
    inside = lengths <= budget
    accuracy, whole = float(right[inside].sum()), float(right.sum())
    return {
        "budget": budget,
        "accuracy": accuracy,
        "kept": accuracy / whole if whole else None,
        "mean_tokens": float(np.minimum(lengths, budget) @ weights),
        "truncation_rate": float(weights[~inside].sum() + cut[inside].sum()),
    }


def _curve_points(curve: NDArray[np.float64], cap: int) -> dict[str, list[float]]:
    """The same, column by column, at budgets that are dense enough for a figure."""
    points = [_at_budget(curve, int(budget)) for budget in np.unique(np.linspace(0, cap, CURVE_POINTS).astype(int))]
    return {name: [point[name] for point in points] for name in ("budget", "accuracy", "mean_tokens")}


def _histogram(right: Lengths, wrong: Lengths) -> dict[str, Any]:
    """How many right and wrong responses have lengths from one edge up to the next."""
    longest = max(int(part.values[-1]) for part in (right, wrong) if part.total)
    edges = np.arange(0, longest + 1 + (wide := max(1, -(-(longest + 1) // BINS))), wide)
    counts = {
        name: np.histogram(part.values, edges, weights=part.counts)[0].astype(int).tolist()
        for name, part in (("right", right), ("wrong", wrong))
    }
    return {"edges": edges.tolist(), **counts}


def _money(price: float, total: int, right: int, after: int | None) -> dict[str, float | None]:
    """What the tokens cost, in the unit of ``price``; per right answer None where none is right."""
    cost = total * price / 1e6
    return {
        "price_per_million": price,
        "total": cost,
        "after_right": None if after is None else after * price / 1e6,
        "per_right": cost / right if right else None,
    }


def _cut_warning(cut: float, cap: int, finished: float | None) -> str:
    shown = "none finished" if finished is None else f"finished responses have {finished:.1f}"
    return (
        f"{cut:.1%} of the responses were cut, the longest at {cap} tokens: the mean length is bounded by the cap; "
        f"{shown}"
    )
