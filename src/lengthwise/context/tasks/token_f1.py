"""Qasper's recipe: how LM-Infinite's authors cut a document that is too long, and score a short answer to it."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from lengthwise.errors import ConfigError, InputError

ARTICLES = frozenset(("a", "an", "the"))
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
T = TypeVar("T")


def token_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the answer's words against the best of the references, times 100; 0 to 100.

    Words are lower case, without ASCII punctuation and without a, an, the; they count as often as they occur. 0 where
    nothing is shared, empty answers included. "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language
    Models", arXiv 2308.16137.

    Raises:
        InputError: no reference.
    """
    if not references:
        raise InputError("references is empty; give at least one")
    return 100 * max(_f1(_words(answer), _words(reference)) for reference in references)


def _words(text: str) -> Counter[str]:
    return Counter(w for w in text.lower().translate(_NO_PUNCTUATION).split() if w not in ARTICLES)


def _f1(found: Counter[str], wanted: Counter[str]) -> float:
    shared = (found & wanted).total()
    return 2 * shared / (found.total() + wanted.total()) if shared else 0.0


def cut_centre(tokens: Sequence[T], most: int = 6144) -> list[T]:
    """The tokens without the centre, so that at most so many stay: the first half of them and the last.

    Raises:
        ConfigError: most below 2.
    """
    if most < 2:
        raise ConfigError(f"most is {most}; give at least 2, one token for each end")
    if len(tokens) <= most:
        return list(tokens)
    first = most // 2
    return [*tokens[:first], *tokens[len(tokens) - (most - first) :]]
