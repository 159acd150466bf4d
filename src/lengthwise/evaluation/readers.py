r"""Readers of answers, one per kind: each finds what a text states in one way, wherever it stands.

Every reader makes one pass over the text, so time grows linearly with its length whatever it holds. It yields
`Stated` values in order of position.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TypeVar

from lengthwise.evaluation.answer_text import (
    LONGEST_STATEMENT,
    NUMBER_TEXT,
    right_side,
    tidy,
)
from lengthwise.evaluation.boxes import Box, box_lists, boxes
from lengthwise.evaluation.prompts import compile_answer_pattern

PATTERN, BOXED, HASHES, PHRASE, MARK = "answer pattern", "boxed", "after ####", "phrase", "after A:"
BOLD, EQUATION, FORMULA, NUMBER = "bold", "equation", "last formula", "last number"


@dataclass(frozen=True)
class Stated:
    """One stated answer: it stands in ``text[start:end]``, its mark included; ``text`` is the answer alone."""

    start: int
    end: int
    text: str
    how: str


T = TypeVar("T")
Reader = Callable[[str], Iterator[Stated]]


def pattern_reader(answer_pattern: str) -> Reader:
    """A reader of an answer pattern (see `prompts.PromptContract`): matches whose group holds something."""
    compiled = compile_answer_pattern(answer_pattern)

    def read(text: str) -> Iterator[Stated]:
        for match in compiled.finditer(text):
            if match[1] and match[1].strip():
                yield Stated(match.start(), match.end(), match[1].strip(), PATTERN)

    return read


def boxed(text: str) -> Iterator[Stated]:
    r"""Boxes, ``\boxed{18}``, those of one sentence as one list; where one is empty or never closes ``text`` is too."""
    return _stated_boxes(box_lists(text))


def single_boxes(text: str) -> Iterator[Stated]:
    """The same, every box by itself: for answers that are one number."""
    return _stated_boxes(boxes(text))


def _stated_boxes(found: Iterator[Box]) -> Iterator[Stated]:
    return (Stated(start, end, content, BOXED) for start, end, content in found)


def hashes(text: str) -> Iterator[Stated]:
    """``#### 18`` to the end of its line; a heading (``#### Step 1``) is none."""
    for mark, until in _until_next(re.finditer(r"#{4,}+", text), len(text)):
        newline = text.find("\n", mark.end(), until)
        end = until if newline < 0 else newline
        content = _after_words(text[mark.end() : end])
        if content and not _is_heading(content, is_last=_blank(text, end)):
            yield Stated(mark.start(), end, content, HASHES)


