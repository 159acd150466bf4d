"""Responses of a log: what is taken of a row that was read, what is refused, and the graded row that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from lengthwise.config.commands.evaluation import GradeSettings
from lengthwise.data import Defect
from lengthwise.grading.graders import Verdict
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.thinking_marks import (
    KINDS,
    THINK_CLOSE,
    opens_itself,
    same_thinking,
    split_thinking,
    whole_response,
)
from lengthwise.grading.worker_pool import stopped_verdict
from lengthwise.json_types import JsonObject
from lengthwise.logs.log_verdicts import LogVerdict, log_verdict
from lengthwise.logs.readers import Answers, End, Fields, LogRow, Place
from lengthwise.logs.readers.given_fields import NONE
from lengthwise.logs.readers.log_row import TwoReadingsError
from lengthwise.logs.token_breakdown import Anatomy, Body

NO_COUNT = "no token count, and no tokenizer to count with"
NO_ANSWER = "no answer to grade against, and no verdict of the log's own"
USUAL = ("response", "answer", "reasoning", "num_tokens", "finished", "problem", "category")
OTHER_ANSWER, CUT, UNCLOSED = "another answer", "cut", "thinking never closed"
IN_THINKING = (
    "the answer stands in the field of the thinking alone, as a server's parser may put it; it counts as wrong"
)
TWICE = "the response holds the thinking that is given apart as well; it is counted once"
FIELDS = {
    "response_column": "response", "answer_column": "answer", "reasoning_column": "reasoning",
    "tokens_column": "num_tokens", "reasoning_tokens_column": "reasoning_tokens", "finished_column": "end",
    "problem_column": "problem", "problem_id_column": "problem_id", "sample_column": "sample",
    "category_column": "category", "verdict_column": "verdict",
}  # fmt: skip
"""The field of a response that each setting names a column of."""


@dataclass(frozen=True)
class LogReading:
    """How the rows of a log are read: the settings, and the contract that responses are read under.

    ``answers``: right answers from a second file. ``counts``: whether tokens can be counted where a row does not say.
    ``several``: the log has more than one file. ``graded``: whether a row needs an answer or a verdict.
    """

    settings: GradeSettings
    contract: PromptContract
    answers: Answers | None = None
    counts: bool = False
    several: bool = False
    graded: bool = True


def asked_columns(settings: GradeSettings) -> dict[str, str]:
    """The columns that were asked for and have no usual name, by option."""
    named = {option: getattr(settings.contract, option) for option in FIELDS}
    return {option: name for option, name in named.items() if name not in (None, NONE, *USUAL)}


def fields_of(settings: GradeSettings) -> Fields:
    """Where the log has what, as far as the settings say; ``answer_column`` is the second file's where there is one."""
    given = {field: getattr(settings.contract, option) for option, field in FIELDS.items()}
    return Fields(**given | ({} if settings.answers is None else {"answer": None}))


def answers_of(settings: GradeSettings) -> Answers | None:
    """Right answers from the second file that is named, if one is."""
    if settings.answers is None:
        return None
    return Answers(settings.answers, Fields(answer=settings.contract.answer_column))


def field_of(row: LogRow, option: str) -> object:
    """What a response has of the field that a setting names a column of; None where it has nothing."""
    match FIELDS[option]:
        case "verdict":
            return next(iter(row.verdicts), None)
        case "end":
            return row.finish_reason if row.end is End.UNKNOWN else row.end
        case field:
            return getattr(row, field)


@dataclass(frozen=True, slots=True)
class Response:
    """A row of a log that can be graded.

    ``named_by``: what tells its problem from others. ``finished`` None: the log does not tell; ``told_by``: what
    does: the log, the cap, or nothing; ``end``: how it ended, by the log. ``empty``: its text is blank. ``given``: the
    log's own verdict, which is the one that counts where ``by_log``. ``remarks``: what is worth a note, in words that
    are the same for alike rows.
    """

    place: Place
    body: Body
    empty: bool
    problem_id: str
    named_by: str
    sample: int | str | None
    category: str | None
    num_tokens: int | None
    thinking_tokens: int | None
    finished: bool | None
    told_by: str
    end: End = End.UNKNOWN
    given: LogVerdict | None = None
    by_log: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GradedRow:
    """The verdict on a response with all that was counted; `to_dict` is JSON-ready. ``file``: one of several."""

    line: int
    problem_id: str
    sample: int | str | None
    category: str | None
    correct: bool
    answer_correct: bool
    finished: bool
    num_tokens: int
    how: str
    extracted: str | None
    thinking_tokens: int | None
    answer_tokens: int | None
    tokens_to_right: int | None
    tokens_after_right: int | None
    right_stated: bool
    abandoned: str | None
    empty: bool
    unclosed: bool
    stopped: bool
    comparison_error: str | None
    file: str | None = None

    def to_dict(self) -> JsonObject:
        """A line of ``--out``."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "file" or self.file is not None}


def read_response(place: Place, found: LogRow, reading: LogReading) -> Response | Defect:
    """What is graded of a row, or why it cannot be.

    Raises:
        TwoReadingsError: the row's thinking could be read in two ways.
    """
    settings = reading.settings
    if reading.answers is not None:
        found = reading.answers.joined(found)
    named = settings.contract.verdict_column
    given = log_verdict(found.verdicts, named, settings.right_from)
    if named is not None and given is None:
        return Defect(f"no verdict {named}")
    if reading.graded and found.answer is None and given is None:
        there = ", ".join(found.verdicts)
        return Defect(NO_ANSWER, f"it has {there}: --verdict-column names the one that counts" if there else "")
    if found.num_tokens is None and not reading.counts:
        return Defect(NO_COUNT)
    if found.num_tokens is not None and settings.cap is not None and found.num_tokens > settings.cap:
        return Defect("num_tokens above the cap", f"{found.num_tokens} with a cap of {settings.cap}")
    problem_id, named_by = _problem(place, found, reading)
    body = _body(place, found, reading)
    return Response(
        place=place,
        body=body,
        empty=not body.text.strip(),
        problem_id=problem_id,
        named_by=named_by,
        sample=found.sample,
        category=found.category,
        num_tokens=found.num_tokens,
        thinking_tokens=found.reasoning_tokens,
        finished=found.finished,
        told_by="log" if found.finished is not None else "assumed" if settings.cap is None else "cap",
        end=found.end,
        given=given,
        by_log=given is not None and (named is not None or found.answer is None),
        remarks=tuple(_remarks(found)),
    )


def _problem(place: Place, found: LogRow, reading: LogReading) -> tuple[str, str]:
    """A name for the row's problem, and what it was made of."""
    if found.problem_id is not None:
        return found.problem_id, "problem_id"
    if found.problem:
        return hashlib.sha256(found.problem.encode()).hexdigest()[:16], "problem"
    return str(place) if reading.several else f"row {place.number}", "row"


