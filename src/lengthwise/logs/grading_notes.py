"""What a reader of a log's numbers must know, or could have for the asking."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping

from lengthwise.logs.log_numbers import LogNumbers
from lengthwise.logs.log_verdicts import verdict_notes
from lengthwise.logs.rows import LogReading

MISCOUNTED = 0.02
"""A tokenizer that disagrees with the log's counts by more is mentioned."""


def kinds(facts: Tally[str], prefix: str) -> dict[str, int]:
    """The counts whose names begin alike, by the rest of their names."""
    return {name.removeprefix(prefix): count for name, count in facts.items() if name.startswith(prefix)}


def notes_of(reading: LogReading, facts: Tally[str], numbers: LogNumbers, *, estimated: bool) -> Iterator[str]:
    """How the rows were read, whose verdicts count, and what would tell more."""
    for remark, rows in kinds(facts, "note: ").items():
        yield f"{remark} ({_responses(rows)})"
    if facts["sharing"]:
        yield f"{_responses(facts['sharing'])} share counts: {facts['shared tokens']:,} tokens in all, by the log"
    yield from _by_log(reading, facts)
    yield from verdict_notes(facts, reading.settings.right_from)
    yield from (note for holds, note in _wanted(reading, facts, numbers, estimated) if holds)


def _by_log(reading: LogReading, facts: Tally[str]) -> Iterator[str]:
    named = reading.settings.contract.verdict_column is not None
    for name, rows in kinds(facts, "verdict by ").items():
        why = "" if named else ": there is no right answer to grade against (--answers FILE joins some)"
        yield f"the log's own verdict {name} counts in {_responses(rows)}{why}"


def _responses(rows: int) -> str:
    return f"{rows} {'response' if rows == 1 else 'responses'}"


def _wanted(
    reading: LogReading, facts: Tally[str], numbers: LogNumbers, estimated: bool
) -> Iterator[tuple[object, str]]:
    """Notes, each with what it holds under."""
    off = facts["counted"] / facts["given"] - 1 if facts["given"] else 0.0
    errors = numbers.comparison_errors
    yield numbers.warning is not None, str(numbers.warning)
    yield (
        facts["finished by assumed"],
        f"{facts['finished by assumed']} responses are taken for finished: nothing in their rows tells."
        + ("" if estimated else " --cap N takes those of N tokens for cut"),
    )
    yield (
        facts["problem by row"],
        f"{facts['problem by row']} rows have neither a name nor a text of their problem; each counts as a problem of "
        "its own (--problem-column, --problem-id-column)",
    )
    yield numbers.timeouts, _stopped_note(kinds(facts, "stopped by "), reading.settings.seconds)
    yield errors, f"comparing raised an exception in {_listed(errors)}; those responses count as wrong"
    yield (
        abs(off) > MISCOUNTED,
        f"the tokenizer counts {abs(off):.1%} {'more' if off > 0 else 'fewer'} tokens than the log has; is it the "
        "model's own?",
    )
    yield (
        reading.contract.think_close is not None and not facts["thought"],
        "no response closes its thinking; for a model that answers without thinking give --think no",
    )
    yield (
        reading.contract.think_close is None and facts["thinks"] and facts["cut without thinking"],
        f"{facts['cut without thinking']} cut responses show no thinking mark though others do; if all begin in their "
        "thinking give --think yes",
    )
    yield (
        estimated,
        "the log has no token counts: words, marks and groups of three digits are counted in place of tokens, which "
        "may be off by a third; --tokenizer FOLDER, the model's own, counts them",
    )
    yield (
        reading.settings.tokenizer is None and not estimated,
        "--tokenizer FOLDER tells thinking from answer"
        + (", and how many tokens come after the right answer" if reading.graded else ""),
    )


def _listed(counts: Mapping[str, int]) -> str:
    rows = sum(counts.values())
    return f"{rows} {'row' if rows == 1 else 'rows'} ({', '.join(f'{name} {n}' for name, n in counts.items())})"


def _stopped_note(reasons: Mapping[str, int], seconds: float) -> str:
    """Which limits ended gradings, and how many."""
    told = {"time": f"by the limit of {seconds:g} s", "memory": "for want of memory", "died": "with their process"}
    listed = ", ".join(f"{rows} {told[reason]}" for reason, rows in reasons.items())
    rows = sum(reasons.values())
    return f"{rows} {'grading' if rows == 1 else 'gradings'} ended early ({listed}); those responses count as wrong"
