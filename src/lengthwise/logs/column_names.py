"""What columns of a log are called: which one is read, and where two of them say different things.

A log that could be read in two ways is refused, both columns and the option that decides named: the same rows give
other lengths and other verdicts with the thinking in them and without. A column that the user names is never doubted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lengthwise.errors import InputError
from lengthwise.grading.answer_extraction.answer_text import answer_key
from lengthwise.grading.gold_answers import read_gold
from lengthwise.grading.thinking_marks import KINDS, opens_itself, same_thinking, split_thinking

RESPONSE = (
    "response", "completion", "output", "content", "text", "generation", "prediction", "generated_text", "model_output",
    "model_response",
)  # fmt: skip
THINKING = ("reasoning", "reasoning_content", "thinking", "thought")
ANSWER = (
    "answer", "target", "gold", "gold_answer", "ground_truth", "gts", "label", "reference", "reference_answer",
    "expected_answer", "correct_answer",
)  # fmt: skip
TOKENS = ("num_tokens", "completion_tokens", "output_tokens", "usage.completion_tokens", "usage.output_tokens")
FINISHED = ("finished", "finish_reason", "stop_reason")
PROBLEM = ("problem", "question", "prompt", "input", "query")
"""What people call a column, the name that is read unless another is given first. A dot leads into an object."""

ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls")
NOT_ENDED = ("length", "max_tokens", "max_length", "content_filter", "safety", "abort", "cancelled", "error")
"""Finish reasons of servers, in lower case."""
NONE = "none"
"""In place of the name of the thinking's column: there is none."""
MOST_TOKENS = 2**31 - 1
_SHOWN, _MOST_COLUMNS = 40, 20


class UnusableError(Exception):
    """Reason and detail of the `Defect` that a row is."""


class TwoReadingsError(InputError):
    """A row that could be read in two ways."""


@dataclass(frozen=True)
class Columns:
    """Names that a user gave, None where the usual ones are looked for."""

    response: str | None = None
    answer: str | None = None
    reasoning: str | None = None
    tokens: str | None = None
    finished: str | None = None

    def named(self) -> dict[str, str]:
        """The names that were given, by option."""
        found = {f"{name}_column": value for name, value in vars(self).items() if value is not None}
        return {name: value for name, value in found.items() if (name, value) != ("reasoning_column", NONE)}


def given(row: Mapping[str, Any], column: str) -> Any:
    """A value of a row; None where it is missing or NaN. ``usage.completion_tokens`` leads into an object."""
    value = row.get(column)
    if value is None and "." in column and column not in row:
        first, _, rest = column.partition(".")
        value = given(row[first], rest) if isinstance(row.get(first), Mapping) else None
    return None if isinstance(value, float) and math.isnan(value) else value


def clean(text: str) -> str:
    """Text that can be written; lone surrogates become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def text_of(row: Mapping[str, Any], column: str) -> str | None:
    """A text of a row; `UnusableError` where it is anything else."""
    value = given(row, column)
    if value is not None and not isinstance(value, str):
        raise UnusableError(f"{column} is not text", f"it is a {type(value).__name__}")
    return value if value is None else clean(value)


def columns_of(row: Mapping[str, Any]) -> str:
    """The names of a row's columns, for a message."""
    names = [" ".join(str(name).split())[:_SHOWN] for name in row]
    more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
    return (", ".join(names[:_MOST_COLUMNS]) or "no columns") + more


