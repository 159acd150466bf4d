"""Reference answers: from a value of an answer column to the text that answers are compared with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from numbers import Rational, Real

from lengthwise.errors import InputError
from lengthwise.grading.answer_extraction.answer_text import as_number
from lengthwise.grading.answer_extraction.boxes import final_box

NUMERIC_FORMATS = ("gsm8k", "aime")
"""Formats whose answers are one number."""
ALL, ANY = "all", "any"
"""What the entries of a list as the reference are: parts of one answer, or alternatives."""


def read_gold(value: object, answer_format: str, column: str = "answer", *, answers: str = ALL) -> str:
    r"""The reference answer in a value of an answer column.

    Understands ``#### 18`` (commas removed), ``\boxed{...}``, plain text, numbers (18.0 gives ``18``) and lists. A
    list of one entry is that entry. Of several, ``answers`` says what they are: `ALL`, parts of one answer, joined with
    commas; `ANY`, alternatives of which one is enough, written as a JSON list of texts (see `alternatives`). A list
    within a list holds parts under both. Text that is such a JSON list is read as the list. With ``lab`` other text is
    taken as it is. With ``gsm8k`` and ``aime`` every answer must be a number, so a list of parts is none.

    Raises:
        InputError: there is no answer to read: an empty text or list, or an entry without one; no number where one is
            wanted.
    """
    entries = _entries(value)
    if entries is None:
        return _read_one(value, answer_format, column)
    texts = [read_gold(entry, answer_format, column) for entry in entries]
    if answers == ANY:
        texts = list(dict.fromkeys(texts))
    if not texts:
        raise InputError(f"{column} is {value!r}, which holds no answer; fill it in or remove the row")
    if len(texts) == 1:
        return texts[0]
    if answers == ANY:
        return json.dumps(texts, ensure_ascii=False)
    if answer_format in NUMERIC_FORMATS:
        raise InputError(
            f"{column} is {value!r}, parts of one answer; the format {answer_format!r} wants one number. If they are "
            'alternatives use answers="any" (--several any), else answer_format="math"'
        )
    return ", ".join(text.replace(",", "") if as_number(text) is not None else text for text in texts)


def alternatives(gold: str) -> list[str]:
    """The answers of which one is enough, in a reference as `read_gold` gives it; mostly one."""
    return _json_list(gold) or [gold]


def _entries(value: object) -> Sequence[object] | None:
    if isinstance(value, str):
        return _json_list(value)
    return value if isinstance(value, (list, tuple)) else None


def _json_list(text: str) -> list[str] | None:
    """Text that is a JSON list of texts; a list of numbers may be a point or an interval, and stays text."""
    if re.match(r'\s*\[\s*"', text) is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(entry, str) for entry in found) else None


def _read_one(value: object, answer_format: str, column: str) -> str:
    if isinstance(value, str):
        text = value.strip() if answer_format == "lab" else _from_text(value)
    elif isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        text = _number_text(value)
    else:
        raise InputError(f"{column} is {value!r}; wanted text, a finite number or a list of them")
    if not text:
        raise InputError(f"{column} is {value!r}, which holds no answer; fill it in or remove the row")
    if answer_format in NUMERIC_FORMATS:
        number = as_number(text)
        if number is None:
            raise InputError(
                f"{column} is {value!r}; the format {answer_format!r} wants a number, perhaps after '####'. "
                'Correct the row, or use answer_format="math"'
            )
        return _number_text(number) if number.denominator == 1 else text.replace(",", "")
    return text


def _from_text(text: str) -> str:
    if "####" in text:
        text = text.rsplit("####", 1)[1].strip()
        return text.replace(",", "") if as_number(text) is not None else text
    boxed = final_box(text)
    return text.strip() if boxed is None else boxed


def _number_text(value: Real) -> str:
    if isinstance(value, Rational):  # integers too
        return str(value)
    number = float(value)
    return str(int(number)) if number.is_integer() else repr(number)
