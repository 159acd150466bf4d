"""Texts that an answer pattern reads, made from the expression as Python parsed it: for `--dry-run`'s sample."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from re import _constants as codes  # type: ignore[attr-defined]  # the one way to an expression's tree
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from lengthwise.grading.prompt_contract import compile_answer_pattern

TRIED, LONGEST = 2_000, 10_000
"""Texts that are tried before a pattern is given up, and the most repetitions that are written out."""
PALETTE = "x0 A.,:=-_$\n\t/%#*()[]{}<>é"
"""What stands for a set of characters, the first that belongs to it."""
_CATEGORIES = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_SPACE: r"\s",
    codes.CATEGORY_NOT_SPACE: r"\S",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}
_Node = tuple[Any, Any]


def texts_with(answer: str, pattern: str) -> Iterator[str]:
    """Texts in which the pattern's last match has `answer` as its group, the plainest first; none if none was found.

    `pattern` is an answer pattern: a regular expression with one group. Every text was matched before it is given.
    """
    compiled = compile_answer_pattern(pattern)
    for text in itertools.islice(_sequence(list(parser.parse(pattern)), answer), TRIED):
        found = [match[1].strip() for match in compiled.finditer(text) if match[1] and match[1].strip()]
        if found and found[-1] == answer.strip():
            yield text


def _sequence(nodes: Sequence[_Node], answer: str) -> Iterator[str]:
    if not nodes:
        yield ""
        return
    for head in _node(*nodes[0], answer):
        for tail in _sequence(nodes[1:], answer):
            yield head + tail


def _node(code: Any, value: Any, answer: str) -> Iterator[str]:
    """What one part of the expression may match."""
    if code is codes.LITERAL:
        yield chr(value)
    elif code in (codes.NOT_LITERAL, codes.ANY, codes.IN):
        yield from _characters(code, value)
    elif code is codes.SUBPATTERN:
        yield from [answer] if value[0] else _sequence(list(value[3]), answer)
    elif code is codes.ATOMIC_GROUP:
        yield from _sequence(list(value), answer)
    elif code is codes.BRANCH:
        for part in value[1]:
            yield from _sequence(list(part), answer)
    elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        yield from _repeated(value, answer)
    elif code is codes.ASSERT:  # what must stand beside the match: there, or made by the parts beside this one
        yield from _sequence(list(value[1]), answer)
        yield ""
    elif code is codes.GROUPREF:
        yield answer
    elif code is codes.GROUPREF_EXISTS:
        for part in value[1:]:
            yield from _sequence(list(part or ()), answer)
    else:  # a place, or what must not stand here; whether it holds is seen when the text is matched
        yield ""


def _repeated(value: tuple[int, int, Any], answer: str) -> Iterator[str]:
    """The part as seldom as it may stand, and once more; the same text every time."""
    least, most, part = value
    if least > LONGEST:
        return
    for count in range(least, min(most, least + 1) + 1):
        yield from (text * count for text in _sequence(list(part), answer))


def _characters(code: Any, value: Any) -> list[str]:
    """At most three characters that fit, unlike each other where the set allows."""
    if code is codes.ANY:
        return ["x", "0", " "]
    members = [(codes.NEGATE, None), (codes.LITERAL, value)] if code is codes.NOT_LITERAL else value
    named = [chr(at) for kind, at in members if kind is codes.LITERAL]
    named += [chr(at) for kind, span in members if kind is codes.RANGE for at in span]
    return [one for one in dict.fromkeys([*named, *PALETTE]) if _belongs(one, members)][:3]


def _belongs(character: str, members: Sequence[_Node]) -> bool:
    inside = any(
        (kind is codes.LITERAL and ord(character) == value)
        or (kind is codes.RANGE and value[0] <= ord(character) <= value[1])
        or (kind is codes.CATEGORY and re.fullmatch(_CATEGORIES[value], character) is not None)
        for kind, value in members
    )
    return inside != any(kind is codes.NEGATE for kind, _ in members)
