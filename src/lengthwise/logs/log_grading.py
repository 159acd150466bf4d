"""Grading a log of responses that already exist: row by row, in worker processes, in bounded memory."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from lengthwise.config.commands.evaluation import WRITTEN, GradeSettings
from lengthwise.data import Defect
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import replacing
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.worker_pool import IsolatedPool, Known, Stopped
from lengthwise.json_types import JsonObject, JsonValue
from lengthwise.logs.estimated_tokens import has_counts, pieces
from lengthwise.logs.examples import Examples, example_of
from lengthwise.logs.graded_database import Ledger
from lengthwise.logs.left_out import LeftOut
from lengthwise.logs.log_contract import contract_of_log
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.logs.log_summary import summary_of
from lengthwise.logs.log_verdicts import agreements, tally_verdicts
from lengthwise.logs.readers import Log, LogRow, Place, recognise
from lengthwise.logs.readers.row_values import names_of
from lengthwise.logs.rows import (
    GradedRow,
    LogReading,
    Response,
    answers_of,
    asked_columns,
    fields_of,
    graded_row,
    read_response,
)
from lengthwise.logs.token_breakdown import Anatomist, Anatomy, Body, Counter, Words, load_words
from lengthwise.logs.ungraded_lengths import LengthSummary, lengths_alone, lengths_of
from lengthwise.output_paths import real

Listener = Callable[[str, Mapping[str, int]], None]
SAID_EVERY = 100
"""Graded rows between two calls of the listener."""
NO_BODY = Body("", None)
LAB_TOKENIZER = "lab:chains"


def grade_log(
    settings: GradeSettings,
    *,
    contract: PromptContract | None = None,
    on_row: Callable[[GradedRow], None] | None = None,
    listener: Listener | None = None,
    examples: Examples | None = None,
) -> GradeSummary | LengthSummary:
    """Grade a log of responses and say where their tokens go: the whole summary.

    The log may be of any format of `logs.readers`; ``read_as`` says which it was taken for. Rows that cannot be used
    are left out and counted by reason (``left_out``). A response whose grading is stopped by the time limit is wrong,
    and counted (``timeouts``, by reason ``stopped_by``); so is one whose comparison with the reference raised an
    exception (``comparison_errors``, by name). Where the log has no right answer its own verdict counts, and where the
    settings name one (``verdict_column``) that does. What a server wrote, with neither and nothing asked for that needs
    one, has its lengths summarised alone. Memory is bounded, whatever the size of the log.

    ``contract``: in place of the one that the settings choose. ``on_row`` gets every graded row, in order.
    ``examples`` sees every response with its text.
    ``listener`` hears ``("rows", {"rows", "right", "tokens", "left_out"})`` now and then. What the settings name as
    ``out``, ``disagreements`` and ``record`` is written whole or not at all; a record holds three numbers a response
    in memory.

    Raises:
        InputError: a log that is missing, is of no known format or holds no row that can be graded; a row that could
            be read in two ways (`readers.log_row.TwoReadingsError`); with ``strict`` any unusable row.
        ConfigError: an output that is the log itself, or a folder.
    """
    log = recognise(settings.log, format_like=settings.format, fields=fields_of(settings))
    for name in WRITTEN:
        check_target(name, getattr(settings, name), log)
    words = _words(settings, log)
    reading = LogReading(
        settings, contract or contract_of_log(settings.contract), answers_of(settings), words is not None,
        len(log.openings) > 1,
    )  # fmt: skip
    reading = replace(reading, graded=not lengths_alone(log, reading))
    facts = Tally[str]()
    left_out = LeftOut(log, reading, asked_columns(settings))
    with Ledger() as ledger:
        with _lines(settings.out) as write, _lines(settings.disagreements) as differ:
            for graded in _graded_rows(log, reading, words, ledger, left_out, facts, examples):
                write(graded.row)
                if graded.differs:
                    differ(graded)
                if on_row is not None and reading.graded:
                    on_row(graded.row)
                if listener is not None and facts["rows"] % SAID_EVERY == 0:
                    listener("rows", {**facts, "left_out": left_out.rows})
            _check_some(settings, left_out, facts)
        conclude = summary_of if reading.graded else lengths_of
        return conclude(log, reading, words, ledger, left_out, facts)


def _words(settings: GradeSettings, log: Log) -> Words | None:
    """The tokenizer that is named (``lab:chains`` names the lab's), else an estimate where the log has no counts.

    Raises:
        ConfigError: a cap, and no counts to compare with it.
    """
    folder = settings.tokenizer
    if folder == LAB_TOKENIZER:
        from lengthwise.lab.reasoner import shipped_reasoner

        folder = str(shipped_reasoner())
    if folder is not None:
        return load_words(folder, trust_remote_code=settings.trust_remote_code)
    if has_counts(log):
        return None
    if (column := settings.contract.tokens_column) is not None:
        raise InputError(
            f"{log.openings[0].name} has no token count at {column!r} (--tokens-column); its first row has "
            f"{names_of(log.openings[0].first[0] if log.openings[0].first else {})}"
        )
    if settings.cap is not None:
        raise ConfigError(
            f"cap is {settings.cap}, and {log.openings[0].name} ({log.format.title}) has no token counts that it could "
            "be compared with; give --tokenizer FOLDER, the model's own, or leave --cap out"
        )
    return pieces()


def check_target(name: str, target: Path | None, log: Log) -> None:
    """Refuse to write over the log itself, or over a folder, before any row is graded."""
    if target is not None and target.is_dir():
        raise ConfigError(f"{name} is {str(target)!r}, a folder; name a file")
    if target is not None and any(real(target) == real(opening.source.path) for opening in log.openings):
        raise ConfigError(f"{name} is the log itself ({target}); name another file")


def _check_some(settings: GradeSettings, left_out: LeftOut, facts: Tally[str]) -> None:
    if not facts["rows"]:
        raise left_out.refusal()
    if settings.disagreements is not None and not agreements(facts):
        raise InputError(
            f"disagreements is {str(settings.disagreements)!r}, and no response has both a right answer and a verdict "
            "of the log's own; name the verdict by --verdict-column and join answers by --answers, or leave it out"
        )


@dataclass(frozen=True, slots=True)
class _Graded:
    """A response with its graded row and what was found in it."""

    response: Response
    row: GradedRow
    found: Anatomy | None

    @property
    def ours(self) -> bool | None:
        """Our own verdict; None where there is none."""
        return None if self.found is None or self.found.verdict is None else self.found.verdict.correct

    @property
    def differs(self) -> bool:
        """Whether the log's own verdict is another one than ours."""
        return self.ours is not None and self.response.given is not None and self.ours != self.response.given.right

    def to_dict(self) -> JsonObject:
        """A line of ``--disagreements``."""
        assert self.response.given is not None
        given, verdict = self.response.given, self.found.verdict if self.found is not None else None
        more: JsonObject = {} if verdict is None else {"how": verdict.how, "extracted": verdict.extracted}
        return {
            "file": self.response.place.file,
            "line": self.row.line,
            "problem_id": self.row.problem_id,
            "sample": self.row.sample,
            "verdict": given.name,
            "value": given.value,
            "right_by_the_log": given.right,
            "right_by_ours": self.ours,
            **more,
            "answer": cast("JsonValue", self.response.body.answer),
            "response": self.response.body.text,
        }


class _Line(Protocol):
    def to_dict(self) -> JsonObject: ...


@contextmanager
def _lines(out: Path | None) -> Iterator[Callable[[_Line], None]]:
    """Gives what writes a value as a line; the file is there once it is whole."""
    if out is None:
        yield lambda line: None
        return
    with replacing(out) as partial, partial.open("w", encoding="utf-8") as file:
        yield lambda line: print(json.dumps(line.to_dict()), file=file)


def _graded_rows(
    log: Log,
    reading: LogReading,
    words: Words | None,
    ledger: Ledger,
    left_out: LeftOut,
    facts: Tally[str],
    examples: Examples | None,
) -> Iterator[_Graded]:
    """Grade, enter into the ledger and tally; rows that cannot be used are counted on the way."""
    settings = reading.settings
    anatomist = Anatomist(reading.contract, settings.contract.grader, words)
    counter = None if words is None else Counter(words)
    waiting: deque[tuple[Place, Response | Defect]] = deque()
    shared = SharedTokens(facts)

    def bodies() -> Iterator[Body | Known[Anatomy | Defect | None]]:
        for place, row in log.rows():
            item = row if isinstance(row, Defect) else read_response(place, row, reading)
            if isinstance(row, LogRow):
                left_out.see(row)
                shared.add(place, row)
            if isinstance(item, Defect):
                waiting.append((place, item))
                yield Known(None)
                continue
            # A text is kept while it is graded only if it is needed afterwards.
            differs = settings.disagreements is not None and item.given is not None
            kept = item.num_tokens is None or examples is not None or differs
            waiting.append((place, item if kept else replace(item, body=NO_BODY)))
            # There a worker would cost more than its work.
            yield Known(anatomist.marks_of(item.body, counter)) if anatomist.alone(item.body) else item.body

    with IsolatedPool(anatomist, workers=settings.workers, seconds=settings.seconds) as pool:
        for result in pool.map(bodies()):
            place, item = waiting.popleft()
            defect = item if isinstance(item, Defect) else result
            if isinstance(item, Response) and not isinstance(result, Defect):
                found = result if isinstance(result, Anatomy) else None
                graded = _Graded(item, _counted(item, found, counter, reading), found)
                defect = _enter(ledger, graded.row, found)
                if defect is None:
                    _tally(facts, graded)
                    if examples is not None:
                        examples.add(example_of(graded.row, item.body, found))
                    if isinstance(result, Stopped):
                        facts[f"stopped by {result.reason}"] += 1
                    yield graded
                    continue
            assert isinstance(defect, Defect), "what is not graded has a reason"
            left_out.add(place, defect)
            if not facts["rows"] and left_out.hopeless:
                raise left_out.refusal()


@dataclass
class SharedTokens:
    """Tokens of which a log has the sum over several responses alone: each sum once."""

    facts: Tally[str]
    last: Place | None = None

    def add(self, place: Place, row: LogRow) -> None:
        """Count the sum of a row of the log when the first of its responses comes."""
        if row.shared_tokens is None:
            return
        self.facts["sharing"] += 1
        if place != self.last:
            self.facts["shared tokens"] += row.shared_tokens
        self.last = place


def _enter(ledger: Ledger, row: GradedRow, found: Anatomy | None) -> Defect | None:
    """Enter a graded row; one that was cut has no vote."""
    gold, vote = (None, None) if found is None else (found.gold, found.vote if row.finished else None)
    refused = ledger.add(row, gold=gold, vote=vote)
    return None if refused is None else Defect(refused)


def _counted(response: Response, found: Anatomy | None, counter: Counter | None, reading: LogReading) -> GradedRow:
    """The graded row; a response whose grading was stopped has its tokens counted here, where it has no count."""
    if found is not None:
        return graded_row(response, found, found.tokens, found.ended, reading)
    if response.num_tokens is not None or counter is None:
        return graded_row(response, None, None, False, reading)
    starts, ended = counter(response.body.text)
    return graded_row(response, None, len(starts), ended, reading)


def _tally(facts: Tally[str], graded: _Graded) -> None:
    """What the notes are made of."""
    response, row, found = graded.response, graded.row, graded.found
    facts["rows"] += 1
    facts["right"] += row.correct
    facts["tokens"] += row.num_tokens
    facts[f"problem by {response.named_by}"] += 1
    facts[f"finished by {response.told_by}"] += 1
    facts[f"ended: {response.end}"] += 1
    facts.update(f"note: {remark}" for remark in response.remarks)
    if response.given is not None:
        tally_verdicts(facts, response.given, graded.ours)
        if response.by_log:
            facts[f"verdict by {response.given.name}"] += 1
    if found is not None:
        facts["thinks"] += found.thinks
        facts["thought"] += found.thinks and found.closed
        facts["cut without thinking"] += not found.thinks and not row.finished
        if found.tokens is not None and response.num_tokens is not None:
            facts["given"] += response.num_tokens
            facts["counted"] += found.tokens + (row.finished and not found.ended)
