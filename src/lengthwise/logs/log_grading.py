"""Grading a log of responses that already exist: row by row, in worker processes, in bounded memory."""

from __future__ import annotations

import json
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lengthwise.config.commands.evaluation import GradeSettings
from lengthwise.data import Defect, stream_rows
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import replacing
from lengthwise.grading.graders import grader_name
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.worker_pool import IsolatedPool, Stopped
from lengthwise.logs.column_names import TwoReadingsError, columns_of, given
from lengthwise.logs.examples import Examples, example_of
from lengthwise.logs.graded_database import Ledger
from lengthwise.logs.log_contract import contract_of_log
from lengthwise.logs.rows import NO_COUNT, LogReading, Response, graded_row, read_response
from lengthwise.logs.summary import record_of_log, summarise
from lengthwise.logs.token_breakdown import Anatomist, Anatomy, Body, Counter, Words, load_words
from lengthwise.output_paths import real

Listener = Callable[[str, Mapping[str, Any]], None]
Rows = Iterable[tuple[int, dict[str, Any] | Defect]]
HOPELESS = 100
"""Rows without a count, and no tokenizer, after which a log is given up."""
SAID_EVERY = 100
"""Graded rows between two calls of the listener."""
NO_BODY = Body("", None)
LAB_TOKENIZER = "lab:chains"
MISCOUNTED = 0.02
"""A tokenizer that disagrees with the log's counts by more is mentioned."""


