"""Whether two expressions are equal: exactly where both are numbers, else at points drawn once and for all.

Two expressions that agree to thirty digits at several points, of either sign and different size, are equal, and one
point where they differ tells them apart. No algebra, so nothing here can take long.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from lengthwise.grading.equality.numeric import DIGITS, OutOfDomainError, Value, context, evaluate, is_matrix
from lengthwise.grading.equality.tree import Node, symbols

ABSOLUTE, RELATIVE, NOISE = Fraction(1, 2_000_000), Fraction(1, 100_000), Fraction(1, 10**12)
"""Decimals are equal to what they round: both bounds hold, or the difference is that of floating-point numbers."""
_OF_NUMBERS, _NOISE = (float(ABSOLUTE), float(RELATIVE)), float(NOISE)
_AT_POINTS = 2e-6  # relatively, for expressions of which one has coefficients that may be rounded
_ENOUGH, _FEWEST = 8, 3  # points that decide, and that must
_SAME = 1e-22  # relative difference that thirty digits leave
_VANISHING = 1e-12  # of a difference, by thirty digits more, that is none

Point = Mapping[str, Value]


def within_tolerance(one: Fraction, other: Fraction, last: Fraction) -> bool:
    """Whether a decimal stands for a number: half a unit of the sixth decimal, and relatively less for small ones.

    ``last``: what one in the last digit of the shorter decimal is worth, which is too much.
    """
    apart = abs(one - other)
    return (apart <= ABSOLUTE and apart < last and apart <= RELATIVE * abs(other)) or apart <= NOISE * abs(other)


def same_value(one: Node, other: Node) -> bool:
    r"""Whether two expressions are equal wherever both have a value.

    A decimal stands for what it rounds (see `within_tolerance`); other numbers are compared exactly. ``\log`` without
    a base is the decimal logarithm or the natural one, whichever makes them equal.

    Raises `Unreadable` for what is no expression, or too large to be worked out.
    """
    unlike = any(part.kind == "func" and part.value == "log" for side in (one, other) for part in side.walk())
    return any(_same_value(one, other, log_base) for log_base in ((10, None) if unlike else (10,)))


def _same_value(one: Node, other: Node, log_base: int | None) -> bool:
    names = tuple(sorted(symbols(one) | symbols(other)))
    is_complex = any(part.kind == "const" and part.value == "i" for side in (one, other) for part in side.walk())
    for real in (False,) if is_complex else (True, False):
        agreed = 0
        for point in points(names, real):
            found = _agree(one, other, point, real, log_base)
            if found is False:
                return False
            agreed += found is True
            if agreed == _ENOUGH:
                return True
        if agreed >= (_FEWEST if names else 1):
            return True
    return False


def _agree(one: Node, other: Node, point: Point, real: bool, log_base: int | None) -> bool | None:
    """Whether they agree at a point; None where one of them has no value."""
    bounds = _bounds(one, other, bool(point))
    apart = None
    for digits in DIGITS:
        try:
            left, right = (evaluate(side, point, digits=digits, real=real, log_base=log_base) for side in (one, other))
        except OutOfDomainError:
            return None
        before, apart = apart, _apart(left, right, context(digits), bounds)
        if apart == 0:
            return True
        if before is not None:
            return bool(apart < before * _VANISHING)
    return False


def _bounds(one: Node, other: Node, at_point: bool) -> tuple[float, float] | None:
    """How far two values may be apart, absolutely and relatively, for decimals to be what they round; None for not."""
    rounded = [side.has("decimal") for side in (one, other)]
    if not any(rounded):
        return None
    if at_point:
        return (math.inf, _NOISE if all(rounded) else _AT_POINTS)
    coarser = max((last_digit(side) for side in (one, other)), default=0.0)
    return (min(_OF_NUMBERS[0], coarser or math.inf), _OF_NUMBERS[1])


def last_digit(node: Node) -> float:
    """What one in the last digit of a decimal is worth, a hair less; 0 for what is no decimal alone."""
    inner = node.args[0] if node.kind == "neg" else node
    return float(inner.args[0].value) * (1 - 1e-9) if inner.kind == "decimal" else 0.0


def _apart(one: Value, other: Value, ctx: Any, bounds: tuple[float, float] | None) -> Any:
    """How far two values are apart: 0 if they are the same to so many digits, or within the bounds."""
    if is_matrix(one) or is_matrix(other):
        if not (is_matrix(one) and is_matrix(other)) or [len(row) for row in one] != [len(row) for row in other]:
            return ctx.inf
        pairs = [pair for rows in zip(one, other, strict=True) for pair in zip(*rows, strict=True)]
        return max(_apart(left, right, ctx, bounds) for left, right in pairs)
    exact = isinstance(one, Fraction) and isinstance(other, Fraction)
    whole = exact and one.denominator == other.denominator == 1
    if one == other or (exact and (whole or bounds is None)):
        return 0 if one == other else ctx.inf
    left, right = _inexact(one, ctx), _inexact(other, ctx)
    apart, size = abs(left - right), max(abs(left), abs(right))
    if left == right or not ctx.isfinite(size):
        return 0 if left == right else ctx.inf
    absolute, relative = bounds or (0.0, 0.0)
    near = (apart <= absolute and apart <= relative * size) or (bounds is not None and apart <= _NOISE * size)
    return 0 if near or apart <= _SAME * size else apart


def _inexact(value: Value, ctx: Any) -> Any:
    return ctx.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


@functools.cache
def points(names: tuple[str, ...], real: bool) -> tuple[Point, ...]:
    """Points to compare at: the same ones for the same names, of each sign, below and above one."""
    if not names:
        return ({},)
    rng = random.Random(f"{names} {real}")
    found: list[Point] = []
    for place in range(24):
        low, high = ((0.05, 0.95), (1.0, 3.0), (3.0, 9.0))[place // 2 % 3]
        found.append({name: _drawn(rng, low, high, place, real) for name in names})
    return tuple(found)


def _drawn(rng: random.Random, low: float, high: float, place: int, real: bool) -> Value:
    value = Fraction(rng.randint(int(low * 9973), int(high * 9973)), 9973)
    if not real:
        return complex(rng.uniform(-2, 2), rng.uniform(-2, 2))
    # Every other point has a value of either sign; the rest are positive, where most expressions have a value.
    return -value if place % 2 and (rng.random() < 0.5 or place % 4 == 3) else value


def constant(node: Node) -> Value:
    """The value of an expression without variables; `OutOfDomainError` if it has none, or has variables."""
    if symbols(node):
        raise OutOfDomainError
    return evaluate(node, {})


def varies(node: Node) -> bool:
    """Whether the value of an expression depends on its variables."""
    values = [value for value, _ in _pairs(node, node)]
    return any(value != values[0] for value in values)


def ratio_to(one: Node, other: Node) -> Any:
    """What the second must be multiplied with to be the first, if that is a number other than 0; else None."""
    pairs = [pair for pair in _pairs(one, other) if pair[1] != 0]
    if len(pairs) < _FEWEST:
        return None
    first, second = pairs[0]
    for left, right in pairs[1:]:
        cross, back = left * second, first * right
        if abs(cross - back) > _SAME * max(abs(cross), abs(back)):
            return None
    return first / second if first != 0 else None


def _pairs(one: Node, other: Node) -> Iterator[tuple[Any, Any]]:
    ctx, names = context(DIGITS[0]), tuple(sorted(symbols(one) | symbols(other)))
    is_complex = any(part.kind == "const" and part.value == "i" for side in (one, other) for part in side.walk())
    for real in (False,) if is_complex else (True, False):
        found = 0
        for point in points(names, real):
            try:
                left, right = (evaluate(side, point, real=real) for side in (one, other))
            except OutOfDomainError:
                continue
            if is_matrix(left) or is_matrix(right):
                return
            found += 1
            yield _inexact(left, ctx), _inexact(right, ctx)
            if found == _ENOUGH:
                return
        if found >= _FEWEST:
            return
