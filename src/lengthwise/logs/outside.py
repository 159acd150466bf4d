"""Scores of outside benchmarks over a graded log (`lengthwise grade --metrics all`), as queries of the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from lengthwise.logs.graded_database import Ledger
from lengthwise.logs.log_numbers import OutsideScores
from lengthwise.statistics.outside_scores import FirstRight, check_t_max, ock_score, overthinking_f1

USEFUL = "min(tokens_to_right, thinking_tokens)"


def outside_scores(
    ledger: Ledger, *, t_max: int, hard: Sequence[str], accuracy: float, mean_tokens: float
) -> OutsideScores:
    """The scores of all problems; ``hard``: categories that are the hard half of F1, the others are the simple one.

    Raises:
        InputError: ``t_max`` below 1.
    """
    check_t_max(t_max)
    counted = ledger.sums(there="count(thinking_tokens)")["there"] > 0
    areas = _areas(ledger, "thinking_tokens", t_max) if counted else (None, None)
    marks = ", ".join("'" + name.replace("'", "''") + "'" for name in hard)
    halves: tuple[float | None, float | None] = (None, None)
    if hard and counted:
        simple = _mean(ledger, _gain("thinking_tokens", t_max), f"coalesce(category, '') NOT IN ({marks})")
        halves = (simple, _mean(ledger, "correct", f"category IN ({marks})"))
    area_all, _ = _areas(ledger, "num_tokens", t_max)
    assert area_all is not None, "a log has a response"
    return OutsideScores(
        t_max=t_max,
        area=areas[0],
        area_as_code=areas[1],
        area_all_tokens=area_all,
        hard=list(hard),
        f1=overthinking_f1(*halves),
        ock_score=ock_score(accuracy, mean_tokens),
        first_right=_first_right(ledger) if counted else None,
    )


def _gain(tokens: str, t_max: int) -> str:
    return f"correct * max(0.0, 1.0 - {tokens} * 1.0 / {t_max})"


def _mean(ledger: Ledger, what: str, where: str = "TRUE") -> float | None:
    """Mean over the responses of a problem, then over problems."""
    query = f"(SELECT avg(x) FROM (SELECT avg({what}) AS x FROM rows WHERE {where} GROUP BY problem))"
    found: float | None = ledger.sums(mean=f"max({query})")["mean"]
    return found


def _areas(ledger: Ledger, tokens: str, t_max: int) -> tuple[float | None, float | None]:
    """The area as the mean of products, and as the product of means."""
    product = f"avg(correct) * max(0.0, 1.0 - avg({tokens}) / {t_max})"
    query = f"(SELECT avg(x) FROM (SELECT {product} AS x FROM rows GROUP BY problem))"
    as_code: float | None = ledger.sums(mean=f"max({query})")["mean"]
    return _mean(ledger, _gain(tokens, t_max)), as_code


def _first_right(ledger: Ledger) -> FirstRight:
    """`outside_scores.first_right_ratio`, pooled over responses of any number."""
    there = "thinking_tokens > 0"
    ratio = f"coalesce({USEFUL} * 1.0 / nullif(thinking_tokens, 0), 0)"
    found = ledger.sums(
        mean=f"avg({ratio}) FILTER (WHERE {there})",
        pooled=f"sum(coalesce({USEFUL}, 0)) FILTER (WHERE {there}) * 1.0 / sum(thinking_tokens) FILTER (WHERE {there})",
        found_only=f"avg({ratio}) FILTER (WHERE {there} AND tokens_to_right <= thinking_tokens)",
        left_out=f"count(*) FILTER (WHERE NOT coalesce({there}, FALSE))",
    )
    return FirstRight(**found)
