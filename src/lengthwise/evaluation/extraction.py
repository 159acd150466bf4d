r"""Extraction: the one answer that a response gives, among all that it states (see `readers`)."""

from __future__ import annotations

from collections.abc import Sequence

from lengthwise.evaluation import readers
from lengthwise.evaluation.answer_text import folded
from lengthwise.evaluation.prompts import NUMERIC_FORMATS


def extract_answer(
    text: str, answer_format: str, *, answer_pattern: str | None = None, marked_only: bool = False
) -> tuple[str, str] | None:
    r"""Find the answer in text outside the thinking: ``(answer, how)``, or ``None``.

    An ``answer_pattern`` replaces every other way: the group of its last match is the answer. ``lab`` takes what
    follows the last ``A:`` and nothing else. The other formats try, in this order: the last ``#### 18`` (``gsm8k``
    and ``auto`` first, the others after the box), the last ``\boxed{18}``, the last "the answer is 18" or
    "Answer: 18", the last line that begins with ``A: 18``, the last bold ``**18**``; and, unless ``marked_only``,
    bold words or bare LaTeX that end the text (not ``gsm8k`` and ``aime``, whose answers are numbers), and the
    last formula or number of the text, whichever ends later.

    Boxes of one sentence are one list (``gsm8k`` and ``aime``: the last of them). A last box that is empty or never
    closes is no answer, and nothing before it is read in its place. Full-width and other typographic forms are read
    as ASCII.
    """
    if answer_pattern is not None:
        return _last_of([readers.pattern_reader(answer_pattern)], text)
    if answer_format == "lab":
        return _last_of([readers.lab_marks], text)
    return _last_of(_readers(answer_format, marked_only), folded(text))


def _last_of(tried: Sequence[readers.Reader], text: str) -> tuple[str, str] | None:
    for read in tried:
        found = readers.final(read(text))
        if found is not None and found.text:
            return found.text, found.how
        if found is not None:
            text = text[found.end :]
    return None


def _readers(answer_format: str, marked_only: bool) -> list[readers.Reader]:
    numeric = answer_format in NUMERIC_FORMATS
    boxed = readers.single_boxes if numeric else readers.boxed
    first: list[readers.Reader] = (
        [readers.hashes, boxed] if answer_format in ("gsm8k", "auto") else [boxed, readers.hashes]
    )
    marked = [*first, readers.phrases, readers.marks, readers.bold]
    if marked_only:
        return marked
    if not numeric:
        marked += [readers.last_bold, readers.bare_formula]
    return [*marked, readers.last_formula_or_number]
