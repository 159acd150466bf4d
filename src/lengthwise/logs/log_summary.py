"""The summary of a graded log: the numbers of its ledger, with how it was read."""

from __future__ import annotations

import shlex
from collections import Counter as Tally
from pathlib import Path

from lengthwise.config.commands.evaluation import GradeSettings
from lengthwise.grading.graders import grader_name
from lengthwise.json_types import JsonObject
from lengthwise.logs.estimated_tokens import NAME as ESTIMATED
from lengthwise.logs.graded_database import Ledger
from lengthwise.logs.grading_notes import kinds, notes_of
from lengthwise.logs.left_out import LeftOut
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.logs.log_verdicts import agreements
from lengthwise.logs.readers import Log
from lengthwise.logs.readers.sources import STDIN
from lengthwise.logs.rows import LogReading
from lengthwise.logs.summary import record_of_log, summarise
from lengthwise.logs.token_breakdown import Words


def summary_of(
    log: Log, reading: LogReading, words: Words | None, ledger: Ledger, left_out: LeftOut, facts: Tally[str]
) -> GradeSummary:
    """The summary of all that was entered and tallied; a record is written where the settings name one."""
    settings = reading.settings
    cap = settings.cap or max(ledger.sums(longest="max(num_tokens)")["longest"], 1)
    context = _context(reading, words, facts, cap)
    called = ", ".join(settings.log)
    numbers = summarise(
        ledger, cap=cap, seed=settings.seed, price=settings.price, log=shlex.join(settings.log),
        t_max=settings.t_max if settings.metrics == "all" else None, hard=settings.hard,
    )  # fmt: skip
    estimated = words is not None and words.name == ESTIMATED
    if settings.record is not None:
        record_of_log(ledger, name=_name(log, settings), context=context).save(settings.record)
    by_log = kinds(facts, "verdict by ")
    return GradeSummary(
        **vars(numbers),
        log=called,
        read_as=f"{log}; token counts are {ESTIMATED}" if estimated else str(log),
        format=log.format.name,
        problems_by=kinds(facts, "problem by "),
        finished_by=kinds(facts, "finished by "),
        stopped_by=kinds(facts, "stopped by "),
        verdicts_by={"ours": facts["rows"] - sum(by_log.values()), **by_log},
        agreement=agreements(facts),
        context=context,
        left_out=left_out.counted(),
        notes=[*left_out.notes(), *notes_of(reading, facts, numbers, estimated=estimated)],
    )


def _context(reading: LogReading, words: Words | None, facts: Tally[str], cap: int) -> JsonObject:
    settings, contract = reading.settings, reading.contract
    by_log = kinds(facts, "verdict by ")
    ours = [settings.contract.grader or grader_name(contract.answer_format)]
    graders = [
        *(ours if facts["rows"] > sum(by_log.values()) else []),
        *(f"the log's {name}" for name in sorted(by_log)),
    ]
    return {
        "model": None,
        "data": "a log of responses",
        "contract": contract.to_dict(),
        "template": contract.fingerprint(),
        "cap": cap,
        "cap_from": "the longest response" if settings.cap is None else "given",
        "temperature": None,
        "top_p": None,
        "seed": None,
        "grader": " and ".join(graders),
        "tokenizer": "the log's own counts" if words is None else words.name,
    }


def _name(log: Log, settings: GradeSettings) -> str:
    """What a record of the log is called: its file, or what was named for several."""
    given = settings.log[0]
    return "standard input" if given == STDIN else Path(given).name or log.openings[0].name
