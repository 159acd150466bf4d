"""The log of an evaluation: one line per response, on the disk before it counts, each (problem, sample) once."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypedDict

from lengthwise.errors import CheckpointError, ConfigError
from lengthwise.grading.problems import Questions


class OwnColumns(TypedDict):
    """Settings of `LogAnswers` that name columns."""

    response_column: str
    answer_column: str
    reasoning_column: str
    tokens_column: str
    finished_column: str


OWN_COLUMNS: OwnColumns = {
    "response_column": "response", "answer_column": "answer", "reasoning_column": "reasoning",
    "tokens_column": "num_tokens", "finished_column": "finished",
}  # fmt: skip
"""What our own logs call things, for the settings `LogAnswers`: nothing in them is to be guessed."""


@dataclass(frozen=True)
class Completion:
    """One response as it was drawn.

    ``text``: what it says, without EOS. ``num_tokens``: all its tokens, EOS included. ``finished``: it ended by
    itself. ``reasoning``: its thinking, where a server gives that apart. ``forced``: its thinking was ended for it.
    ``repeats``: it went round in a circle and was cut there.
    ``spent_tokens``: tokens of all responses that were written beside it, its own included, where several were.
    """

    text: str
    num_tokens: int
    finished: bool
    reasoning: str | None = None
    forced: bool = False
    spent_tokens: int | None = None
    repeats: bool = False


class ResponseLog:
    """An append-only ``response_log.jsonl``, written by one process at a time; use it as a context manager.

    A last line that a killed process left unfinished is cut off. `done` holds the (problem_id, sample) pairs that
    are there.

    Raises:
        ConfigError: another process is writing to it.
        CheckpointError: a line that is damaged, or a response that stands there twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: set[tuple[str, int]] = set()
        self._file: BinaryIO

    def __enter__(self) -> Self:
        self._file = self.path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ConfigError(
                f"out is {str(self.path.parent)!r}: another process is evaluating into it; wait for it, or name "
                "another folder"
            ) from error
        try:
            self._read()
        except BaseException:
            self._file.close()  # and with it the lock: the same process may try again
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                return
            end += len(line)
            try:
                row = json.loads(line)
                key = (row["problem_id"], row["sample"])
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"{self.path}, line {number} is no response ({type(error).__name__}: {error}); remove the line, "
                    "and its response is drawn again"
                ) from error
            if key in self.done:
                raise CheckpointError(
                    f"{self.path}, line {number} holds sample {key[1]} of problem {key[0]!r} a second time; remove "
                    "one of the two lines"
                )
            self.done.add(key)

    def missing(self, questions: Questions, samples: int) -> list[tuple[int, int]]:
        """The (problem, sample) pairs that are not there yet, problem by problem."""
        every = ((problem, sample) for problem in range(len(questions)) for sample in range(samples))
        return [(p, s) for p, s in every if (questions.ids[p], s) not in self.done]

    def add(self, questions: Questions, found: Iterable[tuple[int, int, Completion]]) -> int:
        """Write responses, (problem, sample, completion) each, and return how many were new.

        Those that are there already are passed over. All are on the disk when it returns.
        """
        lines = []
        for problem, sample, completion in found:
            key = (questions.ids[problem], sample)
            if key not in self.done:
                self.done.add(key)
                lines.append(json.dumps(row_of(questions, problem, sample, completion)) + "\n")
        self._file.write("".join(lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        return len(lines)


class Row(TypedDict, total=False):
    """A line of the log."""

    problem_id: str
    sample: int
    problem: str
    answer: str
    response: str
    num_tokens: int
    finished: bool
    category: str
    reasoning: str
    forced: bool
    repeats: bool
    spent_tokens: int


def row_of(questions: Questions, problem: int, sample: int, completion: Completion) -> Row:
    """A response as a row of a log, the columns that every command reads; see `log_grading.grade_log`."""
    row: Row = {
        "problem_id": questions.ids[problem],
        "sample": sample,
        "problem": questions.questions[problem],
        "answer": questions.answers[problem],
        "response": completion.text,
        "num_tokens": completion.num_tokens,
        "finished": completion.finished,
    }
    if questions.categories is not None:
        row["category"] = questions.categories[problem]
    if completion.reasoning is not None:
        row["reasoning"] = completion.reasoning
    if completion.forced:
        row["forced"] = True
    if completion.repeats:
        row["repeats"] = True
    if completion.spent_tokens is not None:
        row["spent_tokens"] = completion.spent_tokens
    return row


def responses_in(path: Path) -> int:
    """How many responses stand in a log; none where there is no log."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def read_log(path: Path, questions: Questions, samples: int) -> list[Completion]:
    """The responses of a log, problem by problem and in the order of their samples.

    Raises:
        CheckpointError: one of them is not there.
    """
    with path.open(encoding="utf-8") as file:
        found = {(row["problem_id"], row["sample"]): _completion(row) for row in map(json.loads, file)}
    wanted = [(name, sample) for name in questions.ids for sample in range(samples)]
    for name, sample in wanted:
        if (name, sample) not in found:
            raise CheckpointError(f"{path} has no sample {sample} of problem {name!r}; measure again")
    return [found[key] for key in wanted]


def _completion(row: Row) -> Completion:
    """What `row_of` wrote."""
    return Completion(
        row["response"], row["num_tokens"], row["finished"], row.get("reasoning"), row.get("forced", False),
        row.get("spent_tokens"), row.get("repeats", False),
    )  # fmt: skip
