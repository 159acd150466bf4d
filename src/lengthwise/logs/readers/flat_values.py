"""Which column of a flat row is read where several could be meant.

The more specific one is, and a note says so, where the others say the same or are part of it. Where they say something
else, no reading is the right one: an error names both, and the flags that decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from lengthwise.errors import InputError
from lengthwise.grading.answer_extraction.answer_text import answer_key, as_number
from lengthwise.grading.gold_answers import read_gold
from lengthwise.logs.readers.given_fields import Fields
from lengthwise.logs.readers.log_row import Row, TwoReadingsError, UnusableError
from lengthwise.logs.readers.names import ANSWER, END, PROBLEM, RESPONSE, THINKING, THINKING_TOKENS, TOKENS, there
from lengthwise.logs.readers.response_ends import End, end_of
from lengthwise.logs.readers.row_values import at, count_of, message_text, names_of, text_of


def two(what: str, first: str, second: str, flag: str, shown: str = "") -> TwoReadingsError:
    """What to say of two columns that could both be meant."""
    return TwoReadingsError(
        f"columns {first!r} and {second!r} could both be {what}, and they differ{shown}; name the one to read: "
        f"{flag} {first}, or {flag} {second}"
    )


def read_thinking(row: Row, fields: Fields) -> tuple[str | None, str | None]:
    """The thinking given apart, and its column."""
    if fields.reasoning is not None:
        return None, None  # `Fields.applied` reads it, for every format alike
    texts = {name: text for name in THINKING if (text := _thought(row, name))}
    first = next(iter(texts), None)
    if first is None:
        return None, None
    for name, text in texts.items():
        if text.split() != texts[first].split():
            raise two("the thinking", first, name, "--reasoning-column")
    return texts[first], first


def _thought(row: Row, name: str) -> str | None:
    value = at(row, name)
    if isinstance(value, bool | int | float):
        return None  # a flag, as in thinking: true
    text = text_of(value, name)
    return text if text and text.strip() else None


def read_response(row: Row, fields: Fields, thinking: str | None) -> tuple[str, list[str]]:
    """The response's text, and notes; an answer that is nowhere but in the thinking is an empty text."""
    if fields.response is not None:
        return _given_response(row, fields, thinking), []
    named = {name: text for name in RESPONSE if name in row and (text := response_text(row, name)) is not None}
    texts = {name: text for name, text in named.items() if text.strip()}
    if not texts:
        if named or thinking:
            return "", []
        raise UnusableError("no response", f"it has {names_of(row)}; --response-column names it")
    if len(texts) == 1:
        return next(iter(texts.values())), []
    first, other = _chosen(row, {name: _words(text) for name, text in texts.items()}, thinking)
    return texts[first], [] if other is None else [f"the response is read from {first}, not from {other}"]


def _chosen(row: Row, said: Mapping[str, str], thinking: str | None) -> tuple[str, str | None]:
    """The column of the response among those with a text, and one that it is read in place of."""
    asked = [_words(text) for name in PROBLEM if isinstance(text := at(row, name), str) and text.strip()]
    known = [*asked, *([_words(thinking)] if thinking else [])]
    # A column that only says again what the thinking or the problem says is no rival.
    unlike = [name for name, words in said.items() if not any(words in one for one in known)] or list(said)
    # A text with the prompt in it gives way to one without.
    rivals = [name for name in unlike if not any(one in said[name] for one in asked)] or unlike
    first = max(rivals, key=lambda name: len(said[name]))
    for name in rivals:
        if said[name] not in said[first]:
            earlier, later = sorted((first, name), key=RESPONSE.index)
            raise two("the response", earlier, later, "--response-column")
    return first, next((name for name in unlike if said[name] != said[first]), None)


def _given_response(row: Row, fields: Fields, thinking: str | None) -> str:
    path = fields.response or ""
    value = at(row, path)
    if value is None and (thinking or (fields.reasoning is not None and at(row, fields.reasoning))):
        return ""
    if value is None:
        raise UnusableError(f"no {path}", f"it has {names_of(row)}")
    return message_text(value, path)[0]


def response_text(row: Row, name: str) -> str | None:
    """A text in a column of the response's: text, a list of one, or the messages that were written."""
    value = at(row, name)
    if isinstance(value, str):
        return text_of(value, name)
    if isinstance(value, list) and value and all(at(one, "role") == "assistant" for one in value):
        return message_text(at(value[-1], "content"), name)[0]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return text_of(value[0], name)
    return None


def read_answer(row: Row, fields: Fields) -> tuple[object, list[str]]:
    """The reference, and notes. GSM8K's worked answer and its number are one reference."""
    if fields.answer is not None:
        return None, []
    names = there(row, ANSWER)
    if not names:
        return None, []
    first, *others = names
    for name in others:
        if not _same_gold(at(row, first), at(row, name)):
            raise two("the right answer", first, name, "--answer-column")
    return at(row, first), [f"the right answer is read from {first}, not from {others[0]}"] if others else []


def _same_gold(one: object, other: object) -> bool:
    """Whether two references are one, however they are written; what is no reference contradicts none."""
    first, second = _gold_key(one), _gold_key(other)
    if second is None or first is None or first == second:
        return True
    return as_number(first) is not None and re.search(r"\d", second) is None  # a number, and a label such as "easy"


def _gold_key(value: object) -> str | None:
    """What equal references share; None for what is none."""
    try:
        return answer_key(read_gold(value, "auto"))
    except InputError:
        return None


def read_counts(row: Row, fields: Fields) -> tuple[int | None, int | None]:
    """Tokens of the response, and of its thinking."""
    tokens = None if fields.num_tokens else _agreed(row, TOKENS, "the tokens of the response", "--tokens-column")
    thought = [count_of(at(row, name), name) for name in THINKING_TOKENS] if fields.reasoning_tokens is None else []
    return tokens, next((one for one in thought if one is not None), None)


def _agreed(row: Row, names: Sequence[str], what: str, flag: str) -> int | None:
    counts = {name: count for name in names if (count := count_of(at(row, name), name)) is not None}
    first = next(iter(counts), None)
    if first is None:
        return None
    for name, count in counts.items():
        if count != counts[first]:
            raise two(what, first, name, flag, f" ({counts[first]} and {count})")
    return counts[first]


def read_end(row: Row, fields: Fields) -> tuple[End, str | None]:
    """How the response ended; what two columns tell must agree."""
    if fields.end is not None:
        return End.UNKNOWN, None
    told = {name: end_of(at(row, name)) for name in END if name in row}
    known = {name: end for name, (end, _) in told.items() if end is not End.UNKNOWN}
    first = next(iter(known), None)
    if first is None:
        return End.UNKNOWN, next((reason for _, reason in told.values() if reason), None)
    for name, end in known.items():
        if end.finished != known[first].finished:
            shown = f" ({at(row, first)!r} and {at(row, name)!r})"
            raise two("what tells how the response ended", first, name, "--finished-column", shown)
    # A reason says more than finished, true or false.
    reasons = [(end, reason) for end, reason in told.values() if reason and end is not End.UNKNOWN]
    return reasons[0] if reasons else (known[first], None)


def _words(text: str) -> str:
    return " ".join(text.split())


def named_problem(row: Row) -> Iterator[str]:
    """Columns that hold the problem, the most specific first."""
    yield from (name for name in there(row, PROBLEM) if isinstance(at(row, name), str | list))
