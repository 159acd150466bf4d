r"""Extraction: the one answer that a response gives, among all that it states (see `readers`)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from lengthwise.grading.answer_extraction import readers
from lengthwise.grading.answer_extraction.answer_text import chosen, folded
from lengthwise.grading.answer_extraction.phrases import phrases, single_phrases
from lengthwise.grading.answer_extraction.stated_answer import Reader, Stated, final, holds
from lengthwise.grading.answer_extraction.values_in_text import bare_formula, last_formula_or_number, last_list
from lengthwise.grading.gold_answers import NUMERIC_FORMATS


def extract_answer(
    text: str,
    answer_format: str,
    *,
    answer_pattern: str | None = None,
    marked_only: bool = False,
    choice: bool = False,
) -> tuple[str, str] | None:
    r"""Find the answer in text outside the thinking: ``(answer, how)``, or ``None``.

    An ``answer_pattern`` replaces every other way: the group of its last match is the answer. ``lab`` takes what
    follows the last ``A:`` and nothing else. The other formats try, in this order: the last ``#### 18`` (``gsm8k``
    and ``auto`` first, the others after the box), the last ``\boxed{18}``, ``<answer>18</answer>``, "the answer is
    18" or "Answer: 18", the last line that begins with ``A: 18``, the last bold ``**18**``; and, unless
    ``marked_only``, bold words or bare LaTeX that end the text (not ``gsm8k`` and ``aime``, whose answers are
    numbers), the last formula or number of the text, whichever ends later (`last_formula_or_number`), and a
    text that is one word.

    Boxes of one sentence are one list (``gsm8k`` and ``aime``: the last of them). A last box that is empty or never
    closes is no answer, and nothing before it is read in its place. Full-width and other typographic forms are read
    as ASCII. Where an answer is followed by a new question ("Q: ...", the next turn of a chat), what follows is not
    read. ``choice``: the reference is a letter or yes or no, so what nothing marks as the answer must name a choice
    too ("option B", "B) 12 apples").
    """
    if answer_pattern is not None:
        return _last_of([readers.pattern_reader(answer_pattern)], text)
    if answer_format == "lab":
        return _last_of([readers.lab_marks], text)
    marked, rest = _readers(answer_format, marked_only, choice)
    return _last_of([*marked, *rest], _own_part(_without_drawings(folded(text)), marked))


@functools.cache
def _readers(answer_format: str, marked_only: bool, choice: bool) -> tuple[list[Reader], list[Reader]]:
    """Readers of what is surely meant as the answer, and those tried after them."""
    numeric = answer_format in NUMERIC_FORMATS
    boxed: Reader = readers.single_boxes if numeric else readers.boxed
    first = [readers.hashes, boxed] if answer_format in ("gsm8k", "auto") else [boxed, readers.hashes]
    rest: list[Reader] = [readers.marks, readers.bold]
    if not marked_only and not numeric:
        rest += [readers.last_bold, bare_formula, last_list, readers.one_word]
    elif not marked_only:
        rest.append(last_formula_or_number)
    if choice and not marked_only:
        rest = [_only_choices(read) for read in rest]
        rest.insert(1, readers.choices)
    return [*first, readers.tagged, single_phrases if numeric else phrases], rest


def _last_of(tried: Sequence[Reader], text: str) -> tuple[str, str] | None:
    for read in tried:
        found = final(read(text))
        if found is not None and found.text:
            return found.text, found.how
        if found is not None:
            text = text[found.end :]
    return None


def _only_choices(read: Reader) -> Reader:
    def filtered(text: str) -> Iterator[Stated]:
        return (stated for stated in read(text) if chosen(stated.text) is not None)

    return filtered


_DRAWING = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)", re.DOTALL)


def _without_drawings(text: str) -> str:
    return _DRAWING.sub(lambda drawing: " " * len(drawing[0]), text) if "[asy]" in text else text


_NEXT = re.compile(
    r"(?P<turn><\|(?:im_end|im_start|endoftext|eot_id|end_of_text|user)\|>|</s>|<end_of_turn>|\[INST\])"
    r"|(?P<bare>(?<=\n\n)Q\s?:)"
    r"|(?:^|(?<=\n)|(?<=[.!?)]\s)|(?<=…\s))[ \t]{0,9}(?:\*\*|#{1,6}\s)?"
    r"(?:Q|Question|QUESTION|Problem|PROBLEM|Exercise|Example|Human|User|Instruction|Input"
    r"|(?:Next|New|Another) (?:question|problem))(?:\s?#?\d{1,4})?(?:\*\*)?\s?:"
)
_HINTS = (
    "<|", "</s>", "<end_of_turn>", "[INST]", "Q", "question", "roblem", "Exercise", "Example", "Human", "User",
    "Instruction", "Input",
)  # fmt: skip


def _own_part(text: str, marked: Sequence[Reader]) -> str:
    """What stands before a new question, if an answer does: one that is marked, or any before a chat's next turn."""
    following = _NEXT.search(text) if holds(text, _HINTS) else None
    if following is None or not text[: following.start()].strip():
        return text
    own = text[: following.start()]
    tried = [*marked, last_formula_or_number] if following["turn"] or following["bare"] else marked
    return own if _last_of(tried, own) is not None else text
