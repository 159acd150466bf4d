"""What an evaluation makes of its graded responses: the record, what the log alone knows, and a comparison."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lengthwise.grading.problems import Questions
from lengthwise.runs.compare_records import Named, claims, compare_records
from lengthwise.runs.records_page import build_page
from lengthwise.statistics.bootstrap import mean_interval
from lengthwise.statistics.graded_problems import Graded, GradedProblem, record_of
from lengthwise.statistics.records import Record


def record_of_rows(
    name: str, questions: Questions, context: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Record:
    """The record of graded rows, in the order of the problems; one whose responses were all refused is not in it."""
    by_problem: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["sample"]):
        by_problem[row["problem_id"]].append(row)
    categories: Sequence[str | None] = questions.categories or [None] * len(questions)
    problems = [
        GradedProblem(problem, category, [_graded(row) for row in by_problem[problem]])
        for problem, category in zip(questions.ids, categories, strict=True)
        if problem in by_problem
    ]
    return record_of(name, context, problems)


def _graded(row: Mapping[str, Any]) -> Graded:
    return Graded(row["answer_correct"], row["finished"], row["num_tokens"])


def drawn_facts(log: Path, record: Record) -> dict[str, Any]:
    """What the log knows beside the verdicts: responses that were ended or cut for repeating, and what was spent."""
    forced, repeats, spent = 0, 0, defaultdict(list)
    with log.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            forced += row.get("forced", False)
            repeats += row.get("repeats", False)
            if "spent_tokens" in row:
                spent[row["problem_id"]].append(row["spent_tokens"])
    means = np.array([np.mean(spent[name]) for name in record.problem_ids if name in spent])
    interval = mean_interval(means, rng=np.random.default_rng(0)).to_dict() if len(means) else None
    return {"forced": forced, "repeats": repeats, "spent_tokens": interval}


def compare(baseline: Record, record: Record, page: Path, said: list[str]) -> dict[str, Any]:
    """The comparison with the baseline; what it allows to say is added to the notes."""
    reference = Named(f"{baseline.name} (baseline)", (baseline,))
    result = compare_records([reference, Named(record.name, (record,))])
    build_page(result, page)
    for row in claims(result):
        span = f" ({row.span})" if row.span else ""
        said.append(f"against {result.reference}: {row.quantity} {row.value}{span}: {row.claim}")
    return result.to_dict()
