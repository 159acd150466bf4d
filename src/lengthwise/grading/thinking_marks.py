"""Where the thinking stands in a response: the marks that models open and close it with.

Everything up to a closing mark is thinking where no opening mark says otherwise: the prompt may have opened it, and
after an end that was forced on it the rest of the thinking may come with a closing mark of its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Marks:
    """One kind of marks: what opens the thinking (None: not known) and what closes it.

    ``begins``: how a model that uses them begins to think; None for the opening mark alone.
    """

    opens: str | None
    closes: str
    begins: str | None = None

    @property
    def first(self) -> str:
        """The text that is pre-filled where the thinking is to begin."""
        return self.begins or self.opens or ""


KINDS = (
    Marks(THINK_OPEN, THINK_CLOSE, "<think>\n"),  # DeepSeek, Qwen, GLM, Kimi K2 and most others
    Marks("<thinking>", "</thinking>"),
    Marks("<thought>", "</thought>", "<thought>\n"),  # EXAONE Deep
    Marks("<reasoning>", "</reasoning>"),
    Marks("◁think▷", "◁/think▷"),  # Kimi VL
    Marks("[THINK]", "[/THINK]"),  # Magistral
    Marks("<seed:think>", "</seed:think>"),  # Seed-OSS
    Marks("<mm:think>", "</mm:think>"),  # MiniMax M3
    Marks("<longcat_think>", "</longcat_think>"),
    Marks("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Marks("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Marks("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    Marks("[unused16]", "[unused17]"),  # Pangu
    Marks("<|channel>", "<channel|>", "<|channel>thought\n"),  # Gemma 4
    Marks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
"""The kinds in use, as the reasoning parsers of vLLM and SGLang have them (August 2026)."""

Section = tuple[int, int]
"""First and last character of a part of a text, the last one excluded."""


def marks_of(closes: str) -> Marks:
    """The kind with this closing mark; one of a user's own has an opening mark where it is written ``</...``."""
    own = "<" + closes[2:] if closes.startswith("</") else None
    return next((kind for kind in KINDS if kind.closes == closes), Marks(own, closes))


@functools.cache
def _reader(kinds: tuple[Marks, ...]) -> tuple[re.Pattern[str], dict[str, Marks]]:
    """A pattern of all marks, and the kind of each."""
    owners = {mark: kind for kind in kinds for mark in (kind.opens, kind.closes) if mark}
    # The longest first, should one mark begin as another does; by first character, which is searched for fast.
    marks = sorted(owners, key=lambda mark: (mark[0], -len(mark)))
    starts = {first: [re.escape(mark[1:]) for mark in group] for first, group in groupby(marks, lambda mark: mark[0])}
    return re.compile("|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in starts.items())), owners


def thinking_sections(text: str, kinds: Sequence[Marks], *, begins: bool) -> tuple[list[Section], bool]:
    """Where the thinking stands, in characters with its marks, and whether the text ends outside of it.

    ``begins``: the text begins in its thinking, whatever kind of mark then closes it. Within a kind's marks those of
    other kinds are text. A closing mark outside of any thinking makes all before it thinking. Linear in the text.
    """
    if not kinds:
        return [], True
    pattern, owners = _reader(tuple(kinds))
    found: list[Section] = []
    start, inside = 0, begins
    kind: Marks | None = None  # of the section; None while it began without a mark
    for place, mark in enumerate(pattern.finditer(text)):
        owner = owners[mark[0]]
        if mark[0] != owner.closes:
            if not inside:
                start, inside, kind = mark.start(), True, owner
            elif place == 0 and not text[: mark.start()].strip():
                kind = owner  # the model wrote the mark itself
        elif not inside:
            found = [(0, mark.end())]
        elif kind is None or kind is owner:
            found.append((start, mark.end()))
            inside, kind = False, None
    return [*found, (start, len(text))] if inside else found, not inside


def split_thinking(text: str, kinds: Sequence[Marks], *, begins: bool) -> tuple[str, str, bool]:
    """Split a response into ``(thinking, answer_text, closed)`` at its `thinking_sections`; marks are left out.

    If it is not ``closed``, ``answer_text`` is empty, so that nothing is read from unfinished thinking by mistake.
    """
    sections, closed = thinking_sections(text, kinds, begins=begins)
    if not sections:
        return "", text, closed
    bare = _reader(tuple(kinds))[0]
    thinking = bare.sub("", "".join(text[start:end] for start, end in sections))
    if not closed:
        return thinking, "", False
    ends = [0, *(end for _, end in sections)]
    starts = [*(start for start, _ in sections), len(text)]
    return thinking, "".join(text[end:start] for end, start in zip(ends, starts, strict=True)), True


def whole_response(thinking: str, answer: str, closes: str) -> str:
    """A response as it was written, of which a server gave the ``thinking`` apart, with one mark between the two.

    ``closes``: that mark, unless those that stand in the two are of another kind. Thinking that nothing follows was
    cut, and does not close. An answer that begins with the same thinking once more, marks and all, is the whole.
    """
    if not answer.strip():
        return thinking
    if same_thinking(thinking, answer):
        return answer
    pattern, owners = _reader(KINDS)
    mark = pattern.search(thinking) or pattern.search(answer)
    closes = closes if mark is None else owners[mark[0]].closes
    there = thinking.rstrip().endswith(closes) or answer.lstrip().startswith(closes)
    return thinking + ("" if there else closes) + answer


def same_thinking(thinking: str, answer: str) -> bool:
    """Whether an answer's own thinking section says what was given apart; spacing and marks do not count."""
    inside = split_thinking(answer, KINDS, begins=False)[0]
    return bool(inside) and _words(inside) == _words(split_thinking(thinking, KINDS, begins=True)[0])


def opens_itself(answer: str) -> bool:
    """Whether an answer begins with an opening mark, so that it has thinking of its own."""
    mark = _reader(KINDS)[0].match(answer.lstrip())
    return mark is not None and _reader(KINDS)[1][mark[0]].opens == mark[0]


def ends_in(text: str) -> Marks | None:
    """The kind whose opening mark a text ends with, blanks aside: what follows begins in its thinking."""
    bare = text.rstrip()
    return next((kind for kind in KINDS if bare.endswith((str(kind.opens), kind.first.rstrip()))), None)


def _words(text: str) -> list[str]:
    return text.split()
