"""Rows of a response log: what is read from one, what is refused, and the graded row that comes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lengthwise.config.commands.evaluation import GradeSettings
from lengthwise.data import Defect
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.thinking_marks import THINK_CLOSE, same_thinking, whole_response
from lengthwise.grading.worker_pool import stopped_verdict
from lengthwise.logs.column_names import (
    PROBLEM,
    THINKING,
    TOKENS,
    Columns,
    UnusableError,
    candidates,
    clean,
    columns_of,
    given,
    read_answer,
    read_finished,
    read_text,
    read_thinking,
    read_tokens,
)
from lengthwise.logs.token_breakdown import Anatomy, Body

NO_COUNT = "no num_tokens, and no tokenizer to count with"
USUAL = ("response", "answer", "reasoning", "num_tokens", "finished", "problem", "category")
OTHER_ANSWER, CUT, UNCLOSED = "another answer", "cut", "thinking never closed"


@dataclass(frozen=True)
class LogReading:
    """How the rows of a log are read: the settings, and the contract that responses are read under."""

    settings: GradeSettings
    contract: PromptContract

    @property
    def columns(self) -> Columns:
        """The names that were given; None: the usual ones (see `column_names`)."""
        given = self.settings.contract
        return Columns(
            given.response_column, given.answer_column, given.reasoning_column, given.tokens_column,
            given.finished_column,
        )  # fmt: skip

    @property
    def asked_columns(self) -> dict[str, str]:
        """Names that were given and are not the usual ones, by option."""
        given = self.settings.contract
        more = {"problem_column": given.problem_column, "category_column": given.category_column}
        named = self.columns.named() | {option: name for option, name in more.items() if name is not None}
        return {option: name for option, name in named.items() if name not in USUAL}

    @property
    def problem_columns(self) -> tuple[str, ...]:
        """Where a problem's text may stand; the first that a row has counts."""
        named = self.settings.contract.problem_column
        return ("problem", self.contract.problem_column) if named is None else (named,)


@dataclass(frozen=True)
class Response:
    """A row of a log that can be graded.

    ``named_by``: what tells its problem from others. ``finished`` None: no column tells; ``told_by``: the one that
    does, else ``cap`` or ``assumed``. ``empty``: its text is blank. ``remarks``: what is worth a note, in words that
    are the same for alike rows.
    """

    line: int
    body: Body
    empty: bool
    problem_id: str
    named_by: str
    sample: int | str | None
    category: str | None
    num_tokens: int | None
    finished: bool | None
    told_by: str
    remarks: tuple[str, ...] = ()


def read_response(line: int, row: Mapping[str, Any], reading: LogReading) -> Response | Defect:
    """Read one row of a log, or say why it cannot be graded.

    None and NaN are missing values everywhere. Lone surrogates in text become U+FFFD.

    Raises:
        TwoReadingsError: two columns of the row say different things, and either could be meant.
    """
    columns = reading.columns
    try:
        problem_id, named_by = _problem(line, row, reading)
        category = given(row, reading.settings.contract.category_column)
        finished, told_by = read_finished(row, columns)
        thinking, apart = read_thinking(row, columns)
        text = read_text(row, columns, thinking, apart)
        body = _body(text or "", thinking, row, reading)
        num_tokens = _num_tokens(row, reading)
        return Response(
            line=line,
            body=body,
            empty=not body.text.strip(),
            problem_id=problem_id,
            named_by=named_by,
            sample=_sample(row),
            category=None if category is None else clean(str(category)),
            num_tokens=num_tokens,
            finished=finished,
            told_by=told_by or ("assumed" if reading.settings.cap is None else "cap"),
            remarks=tuple(_remarks(row, text, thinking, apart, named_by, num_tokens)),
        )
    except UnusableError as error:
        return Defect(*error.args)


