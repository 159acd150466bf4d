"""Values of a row: at dotted paths, as text, as a count, as a verdict, and the texts of chat messages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from lengthwise.data import whole_number
from lengthwise.logs.readers.log_row import UnusableError

MOST_TOKENS = 2**31 - 1
SHOWN, MOST_NAMES = 40, 20
BLANK: tuple[object, ...] = (None, "", [], {})


def at(row: object, path: str) -> object:
    """The value at a path as in ``choices.0.message.content``: names of objects and places in lists.

    None where it is missing or NaN. A name that has dots itself is found first.
    """
    if isinstance(row, dict) and "." not in path:
        value = row.get(path)  # most paths are names, and rows have many
        return None if isinstance(value, float) and math.isnan(value) else value
    if isinstance(row, Mapping) and path in row:
        return _known(row[path])
    first, dot, rest = path.partition(".")
    if isinstance(row, Mapping):
        while dot and first not in row:
            more, dot, rest = rest.partition(".")
            first = f"{first}.{more}"
        return at(row[first], rest) if dot else None
    number = whole_number(first.removeprefix("-"))
    if isinstance(row, Sequence) and not isinstance(row, str) and number is not None:
        place = -number if first.startswith("-") else number
        inside = -len(row) <= place < len(row)
        return None if not inside else at(row[place], rest) if dot else _known(row[place])
    return None


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def mapping_at(row: object, path: str) -> Mapping[str, object]:
    """The object at a path; an empty one where there is none. Text that holds a JSON object is read as it."""
    value = at(row, path)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def list_at(row: object, path: str) -> Sequence[object]:
    """The list at a path; an empty one where there is none."""
    value = at(row, path)
    return value if isinstance(value, list | tuple) else ()


def clean(text: str) -> str:
    """Text that can be written: lone surrogates become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def text_of(value: object, name: str) -> str | None:
    """A text, None where there is none; anything else is unusable."""
    if value is None or isinstance(value, str):
        return value if value is None else clean(value)
    raise UnusableError(f"{name} is not text", f"it is a {type(value).__name__}")


def label_of(value: object, name: str) -> str | None:
    """A name of something: text or a whole number, which tables may have as 7.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UnusableError(f"{name} is neither text nor a whole number", f"it is {str(value)[:SHOWN]!r}")
    return clean(str(value))


def step_of(row: Mapping[str, object]) -> str | None:
    """The step of training that a row is of, as its category: the policy of another step is another one."""
    step = label_of(row.get("step"), "step")
    return None if step is None else f"step {step}"


def sample_of(value: object, name: str = "sample") -> int | str | None:
    """Which of a problem's responses this is; text that is a whole number is that number."""
    label = label_of(value, name)
    number = None if label is None else whole_number(label)
    return label if number is None else number


def count_of(value: object, name: str) -> int | None:
    """A count of tokens; text of one too, as CSV has it."""
    if isinstance(value, str):
        value = _number(value) if value.strip() else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
        raise UnusableError(
            f"{name} is no count of tokens (a whole number, at least 0)", f"it is {str(value)[:SHOWN]!r}"
        )
    return value


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


WORDS_OF_VERDICTS = {
    "c": 1.0, "i": 0.0, "true": 1.0, "false": 0.0, "correct": 1.0, "incorrect": 0.0, "yes": 1.0, "no": 0.0, "p": 0.5,
    "n": 0.0,
}  # fmt: skip
"""inspect has C, I, P (partly) and N (no answer)."""


def verdict_of(value: object) -> float | None:
    """A verdict as a number; None for what is none."""
    if isinstance(value, str):
        word = value.strip().casefold()
        value = WORDS_OF_VERDICTS[word] if word in WORDS_OF_VERDICTS else _number(word)
    if not isinstance(value, bool | int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def names_of(row: Mapping[str, object]) -> str:
    """The names of a row's columns, for a message."""
    names = [" ".join(str(name).split())[:SHOWN] for name in row]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "no columns") + more


def message_text(content: object, name: str = "content") -> tuple[str, str | None]:
    """Text and thinking of a message's content: text, or parts of text and of thinking (``type``).

    A part of thinking that is hidden gives its summary. Other parts (images, calls of tools) have no text.
    """
    if not isinstance(content, list | tuple):
        return text_of(content, name) or "", None
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        kind = str(at(part, "type") or "text")
        if isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "output_text", "input_text"):
            texts.append(text_of(at(part, "text"), name) or "")
        elif kind in ("reasoning", "thinking"):
            hidden = at(part, "redacted") is True
            shown = at(part, "summary") if hidden else at(part, "reasoning") or at(part, "thinking") or at(part, "text")
            thoughts.append(text_of(shown, "reasoning") or "")
    return clean("".join(texts)), "\n".join(thought for thought in thoughts if thought) or None


def asked_in(messages: object) -> str | None:
    """The problem in what a model was asked: the last message of the user, or the text itself."""
    if isinstance(messages, str):
        return clean(messages) or None
    if not isinstance(messages, list | tuple):
        return None
    from_user = [one for one in messages if str(at(one, "role")).casefold() in ("user", "human")]
    for one in reversed(from_user):
        content = at(one, "content")
        text = message_text(at(one, "prompt") if content is None else content)[0]
        if text.strip():
            return text
    return None


def verdicts_in(row: Mapping[str, object], but: Sequence[str]) -> dict[str, float]:
    """All columns that hold a number or a flag, by name, but the ones named."""
    numbers = {name: value for name, value in row.items() if name not in but and isinstance(value, bool | int | float)}
    return {name: verdict for name, value in numbers.items() if (verdict := verdict_of(value)) is not None}
