"""From graded responses to a record: the one place where records of a measurement are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lengthwise.json_types import JsonValue
from lengthwise.statistics.records import Record


class Graded(NamedTuple):
    """What a record keeps of a response: the verdict, whether it ended by itself, its tokens with EOS."""

    answer_correct: bool
    finished: bool
    num_tokens: int


class GradedProblem(NamedTuple):
    """A problem with its graded responses, in the order of their samples; ``category`` None: it has none."""

    problem_id: str
    category: str | None
    responses: Sequence[Graded]


def record_of(name: str, context: Mapping[str, JsonValue], problems: Iterable[GradedProblem]) -> Record:
    """The record of graded problems; it has categories where every problem has one.

    Raises:
        InputError: no problem, or what `Record` refuses.
    """
    found = list(problems)
    categories = [problem.category for problem in found if problem.category is not None]
    return Record(
        name=name,
        context=context,
        problem_ids=[problem.problem_id for problem in found],
        categories=categories if len(categories) == len(found) else None,
        answer_correct=[[one.answer_correct for one in problem.responses] for problem in found],
        finished=[[one.finished for one in problem.responses] for problem in found],
        num_tokens=[[one.num_tokens for one in problem.responses] for problem in found],
    )
