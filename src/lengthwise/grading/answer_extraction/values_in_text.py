r"""Values in running text, formulas and numbers: which of them a sentence says, the last one, and bare LaTeX."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence

from lengthwise.grading.answer_extraction.answer_text import (
    LONGEST_STATEMENT,
    NUMBER_TEXT,
    answer_key,
    right_side,
    tidy,
)
from lengthwise.grading.answer_extraction.formulas import DISPLAY, end_of_chain, formulas
from lengthwise.grading.answer_extraction.stated_answer import FORMULA, NUMBER, Stated

_NUMBER_IN_TEXT = re.compile(rf"(?<![\w.]){NUMBER_TEXT}")  # not the tail of a word or of another number
_SAID = re.compile(
    r"(?:\b(?:is|are|be|was|equals?|equal to|gets?|got|gives?|giving|have|has|having|obtain\w*|yields?|becomes?|leaves?"
    r"|comes? (?:out )?to|amounts? to|left with|total(?:s| of)?|find|conclude|namely|it's|that's|makes?|earns?|costs?"
    r"|pays?|spends?|needs?|takes?)|[:=])\s*"
    r"(?:(?:that|simply|just|exactly|precisely|therefore|thus|about|approximately|only)\s)*[*_\"'(]*$",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"\b(?:where|when|if|since|because|such that|for (?:all|any|every|each)|let|with)\s[*_(]*$", re.IGNORECASE
)
_SYMBOL = re.compile(
    r"(?!\\(?:pi|infty)$)\\?[A-Za-z]{1,4}'*(?:_(?:\w|\{[^{}]*\}))?(?:\([A-Za-z](?:,\s?[A-Za-z])*\))?"
    r"|\\(?:triangle|angle|overline)\s?\{?\s?[A-Z]+\}?"
)
_BESIDE = re.compile(
    r"\s*(?:%|\\%)?(?:\s[A-Za-z'-]+){0,6}?\s(?:for|in|of|after|from|by|on|to|than|at|before|with|during|per|out)\b"
)
_BEYOND = re.compile(r"=|\b(?:which|or|is|are|round\w*|so|then|and|because|since|if|when|but)\b|[.?!]\s|\n")
_LATEST, _LATEST_NUMBERS, _TAIL, _BEFORE, _SENTENCE = 20, 10, 1000, 60, 300


def last_formula_or_number(text: str) -> Iterator[Stated]:
    """The last formula or number of the text, whichever ends later.

    A lone symbol ("51 is the largest $k$") or a condition ("where $n > 3$") is passed over where something else
    stands, unless it is what the sentence says ("which gives $k$"); so is what a sentence adds to the value that it
    says ("makes $18 for 2 days"). Of a chain of equations the end counts.
    """
    told = _told(text)
    if told:
        yield _at_its_end(_counted(text, told))


def last_list(text: str) -> Iterator[Stated]:
    """The same; several that a sentence says together ("they are $2$ and $9$") are one list."""
    told = _told(text)
    if told:
        last = _counted(text, told)
        group = [last]
        for value in reversed(told[: told.index(last)]):
            if LINK.fullmatch(text, value.end, group[0].start) is None:
                break
            group.insert(0, value)
        together = len(group) > 1 and _is_said(text, group[0]) and are_alike(group)
        yield as_list(group) if together else _at_its_end(last)


LINK = re.compile(r"\s*(?:,|(?:,\s*)?(?:and|or|&)\s)\s*")
"""What stands between values that are one list."""


_RELATION = re.compile(r"[=<>≤≥≈]|\\(?:in|leq?|geq?|lt|gt|neq?|approx|equiv)(?![A-Za-z])")
_NAMED = re.compile(r"\\?[A-Za-z](?:_\{?\w\}?)?\s*=[^=<>]*")


def are_alike(values: Sequence[Stated]) -> bool:
    """Whether values can be entries of one list: all of them bare, or each of a name (``x = 2``)."""
    texts = [value.text for value in values]
    return not any(map(_RELATION.search, texts)) or all(map(_NAMED.fullmatch, texts))


def as_list(values: Sequence[Stated]) -> Stated:
    """Several values as one; equal ones count once, as the last of them is written."""
    texts = {answer_key(value.text): value.text for value in values}
    return values[-1]._replace(start=values[0].start, text=", ".join(texts.values()))


def _told(text: str) -> list[Stated]:
    found = _values(text)
    told = [value for value in found if value.how == NUMBER or _is_said(text, value) or not _is_aside(text, value)]
    return told or found


def _at_its_end(value: Stated) -> Stated:
    return value if value.how == NUMBER else value._replace(text=end_of_chain(value.text))


def _counted(text: str, told: Sequence[Stated]) -> Stated:
    """The last value, or the one that it only belongs to: the 18 of "makes $18 for 2 days"."""
    last, nearby = told[-1], text[: told[-1].end + _SENTENCE]
    tail = _BEYOND.search(nearby, last.end)
    goes_on = tail is not None and tail[0].strip(".?! \n") != ""
    if last.how == FORMULA or goes_on or _is_said(text, last):
        return last
    rest = nearby[last.end : None if tail is None else tail.start()]
    for value in reversed(told[:-1]):
        between = text[value.end : last.start] + rest
        if len(between) > _SENTENCE or _BEYOND.search(between) is not None:
            break
        if _is_said(text, value):
            return value if _BESIDE.match(between) else last
    return last


def main_value(sentence: str) -> Stated | None:
    """The value that a sentence is about: what it says ("the largest $k$ is 51"), else its first formula or number."""
    found = _values(sentence)
    said = [value for value in found if _is_said(sentence, value)]
    told = [value for value in found if value.how == FORMULA and not _is_aside(sentence, value)]
    numbers = [value for value in found if value.how == NUMBER]
    return next(iter([*said, *told, *numbers, *found]), None)


def _values(text: str) -> list[Stated]:
    """The last formulas, and the last numbers outside of formulas, in order."""
    inside = deque(formulas(text), maxlen=_LATEST)
    numbers = deque(_NUMBER_IN_TEXT.finditer(text, max(0, len(text) - _TAIL)), maxlen=_LATEST_NUMBERS)
    if not numbers:
        numbers.extend(_NUMBER_IN_TEXT.finditer(text))
    first = inside[0].start if len(inside) == _LATEST else 0
    found = [Stated(at.start(), at.end(), at[0].strip(), NUMBER) for at in numbers if at.start() >= first]
    if inside:
        found = [at for at in found if not any(formula.start <= at.start < formula.end for formula in inside)]
    return sorted([*inside, *found], key=lambda value: value.end)


def _is_said(text: str, value: Stated) -> bool:
    return _SAID.search(text[max(0, value.start - _BEFORE) : value.start]) is not None


def _is_aside(text: str, formula: Stated) -> bool:
    before = text[max(0, formula.start - _BEFORE) : formula.start]
    return _SYMBOL.fullmatch(formula.text) is not None or _ASIDE.search(before) is not None


# What cannot stand in bare mathematics: a word outside braces, the end of a sentence, delimiters.
_NOT_BARE = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]+'(?:s|re|ve|ll|d|m|t)\b|[A-Za-z]{2,}|[aAI]\s(?=\d|\\[dt]?frac|\\sqrt))(?![^{}]*\})"
    r"|[\u0400-\u04ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|(?<!\\)[.?!:]\s|\n|\$|\\[()\[\]]"
    rf"|\\(?:begin|end){DISPLAY}"
)
_CORE = re.compile(r"[\w\\({\[+.|-].*[\w)}\]%!'|]|\w", re.DOTALL)
_BULLET = re.compile(r"[-•—]\s+")


def bare_formula(text: str) -> Iterator[Stated]:
    r"""Mathematics without delimiters that ends the text, ``we get \frac{3}{4}.``; a number ("18 m") is none."""
    before = max(0, len(text) - LONGEST_STATEMENT)
    tail = text[before:].rstrip(" \t\r\n.*")
    start = max((match.end() for match in _NOT_BARE.finditer(tail)), default=0)
    bullet = _BULLET.match(tail, start)
    core = _CORE.search(tail, start if bullet is None else bullet.end())
    if core is None:
        return
    bare = right_side(core[0])
    closed = (
        bare.count("{") == bare.count("}")
        and bare.count("\\begin") == bare.count("\\end")
        and sum(map(bare.count, "([")) == sum(map(bare.count, ")]"))
    )
    number = "\\" not in bare and re.fullmatch(rf"{NUMBER_TEXT}(?:\s+[A-Za-z])?", bare)
    if closed and not number and "boxed" not in bare and "\\fbox" not in bare:
        yield Stated(before + core.start(), before + core.end(), tidy(bare), FORMULA)