def graded_row(
    response: Response, found: Anatomy | None, tokens: int | None, ended: bool, cap: int | None
) -> dict[str, Any]:
    """The verdict on a response with all that was counted, JSON-ready.

    ``found`` None: its grading was stopped, so it is wrong. ``tokens``: those of the text, needed where the row
    has no count; ``ended``: whether the last of them is an EOS. An EOS that the text does not show is counted.
    """
    finished, num_tokens = response.finished, response.num_tokens
    known = tokens if num_tokens is None else num_tokens
    assert known is not None, "a row without a count is read with a tokenizer only"
    if finished is None:
        finished = cap is None or ended or known < cap
    if num_tokens is None:
        num_tokens = known + (finished and not ended)
        num_tokens = num_tokens if cap is None else min(num_tokens, cap)
    verdict = stopped_verdict() if found is None else found.verdict
    correct, closed = verdict.correct and finished, found is None or found.closed
    stated = found is not None and found.right_stated
    thinking = to_right = None
    if found is not None and found.thinking is not None:
        thinking = min(found.thinking, num_tokens) if closed else num_tokens
        to_right = None if found.to_right is None else min(found.to_right, num_tokens)
    return {
        "line": response.line,
        "problem_id": response.problem_id,
        "sample": response.sample,
        "category": response.category,
        "correct": correct,
        "answer_correct": verdict.correct,
        "finished": finished,
        "num_tokens": num_tokens,
        "how": verdict.how,
        "extracted": verdict.extracted,
        "thinking_tokens": thinking,
        "answer_tokens": None if thinking is None else num_tokens - thinking,
        "tokens_to_right": to_right,
        "tokens_after_right": None if to_right is None else num_tokens - to_right,
        "right_stated": stated,
        "abandoned": _abandoned(finished, closed) if stated and not correct else None,
        "empty": response.empty,
        "unclosed": not closed,
        "stopped": found is None,
        "comparison_error": verdict.error,
    }


def _abandoned(finished: bool, closed: bool) -> str:
    return UNCLOSED if not closed else OTHER_ANSWER if finished else CUT


def _body(text: str, thinking: str | None, row: Mapping[str, Any], reading: LogReading) -> Body:
    contract = reading.contract
    answer = read_answer(row, reading.columns, contract.answer_format, contract.answers)
    if thinking is None:
        return Body(text, answer)
    return Body(whole_response(thinking, text, contract.think_close or THINK_CLOSE), answer, thinks=True)


def _num_tokens(row: Mapping[str, Any], reading: LogReading) -> int | None:
    count = read_tokens(row, reading.columns)
    if count is None and reading.settings.tokenizer is None:
        raise UnusableError(NO_COUNT, f"it has {columns_of(row)}")
    if count is not None and reading.settings.cap is not None and count > reading.settings.cap:
        raise UnusableError("num_tokens above the cap", f"{count} with a cap of {reading.settings.cap}")
    return count


def _remarks(
    row: Mapping[str, Any], text: str | None, thinking: str | None, apart: str | None, named_by: str, count: int | None
) -> Iterator[str]:
    """What a reader of the numbers should know of how the row was read."""
    if apart not in (None, THINKING[0]):
        yield f"thinking read from {apart}"
    if thinking is not None and text and same_thinking(thinking, text):
        yield f"thinking twice in response and {apart}"
    if count is None and (there := candidates(row, TOKENS[1:])):
        yield f"tokens not read from {there[0]}"
    if named_by == "row" and (there := candidates(row, PROBLEM)):
        yield f"problem not read from {there[0]}"


def _problem(line: int, row: Mapping[str, Any], reading: LogReading) -> tuple[str, str]:
    """A name for the row's problem, and what it was made of."""
    named = _whole(row, "problem_id")
    if named not in (None, ""):
        return clean(str(named)), "problem_id"
    for column in reading.problem_columns:
        problem = given(row, column)
        if problem not in (None, "", [], {}):
            text = problem if isinstance(problem, str) else json.dumps(problem, sort_keys=True)
            return hashlib.sha256(clean(text).encode()).hexdigest()[:16], column
    return f"line {line}", "row"


def _sample(row: Mapping[str, Any]) -> int | str | None:
    sample = _whole(row, "sample")
    return clean(sample) if isinstance(sample, str) else sample


def _whole(row: Mapping[str, Any], column: str) -> int | str | None:
    """Text or a whole number; one written as 7.0 too, for tables make floats of columns with gaps."""
    value = given(row, column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise UnusableError(f"{column} is neither text nor a whole number", f"it is {str(value)[:40]!r}")
    return value
