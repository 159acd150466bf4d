"""Values of expressions: exact fractions as long as they last, then numbers of many digits, or matrices of either."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from lengthwise.grading.equality.tokens import Unreadable
from lengthwise.grading.equality.tree import Node, names

Value = Any
"""A Fraction, a real or complex number of mpmath, or rows of them: a matrix. In points a `complex`, too."""
DIGITS = (30, 60)
"""Working precisions: what vanishes with more digits is zero."""
_LARGEST_BITS = 20_000  # of a power that is written out
_LARGEST_EXPONENT = 1e7  # binary digits before the point, of any number
_LARGEST_FACTORIAL = 2000  # that is written out


class OutOfDomainError(ArithmeticError):
    """The expression has no value at this point."""


_contexts = threading.local()  # mpmath's contexts change while they work, so threads must not share them


def context(digits: int) -> Any:
    """mpmath at a precision; imported late because it takes a while."""
    made = _contexts.__dict__.setdefault("made", {})
    if digits not in made:
        import mpmath

        made[digits] = mpmath.mp.clone()
        made[digits].dps = digits
    return made[digits]


def evaluate(
    node: Node, point: Mapping[str, Value], *, digits: int = DIGITS[0], real: bool = True, log_base: int | None = 10
) -> Value:
    r"""The value of an expression where its variables have these values.

    ``real``: roots and logarithms of negative numbers have none, and odd roots are real. ``log_base``: of ``\log``
    without one; None for the natural logarithm.

    Raises:
        OutOfDomainError: there is no value.
        Unreadable: it is no expression, or too large to be worked out.
    """
    return _Evaluator(point, context(digits), real, log_base).of(node)


def is_matrix(value: Value) -> bool:
    """Whether a value is a matrix."""
    return isinstance(value, list)


class _Evaluator:
    def __init__(self, point: Mapping[str, Value], ctx: Any, real: bool, log_base: int | None) -> None:
        self.point = point
        self.ctx = ctx
        self.real = real
        self.log_base = log_base

    def of(self, node: Node) -> Value:
        work = _WORK.get(node.kind)
        if work is None:
            raise Unreadable(f"a {node.kind} in an expression")
        return work(self, node)

    def many(self, node: Node) -> list[Value]:
        return [self.of(part) for part in node.args]

    def inexact(self, value: Value) -> Any:
        if is_matrix(value):
            raise Unreadable("a matrix where a number is due")
        return self.ctx.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value

    def known(self, value: Any) -> Any:
        if self.ctx.isnan(value):
            raise OutOfDomainError
        return value

    # ---- leaves --------------------------------------------------------------------------------------------------

    def given(self, node: Node) -> Value:
        return node.value

    def symbol(self, node: Node) -> Value:
        value = self.point[node.value]
        return self.ctx.mpc(value) if isinstance(value, complex) else value

    def constant(self, node: Node) -> Value:
        named = {"pi": self.ctx.pi, "e": self.ctx.e, "i": self.ctx.j, "inf": self.ctx.inf}
        return +named[node.value]

    # ---- arithmetic ----------------------------------------------------------------------------------------------

    def add(self, node: Node) -> Value:
        total, *rest = self.many(node)
        for value in rest:
            total = self.plus(total, value)
        return total

    def plus(self, left: Value, right: Value) -> Value:
        if is_matrix(left) or is_matrix(right):
            return _entrywise(self.plus, left, right)
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left + right
        return self.known(self.inexact(left) + self.inexact(right))

    def neg(self, node: Node) -> Value:
        return self.times(Fraction(-1), self.of(node.args[0]))

    def mul(self, node: Node) -> Value:
        return self.times(*self.many(node))

    def times(self, left: Value, right: Value) -> Value:
        if is_matrix(left) and is_matrix(right):
            return self.matrix_product(left, right)
        if is_matrix(left) or is_matrix(right):
            scalar, matrix = (right, left) if is_matrix(left) else (left, right)
            return [[self.times(scalar, entry) for entry in row] for row in matrix]
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left * right
        return self.known(self.inexact(left) * self.inexact(right))

    def matrix_product(self, left: list[list[Value]], right: list[list[Value]]) -> Value:
        if len(left[0]) != len(right):
            raise Unreadable("a product of matrices that do not fit")
        columns = list(zip(*right, strict=True))
        return [[self.dot(row, column) for column in columns] for row in left]

    def dot(self, left: Sequence[Value], right: Sequence[Value]) -> Value:
        total: Value = Fraction(0)
        for one, other in zip(left, right, strict=True):
            total = self.plus(total, self.times(one, other))
        return total

    def div(self, node: Node) -> Value:
        top, bottom = self.many(node)
        return self.times(top, self.power_of(bottom, Fraction(-1)))

    def pow(self, node: Node) -> Value:
        return self.power_of(*self.many(node))

    def power_of(self, base: Value, exponent: Value) -> Value:
        if is_matrix(base):
            return self.matrix_power(base, exponent)
        if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
            if base == 0 and exponent <= 0:
                raise OutOfDomainError
            if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) <= _LARGEST_BITS:
                return base ** int(exponent)
        return self.inexact_power(base, exponent)

    def inexact_power(self, base: Value, exponent: Value) -> Any:
        low, high = self.inexact(base), self.inexact(exponent)
        if low == 0:
            if self.ctx.re(high) > 0:
                return self.ctx.mpf(0)
            raise OutOfDomainError
        if abs(high) * abs(self.ctx.log(abs(low), 2)) > _LARGEST_EXPONENT and not self.ctx.isinf(low):
            raise Unreadable("a power too large to work out")
        if self.real and low < 0 and not self.ctx.isint(high):
            odd = isinstance(exponent, Fraction) and exponent.denominator % 2 == 1
            if not odd:
                raise OutOfDomainError
            sign = -1 if exponent.numerator % 2 else 1
            return sign * self.ctx.power(-low, high)
        return self.known(self.ctx.power(low, high))

    def matrix_power(self, base: list[list[Value]], exponent: Value) -> Value:
        if not isinstance(exponent, Fraction) or exponent.denominator != 1 or not 1 <= exponent <= 20:
            raise Unreadable("a power of a matrix")
        product: Value = base
        for _ in range(int(exponent) - 1):
            product = self.matrix_product(product, base)
        return product

    # ---- functions -----------------------------------------------------------------------------------------------

    def fact(self, node: Node) -> Value:
        return self.factorial(self.of(node.args[0]))

    def factorial(self, value: Value) -> Value:
        if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= _LARGEST_FACTORIAL:
            return Fraction(math.factorial(int(value)))
        number = self.inexact(value)
        if abs(number) > _LARGEST_EXPONENT / 24:
            raise Unreadable("a factorial too large to work out")
        if self.ctx.isint(number) and self.ctx.re(number) < 0:
            raise OutOfDomainError
        return self.ctx.factorial(number)

    def binom(self, node: Node) -> Value:
        above, below = self.many(node)
        whole = all(isinstance(v, Fraction) and v.denominator == 1 and 0 <= v <= 2000 for v in (above, below))
        if whole:
            return Fraction(math.comb(int(above), int(below)))
        rest = self.plus(above, self.times(Fraction(-1), below))
        parts = self.times(self.factorial(below), self.factorial(rest))
        return self.times(self.factorial(above), self.power_of(parts, Fraction(-1)))

    def absolute(self, node: Node) -> Value:
        value = self.of(node.args[0])
        return abs(value) if isinstance(value, Fraction) else self.ctx.fabs(self.inexact(value))

    def rounded(self, node: Node) -> Value:
        value = self.of(node.args[0])
        if isinstance(value, Fraction):
            return Fraction(math.floor(value) if node.kind == "floor" else math.ceil(value))
        number = self.inexact(value)
        if isinstance(number, self.ctx.mpc):
            raise OutOfDomainError
        return self.ctx.floor(number) if node.kind == "floor" else self.ctx.ceil(number)

    def func(self, node: Node) -> Value:
        name, values = node.value, self.many(node)
        if name == "sqrt":
            return self.power_of(values[0], Fraction(1, 2))
        if name == "root":
            return self.power_of(values[0], self.power_of(values[1], Fraction(-1)))
        if name in ("gcd", "lcm"):
            return self.divisors(name, values)
        numbers = [self.inexact(value) for value in values]
        if name in ("max", "min"):
            if any(isinstance(number, self.ctx.mpc) for number in numbers):
                raise OutOfDomainError
            return (max if name == "max" else min)(numbers)
        return self.elementary(name, numbers[0])

    def divisors(self, name: str, values: Sequence[Value]) -> Fraction:
        if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
            raise OutOfDomainError
        return Fraction((math.gcd if name == "gcd" else math.lcm)(*map(int, values)))

    def elementary(self, name: str, number: Any) -> Any:
        if name == "exp":
            return self.inexact_power(self.ctx.e, number)
        if name in ("ln", "log"):
            if number == 0 or (self.real and number < 0):
                raise OutOfDomainError
            found = self.ctx.log(number)
            return found / self.ctx.log(self.log_base) if name == "log" and self.log_base is not None else found
        if abs(number) > _LARGEST_EXPONENT:
            raise Unreadable("a function of too large a number")
        try:
            found = getattr(self.ctx, _MPMATH_NAMES.get(name, name))(number)
        except (ValueError, ZeroDivisionError) as error:  # a pole
            raise OutOfDomainError from error
        if self.real and isinstance(found, self.ctx.mpc):
            raise OutOfDomainError
        return self.known(found)

    def call(self, node: Node) -> Any:
        """A function that only its name is known of: some smooth function, another for each name."""
        total = self.ctx.mpf(0)
        for place, value in enumerate(self.many(node)):
            drawn = hashlib.blake2b(f"{node.value} {place}".encode(), digest_size=4).digest()
            total += self.ctx.sin(self.inexact(value) * (1 + drawn[0] / 512) + drawn[1]) * (1 + drawn[2])
        return total

    # ---- matrices ------------------------------------------------------------------------------------------------

    def matrix(self, node: Node) -> list[list[Value]]:
        entries = self.many(node)
        return [entries[start : start + node.value] for start in range(0, len(entries), node.value)]

    def transpose(self, node: Node) -> list[list[Value]]:
        return [list(column) for column in zip(*self.of(node.args[0]), strict=True)]

    def det(self, node: Node) -> Value:
        rows = self.of(node.args[0])
        if len(rows) != len(rows[0]) or len(rows) > 6:
            raise Unreadable("a determinant of this size")
        return self.expansion(rows)

    def expansion(self, rows: list[list[Value]]) -> Value:
        if len(rows) == 1:
            return rows[0][0]
        total: Value = Fraction(0)
        for column, entry in enumerate(rows[0]):
            minor = [row[:column] + row[column + 1 :] for row in rows[1:]]
            total = self.plus(total, self.times(Fraction((-1) ** column), self.times(entry, self.expansion(minor))))
        return total


def _entrywise(work: Callable[[Value, Value], Value], left: Value, right: Value) -> list[list[Value]]:
    alike = is_matrix(left) and is_matrix(right) and len(left) == len(right) and len(left[0]) == len(right[0])
    if not alike:
        raise Unreadable("a sum of a matrix and what is none of its size")
    return [[work(*pair) for pair in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


_MPMATH_NAMES = {f"arc{name}": f"a{name}" for name in names("sin cos tan cot sec csc sinh cosh tanh")}
_WORK: dict[str, Callable[[_Evaluator, Node], Value]] = {
    "num": _Evaluator.given, "decimal": _Evaluator.given, "sym": _Evaluator.symbol, "const": _Evaluator.constant,
    "add": _Evaluator.add, "neg": _Evaluator.neg, "mul": _Evaluator.mul, "div": _Evaluator.div,
    "pow": _Evaluator.pow, "fact": _Evaluator.fact, "binom": _Evaluator.binom, "abs": _Evaluator.absolute,
    "floor": _Evaluator.rounded, "ceil": _Evaluator.rounded, "func": _Evaluator.func, "call": _Evaluator.call,
    "matrix": _Evaluator.matrix, "transpose": _Evaluator.transpose, "det": _Evaluator.det,
}  # fmt: skip
EXPRESSIONS = frozenset(_WORK)
"""Kinds of nodes that have a value."""
