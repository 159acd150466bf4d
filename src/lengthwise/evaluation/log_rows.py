"""Rows of a response log: what is read from one, what is refused, and the graded row that comes of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lengthwise.data import Defect
from lengthwise.errors import ConfigError
from lengthwise.evaluation.anatomy import AUTO, Anatomy, Body
from lengthwise.evaluation.isolated import stopped_verdict
from lengthwise.evaluation.prompts import PromptContract
from lengthwise.evaluation.thinking import THINK_CLOSE, whole_response

MOST_TOKENS = 2**31 - 1
ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls")
NOT_ENDED = ("length", "max_tokens", "max_length", "content_filter", "safety", "abort", "cancelled", "error")
"""Finish reasons of servers, in lower case."""
NO_COUNT = "no num_tokens, and no tokenizer to count with"
OTHER_ANSWER, CUT, UNCLOSED = "another answer", "cut", "thinking never closed"


@dataclass(frozen=True)
class GradeOptions:
    """How a log is read and graded.

    ``contract``: None for the ``auto`` answer format. ``detect``: a response's own marks tell its thinking, whatever
    their kind (`PromptContract.think_marks`); None: as the contract has it. ``grader``: your own,
    ``module:function``. ``tokenizer``: folder of the model's tokenizer; None: the log's own counts. ``cap``: most
    tokens a response could have. ``price``: of a million output tokens. ``*_column``: names in the log.
    ``seconds``, ``workers``: time limit of one grading, and worker processes. ``strict``: the first row that
    cannot be used is an error. ``seed``: the bootstrap's. ``trust_remote_code``: code
    of the tokenizer's folder may run.

    Raises:
        ConfigError: a cap below 1, or a price that is negative or not finite.
    """

    contract: PromptContract | None = None
    detect: bool | None = None
    grader: str | None = None
    tokenizer: str | None = None
    cap: int | None = None
    price: float | None = None
    response_column: str = "response"
    answer_column: str = "answer"
    problem_column: str | None = None
    category_column: str = "category"
    seconds: float = 5.0
    workers: int = 2
    strict: bool = False
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.cap is not None and self.cap < 1:
            raise ConfigError(f"cap is {self.cap}; give the most tokens a response could have, at least 1")
        if self.price is not None and not (math.isfinite(self.price) and self.price >= 0):
            raise ConfigError(f"price is {self.price}; give the price of a million output tokens, at least 0")

    @property
    def read_under(self) -> PromptContract:
        """The contract, or the one that stands for none; with ``detect`` in it."""
        contract = self.contract or AUTO
        return contract if self.detect is None else replace(contract, think_marks=self.detect)

    @property
    def problem_columns(self) -> tuple[str, ...]:
        """Where a problem's text may stand; the first that a row has counts."""
        return ("problem", self.read_under.problem_column) if self.problem_column is None else (self.problem_column,)


@dataclass(frozen=True)
class Response:
    """A row of a log that can be graded.

    ``named_by``: what tells its problem from others. ``finished`` None: no column tells; ``told_by``: the one that
    does, else ``cap`` or ``assumed``. ``empty``: its text is blank.
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


def read_response(line: int, row: Mapping[str, Any], options: GradeOptions) -> Response | Defect:
    """Read one row of a log, or say why it cannot be graded.

    None and NaN are missing values everywhere. Lone surrogates in text become U+FFFD.
    """
    try:
        problem_id, named_by = _problem(line, row, options)
        category = _given(row, options.category_column)
        finished, told_by = _finished(row, options.cap)
        body = _body(row, options)
        return Response(
            line=line,
            body=body,
            empty=not body.text.strip(),
            problem_id=problem_id,
            named_by=named_by,
            sample=_sample(row),
            category=None if category is None else _clean(str(category)),
            num_tokens=_num_tokens(row, options),
            finished=finished,
            told_by=told_by,
        )
    except _Unusable as error:
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
    }


def _abandoned(finished: bool, closed: bool) -> str:
    return UNCLOSED if not closed else OTHER_ANSWER if finished else CUT


class _Unusable(Exception):  # noqa: N818 - never leaves this module
    """Reason and detail of a `Defect`."""


def _given(row: Mapping[str, Any], column: str) -> Any:
    value = row.get(column)
    return None if isinstance(value, float) and math.isnan(value) else value


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _text(row: Mapping[str, Any], column: str) -> str | None:
    value = _given(row, column)
    if value is not None and not isinstance(value, str):
        raise _Unusable(f"{column} is not text", f"it is a {type(value).__name__}")
    return value if value is None else _clean(value)


def _body(row: Mapping[str, Any], options: GradeOptions) -> Body:
    text, thinking = _text(row, options.response_column), _text(row, "reasoning")
    answer = _given(row, options.answer_column)
    if text is None and not thinking:
        raise _Unusable(f"no {options.response_column}")
    if answer is None:
        raise _Unusable(f"no {options.answer_column} to grade against")
    if not thinking or not thinking.strip():
        return Body(text or "", answer)
    closes = options.read_under.think_close or THINK_CLOSE
    return Body(whole_response(thinking, text or "", closes), answer, thinks=True)


def _num_tokens(row: Mapping[str, Any], options: GradeOptions) -> int | None:
    count = _given(row, "num_tokens")
    if count is None:
        if options.tokenizer is None:
            raise _Unusable(NO_COUNT)
        return None
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
        raise _Unusable("num_tokens is no count of tokens (a whole number, at least 0)", f"it is {str(count)[:40]!r}")
    if options.cap is not None and count > options.cap:
        raise _Unusable("num_tokens above the cap", f"{count} with a cap of {options.cap}")
    return count


def _finished(row: Mapping[str, Any], cap: int | None) -> tuple[bool | None, str]:
    finished = _given(row, "finished")
    if finished is not None:
        if finished not in (0, 1):
            raise _Unusable("finished is neither true nor false", f"it is {str(finished)[:40]!r}")
        return bool(finished), "finished"
    reason = _text(row, "finish_reason")
    if reason:
        if reason.casefold() not in (*ENDED, *NOT_ENDED):
            raise _Unusable("a finish_reason that is not known", f"it is {reason[:40]!r}; give finished, true or false")
        return reason.casefold() in ENDED, "finish_reason"
    return None, "assumed" if cap is None else "cap"


def _problem(line: int, row: Mapping[str, Any], options: GradeOptions) -> tuple[str, str]:
    """A name for the row's problem, and what it was made of."""
    given = _whole(row, "problem_id")
    if given not in (None, ""):
        return _clean(str(given)), "problem_id"
    for column in options.problem_columns:
        problem = _given(row, column)
        if problem not in (None, "", [], {}):
            text = problem if isinstance(problem, str) else json.dumps(problem, sort_keys=True)
            return hashlib.sha256(_clean(text).encode()).hexdigest()[:16], column
    return f"line {line}", "row"


def _sample(row: Mapping[str, Any]) -> int | str | None:
    sample = _whole(row, "sample")
    return _clean(sample) if isinstance(sample, str) else sample


def _whole(row: Mapping[str, Any], column: str) -> int | str | None:
    """Text or a whole number; one written as 7.0 too, for tables make floats of columns with gaps."""
    value = _given(row, column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise _Unusable(f"{column} is neither text nor a whole number", f"it is {str(value)[:40]!r}")
    return value
