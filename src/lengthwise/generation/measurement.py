"""A measurement: responses drawn into a log, graded as a batch, and a record made of them; the same for every command.

A measurement that was killed goes on: the same call draws what its log lacks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine.model_folders import Policy
from lengthwise.generation.response_log import Completion, ResponseLog, read_log
from lengthwise.generation.sampling import complete_all, context_of_drawn, record_of_samples
from lengthwise.grading.problems import Problems, Questions
from lengthwise.json_types import JsonObject
from lengthwise.statistics.bootstrap import Interval, mean_interval
from lengthwise.statistics.graded_problems import Graded
from lengthwise.statistics.records import Record

Grade = Callable[[Sequence[Completion]], Sequence[bool | None]]
"""All responses, problem by problem -> whether each is right; None for one that cannot be graded."""


@dataclass(frozen=True)
class Measured:
    """A record with the responses that it is of, problem by problem, and the verdicts on them.

    One that could not be graded counts as wrong among the verdicts, and is not in the record.
    """

    record: Record
    responses: list[Completion]
    answer_correct: list[bool]


@dataclass(frozen=True)
class Drawn:
    """What drawing knows beside the verdicts: responses that were ended or cut for repeating.

    ``spent_tokens``: of all that were written for a response, where more were than its own; mean over problems.
    """

    forced: int
    repeats: int
    spent_tokens: Interval | None


def measure(
    policy: Policy, problems: Problems, sampling: Sampling, log: Path, *, name: str, data: str,
    intervention: Intervention | None = None,
) -> Measured:  # fmt: skip
    """Measure a model: draw what the log lacks, in parts of `sampling.sample_rows` rows, and grade all of it.

    Raises:
        ConfigError: another process is writing to the log.
        CheckpointError: a log with a damaged line.
    """

    def fill(there: ResponseLog) -> None:
        asked = intervention or Intervention()
        complete_all(policy, problems, sampling, there, intervention=asked, tell=lambda found: None)

    def grade(found: Sequence[Completion]) -> Sequence[bool]:
        owners = [place // sampling.samples for place in range(len(found))]
        return problems.are_right(owners, [one.text for one in found])

    context = context_of_drawn(problems, sampling, model=str(policy.folder), data=data, intervention=intervention)
    return measured(log, problems, sampling, fill=fill, grade=grade, name=name, context=context)


def measured(
    log: Path,
    questions: Questions,
    sampling: Sampling,
    *,
    fill: Callable[[ResponseLog], None],
    grade: Grade,
    name: str,
    context: JsonObject,
) -> Measured:
    """Let ``fill`` draw what the log lacks, grade all of it in one batch, and make the record.

    Raises:
        ConfigError: another process is writing to the log.
        CheckpointError: a log with a damaged line, or one that lacks a response still.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with ResponseLog(log) as there:
        fill(there)
    found = read_log(log, questions, sampling.samples)
    right = list(grade(found))
    graded = [
        None if correct is None else Graded(correct, one.finished, one.num_tokens)
        for correct, one in zip(right, found, strict=True)
    ]
    record = record_of_samples(name, context, questions, sampling.samples, graded)
    return Measured(record, found, [bool(correct) for correct in right])


def drawn(ids: Sequence[str], samples: int, responses: Sequence[Completion], record: Record) -> Drawn:
    """What the responses, ``samples`` of each problem in turn, say of how they were drawn."""
    spent: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(responses):
        if one.spent_tokens is not None:
            spent[ids[place // samples]].append(one.spent_tokens)
    means = np.array([np.mean(spent[name]) for name in record.problem_ids if name in spent])
    return Drawn(
        forced=sum(one.forced for one in responses),
        repeats=sum(one.repeats for one in responses),
        spent_tokens=mean_interval(means, rng=np.random.default_rng(0)) if len(means) else None,
    )
