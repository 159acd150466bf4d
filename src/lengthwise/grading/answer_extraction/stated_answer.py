"""What a reader finds: one stated answer, its place and its kind."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import NamedTuple, TypeVar

PATTERN, BOXED, HASHES, PHRASE, MARK = "answer pattern", "boxed", "after ####", "phrase", "after A:"
TAG, CHOICE, BOLD, EQUATION = "answer tag", "choice", "bold", "equation"
FORMULA, NUMBER, WHOLE = "last formula", "last number", "whole text"


class Stated(NamedTuple):
    """One stated answer: it stands in ``text[start:end]``, its mark included; ``text`` is the answer alone."""

    start: int
    end: int
    text: str
    how: str


Reader = Callable[[str], Iterator[Stated]]
T = TypeVar("T")


def holds(text: str, words: Iterable[str]) -> bool:
    """Whether a text holds one of some words: quicker than searching it for what begins with them."""
    for word in words:  # noqa: SIM110 - a generator costs more than the looking
        if word in text:
            return True
    return False


def final(found: Iterable[T]) -> T | None:
    """The last of them, or ``None``."""
    return next(iter(deque(found, maxlen=1)), None)


def until_next(found: Iterable[re.Match[str]], end: int) -> Iterator[tuple[re.Match[str], int]]:
    """Each mark with where the next one begins: what lies between is read once, however many marks there are."""
    for mark, following in pairwise(chain(found, [None])):
        assert mark is not None
        yield mark, end if following is None else following.start()