def candidates(row: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Which of the names stand in a row with a value."""
    return [name for name in names if given(row, name) not in (None, "", [], {})]


def read_thinking(row: Mapping[str, Any], columns: Columns) -> tuple[str | None, str | None]:
    """The thinking that a row gives apart from its response, and its column; None where there is none."""
    if columns.reasoning is not None:
        text = None if columns.reasoning == NONE else text_of(row, columns.reasoning)
        return (text, columns.reasoning) if text and text.strip() else (None, None)
    # A flag, as in thinking: true, is no text of a thinking and no damaged one.
    there = [name for name in THINKING if not isinstance(given(row, name), int | float) or name == THINKING[0]]
    texts = {name: text for name in there if (text := text_of(row, name)) and text.strip()}
    first = next(iter(texts), None)
    if first is None:
        return None, None
    for name, text in texts.items():
        if text.split() != texts[first].split():
            raise _two("the thinking", first, name, "reasoning_column")
    return texts[first], first


def read_text(row: Mapping[str, Any], columns: Columns, thinking: str | None, apart: str | None) -> str | None:
    """The response's text, given the thinking and its column ``apart``; None where the row has thinking alone."""
    name = columns.response or RESPONSE[0]
    text = text_of(row, name)
    rivals = [] if columns.response is not None else list(_rival_texts(row, text, thinking))
    if text is None and (not thinking or rivals):
        raise UnusableError(f"no {name}", f"it has {columns_of(row)}")
    if text is not None and text.strip() and rivals:
        raise _two("the response", name, rivals[0], "response_column")
    if text is not None and thinking is not None and columns.reasoning is None and _thinks_anew(text, thinking):
        raise TwoReadingsError(
            f"column {apart!r} holds thinking, and {name!r} begins with other thinking of its own; say whether the "
            f"first is the response's, too: --reasoning-column {apart}, or --reasoning-column none"
        )
    return text


def _thinks_anew(text: str, thinking: str) -> bool:
    """Whether a response has a whole thinking section of its own, beside another one that is given apart."""
    own = split_thinking(text, KINDS, begins=False)[0] if opens_itself(text) else ""
    return bool(own.strip()) and not same_thinking(thinking, text)


def _rival_texts(row: Mapping[str, Any], text: str | None, thinking: str | None) -> Iterator[str]:
    """Columns that are called as a response is, and hold what is neither in it nor in its problem."""
    there = [name for name in candidates(row, RESPONSE[1:]) if isinstance(given(row, name), str)]
    if not there:
        return
    asked = [given(row, name) for name in PROBLEM]
    known = [_words(one) for one in (text, thinking, *asked) if isinstance(one, str)]
    for name in there:
        words = _words(given(row, name))
        if words and not any(words in one for one in known):
            yield name


def read_answer(row: Mapping[str, Any], columns: Columns, answer_format: str, answers: str) -> Any:
    """The reference of a row, as it stands there."""
    name = columns.answer or ANSWER[0]
    answer = given(row, name)
    if answer is None:
        raise UnusableError(f"no {name} to grade against", f"it has {columns_of(row)}")
    if columns.answer is None and (there := candidates(row, ANSWER[1:])):
        key = _gold_key(answer, answer_format, answers)
        for other in there if key is not None else ():
            if _gold_key(given(row, other), answer_format, answers) not in (None, key):
                raise _two("the right answer", name, other, "answer_column")
    return answer


def _gold_key(value: Any, answer_format: str, answers: str) -> str | None:
    """What equal references share; None for what is none."""
    try:
        return answer_key(read_gold(value, answer_format, answers=answers))
    except InputError:
        return None


def read_tokens(row: Mapping[str, Any], columns: Columns) -> int | None:
    """How many tokens a row says that its response has; None where it does not."""
    name = columns.tokens or TOKENS[0]
    count = given(row, name)
    if count is None:
        return None
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_TOKENS:
        reason = f"{name} is no count of tokens (a whole number, at least 0)"
        raise UnusableError(reason, f"it is {str(count)[:_SHOWN]!r}")
    for other in TOKENS[1:] if columns.tokens is None else ():
        value = given(row, other)
        if isinstance(value, int | float) and not isinstance(value, bool) and value != count:
            raise _two("the tokens of the response", name, other, "tokens_column", f" ({count} and {value:g})")
    return count


def read_finished(row: Mapping[str, Any], columns: Columns) -> tuple[bool | None, str | None]:
    """Whether a response ended by itself, and the column that says so; None where none does."""
    if columns.finished is not None:
        finished = _finished(row, columns.finished)
        return (None, None) if finished is None else (finished, columns.finished)
    found = {name: finished for name in FINISHED[:2] if (finished := _finished(row, name)) is not None}
    reason = given(row, FINISHED[2])  # some servers put the text there that stopped it, or a token's id
    if isinstance(reason, str) and reason.casefold() in (*ENDED, *NOT_ENDED):
        found[FINISHED[2]] = reason.casefold() in ENDED
    first = next(iter(found), None)
    for name, finished in found.items():
        if first is not None and finished != found[first]:
            shown = f" ({given(row, first)!r} and {given(row, name)!r})"
            raise _two("what tells how the response ended", first, name, "finished_column", shown)
    return (None, None) if first is None else (found[first], first)


def _finished(row: Mapping[str, Any], column: str) -> bool | None:
    """True, false, or a server's reason."""
    value = given(row, column)
    if isinstance(value, str) and column != FINISHED[0]:
        if value and value.casefold() not in (*ENDED, *NOT_ENDED):
            way_out = f"it is {value[:_SHOWN]!r}; give finished, true or false"
            raise UnusableError(f"a {column} that is not known", way_out)
        return value.casefold() in ENDED if value else None
    if value is None:
        return None
    if column == FINISHED[1]:
        raise UnusableError(f"{column} is not text", f"it is a {type(value).__name__}")
    if value not in (0, 1):
        raise UnusableError(f"{column} is neither true nor false", f"it is {str(value)[:_SHOWN]!r}")
    return bool(value)


def _two(what: str, first: str, second: str, option: str, shown: str = "") -> TwoReadingsError:
    flag = "--" + option.replace("_", "-")
    return TwoReadingsError(
        f"columns {first!r} and {second!r} could both be {what}, and they differ{shown}; name the one to read: {flag} "
        f"{first}, or {flag} {second}"
    )


def _words(text: str) -> str:
    return " ".join(text.split())
