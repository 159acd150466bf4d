"""Values of settings: from the texts of flags and files to the types of fields and back; what is wanted, in words."""

from __future__ import annotations

import enum
import math
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeGuard

from lengthwise.config.definition import Facts

TRUTHS = {"true": True, "false": False}
LARGEST, LARGEST_SEED = 10**12, 2**63 - 1
"""No count, length or factor is larger; torch takes seeds of 64 bits."""
_WHOLE = re.compile(r"[+-]?\d{1,4000}")  # Python makes no number of more digits


def parts(annotation: object) -> tuple[object, ...]:
    """The members of a union without None; the type itself where it is none."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(part for part in typing.get_args(annotation) if part is not type(None))
    return (annotation,)


def optional(annotation: object) -> bool:
    """Whether None is among the values."""
    return type(None) in typing.get_args(annotation)


def entry_type(annotation: object) -> object:
    """The type of a tuple's entries; None where the setting holds one value."""
    for part in parts(annotation):
        if typing.get_origin(part) is tuple:
            return typing.get_args(part)[0]
    return None


def choices(annotation: object) -> tuple[str, ...]:
    """The words that a Literal or an Enum allows, alone or in a union or as entries of a tuple."""
    entries = entry_type(annotation)
    if entries is not None:
        return choices(entries)
    return tuple(word for part in parts(annotation) for word in _words(part))


def _words(part: object) -> tuple[str, ...]:
    if typing.get_origin(part) is Literal:
        return typing.get_args(part)
    return tuple(str(member.value) for member in part) if _is_enum(part) else ()


def _is_enum(part: object) -> TypeGuard[type[enum.Enum]]:
    return isinstance(part, type) and issubclass(part, enum.Enum)


def _chosen(word: str, annotation: object) -> object:
    """A word that is allowed, as the member that it names where it is an Enum's."""
    members = [member for part in parts(annotation) if _is_enum(part) for member in part if member.value == word]
    return members[0] if members else word


def from_text(text: str, annotation: object, facts: Facts) -> object:
    """The value that a flag's text stands for; the text itself where it is none of the type, to be refused by name."""
    if facts.read is not None:
        return facts.read(text)
    entries = entry_type(annotation)
    if entries is not None:
        found = [part.strip() for part in text.split(",")] if facts.commas else [text]
        kept = [part for part in found if part or not facts.commas or _counts(entries)]  # 1,,2 lacks a number
        return tuple(_one(part, entries) for part in kept)
    return _one(text, annotation)


def _one(text: str, annotation: object) -> object:
    kinds = parts(annotation)
    if text in choices(annotation):
        return _chosen(text, annotation)
    if optional(annotation) and text.lower() == "none" and str not in kinds and Path not in kinds:
        return None
    if bool in kinds and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if int in kinds and _WHOLE.fullmatch(text):
        return int(text)
    if float in kinds and (number := _number(text)) is not None:
        return number
    return Path(text) if Path in kinds else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def from_value(value: object, annotation: object, facts: Facts) -> object:
    """A value of Python, YAML or JSON as the field holds it: lists as tuples, texts as paths and back, commas split."""
    if isinstance(value, Path):
        return value if Path in parts(annotation) else from_value(str(value), annotation, facts)
    if isinstance(value, str) and (entry_type(annotation) is not None or _text_and_more(annotation)):
        return from_text(value, annotation, facts)
    if facts.read is not None and value is not None:
        return facts.read(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and entry_type(annotation) is not None:
        return tuple(from_value(entry, entry_type(annotation), facts) for entry in value)
    if isinstance(value, str) and value in choices(annotation):
        return _chosen(value, annotation)
    return Path(value) if isinstance(value, str) and Path in parts(annotation) else value


def _counts(annotation: object) -> bool:
    """Whether numbers are among the values."""
    kinds = parts(annotation)
    return int in kinds or float in kinds


def _text_and_more(annotation: object) -> bool:
    """Whether texts and numbers are both values, so that the text of a number is one."""
    return len(parts(annotation)) > 1 and _counts(annotation)


def to_json(value: object) -> object:
    """A value as JSON and YAML hold it; `from_value` gives it back."""
    if isinstance(value, tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def shown(value: object) -> str:
    """A value as an error names it."""
    if isinstance(value, tuple | list):
        return repr([to_json(entry) for entry in value])
    return repr(to_json(value))


def as_flag(value: object) -> str:
    """A default as somebody would write it on the command line."""
    if isinstance(value, tuple):
        return ",".join(as_flag(entry) for entry in value)
    if isinstance(value, float):
        short = f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return re.sub(r"e([+-])0", r"e\1", short)  # 1e-6, as somebody writes it
    return str(to_json(value))


NAMES = (
    (bool, ("true or false", "truths")),
    (int, ("a whole number", "whole numbers")),
    (float, ("a number", "numbers")),
    (Path, ("a path", "paths")),
    (str, ("a text", "texts")),
)


def wanted(annotation: object, facts: Facts) -> str:
    """What to give for a setting, in words that end an error."""
    if facts.wanted is not None:
        return f"give {facts.wanted}"
    entries, words = entry_type(annotation), choices(annotation)
    if words:
        others = "" if entries is not None else _of(annotation, 0)
        if others:
            return f"give {others} or one of {', '.join(words)}"
        return f"choose one of {', '.join(words)}" if len(words) > 2 else f"choose {' or '.join(words)}"
    if entries is not None:
        return f"give {_of(entries, 1)}{' with commas between them' if facts.commas else ', as a list'}"
    return f"give {_of(annotation, 0)}"


def _of(annotation: object, place: int) -> str:
    kinds = parts(annotation)
    return " or ".join(words[place] for kind, words in NAMES if kind in kinds)


def out_of_bounds(value: object, facts: Facts) -> object:
    """The number that lies out of a setting's bounds, itself or an entry of it; None where all lie within."""
    return next((number for number in _numbers(value) if not _within(number, facts)), None)


def beyond(value: object, most: int) -> object:
    """The number that is larger than any use has for one, itself or an entry of it; None where there is none."""
    return next((number for number in _numbers(value) if abs(number) > most), None)


def _numbers(value: object) -> list[int | float]:
    found = value if isinstance(value, tuple) else (value,)
    return [number for number in found if isinstance(number, int | float) and not isinstance(number, bool)]


def _within(number: float, facts: Facts) -> bool:
    return (
        math.isfinite(number)
        and (facts.ge is None or number >= facts.ge)
        and (facts.gt is None or number > facts.gt)
        and (facts.le is None or number <= facts.le)
        and (facts.lt is None or number < facts.lt)
    )


def bounds(facts: Facts) -> str:
    """What numbers a setting takes, in words that end an error."""
    if facts.refusal is not None:
        return facts.refusal
    low = f"from {facts.ge:g}" if facts.ge is not None else f"above {facts.gt:g}" if facts.gt is not None else ""
    high = f"up to {facts.le:g}" if facts.le is not None else f"below {facts.lt:g}" if facts.lt is not None else ""
    if low and high:
        return f"give a number {low} {'to' if facts.ge is not None else 'and'} {high}".replace("to up to", "to")
    if facts.ge is not None:
        return f"give at least {facts.ge:g}"
    if facts.gt is not None:
        return "give a positive number" if facts.gt == 0 else f"give more than {facts.gt:g}"
    if high:
        return f"give at most {facts.le:g}" if facts.le is not None else f"give less than {facts.lt:g}"
    return "give a finite number"
