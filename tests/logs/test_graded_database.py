"""The ledger's queries against plain arrays, and its memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lengthwise.logs import graded_database as ledger_module
from lengthwise.logs.graded_database import DUPLICATE, OTHER_GOLD, Ledger
from lengthwise.logs.rows import GradedRow
from lengthwise.logs.summary import record_of_log, summarise
from lengthwise.statistics.metrics import majority_at_k, mean_pass_at_k

EMPTY = {
    "thinking_tokens": None, "answer_tokens": None, "tokens_to_right": None, "tokens_after_right": None,
    "right_stated": False, "abandoned": None, "empty": False, "unclosed": False, "stopped": False, "category": None,
    "comparison_error": None,
}  # fmt: skip


def entry(line: int, problem: str, correct: bool, finished: bool, tokens: int, **more: Any) -> dict[str, Any]:
    return EMPTY | {
        "line": line, "problem_id": problem, "sample": None, "answer_correct": correct, "finished": finished,
        "correct": correct and finished, "num_tokens": tokens,
    } | more  # fmt: skip


def graded(row: dict[str, Any]) -> GradedRow:
    return GradedRow(**{"how": "", "extracted": None} | {name: row[name] for name in row if name != "vote"})


def filled(seed: int, problems: int) -> tuple[Ledger, dict[str, list[dict[str, Any]]]]:
    """A ledger of random responses, in random order, and the same by problem."""
    rng = random.Random(seed)
    rows = [
        entry(0, f"p{problem}", rng.random() < 0.6, rng.random() < 0.8, rng.randint(0, 300))
        | {"category": f"c{problem % 3}", "vote": rng.choice(["1", "2", None])}
        for problem in range(problems)
        for _ in range(rng.randint(2, 6))
    ]
    rng.shuffle(rows)
    ledger, by_problem = Ledger(), {}
    for line, row in enumerate(rows):
        row["line"] = line
        row["vote"] = "right" if row["correct"] else row["vote"] if row["finished"] else None
        assert ledger.add(graded(row), gold="right", vote=row["vote"]) is None
        by_problem.setdefault(row["problem_id"], []).append(row)
    return ledger, by_problem


@pytest.mark.parametrize("seed", range(3))
def test_queries_agree_with_arrays(seed: int) -> None:
    ledger, by_problem = filled(seed, problems=25)
    with ledger:
        found = summarise(ledger, cap=300, seed=0, price=None).to_dict()
        record = record_of_log(ledger, name="log", context={"cap": 300})
    wanted = record.summary().to_dict()
    for name in ("accuracy", "mean_tokens", "truncation_rate", "token_efficiency", "problems", "responses"):
        assert found[name] == pytest.approx(wanted[name]), name
    for name in ("accuracy_interval", "mean_tokens_interval"):
        assert found[name]["low"] == pytest.approx(wanted[name]["low"], rel=0.05), name
    for group, name in (("right", "tokens_correct"), ("wrong", "tokens_wrong"), ("finished", "tokens_finished")):
        assert found["tokens"][group]["mean"] == pytest.approx(wanted[name]), name
    # in the order of the names, and without samples in that of the lengths, whatever the order of the rows
    assert record.problem_ids == sorted(by_problem)
    assert record.num_tokens == [sorted(row["num_tokens"] for row in by_problem[name]) for name in sorted(by_problem)]
    for name, category in record.by_category().items():
        numbers = category.to_dict()
        assert {key: found["by_category"][name][key] for key in numbers} == pytest.approx(numbers)
    budget = found["curve"][2]
    cut = record.recut(budget["budget"]).summary().to_dict()
    assert [budget["accuracy"], budget["mean_tokens"], budget["truncation_rate"]] == pytest.approx(
        [cut["accuracy"], cut["mean_tokens"], cut["truncation_rate"]]
    )
    correct = [[row["correct"] for row in rows] for rows in by_problem.values()]
    votes = [[row["vote"] for row in rows] for rows in by_problem.values()]
    assert list(found["pass_at_k"]) == ["1", "2"]
    assert found["pass_at_k"]["2"] == pytest.approx(mean_pass_at_k(correct, 2))
    wanted_majority = majority_at_k(votes, correct, 2, rng=np.random.default_rng(0))
    assert found["majority_at_k"]["2"] == pytest.approx(wanted_majority)


def test_a_row_counts_in_its_own_category() -> None:
    # p has rows in two categories, q in one and one row that names none.
    rows = [
        ("p", "x", True, 10),
        ("p", "y", False, 20),
        ("p", "y", True, 40),
        ("q", "y", True, 60),
        ("q", None, False, 8),
    ]
    with Ledger() as ledger:
        for line, (problem, category, correct, tokens) in enumerate(rows):
            row = entry(line, problem, correct, True, tokens, category=category)
            assert ledger.add(graded(row), gold="1", vote="1") is None
        found = summarise(ledger, cap=60, seed=0, price=None).to_dict()
        record = record_of_log(ledger, name="log", context={"cap": 60})
    # x: p alone; y: p is right in 1 of 2 with 30 tokens each, q in 1 of 1 with 60; none: q's last.
    wanted = {"x": (1.0, 10.0, 1, 1), "y": ((1 / 2 + 1) / 2, (30 + 60) / 2, 2, 3), "none": (0.0, 8.0, 1, 1)}
    names = ("accuracy", "mean_tokens", "problems", "responses")
    assert {name: tuple(row[n] for n in names) for name, row in found["by_category"].items()} == wanted
    for name, row in found["by_category"].items():
        assert row["mean_tokens_interval"]["estimate"] == pytest.approx(wanted[name][1])
    assert found["mean_tokens"] == pytest.approx((70 / 3 + 68 / 2) / 2)
    assert record.problem_ids == ["p", "q"]
    assert record.categories == ["x + y", "none + y"]  # a record has one a problem: none is put under another's name


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_quantiles_are_those_of_numpy(size: int) -> None:
    rng = random.Random(size)
    values = [rng.randint(0, 40) for _ in range(size)]
    with Ledger() as ledger:
        for line, value in enumerate(values):
            ledger.add(graded(entry(line, str(line), True, True, value)), gold=None, vote=None)
        lengths = ledger.lengths("num_tokens")
    for share in (0.0, 0.3, 0.5, 0.95, 0.99, 1.0):
        assert lengths.quantile(share) == pytest.approx(np.quantile(values, share))
    assert lengths.mean == pytest.approx(np.mean(values))


def test_exceptions_of_comparisons_are_counted_by_name() -> None:
    with Ledger() as ledger:
        for line, name in enumerate(("TypeError", None, "ValueError", "TypeError")):
            ledger.add(graded(entry(line, "p", False, True, 1, comparison_error=name)), gold="1", vote=None)
        assert summarise(ledger, cap=1, seed=0, price=None).to_dict()["comparison_errors"] == {
            "TypeError": 2,
            "ValueError": 1,
        }


def test_what_is_refused_leaves_no_trace() -> None:
    with Ledger() as ledger:
        first = entry(1, "p", True, True, 5, sample=0)
        assert ledger.add(graded(first), gold="4", vote="4") is None
        assert ledger.add(graded(first | {"line": 2}), gold="4", vote="4") == DUPLICATE
        assert ledger.add(graded(first | {"line": 3, "sample": 1}), gold="5", vote="4") == OTHER_GOLD
        assert ledger.add(graded(first | {"line": 4, "sample": "1"}), gold=None, vote=None) is None
        assert ledger.add(graded(first | {"line": 5, "sample": 1}), gold="4", vote="4") is None  # 1 and "1" differ
        # Without a sample, rows of one problem are samples of it.
        assert all(ledger.add(graded(first | {"line": n, "sample": None}), gold="4", vote="4") is None for n in (6, 7))
        assert (ledger.problems, ledger.lengths("num_tokens").total) == (1, 5)


def test_a_gold_that_was_not_known_at_first_is_learnt() -> None:
    with Ledger() as ledger:
        row = entry(1, "p", False, True, 5)
        assert ledger.add(graded(row), gold=None, vote=None) is None
        assert ledger.add(graded(row | {"line": 2}), gold="4", vote=None) is None
        assert ledger.add(graded(row | {"line": 3}), gold="5", vote=None) == OTHER_GOLD


def test_blocks_of_problems_give_the_interval_of_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    intervals = []
    for most in (20_000, 400):
        monkeypatch.setattr(ledger_module, "MOST_BLOCKS", most)
        ledger, _ = filled(1, problems=3000)
        with ledger:
            intervals.append(ledger.intervals(seed=0))
    for name, exact in intervals[0].items():
        if exact.low is None:
            continue
        blocks = intervals[1][name]
        assert blocks.estimate == pytest.approx(exact.estimate)
        assert blocks.high - blocks.low == pytest.approx(exact.high - exact.low, rel=0.2), name


GROWTH = """
import json, resource, sys
from lengthwise.config.commands import GradeSettings
from lengthwise.logs.log_grading import grade_log
peaks = []
for path in sys.argv[1:]:
    grade_log(GradeSettings.from_dict({"log": path, "preset": "lab"}))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    paths = []
    for rows in (25_000, 200_000):
        paths.append(tmp_path / f"{rows}.jsonl")
        with paths[-1].open("w") as file:
            for i in range(rows):
                row = {"problem_id": i, "response": f"{i}+1={i + 1};A:{i + 1}", "answer": i + 1, "num_tokens": i % 500}
                print(json.dumps(row), file=file)
    done = subprocess.run([sys.executable, "-c", GROWTH, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout)
    # 175,000 rows more: their problem ids alone would take over 10 MiB, the rows as Python objects 150 MiB.
    assert large - small < 8, f"peak memory rose from {small} to {large} MiB"
