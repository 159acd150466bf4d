"""The measurement of a model: responses drawn into a log, graded as a batch, and a record made of them.

A measurement that was killed goes on: the same call draws what its log lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine.model_folders import Policy
from lengthwise.generation.response_log import Completion, ResponseLog, read_log
from lengthwise.generation.sampling import complete_all, record_of_drawn
from lengthwise.grading.problems import Problems
from lengthwise.statistics.graded_problems import Graded
from lengthwise.statistics.records import Record


@dataclass(frozen=True)
class Measured:
    """A record with the responses that it is of, problem by problem, and the verdicts on them."""

    record: Record
    responses: list[Completion]
    answer_correct: list[bool]


def measure(
    policy: Policy, problems: Problems, sampling: Sampling, log: Path, *, name: str, data: str
) -> Measured:  # fmt: skip
    """Draw what the log lacks, in parts of `sampling.sample_rows` rows, and grade all of it.

    Raises:
        ConfigError: another process is writing to the log.
        CheckpointError: a log with a damaged line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with ResponseLog(log) as there:
        complete_all(policy, problems, sampling, there, intervention=Intervention(), tell=lambda found: None)
    found = read_log(log, problems, sampling.samples)
    owners = [problem for problem in range(len(problems)) for _ in range(sampling.samples)]
    right = problems.are_right(owners, [one.text for one in found])
    graded = [Graded(correct, one.finished, one.num_tokens) for correct, one in zip(right, found, strict=True)]
    record = record_of_drawn(graded, problems, sampling, name=name, model=str(policy.folder), data=data)
    return Measured(record, found, right)
