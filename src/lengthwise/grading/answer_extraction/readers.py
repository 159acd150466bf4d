r"""Readers of answers, one per kind: each finds what a text states in one way, wherever it stands.

Every reader makes one pass over the text, so time grows linearly with its length whatever it holds. It yields
`Stated` values in order of position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from lengthwise.grading.answer_extraction.answer_text import LONGEST_STATEMENT, tidy
from lengthwise.grading.answer_extraction.boxes import Box, box_lists, boxes
from lengthwise.grading.answer_extraction.formulas import formulas
from lengthwise.grading.answer_extraction.phrases import phrase_marks
from lengthwise.grading.answer_extraction.stated_answer import (
    BOLD,
    BOXED,
    CHOICE,
    EQUATION,
    HASHES,
    MARK,
    PATTERN,
    TAG,
    WHOLE,
    Reader,
    Stated,
    final,
    until_next,
)
from lengthwise.grading.prompt_contract import compile_answer_pattern


def pattern_reader(answer_pattern: str) -> Reader:
    """A reader of an answer pattern (see `prompt_contract.PromptContract`): matches whose group holds something."""
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
    for mark, until in until_next(re.finditer(r"#{4,}+", text), len(text)):
        newline = text.find("\n", mark.end(), until)
        end = until if newline < 0 else newline
        content = _after_words(text[mark.end() : end])
        if content and not _is_heading(content, is_last=_blank(text, end)):
            yield Stated(mark.start(), end, content, HASHES)


_TAG = re.compile(r"<(?P<tag>(?:final_?)?answer)>([^<]{1,1000}+)</(?P=tag)>", re.IGNORECASE)


def tagged(text: str) -> Iterator[Stated]:
    """``<answer>18</answer>``."""
    for match in _TAG.finditer(text):
        if tidy(match[2]):
            yield Stated(match.start(), match.end(), tidy(match[2]), TAG)


_LAB_MARK = re.compile(r"(?<![A-Za-z])A:")  # a word of its own; "BA:" is none


def lab_marks(text: str) -> Iterator[Stated]:
    """What follows ``A:``, to the next one or the end of the text."""
    for mark, until in until_next(_LAB_MARK.finditer(text), len(text)):
        yield Stated(mark.start(), until, text[mark.end() : until].strip(), MARK)


_MARK = re.compile(r"(?:^|(?<=[\n;]))[ \t]{0,9}(?:\*\*)?A(?:\*\*)?:([^\n;]*)")


def marks(text: str) -> Iterator[Stated]:
    """What follows an ``A:`` that begins a line (or stands after ``;``), to the end of the line."""
    for match in _MARK.finditer(text) if "A" in text else ():
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


_LABELLED = re.compile(r"(?:^|(?<=\n))[ \t*_>#-]{0,9}+(?:\(?[A-J]\)|[A-J]\.|[B-J]:)(?=[\s*]*+\S)[^\n]{1,200}+")
_CHOICE = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]lternative)\s?\(?[A-J]\b\)?|\([A-J]\)"
    r"|\b[A-J](?=\s(?:is|are)\s(?:the\s)?(?:correct|right|best|true))"
)
_WORD = re.compile(r"\W{0,9}(?:yes|no|true|false)\b", re.IGNORECASE)


def choices(text: str) -> Iterator[Stated]:
    """Choices that nothing marks as the answer: the word that begins the text ("Yes, ..."), "option B" or "(B)", and
    "B) 12 apples" as a line of its own, the first or the last. A list of options is none."""
    word = _WORD.match(text)
    if word is not None:
        yield Stated(0, word.end(), tidy(word[0].strip("*_ ")), CHOICE)
    for match in _CHOICE.finditer(text):
        yield Stated(match.start(), match.end(), match[0], CHOICE)
    lines = list(islice(_LABELLED.finditer(text), 2))
    if len(lines) == 1:
        line = lines[0]
        if not text[: line.start()].strip() or not text[line.end() :].strip():
            yield Stated(line.start(), line.end(), tidy(line[0].strip(" \t*_>#-")), CHOICE)


_ONE_WORD = re.compile(r"[^\w\\]{0,20}+([^\W\d][\w'-]{0,60}+)\W{0,20}+")


def one_word(text: str) -> Iterator[Stated]:
    """A text that is one word: "Saturday."."""
    match = _ONE_WORD.fullmatch(text)
    if match is not None:
        yield Stated(match.start(1), match.end(1), match[1], WHOLE)


def last_bold(text: str) -> Iterator[Stated]:
    """Bold text of any kind, if it ends the text: ``So it is **Evelyn**.``"""
    found = re.search(r"\*\*([^*\n]{1,200})\*\*[.!\s]{0,9}$", text[-LONGEST_STATEMENT:])
    if found is not None and tidy(found[1]) and not _is_heading(found[1].strip(), is_last=True):
        before = max(0, len(text) - LONGEST_STATEMENT)
        yield Stated(before + found.start(), before + found.end(), tidy(found[1]), BOLD)


# ---- helpers -----------------------------------------------------------------------------------------------


def _after_words(content: str) -> str:
    # "#### Final Answer: 18"
    phrase = final(phrase_marks(content)) if re.match(r"\W*[A-Za-z]", content) else None
    return tidy(content if phrase is None else content[phrase.end() :])


def _is_heading(content: str, *, is_last: bool) -> bool:
    # "2. Solve" and "Step 3:" are headings, and so are words with more text after them.
    if content.endswith(":") or re.match(r"\d+[.)]\s", content):
        return True
    return not is_last and re.match(r"[A-Za-z]{2}", content) is not None


def _blank(text: str, start: int) -> bool:
    return re.compile(r"\s*+$").match(text, start) is not None
