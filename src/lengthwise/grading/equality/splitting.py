"""Splitting tokens at signs that stand outside of all brackets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lengthwise.grading.equality.tokens import Token, Unreadable

OPENS, _CLOSES = frozenset(["(", "[", "{", r"\{", "⟨"]), frozenset([")", "]", "}", r"\}", "⟩"])


def _steps(tokens: Sequence[Token]) -> Iterator[int]:
    for token in tokens:
        if token.kind == "command":
            yield (token.text == "begin") - (token.text == "end")
        else:
            yield (token.kind == "sign") * ((token.text in OPENS) - (token.text in _CLOSES))


def split(tokens: Sequence[Token], signs: frozenset[str]) -> tuple[list[Sequence[Token]], list[str]]:
    """The tokens between the signs that stand outside of all brackets, and these signs."""
    slices: list[Sequence[Token]] = []
    between: list[str] = []
    depth = start = 0
    for place, step in enumerate(_steps(tokens)):
        depth += step
        if depth < 0:
            raise Unreadable("a bracket that never opened")
        if depth == 0 and step == 0 and tokens[place].kind == "sign" and tokens[place].text in signs:
            slices.append(tokens[start:place])
            between.append(tokens[place].text)
            start = place + 1
    if depth:
        raise Unreadable("a bracket that never closes")
    return [*slices, tokens[start:]], between


def end_of(tokens: Sequence[Token], opening: int) -> int:
    """Where the bracket that opens at this place closes."""
    depth = 0
    for place, step in enumerate(_steps(tokens[opening:]), opening):
        depth += step
        if depth == 0:
            return place
    raise Unreadable("a bracket that never closes")


def text_of(tokens: Sequence[Token]) -> str:
    """Text of tokens that were not read: words in lower case, one space between them."""
    return " ".join(token.text.lower() if token.kind == "word" else token.text for token in tokens)