_PHRASE = re.compile(
    r"(?<![A-Za-z])answers?(?![A-Za-z])(?:\*\*|__)?"
    r"(?:\s{1,3}+(?:to|of|for)(?:\s{1,3}+[^\s.:=]{1,30}+){0,20}?)?\s{0,3}+(?:\*\*|__)?"
    r"(?:(?<![A-Za-z])(?:is|are)\b(?!\s{1,9}not\b)|[:=])(?:\*\*|__|[\s:])*+",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n|;")


def phrases(text: str) -> Iterator[Stated]:
    """ "The answer is 18", "Answer: 18", to the end of the sentence, or the formula that stands there."""
    for mark, until in _until_next(_PHRASE.finditer(text), len(text)):
        rest = text[mark.end() : min(until, mark.end() + LONGEST_STATEMENT)]
        first = next(formulas(rest), None)
        if first is not None and first.start == 0:
            yield Stated(mark.start(), mark.end() + first.end, first.text, PHRASE)
            continue
        # To the end of the sentence; a full stop inside a number ends nothing.
        stop = _SENTENCE_END.search(rest)
        end = len(rest) if stop is None else stop.start()
        sentence = rest[:end].replace("**", "").replace("__", "")
        if first is not None and first.end <= end and not re.match(r"\s*[-+$]?\d", sentence):
            yield Stated(mark.start(), mark.end() + first.end, first.text, PHRASE)
        elif tidy(sentence):
            yield Stated(mark.start(), mark.end() + end, tidy(sentence), PHRASE)


_LAB_MARK = re.compile(r"(?<![A-Za-z])A:")  # a word of its own; "BA:" is none


def lab_marks(text: str) -> Iterator[Stated]:
    """What follows ``A:``, to the next one or the end of the text."""
    for mark, until in _until_next(_LAB_MARK.finditer(text), len(text)):
        yield Stated(mark.start(), until, text[mark.end() : until].strip(), MARK)


_MARK = re.compile(r"(?:^|(?<=[\n;]))[ \t]{0,9}(?:\*\*)?A(?:\*\*)?:([^\n;]*)")


def marks(text: str) -> Iterator[Stated]:
    """What follows an ``A:`` that begins a line (or stands after ``;``), to the end of the line."""
    for match in _MARK.finditer(text):
        if tidy(match[1]):
            yield Stated(match.start(), match.end(), tidy(match[1]), MARK)


_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_COMMANDS = re.compile(r"\\[a-zA-Z]+(?:\s?\{[a-zA-Z .]*\})?")


def bold(text: str) -> Iterator[Stated]:
    """Bold text that is a number, with words behind it or not, or a formula: ``**18 eggs**``."""
    for match in _BOLD.finditer(text):
        content = match[1].strip()
        formula = next(formulas(content), None)
        if formula is not None and (formula.start, formula.end) == (0, len(content)):
            yield Stated(match.start(), match.end(), formula.text, BOLD)
        elif _answer_like(content) and not _is_heading(content, is_last=True):
            yield Stated(match.start(), match.end(), tidy(content), BOLD)


def _answer_like(content: str) -> bool:
    if re.match(r"\\?[-+]?\\?[$€£¥]?[-+]?\.?\d", content):
        return True
    words = re.search("[A-Za-z]{2}", _COMMANDS.sub(" ", content))
    return words is None and re.search(r"[\d=+*/^<>\\-]", content) is not None


_NUMBER_IN_TEXT = re.compile(rf"(?<![\w.]){NUMBER_TEXT}")
_RIGHT_SIDE = re.compile(
    r"(?<![<>!:=])=[ \t]{0,3}+(?P<side>[^=\n<>]{1,80}?)"
    r"(?:>>|(?=[ \t]{0,3}(?:\n|<|$)|(?:\.(?:\*\*|\\[)\]]|\$){0,2})(?:\s|$)))"
)


def equations(text: str) -> Iterator[Stated]:
    """Right-hand sides that end a line or sentence, ``... = 18.``, or a calculator's note, ``<<9*2=18>>``."""
    for match in _RIGHT_SIDE.finditer(text):
        side = re.sub(r"\$(?!\d)|\\[)\]]|\*\*", "", match["side"])
        if tidy(side) and not re.search(r",\s+[A-Za-z]{2}", side):  # "= 4, which is even." goes on
            yield Stated(match.start(), match.end(), tidy(side), EQUATION)


_LAB_ANSWER = re.compile(r"(?<![A-Za-z])A:\s{0,3}+([^;\s]+)")
_PASS_END = re.compile(r"=\s{0,3}+([^=;\s]++)(?=\s{0,3}+;\s{0,3}+(?:check:|A:))")


def lab_answers(text: str) -> Iterator[Stated]:
    """The word after ``A:``."""
    for match in _LAB_ANSWER.finditer(text):
        yield Stated(match.start(), match.end(), match[1], MARK)


def passes(text: str) -> Iterator[Stated]:
    """The last right-hand side of each pass of the lab, the ``=9`` before ``;check:`` or ``;A:``."""
    for match in _PASS_END.finditer(text):
        yield Stated(match.start(), match.end(), match[1], EQUATION)


_DELIMITER = re.compile(r"\\[\\$]|\$\$|\$|\\[\[\]()]|\n")
_CLOSES = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}


