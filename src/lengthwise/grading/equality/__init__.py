r"""Whether two answers are equal: read whole, part by part, and compared in numbers.

A text becomes tokens (`tokens`), these become entries, brackets, relations, units (`structure`) and expressions
(`expressions`), as a tree of `tree.Node`. `compare` compares two trees part by part; expressions by their values
(`points`, `numeric`), equations and inequalities by their solutions (`relations`, `intervals`, and what these leave
by Math-Verify). A part that could not be read whole is compared as text.
"""

from __future__ import annotations

import re
from fractions import Fraction

from lengthwise.grading.answer_extraction.answer_text import as_number, chosen, lone_choice, number_with_unit, plain
from lengthwise.grading.equality.compare import same_meaning
from lengthwise.grading.equality.math_verify import ready
from lengthwise.grading.equality.points import within_tolerance
from lengthwise.grading.gold_answers import NUMERIC_FORMATS

__all__ = ["answers_agree", "get_ready", "same_answer"]

_GOES_ON = re.compile(r"(?<![,;\s])\s+(?:…|\.\.\.)$")  # "64 …", but not "1, 2, …"
_DECIMALS = re.compile(r"\.(\d+)")
_CURRENCY = frozenset("£€¥")  # "$" may be LaTeX's


def same_answer(extracted: str, gold: str, answer_format: str) -> bool:
    r"""Whether two answers are equal: as text for ``lab``, else as text, as numbers, or in meaning.

    Spacing, ``\text{}``, ``\left`` and a final full stop do not count as text. Whole numbers and fractions are compared
    exactly; a decimal stands for what it rounds to half a unit of the sixth decimal, and to a hundred-thousandth of
    its own size (0.333333 is 1/3, 2.7e-12 is not 4.4e-15). ``gsm8k`` and ``aime`` take the number before words or
    signs of an answer that is no expression ("18 dollars", "18%").

    Other answers are compared part by part: lists in any order, points and intervals in theirs, named parts by name,
    ratios up to a factor, expressions by their values at points. What cannot be read whole equals its own text only.
    Let pass: a unit on one side only (10 cm is 10, but neither 10 m nor 10 apples), 50% for 50 and for 0.5, a name
    before the value, a number base on one side only, a point for a list of its numbers in their order.
    """
    return answers_agree(extracted, gold, answer_format)[0]


def answers_agree(extracted: str, gold: str, answer_format: str) -> tuple[bool, str | None]:
    """`same_answer`, and the name of what the comparison raised: then the two count as unequal."""
    try:
        return _equal(extracted, gold, answer_format), None
    except MemoryError:  # a worker process that has no more is stopped, and that is counted
        raise
    except Exception as error:  # a verdict must never end a run, and computer algebra raises anything
        return False, type(error).__name__


def get_ready() -> None:
    """Import what comparing needs, so that no response is charged for it."""
    same_meaning("x+1", "1+x")
    ready()


def _equal(extracted: str, gold: str, answer_format: str) -> bool:
    if answer_format == "lab":
        return " ".join(extracted.split()) == " ".join(gold.split())
    if extracted.endswith(("…", "...")):
        extracted = _GOES_ON.sub("", extracted)
    if plain(extracted) == plain(gold):
        return True
    number, wanted = as_number(extracted), as_number(gold)
    if number is None and answer_format in NUMERIC_FORMATS:
        number = number_with_unit(extracted)
    if number is not None and wanted is not None and not _unlike_currencies(extracted, gold):
        return _same_number(number, wanted, [len(m[1]) for text in (extracted, gold) if (m := _DECIMALS.search(text))])
    choice = lone_choice(gold) if wanted is None else None
    given = None if choice is None else chosen(extracted)
    return same_meaning(extracted, gold) if given is None else given == choice


def _same_number(number: Fraction, wanted: Fraction, decimals: list[int]) -> bool:
    """Whether two numbers are equal; ``decimals``: how many those have that are written with a point."""
    if number == wanted or not decimals or number.denominator == wanted.denominator == 1:
        return number == wanted
    return within_tolerance(number, wanted, Fraction(1, 10 ** min(decimals)))


def _unlike_currencies(extracted: str, gold: str) -> bool:
    if _CURRENCY.isdisjoint(extracted + gold):
        return False
    given, wanted = (_CURRENCY.intersection(text) or {"$"}.intersection(text) for text in (extracted, gold))
    return bool(given and wanted and given != wanted)
