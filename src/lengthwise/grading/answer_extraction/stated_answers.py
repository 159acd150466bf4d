r"""Answers that a text states, wherever they stand: what is counted over a response, its thinking included.

The readers (`readers`) yield what they find in order of position; the graders take the last one of the first kind
that is there (`graders.extract_answer`), `stated_answers` merges all kinds.
"""

from __future__ import annotations

import re

from lengthwise.errors import ConfigError
from lengthwise.grading.answer_extraction.answer_text import UNIT, as_number, folded, number_with_unit, right_side
from lengthwise.grading.answer_extraction.phrases import phrases, single_phrases
from lengthwise.grading.answer_extraction.readers import (
    bold,
    boxed,
    equations,
    hashes,
    lab_answers,
    marks,
    passes,
    pattern_reader,
    single_boxes,
)
from lengthwise.grading.answer_extraction.stated_answer import Reader, Stated
from lengthwise.grading.gold_answers import NUMERIC_FORMATS
from lengthwise.grading.prompt_contract import ANSWER_FORMATS, unknown_name


def stated_answers(text: str, answer_format: str, answer_pattern: str | None = None) -> list[Stated]:
    r"""Every answer that a whole response states, its thinking included, in order of position.

    ``lab``: what follows ``A:``, and the last right-hand side of each pass, the ``=9`` before ``;check:`` or
    ``;A:``. The other formats: ``\boxed{18}``, ``#### 18``, "the answer is 18", ``A: 18``, bold, and a
    right-hand side that ends a line or sentence (``... = 18.``). Boxes of one sentence are one list, as in
    `extraction`. ``answer_pattern`` adds its own matches. Where two overlap, the one named first here stays (a pattern
    before all). Empty for a text that states nothing.

    ``text`` is brief, so that its `answer_key` compares well: the number of "18 eggs for 9 people", the right
    side of "3 + 4 = 7". What states no answer ("the answer is not clear yet"; for ``gsm8k`` and ``aime`` whatever
    has no number) is left out.
    """
    if answer_format not in ANSWER_FORMATS:
        raise ConfigError(unknown_name("answer_format", answer_format, ANSWER_FORMATS))
    numeric = answer_format in NUMERIC_FORMATS
    readers: list[Reader] = [
        single_boxes if numeric else boxed,
        hashes,
        single_phrases if numeric else phrases,
        marks,
        bold,
        equations,
    ]
    if answer_format == "lab":
        readers = [lab_answers, passes]
    seen = text if answer_format == "lab" else folded(text)
    sources = [(reader, seen) for reader in readers]
    if answer_pattern is not None:
        sources.insert(0, (pattern_reader(answer_pattern), text))
    found = (
        (rank, stated) for rank, (reader, source) in enumerate(sources) for stated in reader(source) if stated.text
    )
    kept: list[tuple[int, Stated]] = []
    for rank, stated in sorted((at for at in found if at[1].text), key=lambda entry: (entry[1].start, entry[0])):
        if not kept or stated.start >= kept[-1][1].end:
            kept.append((rank, stated))
        elif rank < kept[-1][0]:
            kept[-1] = (rank, stated)
    brief = ((_brief(stated.text, answer_format), stated) for _, stated in kept)
    return [stated if text == stated.text else stated._replace(text=text) for text, stated in brief if text]


def _brief(text: str, answer_format: str) -> str:
    if answer_format == "lab":
        return text
    if answer_format in NUMERIC_FORMATS:
        number = as_number(text)
        number = number_with_unit(text) if number is None else number
        return str(number) if number is not None else text if re.search(r"\d", text) else ""
    text = right_side(text)
    counted = UNIT.fullmatch(text)
    prose = len(text.split()) > 2 and re.search(r"[\d\\]", text) is None
    return counted["number"] if counted else "" if prose else text