def formulas(text: str) -> Iterator[Stated]:
    r"""Formulas between ``$...$``, ``$$...$$``, ``\(...\)`` or ``\[...\]``; a price ("$18 and $20") is none."""
    opened, start = "", 0
    for match in _DELIMITER.finditer(text):
        token, at = match[0], match.start()
        if opened and token == _CLOSES.get(opened, "$") and (opened != "$" or _may_close(text, start, at)):
            content = tidy(text[start + len(opened) : at])
            if content:
                yield Stated(start, match.end(), content, FORMULA)
            opened = ""
        elif token == "\n":
            opened = "" if opened in ("$", "\\(") else opened
        elif token in _CLOSES or (opened in ("", "$") and token == "$" and not text[max(at - 1, 0) : at].isdigit()):
            opened, start = token, at


def _may_close(text: str, start: int, at: int) -> bool:
    # As Pandoc reads it: no blank inside either dollar, no digit after the second. Models also write blanks there;
    # then there must be LaTeX between them, or no word, or "in $ or in $" would be a formula.
    if text[at + 1 : at + 2].isdigit():
        return False
    inside = text[start + 1 : at]
    blank = inside[:1].isspace() or inside[-1:].isspace()
    return not blank or "\\" in inside or re.search("[A-Za-z]{2}", inside) is None


def last_formula_or_number(text: str) -> Iterator[Stated]:
    """The last formula or number of the text, whichever ends later."""
    formula, number = final(formulas(text)), final(_NUMBER_IN_TEXT.finditer(text))
    if formula is not None and (number is None or formula.end >= number.end()):
        yield formula
    elif number is not None:
        yield Stated(number.start(), number.end(), number[0].strip(), NUMBER)


def last_bold(text: str) -> Iterator[Stated]:
    """Bold text of any kind, if it ends the text: ``So it is **Evelyn**.``"""
    found = re.search(r"\*\*([^*\n]{1,200})\*\*[.!\s]{0,9}$", text[-LONGEST_STATEMENT:])
    if found is not None and tidy(found[1]) and not _is_heading(found[1].strip(), is_last=True):
        before = max(0, len(text) - LONGEST_STATEMENT)
        yield Stated(before + found.start(), before + found.end(), tidy(found[1]), BOLD)


# What cannot stand in bare mathematics: a word outside braces, the end of a sentence, delimiters.
_NOT_BARE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![^{}]*\})|(?<!\\)[.?!:]\s|\n|\$|\\[()\[\]]")


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
    closed = bare.count("{") == bare.count("}") and sum(map(bare.count, "([")) == sum(map(bare.count, ")]"))
    number = "\\" not in bare and re.fullmatch(rf"{NUMBER_TEXT}(?:\s+[A-Za-z])?", bare)
    if closed and not number and "boxed" not in bare and "\\fbox" not in bare:
        yield Stated(before + core.start(), before + core.end(), tidy(bare), FORMULA)


# ---- helpers -----------------------------------------------------------------------------------------------


def final(found: Iterable[T]) -> T | None:
    """The last of them, or ``None``."""
    return next(iter(deque(found, maxlen=1)), None)


def _until_next(found: Iterable[re.Match[str]], end: int) -> Iterator[tuple[re.Match[str], int]]:
    # Each mark with where the next one begins: what lies between is read once, however many marks there are.
    for mark, following in pairwise(chain(found, [None])):
        assert mark is not None
        yield mark, end if following is None else following.start()


def _after_words(content: str) -> str:
    # "#### Final Answer: 18"
    phrase = final(_PHRASE.finditer(content)) if re.match(r"\W*[A-Za-z]", content) else None
    return tidy(content if phrase is None else content[phrase.end() :])


def _is_heading(content: str, *, is_last: bool) -> bool:
    # "2. Solve" and "Step 3:" are headings, and so are words with more text after them.
    if content.endswith(":") or re.match(r"\d+[.)]\s", content):
        return True
    return not is_last and re.match(r"[A-Za-z]{2}", content) is not None


def _blank(text: str, start: int) -> bool:
    return re.compile(r"\s*+$").match(text, start) is not None
