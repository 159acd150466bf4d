"""Graded responses in a temporary SQLite file, and every summary of them as a query.

A log of any size is summarised in bounded memory: what a query returns is bounded by the number of distinct
lengths, of categories, or of blocks of problems, never by the number of responses. No text of a response is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lengthwise.logs.rows import GradedRow
from lengthwise.statistics.bootstrap import Interval, cluster_bootstraps, ratio_of_columns

MOST_BLOCKS = 20_000
"""Above so many problems they are drawn in this many random blocks, so that a bootstrap stays affordable."""
DUPLICATE = "a sample of a problem given twice"
OTHER_GOLD = "another answer than an earlier row of the same problem has"

STORED = (
    "sample", "correct", "answer_correct", "finished", "num_tokens", "thinking_tokens", "answer_tokens",
    "tokens_to_right", "tokens_after_right", "right_stated", "abandoned", "empty", "unclosed", "stopped",
    "comparison_error",
)  # fmt: skip
_STORED_OF = attrgetter(*STORED)
_INSERT = f"INSERT OR IGNORE INTO rows VALUES ({', '.join('?' * (3 + len(STORED)))})"
_MEANS = {
    "accuracy": "correct", "mean_tokens": "num_tokens", "truncation_rate": "1 - finished", "empty_rate": "empty",
    "unclosed_rate": "unclosed", "thinking_tokens": "thinking_tokens", "answer_tokens": "answer_tokens",
}  # fmt: skip
_TABLES = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -16384;
CREATE TABLE problems (id INTEGER PRIMARY KEY, name TEXT UNIQUE, gold TEXT, block INTEGER);
CREATE TABLE rows (problem INTEGER, vote TEXT, category TEXT, {", ".join(STORED)}, UNIQUE (problem, sample));
"""
NO_CATEGORY = "none"
_CATEGORY = f"coalesce(category, '{NO_CATEGORY}')"
# Right responses in which the first right statement was found and its tokens were counted.
LOCATED = "correct AND tokens_after_right IS NOT NULL"


@dataclass(frozen=True)
class Lengths:
    """A distribution of token counts: distinct values in order and how often each is there, int [U]."""

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """Pooled mean; None if there are none."""
        return float(self.values @ self.counts / self.total) if self.total else None

    def quantile(self, share: float) -> float | None:
        """Exact quantile, linear between neighbours (as ``numpy.quantile``); None if there are none."""
        if not self.total:
            return None
        place = (self.total - 1) * share
        below = int(place)
        ends = np.searchsorted(self.counts.cumsum(), [below, min(below + 1, self.total - 1)], side="right")
        low, high = (float(value) for value in self.values[ends])
        return low + (high - low) * (place - below)