@dataclass
class LeftOut:
    """Rows that were not used, counted by reason with the first line of each.

    ``columns``: those of the first row. ``unseen``: columns that were asked for and that no row has had yet, by option.
    """

    source: str
    strict: bool
    columns: str = ""
    unseen: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    reasons: dict[str, list[int]] = field(default_factory=dict)

    def add(self, line: int, defect: Defect) -> None:
        """Count a row; under ``strict`` it is an `InputError`."""
        if self.strict:
            detail = f" ({defect.detail})" if defect.detail else ""
            raise InputError(f"{self.source}, line {line}: {defect.reason}{detail}; correct it, or leave --strict out")
        self.rows += 1
        self.reasons.setdefault(defect.reason, [0, line])[0] += 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: rows in all, and by reason, the most frequent first."""
        by_reason = sorted(self.reasons.items(), key=lambda item: (-item[1][0], item[1][1]))
        return {
            "rows": self.rows,
            "reasons": [{"reason": reason, "rows": rows, "first_line": line} for reason, (rows, line) in by_reason],
        }

    def notes(self) -> list[str]:
        """What became of columns that were asked for by name."""
        flags = {"--" + option.replace("_", "-"): name for option, name in self.unseen.items()}
        return [f"no row has a column {name!r} ({flag}); the first has {self.columns}" for flag, name in flags.items()]

    def refusal(self) -> InputError:
        """What to say when no row can be used."""
        reasons = self.to_dict()["reasons"]
        if not reasons:
            return InputError(f"{self.source} holds no rows; give a file with at least one response")
        listed = "; ".join(f"{r['reason']} ({r['rows']} rows, first in line {r['first_line']})" for r in reasons[:4])
        way_out = "a row needs response, answer and num_tokens; name other columns by --response-column and the like"
        if reasons[0]["reason"] == NO_COUNT:
            way_out = (
                "give --tokenizer FOLDER, the model's own: lengths are counted in tokens, never in characters; or name "
                "the column that has them by --tokens-column"
            )
        if self.columns:
            way_out += f"; the first row has {self.columns}"
        return InputError(f"{self.source}: no row can be graded: {listed}; {way_out}")


def grade_log(
    settings: GradeSettings,
    *,
    contract: PromptContract | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    listener: Listener | None = None,
    examples: Examples | None = None,
) -> dict[str, Any]:
    """Grade a log of responses and say where their tokens go: the whole summary, JSON-ready.

    Rows have ``response`` and ``answer``, and may have ``problem``, ``problem_id``, ``sample``, ``num_tokens``,
    ``finished`` (or ``finish_reason``), ``category`` and ``reasoning`` (thinking given apart; ``reasoning_content``
    and its like are read so, too). Rows that cannot be used are left out and counted by reason (``left_out``). A
    response whose grading is stopped by the time limit is wrong, and counted (``timeouts``, by reason
    ``stopped_by``); so is one whose comparison with the reference raised an exception (``comparison_errors``, by
    name). Memory is bounded, whatever the size of the log.

    ``contract``: in place of the one that the settings choose. ``on_row`` gets every graded row, in order.
    ``examples`` sees every response with its text.
    ``listener`` hears ``("rows", {"rows", "right", "tokens", "left_out"})`` now and then. What the settings name as
    ``out`` and ``record`` is written whole or not at all; a record holds three numbers a response in memory.

    Raises:
        InputError: a file that is missing or holds no row that can be graded; a row that could be read in two ways
            (`column_names.TwoReadingsError`); with ``strict`` any unusable row.
        ConfigError: an output that is the log itself, or a folder.
    """
    path = settings.log
    for name in ("out", "record", "report", "look"):
        check_target(name, getattr(settings, name), path)
    rows = stream_rows(path)
    words = _words(settings)
    reading = LogReading(settings, contract or contract_of_log(settings.contract))
    left_out, facts = LeftOut(str(path), settings.strict, unseen=reading.asked_columns), Tally[str]()
    with Ledger() as ledger:
        with _writer(settings.out) as write:
            for row in _graded_rows(rows, reading, words, ledger, left_out, facts, examples):
                write(row)
                if on_row is not None:
                    on_row(row)
                if listener is not None and facts["rows"] % SAID_EVERY == 0:
                    listener("rows", {**facts, "left_out": left_out.rows})
            if not facts["rows"]:
                raise left_out.refusal()
        summary = _summary(reading, words, ledger, facts) | {"left_out": left_out.to_dict()}
        summary["notes"] = [*left_out.notes(), *summary["notes"]]
        if settings.record is not None:
            record_of_log(ledger, name=path.name, context=summary["context"]).save(settings.record)
    return summary


def _words(settings: GradeSettings) -> Words | None:
    """The tokenizer that is named, if one is; ``lab:chains`` names the lab's."""
    folder = settings.tokenizer
    if folder is None:
        return None
    if folder == LAB_TOKENIZER:
        from lengthwise.lab.reasoner import shipped_reasoner

        folder = str(shipped_reasoner())
    return load_words(folder, trust_remote_code=settings.trust_remote_code)


def check_target(name: str, target: Path | None, log: Path) -> None:
    """Refuse to write over the log itself, or over a folder, before any row is graded."""
    if target is not None and target.is_dir():
        raise ConfigError(f"{name} is {str(target)!r}, a folder; name a file")
    if target is not None and real(target) == real(log):
        raise ConfigError(f"{name} is the log itself ({target}); name another file")


