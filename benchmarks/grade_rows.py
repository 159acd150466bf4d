"""Rows graded per second: `IsolatedPool` with two workers, a plain loop, and Math-Verify with its own defaults.

Then whole logs of rows of 2 kB by `grade_log`, reading and summary included: graded, and with the log's own verdicts.

    python benchmarks/grade_rows.py [--rows 20000] [--repeats 3] [--workers 2] [--data FILE] [--json FILE]

Rows are of GSM8K's size: a worked solution of 150 to 300 tokens that ends in a box, a phrase, bold or a number, one
in four of them wrong. ``--data`` takes GSM8K's own ``test.jsonl`` instead: its solutions, with every fourth answer
another row's. Each way grades the same rows; a pool's time includes starting its workers, the others' does not
include imports. Math-Verify reads each response whole, as its README shows, and takes its alarms from the main
thread; it gets as many rows as it can do in about ten seconds. The way of the package must agree with what the rows
were made to be in every verdict; how many of Math-Verify's do is printed.
Exits 1 below 300 rows/s with the pool, below 1700 rows/s where verdicts are given, or when a verdict is not as made.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from math_verify import parse, verify

from _bench import facts, spread, write_json
from lengthwise.config.commands.evaluation import GradeSettings
from lengthwise.data import read_rows
from lengthwise.grading.graders import grade, ready_for
from lengthwise.grading.prompt_contract import gold_answer, preset
from lengthwise.grading.worker_pool import IsolatedPool, make_grader
from lengthwise.logs.log_grading import grade_log

FEWEST_PER_SECOND = 300.0
FEWEST_GIVEN = 1700.0  # a million rows in ten minutes
ROW_BYTES = 2000
BARE_SECONDS = 10.0
CONTRACT = preset("gsm8k", think_prefix="", think_close=None)
ENDINGS = (
    "Therefore, the total is $\\boxed{{{}}}$.",
    "The answer is {}.",
    "So she ends up with **{} apples**.",
    "#### {}",
    "In all that makes ${} dollars",
)
NAMES, THINGS = ("Janet", "Omar", "Wei", "Priya"), ("apples", "marbles", "stickers", "cookies")

Row = tuple[str, str, bool]  # response, reference answer, right


def made_rows(count: int) -> list[Row]:
    """Solutions with worked steps, each a running sum; the last value is the answer."""
    rng = random.Random(0)
    rows = []
    for number in range(count):
        name, thing, value = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 900)
        lines = [f"Let's work through this step by step. {name} starts with {value} {thing}."]
        for step in range(1, rng.randint(6, 11)):
            more = rng.randint(2, 90)
            lines.append(
                f"**Step {step}:** {name} then gets {more} more {thing}, so we add: {value} + {more} = "
                f"{value + more} {thing}, which we carry over to the next step."
            )
            value += more
        right = number % 4 != 0
        given = value if right else value + rng.randint(1, 9)
        lines.append(ENDINGS[number % len(ENDINGS)].format(f"{given:,}" if given > 999 else given))
        rows.append(("\n".join(lines), str(value), right))
    return rows


def read_gsm8k(path: Path, count: int) -> list[Row]:
    """GSM8K's own solutions, repeated to `count` rows; every fourth ends in another row's answer."""
    found = read_rows(path, columns=["question", "answer"])
    golds = [gold_answer(CONTRACT, row) for row in found]
    rows = []
    for number in range(count):
        place = number % len(found)
        other = golds[place - 1] if number % 4 == 0 else golds[place]
        solution = found[place]["answer"].rsplit("####", 1)[0]
        rows.append((f"{solution}#### {other}", golds[place], other == golds[place]))
    return rows


def by_pool(rows: Sequence[Row], workers: int) -> list[bool]:
    with IsolatedPool(functools.partial(make_grader, CONTRACT), workers=workers) as pool:
        return [getattr(verdict, "correct", False) for verdict in pool.map(row[:2] for row in rows)]


def by_loop(rows: Sequence[Row]) -> list[bool]:
    return [grade(response, answer, contract=CONTRACT).correct for response, answer, _ in rows]


def by_math_verify(rows: Sequence[Row]) -> list[bool]:
    end = time.perf_counter() + BARE_SECONDS
    verdicts: list[bool] = []
    for response, answer, _ in rows:
        verdicts.append(verify(parse(answer), parse(response)))
        if time.perf_counter() > end:
            break
    return verdicts


def write_log(path: Path, rows: Sequence[Row], *, verdicts: bool, counts: bool) -> None:
    """Rows of 2 kB: a solution after its thinking, with its answer or a verdict, and with or without token counts."""
    with path.open("w", encoding="utf-8") as file:
        for number, (response, answer, right) in enumerate(rows):
            thinking = (response + "\n") * (1 + ROW_BYTES // len(response))
            text = f"<think>{thinking[: ROW_BYTES - len(response)]}</think>{response}"
            row: dict[str, object] = {"problem_id": f"p{number // 4}", "sample": number % 4, "response": text}
            row |= {"finish_reason": "stop"} | ({"score": float(right)} if verdicts else {"problem_id": f"p{number}"})
            row |= ({} if verdicts else {"answer": answer}) | ({"num_tokens": len(text) // 4} if counts else {})
            file.write(json.dumps(row) + "\n")


def by_log(path: Path, workers: int) -> Callable[[Sequence[Row]], list[bool]]:
    def way(rows: Sequence[Row]) -> list[bool]:
        verdicts: list[bool] = []
        settings = GradeSettings.from_dict({"log": [str(path)], "workers": workers})
        grade_log(settings, on_row=lambda row: verdicts.append(row.correct))
        return verdicts

    return way


def logs(rows: Sequence[Row], repeats: int, workers: int) -> dict[str, dict[str, Any]]:
    """Whole logs, graded and with verdicts."""
    cases = {
        "log, graded": {"verdicts": False, "counts": True},
        "log, verdicts and token counts": {"verdicts": True, "counts": True},
        "log, verdicts, tokens estimated": {"verdicts": True, "counts": False},
    }
    found = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name, case in cases.items():
            path = Path(folder) / "log.jsonl"
            write_log(path, rows, **case)
            found[name] = measure(by_log(path, workers), rows, repeats)
            share = f"{found[name]['as_made']}/{found[name]['rows']}"
            print(f"{name:<34}{spread(found[name]['rates']):>32}{share:>18}")
    return found


def measure(way: Callable[[Sequence[Row]], list[bool]], rows: Sequence[Row], repeats: int) -> dict[str, Any]:
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        verdicts = way(rows)
        rates.append(len(verdicts) / (time.perf_counter() - start))
    as_made = sum(verdict == right for verdict, (_, _, right) in zip(verdicts, rows, strict=False))
    return {
        "rows_per_second": statistics.median(rates), "rates": rates, "rows": len(verdicts), "as_made": as_made,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=20000, help="rows to grade")
    parser.add_argument("--repeats", type=int, default=3, help="times each way grades them")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the pool")
    parser.add_argument("--data", type=Path, help="GSM8K's test.jsonl, instead of made rows")
    parser.add_argument("--json", type=Path, help="write the raw numbers to this file")
    options = parser.parse_args()
    rows = read_gsm8k(options.data, options.rows) if options.data else made_rows(options.rows)
    load = round(os.getloadavg()[0], 2)
    ready_for("gsm8k")

    ways = {
        f"IsolatedPool, {options.workers} workers": functools.partial(by_pool, workers=options.workers),
        "plain loop, one process": by_loop,
        "Math-Verify, its defaults": by_math_verify,
    }
    words = statistics.fmean(len(response.split()) for response, _, _ in rows)
    print(f"{len(rows)} rows of {words:.0f} words on average")
    print(f"{'way':<30}{'rows/s (range)':>32}{'times Math-Verify':>20}{'as made':>14}")
    results = {name: measure(way, rows, options.repeats) for name, way in ways.items()}
    bare = results["Math-Verify, its defaults"]["rows_per_second"]
    for name, found in results.items():
        found["times_math_verify"] = found["rows_per_second"] / bare
        share = f"{found['as_made']}/{found['rows']}"
        print(f"{name:<30}{spread(found['rates']):>32}{found['times_math_verify']:>20.1f}{share:>14}")
    whole = logs(rows, options.repeats, options.workers)
    pool, loop, _ = results.values()
    agree = all(found["as_made"] == found["rows"] for found in (pool, loop, *whole.values()))
    given = min(found["rows_per_second"] for name, found in whole.items() if "verdicts" in name)
    kept = pool["rows_per_second"] >= FEWEST_PER_SECOND and given >= FEWEST_GIVEN and agree
    bounds = f"{FEWEST_PER_SECOND:.0f} rows/s, {FEWEST_GIVEN:.0f} where verdicts are given"
    print(f"bounds {bounds}, every verdict as made: {'kept' if kept else 'broken'}")
    if options.json:
        settings = {
            "rows": len(rows), "mean_words": words, "source": "gsm8k" if options.data else "made",
            "workers": options.workers, "load_before": load, "bound": FEWEST_PER_SECOND, "bound_given": FEWEST_GIVEN,
            "kept": kept,
        }  # fmt: skip
        write_json(
            options.json, facts("lengthwise", "math-verify", "sympy") | settings | {"ways": results, "logs": whole}
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
