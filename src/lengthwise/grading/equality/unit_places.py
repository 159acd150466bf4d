"""Where in the tokens of a value its unit starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lengthwise.grading.equality.splitting import end_of
from lengthwise.grading.equality.tokens import FUNCTIONS, Token
from lengthwise.grading.equality.units import CURRENCY, PERCENT, is_unit_word

_LETTERS = frozenset("mgshdLlNJWVAKCFTB")
_PER = frozenset([("/", "s"), ("/", "h")])  # what makes a bare letter before it a unit
_NO_VALUE_ENDS = frozenset("+-*/^=(<>,:")


def starts_unit(tokens: Sequence[Token], place: int, *, letters: bool, spaced: bool) -> bool:
    """Whether the token at this place, behind a value, is the first of a unit.

    ``letters``: a bare letter of a unit that ends the tokens is one; ``spaced``: only with a space before it.
    """
    token, before = tokens[place], tokens[place - 1]
    if token.text == "°" and before.text != ")" and any(part.text in FUNCTIONS for part in tokens[:place]):
        return False  # the angle of a sine
    if token.kind == "sign":
        last = place == len(tokens) - 1
        return token.text in ("°", PERCENT) or (last and token.text in (*CURRENCY, "¢"))
    if before.kind == "sign" and before.text in _NO_VALUE_ENDS:
        return False
    behind_number = before.kind == "number" or before.text in (")", "}", "pi")
    if token.text == "frac":
        return _over_unit(tokens[place:]) is not None
    if token.kind == "letter":
        bare = letters and place == 1 + (tokens[0].text == "-") and (token.spaced or not spaced)
        return token.text in _LETTERS and behind_number and (token.upright or _must_be_unit(tokens[place:], bare))
    if token.kind != "word":
        return False
    # Behind pi, hr is rather a product of letters.
    short = before.text == "pi" and len(token.text) < 4 and token.text not in ("cm", "mm", "km")
    return token.upright or (behind_number and not short and is_unit_word(token))


def _must_be_unit(tokens: Sequence[Token], bare: bool) -> bool:
    """Whether a bare letter is a unit: it ends the value where it may, or goes on as m/s does."""
    if len(tokens) == 1:
        return bare
    return tokens[0].spaced and tuple(token.text for token in tokens[1:3]) in _PER


def says_unit(token: Token) -> bool:
    """Whether a token between two numbers is the unit of the first."""
    return token.kind in ("word", "letter") and (token.upright or is_unit_word(token))


def as_unit(tokens: Sequence[Token]) -> Sequence[Token]:
    """Tokens that start a unit, all letters of it upright, and without a fraction."""
    return [replace(token, upright=True) for token in _over_unit(tokens) or tokens]


def _over_unit(tokens: Sequence[Token]) -> Sequence[Token] | None:
    r"""``\frac{\text{m}}{\text{s}}`` as m/s; None for what is no fraction of units."""
    if tokens[0].text != "frac" or len(tokens) < 7 or tokens[1].text != "{":
        return None
    middle = end_of(tokens, 1)
    above, below = tokens[2:middle], tokens[middle + 2 : -1]
    if tokens[middle + 1 : middle + 2] != [tokens[1]] or not all(token.upright for token in (*above, *below[:1])):
        return None
    return [*above, Token("sign", "/"), *below]