@contextmanager
def _writer(out: str | Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Gives what writes a row as a line; the file is there once it is whole."""
    if out is None:
        yield lambda row: None
        return
    with replacing(out) as partial, partial.open("w", encoding="utf-8") as file:
        yield lambda row: print(json.dumps(row), file=file)


def _graded_rows(
    rows: Rows,
    reading: LogReading,
    words: Words | None,
    ledger: Ledger,
    left_out: LeftOut,
    facts: Tally[str],
    examples: Examples | None,
) -> Iterator[dict[str, Any]]:
    """Grade, enter into the ledger and tally; rows that cannot be used are counted on the way."""
    anatomist = Anatomist(reading.contract, reading.settings.contract.grader, words)
    counter = None if words is None else Counter(words)
    waiting: deque[tuple[int, Response | Defect]] = deque()

    def bodies() -> Iterator[Body | None]:
        for line, row in rows:
            item = row if isinstance(row, Defect) else _read(line, row, reading, left_out)
            if isinstance(item, Defect):
                waiting.append((line, item))
                yield None
                continue
            # A text is kept while it is graded only if it is needed afterwards.
            needed = item.num_tokens is None or examples is not None
            waiting.append((line, item if needed else replace(item, body=NO_BODY)))
            yield item.body

    with IsolatedPool(anatomist, workers=reading.settings.workers, seconds=reading.settings.seconds) as pool:
        for result in pool.map(bodies()):
            line, item = waiting.popleft()
            defect = item if isinstance(item, Defect) else result
            if isinstance(item, Response) and not isinstance(result, Defect):
                found = result if isinstance(result, Anatomy) else None
                row = _counted(item, found, counter, reading.settings.cap)
                defect = _enter(ledger, row, found)
                if defect is None:
                    _tally(facts, item, found, row)
                    if examples is not None:
                        examples.add(example_of(row, item.body, found))
                    if isinstance(result, Stopped):
                        facts[f"stopped by {result.reason}"] += 1
                    yield row
                    continue
            assert isinstance(defect, Defect), "what is not graded has a reason"
            left_out.add(line, defect)
            if not facts["rows"] and left_out.reasons.get(NO_COUNT, [0])[0] >= HOPELESS:
                raise left_out.refusal()


def _read(line: int, row: Mapping[str, Any], reading: LogReading, left_out: LeftOut) -> Response | Defect:
    left_out.columns = left_out.columns or columns_of(row)
    if left_out.unseen:
        left_out.unseen = {option: name for option, name in left_out.unseen.items() if given(row, name) is None}
    try:
        return read_response(line, row, reading)
    except TwoReadingsError as error:
        raise TwoReadingsError(f"{left_out.source}, line {line}: {error}") from error


def _enter(ledger: Ledger, row: Mapping[str, Any], found: Anatomy | None) -> Defect | None:
    """Enter a graded row; one that was cut has no vote."""
    gold, vote = (None, None) if found is None else (found.gold, found.vote if row["finished"] else None)
    refused = ledger.add(row, gold=gold, vote=vote)
    return None if refused is None else Defect(refused)


def _counted(response: Response, found: Anatomy | None, counter: Counter | None, cap: int | None) -> dict[str, Any]:
    """The graded row; a response whose grading was stopped has its tokens counted here, where it has no count."""
    if found is not None:
        return graded_row(response, found, found.tokens, found.ended, cap)
    if response.num_tokens is not None or counter is None:
        return graded_row(response, None, None, False, cap)
    starts, ended = counter(response.body.text)
    return graded_row(response, None, len(starts), ended, cap)


def _tally(facts: Tally[str], response: Response, found: Anatomy | None, row: Mapping[str, Any]) -> None:
    """What the notes are made of."""
    facts["rows"] += 1
    facts["right"] += row["correct"]
    facts["tokens"] += row["num_tokens"]
    facts[f"problem by {response.named_by}"] += 1
    facts[f"finished by {response.told_by}"] += 1
    facts.update(response.remarks)
    if found is not None:
        facts["thinks"] += found.thinks
        facts["thought"] += found.thinks and found.closed
        facts["cut without thinking"] += not found.thinks and not row["finished"]
        if found.tokens is not None and response.num_tokens is not None:
            facts["given"] += response.num_tokens
            facts["counted"] += found.tokens + (row["finished"] and not found.ended)


def _summary(reading: LogReading, words: Words | None, ledger: Ledger, facts: Tally[str]) -> dict[str, Any]:
    settings, contract = reading.settings, reading.contract
    longest = ledger.sums(longest="max(num_tokens)")["longest"]
    cap = settings.cap or max(longest, 1)
    context = {
        "model": None,
        "data": "a log of responses",
        "contract": contract.to_dict(),
        "template": contract.fingerprint(),
        "cap": cap,
        "cap_from": "the longest response" if settings.cap is None else "given",
        "temperature": None,
        "top_p": None,
        "seed": None,
        "grader": settings.contract.grader or grader_name(contract.answer_format),
        "tokenizer": "the log's own counts" if words is None else words.name,
    }
    numbers = summarise(
        ledger, cap=cap, seed=settings.seed, price=settings.price, log=str(settings.log),
        t_max=settings.t_max if settings.metrics == "all" else None, hard=settings.hard,
    ).to_dict()  # fmt: skip
    return {
        "log": str(settings.log),
        **numbers,
        "problems_by": _kinds(facts, "problem by "),
        "finished_by": _kinds(facts, "finished by "),
        "stopped_by": _kinds(facts, "stopped by "),
        "context": context,
        "notes": _notes(reading, facts, numbers),
    }


def _kinds(facts: Tally[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in facts.items() if name.startswith(prefix)}


def _listed(counts: Mapping[str, int]) -> str:
    rows = sum(counts.values())
    return f"{rows} {'row' if rows == 1 else 'rows'} ({', '.join(f'{name} {n}' for name, n in counts.items())})"


def _stopped_note(reasons: Mapping[str, int], seconds: float) -> str:
    """Which limits ended gradings, and how many."""
    told = {"time": f"by the limit of {seconds:g} s", "memory": "for want of memory", "died": "with their process"}
    listed = ", ".join(f"{rows} {told[reason]}" for reason, rows in reasons.items())
    rows = sum(reasons.values())
    return f"{rows} {'grading' if rows == 1 else 'gradings'} ended early ({listed}); those responses count as wrong"


def _notes(reading: LogReading, facts: Tally[str], numbers: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know, or could have for the asking."""
    unread = next(iter(_kinds(facts, "problem not read from ")), None)
    off = facts["counted"] / facts["given"] - 1 if facts["given"] else 0.0
    more = "more" if off > 0 else "fewer"
    wanted = [
        (numbers["warning"] is not None, numbers["warning"]),
        (
            facts["finished by assumed"],
            f"{facts['finished by assumed']} responses are taken for finished: nothing in their rows tells. --cap N "
            "takes those of N tokens for cut",
        ),
        (
            facts["problem by row"],
            f"{facts['problem by row']} rows have neither problem_id nor problem; each counts as a problem of its own"
            + (f". --problem-column {unread} tells them apart" if unread else ""),
        ),
        (numbers["timeouts"], _stopped_note(_kinds(facts, "stopped by "), reading.settings.seconds)),
        (
            numbers["comparison_errors"],
            f"comparing raised an exception in {_listed(numbers['comparison_errors'])}; those responses count as wrong",
        ),
        (
            abs(off) > MISCOUNTED,
            f"the tokenizer counts {abs(off):.1%} {more} tokens than the log has; is it the model's own?",
        ),
        (
            reading.contract.think_close is not None and not facts["thought"],
            "no response closes its thinking; for a model that answers without thinking give --think no",
        ),
        (
            reading.contract.think_close is None and facts["thinks"] and facts["cut without thinking"],
            f"{facts['cut without thinking']} cut responses show no thinking mark though others do; if all begin in "
            "their thinking give --think yes",
        ),
        (
            reading.settings.tokenizer is None,
            "--tokenizer FOLDER tells thinking from answer, and how many tokens come after the right answer",
        ),
    ]
    return [*_column_notes(facts), *(note for holds, note in wanted if holds)]


def _column_notes(facts: Tally[str]) -> Iterator[str]:
    """Which columns were read that need not have been, and the other way round."""
    for column, rows in _kinds(facts, "thinking read from ").items():
        yield f"the thinking of {rows} responses is read from their column {column}"
    for column, rows in _kinds(facts, "thinking twice in response and ").items():
        yield f"{rows} responses hold the thinking of their column {column} as well; it is counted once"
    for column, rows in _kinds(facts, "tokens not read from ").items():
        yield (
            f"the tokens of {rows} responses are counted by the tokenizer; their column {column} is not read "
            f"(--tokens-column {column} reads it)"
        )