def _body(place: Place, found: LogRow, reading: LogReading) -> Body:
    if not found.reasoning:
        return Body(found.response, found.answer, any_of=found.any_of)
    if reading.settings.contract.reasoning_column is None and _thinks_anew(found.response, found.reasoning):
        raise TwoReadingsError(
            f"{place}: the log gives thinking apart, and the response begins with other thinking of its own; say "
            "whether the first is the response's, too: --reasoning-column with its column's name, or "
            "--reasoning-column none"
        )
    whole = whole_response(found.reasoning, found.response, reading.contract.think_close or THINK_CLOSE)
    return Body(whole, found.answer, thinks=True, any_of=found.any_of)


def _thinks_anew(text: str, thinking: str) -> bool:
    """Whether a response has a whole thinking section of its own, beside another one that is given apart."""
    own = split_thinking(text, KINDS, begins=False)[0] if opens_itself(text) else ""
    return bool(own.strip()) and not same_thinking(thinking, text)


def _remarks(found: LogRow) -> Iterator[str]:
    """What a reader of the numbers should know of how the row was read."""
    yield from found.notes
    if found.answer_in_thinking:
        yield IN_THINKING
    if found.reasoning and found.response and same_thinking(found.reasoning, found.response):
        yield TWICE


def graded_row(
    response: Response, found: Anatomy | None, tokens: int | None, ended: bool, reading: LogReading
) -> GradedRow:
    """The verdict on a response with all that was counted.

    ``found`` None: its grading was stopped, so it is wrong. ``tokens``: those of the text, needed where the row
    has no count; ``ended``: whether the last of them is an EOS. An EOS that the text does not show is counted.
    """
    cap, finished, num_tokens = reading.settings.cap, response.finished, response.num_tokens
    known = tokens if num_tokens is None else num_tokens
    assert known is not None, "a row without a count is read with a tokenizer only"
    if finished is None:
        finished = cap is None or ended or known < cap
    if num_tokens is None:
        num_tokens = known + (finished and not ended)
        num_tokens = num_tokens if cap is None else min(num_tokens, cap)
    verdict = _verdict(response, found)
    correct, closed = verdict.correct and finished, found is None or found.closed
    stated = found is not None and found.right_stated
    thinking = None if response.thinking_tokens is None else min(response.thinking_tokens, num_tokens)
    to_right = None
    if found is not None and found.thinking is not None:
        thinking = min(found.thinking, num_tokens) if closed else num_tokens
        to_right = None if found.to_right is None else min(found.to_right, num_tokens)
    return GradedRow(
        line=response.place.number,
        problem_id=response.problem_id,
        sample=response.sample,
        category=response.category,
        correct=correct,
        answer_correct=verdict.correct,
        finished=finished,
        num_tokens=num_tokens,
        how=verdict.how,
        extracted=verdict.extracted,
        thinking_tokens=thinking,
        answer_tokens=None if thinking is None else num_tokens - thinking,
        tokens_to_right=to_right,
        tokens_after_right=None if to_right is None else num_tokens - to_right,
        right_stated=stated,
        abandoned=_abandoned(finished, closed) if stated and not correct else None,
        empty=response.empty,
        unclosed=not closed,
        stopped=found is None,
        comparison_error=verdict.error,
        file=response.place.file if reading.several else None,
    )


def _verdict(response: Response, found: Anatomy | None) -> Verdict:
    """The verdict that counts."""
    ours = None if found is None else found.verdict
    if response.by_log and response.given is not None:
        return Verdict(
            response.given.right, None if ours is None else ours.extracted, f"the log's {response.given.name}"
        )
    return stopped_verdict() if ours is None else ours


def _abandoned(finished: bool, closed: bool) -> str:
    return UNCLOSED if not closed else OTHER_ANSWER if finished else CUT
