"""A log that has neither right answers nor verdicts, as servers' own outputs: its lengths, ends and cost alone."""

from __future__ import annotations

import json
import shlex
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from lengthwise.json_types import JsonObject
from lengthwise.logs.estimated_tokens import NAME as ESTIMATED
from lengthwise.logs.graded_database import Ledger, Lengths
from lengthwise.logs.grading_notes import kinds, notes_of
from lengthwise.logs.left_out import HOPELESS, LeftOut
from lengthwise.logs.log_numbers import LeftOutRows, Money, NextStep, TokenNumbers
from lengthwise.logs.next_steps import EVALUATE
from lengthwise.logs.readers import Log, LogRow
from lengthwise.logs.rows import LogReading
from lengthwise.logs.summary import QUANTILES, summarise
from lengthwise.logs.token_breakdown import Words
from lengthwise.statistics.bootstrap import Interval
from lengthwise.statistics.json_form import Result

WHOLE = 0.95
"""Share of the responses that a budget must leave whole to be named."""
SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class LengthSummary(Result):
    """What can be said of responses that nothing tells right from wrong.

    ``how_to_grade``: in words. ``ended_by``: responses by how they ended. ``tokens``: of all, of thinking and answer,
    of finished and of cut responses; None where there are none, or where they were not counted. The rest is as in
    `log_numbers.GradeSummary`.
    """

    log: str
    read_as: str
    format: str
    graded: bool = False
    how_to_grade: str
    problems: int
    responses: int
    mean_tokens: float
    mean_tokens_interval: Interval
    truncation_rate: float
    truncation_rate_interval: Interval
    unclosed_rate: float
    empty_rate: float
    ended_by: Mapping[str, int]
    tokens: Mapping[str, TokenNumbers | None]
    cap: int
    money: Money | None
    next_steps: Sequence[NextStep]
    problems_by: Mapping[str, int]
    finished_by: Mapping[str, int]
    left_out: LeftOutRows
    notes: Sequence[str]


def lengths_alone(log: Log, reading: LogReading) -> bool:
    """Whether a log of a kind that holds no answers has none and no verdict, and nothing asked for needs one."""
    settings = reading.settings
    named = (settings.contract.answer_column, settings.contract.verdict_column, settings.contract.grader)
    wanted = (settings.answers, settings.out, settings.record, settings.report, settings.look, settings.disagreements)
    if (
        log.format.holds_answers
        or settings.strict
        or settings.metrics == "all"
        or any(one is not None for one in (*named, *wanted))
    ):
        return False
    rows = (row for _, row in islice(log.rows(), HOPELESS) if isinstance(row, LogRow))
    return all(row.answer is None and not row.verdicts for row in rows)


def lengths_of(
    log: Log, reading: LogReading, words: Words | None, ledger: Ledger, left_out: LeftOut, facts: Tally[str]
) -> LengthSummary:
    """The summary of all that was entered and tallied."""
    settings, total = reading.settings, ledger.lengths("num_tokens")
    cap = settings.cap or max(int(total.values[-1]), 1)
    numbers = summarise(ledger, cap=cap, seed=settings.seed, price=settings.price)
    estimated = words is not None and words.name == ESTIMATED
    cut = ledger.lengths("num_tokens", "NOT finished")
    tokens = {name: numbers.tokens[name] for name in ("total", "thinking", "answer", "finished")}
    tokens["cut"] = _numbers(cut) if cut.total else None
    called, example = shlex.join(settings.log), json.dumps(_answer_row(log))
    return LengthSummary(
        log=", ".join(settings.log),
        read_as=f"{log}; token counts are {ESTIMATED}" if estimated else str(log),
        format=log.format.name,
        how_to_grade=f"--answers FILE joins right answers, rows such as {example}",
        problems=numbers.problems,
        responses=numbers.responses,
        mean_tokens=numbers.mean_tokens,
        mean_tokens_interval=numbers.mean_tokens_interval,
        truncation_rate=numbers.truncation_rate,
        truncation_rate_interval=numbers.truncation_rate_interval,
        unclosed_rate=numbers.unclosed_rate,
        empty_rate=numbers.empty_rate,
        ended_by=kinds(facts, "ended: "),
        tokens=tokens,
        cap=cap,
        money=numbers.money,
        next_steps=[_answers(called, example), _budget(total, cap), _thinking(tokens, called, cap)],
        problems_by=kinds(facts, "problem by "),
        finished_by=kinds(facts, "finished by "),
        left_out=left_out.counted(),
        notes=[*left_out.notes(), *notes_of(reading, facts, numbers, estimated=estimated)],
    )


def _numbers(lengths: Lengths) -> TokenNumbers:
    return TokenNumbers(lengths.total, lengths.mean, *(lengths.quantile(share) for share in QUANTILES))


def _answer_row(log: Log) -> JsonObject:
    """A row of right answers that would join the log's first response."""
    first = next((row for _, row in log.rows() if isinstance(row, LogRow)), None)
    if first is not None and first.problem_id is None and first.problem:
        text = first.problem if len(first.problem) <= SHOWN else f"{first.problem[:SHOWN]}..."
        return {"problem": text, "answer": "..."}
    return {"problem_id": "..." if first is None or first.problem_id is None else first.problem_id, "answer": "..."}


def _answers(called: str, example: str) -> NextStep:
    says = (
        "With right answers the report says what is right, what a budget would keep, and what comes after the answer."
    )
    return NextStep(says, f"lengthwise grade {called} --answers FILE", f"FILE has rows such as {example}")


def _budget(total: Lengths, cap: int) -> NextStep:
    """The smallest budget that leaves `WHOLE` of the responses as they are."""
    assumes = "the same responses, cut there; which of them are right is not known"
    budget = int(np.ceil(total.quantile(WHOLE) or 1))
    saved = 1 - float(np.minimum(total.values, budget) @ total.counts) / max(1, int(total.values @ total.counts))
    says = (
        f"A budget of {budget:,} tokens leaves {WHOLE:.0%} of the responses whole and saves {saved:.1%} of the tokens."
    )
    worth = budget < cap and saved >= 0.01
    return NextStep(says, f"{EVALUATE} --cap {cap} --budget {budget}" if worth else None, assumes)


def _thinking(tokens: Mapping[str, TokenNumbers | None], called: str, cap: int) -> NextStep:
    thinking, total = tokens["thinking"], tokens["total"]
    if thinking is None or thinking.mean is None or total is None or not total.mean:
        says = "How much of it is thinking was not counted."
        return NextStep(says, f"lengthwise grade {called} --tokenizer FOLDER", "the model's own tokenizer")
    says = (
        f"{thinking.mean / total.mean:.1%} of the tokens are thinking; what the model is worth without can be measured."
    )
    command = f"{EVALUATE} --cap {cap} --no-think" if thinking.mean else None
    return NextStep(says, command, "problems with right answers, and a model whose template has a switch")