class Ledger:
    """Facts of graded responses. Use it as a context manager: the file is gone when it closes."""

    def __init__(self) -> None:
        # The empty name is a private database in a temporary file, which SQLite removes even after a crash.
        self._base = sqlite3.connect("")
        self._base.executescript(_TABLES)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, row: GradedRow, *, gold: str | None, vote: str | None) -> str | None:
        """Enter one graded response; returns why it is refused, or None.

        Refused are a second response with the same ``sample`` of the same ``problem_id``, and one whose ``gold``
        differs from the problem's (None: not known).
        """
        name = row.problem_id
        known = self._base.execute("SELECT id, gold FROM problems WHERE name = ?", (name,)).fetchone()
        if known is None:
            block = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest()) % MOST_BLOCKS
            entry = (name, gold, block)
            cursor = self._base.execute("INSERT INTO problems (name, gold, block) VALUES (?, ?, ?)", entry)
            problem = cursor.lastrowid
        else:
            problem, there = known
            if gold is not None and there is not None and gold != there:
                return OTHER_GOLD
            if there is None:
                self._base.execute("UPDATE problems SET gold = ? WHERE id = ?", (gold, problem))
        entered = self._base.execute(_INSERT, (problem, vote, row.category, *_STORED_OF(row))).rowcount
        return None if entered else DUPLICATE

    @cached_property
    def _sealed(self) -> int:
        """Per-problem means, made once all rows are in; the number of problems."""
        self._means("means", "problem")
        self._base.execute("CREATE UNIQUE INDEX of_problem ON means (problem)")
        return int(self._base.execute("SELECT count(*) FROM means").fetchone()[0])

    @cached_property
    def _categorised(self) -> bool:
        """Means of each problem within each category, made once all rows are in; whether any row names one."""
        assert self.problems
        if not self.sums(named="count(category)")["named"]:
            return False
        self._means("category_means", f"problem, {_CATEGORY}")
        return True

    def _means(self, table: str, group: str) -> None:
        """Make a table of means over the rows of each group, a problem's or a part of them."""
        means = ", ".join(f"avg({what}) AS {name}" for name, what in _MEANS.items())
        located = f"sum(CASE WHEN {LOCATED} THEN num_tokens ELSE 0 END) AS located_tokens"
        after = f"sum(CASE WHEN {LOCATED} THEN tokens_after_right ELSE 0 END) AS after_tokens"
        self._base.execute(
            f"CREATE TABLE {table} AS SELECT problem, {_CATEGORY} AS category, count(*) AS n, sum(correct) AS rights, "
            f"{means}, {located}, {after} FROM rows GROUP BY {group}"
        )

    @property
    def problems(self) -> int:
        """Number of problems; no row may be added afterwards."""
        return self._sealed

    def sums(self, **wanted: str) -> dict[str, Any]:
        """SQL aggregates over all responses, by name."""
        found = self._base.execute(f"SELECT {', '.join(wanted.values())} FROM rows").fetchone()
        return dict(zip(wanted, found, strict=True))

    def counts(self, column: str) -> dict[str, int]:
        """How many responses have each value of a column, the most frequent first; those without one are left out."""
        query = f"SELECT {column}, count(*) FROM rows WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
        return dict(self._base.execute(query).fetchall())

    def means(self) -> dict[str, float | None]:
        """Means over a problem's samples, then over problems: accuracy, mean_tokens, truncation_rate, ..."""
        assert self.problems
        columns = ", ".join(f"avg({name})" for name in _MEANS)
        return dict(zip(_MEANS, self._base.execute(f"SELECT {columns} FROM means").fetchone(), strict=True))

    def lengths(self, column: str, where: str = "TRUE") -> Lengths:
        """Distribution of a column of token counts over the responses that fulfil an SQL condition."""
        query = f"SELECT {column}, count(*) FROM rows WHERE {column} IS NOT NULL AND ({where}) GROUP BY 1 ORDER BY 1"
        found = np.array(self._base.execute(query).fetchall(), dtype=np.int64).reshape(-1, 2)
        return Lengths(found[:, 0], found[:, 1])

    def intervals(self, *, seed: int, category: str | None = None) -> dict[str, Interval]:
        """Bootstrap intervals over problems of accuracy, mean_tokens, truncation_rate and after_right_share.

        The last is tokens after the first right statement per token of right responses. ``category``: over its
        rows alone, one of `categories`. Above `MOST_BLOCKS` problems, random blocks of them are drawn.
        """
        key = "name" if self.problems <= MOST_BLOCKS else "block"  # both are the same whatever the order of the rows
        table, condition, values = "means", "TRUE", tuple[str, ...]()
        if category is not None:
            assert self._categorised, "a category is one that `categories` names"
            table, condition, values = "category_means", "category = ?", (category,)
        found = self._base.execute(
            "SELECT count(*), sum(accuracy), sum(mean_tokens), sum(truncation_rate), sum(after_tokens), "
            f"sum(located_tokens) FROM {table} JOIN problems ON id = problem WHERE {condition} "
            f"GROUP BY {key} ORDER BY {key}",
            values,
        )
        names = ("accuracy", "mean_tokens", "truncation_rate")
        metrics = {name: ratio_of_columns(column, 0) for column, name in enumerate(names, 1)}
        metrics["after_right_share"] = ratio_of_columns(4, 5)
        return cluster_bootstraps(found.fetchall(), metrics, rng=np.random.default_rng(seed))

    def curve(self) -> NDArray[np.float64]:
        """What responses of each distinct length weigh, float [U,4]: length, all, right and cut ones.

        Weights sum to 1 over all responses, problems weighing alike.
        """
        query = (
            "SELECT num_tokens, sum(1.0 / n), sum(correct * 1.0 / n), sum((1 - finished) * 1.0 / n) "
            "FROM rows JOIN means USING (problem) GROUP BY 1 ORDER BY 1"
        )
        assert self.problems
        found = np.array(self._base.execute(query).fetchall(), dtype=np.float64)
        found[:, 1:] /= self.problems
        return found

    def samples(self) -> list[tuple[int, int, int]]:
        """How many problems have so many responses and so many right ones: (n, right, problems)."""
        assert self.problems
        return self._base.execute("SELECT n, rights, count(*) FROM means GROUP BY 1, 2").fetchall()

    def votes(self) -> Iterator[list[tuple[str | None, int]]]:
        """Votes and verdicts of each problem's responses."""
        found = self._base.execute(
            "SELECT name, vote, correct FROM rows JOIN problems ON id = problem ORDER BY name, sample, vote, correct"
        )
        for _, group in itertools.groupby(found, key=lambda row: row[0]):
            yield [(vote, correct) for _, vote, correct in group]

    def categories(self, most: int) -> list[dict[str, Any]]:
        """Means by each row's category, those with the most problems first; empty where no row names one.

        A problem whose rows name several counts in each of them, with its rows there.
        """
        if not self._categorised:
            return []
        columns = ", ".join(f"avg({name}) AS {name}" for name in ("accuracy", "mean_tokens", "truncation_rate"))
        found = self._base.execute(
            f"SELECT category AS name, {columns}, sum(after_tokens) * 1.0 / nullif(sum(located_tokens), 0) AS "
            "after_right_share, count(*) AS problems, sum(n) AS responses "
            "FROM category_means GROUP BY 1 ORDER BY problems DESC, name LIMIT ?",
            (most,),
        )
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def responses_by_problem(self) -> Iterator[tuple[str, str, list[tuple[int, int, int]]]]:
        """Name, category, and (answer_correct, finished, num_tokens) of each response, by names and samples.

        A problem whose rows name several categories has all of them for its own, in order: ``algebra + geometry``.
        """
        found = self._base.execute(
            f"SELECT name, {_CATEGORY}, answer_correct, finished, num_tokens FROM rows JOIN problems ON id = problem "
            "ORDER BY name, sample, num_tokens, finished, answer_correct"
        )
        for name, group in itertools.groupby(found, key=lambda row: row[0]):
            rows = list(group)
            yield name, " + ".join(sorted({row[1] for row in rows})), [row[2:] for row in rows]
