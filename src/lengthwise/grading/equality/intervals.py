"""Sets of real numbers as intervals, so that 1 < x < 2, x in (1, 2) and their unions compare as what they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lengthwise.grading.equality.numeric import OutOfDomainError, context, evaluate
from lengthwise.grading.equality.points import constant
from lengthwise.grading.equality.tokens import Unreadable
from lengthwise.grading.equality.tree import Node, sym, symbols

_SAME = 1e-22


@dataclass(frozen=True, slots=True)
class _Piece:
    low: Any
    low_in: bool
    high: Any
    high_in: bool

    def is_empty(self) -> bool:
        return self.low > self.high or (self.low == self.high and not (self.low_in and self.high_in))


Pieces = tuple[_Piece, ...]
"""Disjoint, in order, none touching the next."""


def same_set(one: Node, other: Node) -> bool | None:
    """Whether two nodes describe the same real numbers; None where one of them describes none that can be read."""
    variables = _variables(one) | _variables(other)
    if len(variables) > 1:
        return None
    try:
        left, right = _pieces(one), _pieces(other)
    except (OutOfDomainError, Unreadable):
        return None
    return len(left) == len(right) and all(map(_same_piece, left, right))


def _same_piece(one: _Piece, other: _Piece) -> bool:
    ends = (one.low_in, one.high_in) == (other.low_in, other.high_in)
    return ends and _same(one.low, other.low) and _same(one.high, other.high)


def _same(one: Any, other: Any) -> bool:
    size = max(abs(one), abs(other))
    return bool(one == other or (context(30).isfinite(size) and abs(one - other) <= _SAME * size))


def _is_variable(node: Node) -> bool:
    return node.kind in ("sym", "call", "words") and "mathbb" not in str(node.value)


def _variables(node: Node) -> set[Node]:
    """What the relations in it are about."""
    if node.kind != "rel":
        return set().union(*map(_variables, node.args))
    found = {side for side in node.args if _is_variable(side)}
    return found or {sym(name) for side in node.args for name in symbols(side) if not name.startswith("mathbb")}


def _pieces(node: Node) -> Pieces:
    if node.kind == "rel":
        return _related(node)
    if node.kind == "list":
        return _listed(node)
    if node.kind == "sets":
        return _combined(node)
    if node.kind == "sym" and node.value == "mathbb R":
        return _ALL()
    if node.kind != "seq":
        raise Unreadable("no set of real numbers")
    if node.value == "{}":
        return _merged([_Piece(value, True, value, True) for value in map(_end, node.args)])
    if len(node.args) != 2:
        raise Unreadable("no interval")
    low, high = map(_end, node.args)
    return _merged([_Piece(low, node.value[0] == "[", high, node.value[1] == "]")])


def _end(node: Node) -> Any:
    value, ctx = constant(node), context(30)
    if isinstance(value, Fraction):
        return ctx.mpf(value.numerator) / value.denominator
    if not isinstance(value, ctx.mpf):
        raise Unreadable("an end that is no real number")
    return value


def _ALL() -> Pieces:  # noqa: N802 - a constant of a module that is imported late
    infinite = context(30).inf
    return (_Piece(-infinite, False, infinite, False),)


def _related(node: Node) -> Pieces:
    """A chain of relations around one variable: 1 < x <= 2, 2x - 1 > 3, x != 3, x in a set."""
    signs = set(node.value)
    places = [place for place, side in enumerate(node.args) if _is_variable(side) or symbols(side)]
    if len(places) != 1:
        raise Unreadable("a relation that is not about one variable")
    if signs == {"="}:
        return _equal_to(node, places[0])
    found = _ALL()
    for place, sign in enumerate(node.value):
        left, right = node.args[place : place + 2]
        if places[0] == place:
            found = _both(found, _side(sign, _end(right), variable_left=True))
        elif places[0] == place + 1:
            found = _both(found, _side(sign, _end(left), variable_left=False))
        else:
            raise Unreadable("a relation between two numbers")
    return _solved(found, node.args[places[0]])


def _solved(values: Pieces, side: Node) -> Pieces:
    """Where a side that is the variable, or linear in it, has one of these values."""
    if _is_variable(side):
        return values
    found = symbols(side)
    if len(found) != 1:
        raise Unreadable("several variables")
    at = [evaluate(side, {name: Fraction(place) for name in found}) for place in (0, 1, 2, 7)]
    if not all(isinstance(value, Fraction) for value in at) or at[1] == at[0]:
        raise Unreadable("an inequality that is not linear")
    slope = at[1] - at[0]
    if [at[0] + place * slope for place in (2, 7)] != at[2:]:
        raise Unreadable("an inequality that is not linear")
    start, rise = (context(30).mpf(value.numerator) / value.denominator for value in (at[0], slope))
    turned = [_Piece((p.low - start) / rise, p.low_in, (p.high - start) / rise, p.high_in) for p in values]
    if rise < 0:
        turned = [_Piece(p.high, p.high_in, p.low, p.low_in) for p in turned]
    return _merged(turned)


def _equal_to(node: Node, place: int) -> Pieces:
    if len(node.args) != 2:
        raise Unreadable("a chain of equations")
    other = node.args[1 - place]
    if other.kind in ("seq", "sets") or other.value == "mathbb R":
        return _pieces(other)
    value = _end(other)
    return (_Piece(value, True, value, True),)


def _side(sign: str, end: Any, *, variable_left: bool) -> Pieces:
    infinite = context(30).inf
    if sign == "!=":
        return _complement((_Piece(end, True, end, True),))
    if sign not in ("<", ">", "<=", ">="):
        raise Unreadable(f"the relation {sign}")
    closed = sign.endswith("=")
    below = (sign[0] == "<") == variable_left
    return _merged([_Piece(-infinite, False, end, closed) if below else _Piece(end, closed, infinite, False)])


def _listed(node: Node) -> Pieces:
    """Relations with "or" between them, with "and", or with commas, which mean either."""
    if not all(part.kind == "rel" for part in node.args):
        raise Unreadable("a list with what is no relation")
    parts = [_related(part) for part in node.args]
    together = _union(parts)
    if "or" in node.value:
        if "and" in node.value:
            raise Unreadable("and beside or")
        return together
    common = parts[0]
    for part in parts[1:]:
        common = _both(common, part)
    return common if common or "and" in node.value else together


def _combined(node: Node) -> Pieces:
    found = _pieces(node.args[0])  # the only one of {x | x > 3}
    for sign, part in zip(node.value, map(_pieces, node.args[1:]), strict=True):
        kept = part if sign == "∩" else _complement(part)
        found = _union([found, part]) if sign == "∪" else _both(found, kept)
    return found


def _union(parts: Sequence[Pieces]) -> Pieces:
    return _merged(list(itertools.chain.from_iterable(parts)))


def _both(one: Pieces, other: Pieces) -> Pieces:
    return _complement(_union([_complement(one), _complement(other)]))


def _merged(pieces: list[_Piece]) -> Pieces:
    found: list[_Piece] = []
    for piece in sorted((p for p in pieces if not p.is_empty()), key=lambda p: (p.low, not p.low_in)):
        last = found[-1] if found else None
        if last is None or piece.low > last.high or (piece.low == last.high and not (piece.low_in or last.high_in)):
            found.append(piece)
        elif piece.high > last.high or (piece.high == last.high and piece.high_in):
            found[-1] = _Piece(last.low, last.low_in, piece.high, piece.high_in)
    return tuple(found)


def _complement(pieces: Pieces) -> Pieces:
    infinite = context(30).inf
    low, low_in, found = -infinite, False, []
    for piece in pieces:
        found.append(_Piece(low, low_in, piece.low, not piece.low_in and piece.low != -infinite))
        low, low_in = piece.high, not piece.high_in and piece.high != infinite
    found.append(_Piece(low, low_in, infinite, False))
    return tuple(piece for piece in found if not piece.is_empty())
