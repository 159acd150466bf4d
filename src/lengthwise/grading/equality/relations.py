"""Whether two equations or inequalities say the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from lengthwise.grading.equality.intervals import same_set
from lengthwise.grading.equality.math_verify import solutions_agree
from lengthwise.grading.equality.numeric import EXPRESSIONS, OutOfDomainError, context, evaluate, is_matrix
from lengthwise.grading.equality.points import ratio_to, same_value, varies
from lengthwise.grading.equality.tokens import Unreadable
from lengthwise.grading.equality.tree import Node, symbols

_STARTS = (0.7, -1.3, 2.9, complex(0.4, 1.7))
_ON, _OFF = 1e-36, 1e-8  # relative size of what is zero, and of what is not


def is_name(node: Node) -> bool:
    """Whether a node is nothing but names: x, f(x), AB, (x, y); numbers only as arguments."""
    if node.kind in ("sym", "call", "words"):
        return True
    return (
        node.kind in ("mul", "div", "add", "abs", "seq", "ratio") and bool(node.args) and all(map(is_name, node.args))
    )


def is_equation(node: Node) -> bool:
    """Whether a node is an equation, or a chain of them."""
    return node.kind == "rel" and set(node.value) <= {"=", "≈"}


def same_equation(one: Node, other: Node) -> bool:
    """Whether two equations have the same solutions.

    They do where one is a multiple of the other, and do not where a solution of one is none of the other; both are
    tried in numbers first. What is left, Math-Verify decides.
    """
    if not all(len(side.args) == 2 and side.args[0].kind in EXPRESSIONS and side.args[1].kind in EXPRESSIONS
               for side in (one, other)):  # fmt: skip
        return False
    if symbols(one) != symbols(other) or not symbols(one):
        return False
    left, right = _difference(one), _difference(other)
    if not (varies(left) and varies(right)):  # an equation that no value solves, or every one
        return False
    if ratio_to(left, right) is not None:
        return True
    if _solved_apart(left, right) or _solved_apart(right, left):
        return False
    return solutions_agree(one, other)


def _difference(equation: Node) -> Node:
    return Node("add", (equation.args[0], Node("neg", (equation.args[1],))))


def _solved_apart(one: Node, other: Node) -> bool:
    """Whether some solution of the first, found in numbers, is none of the second."""
    for name in sorted(symbols(one)):
        for point in _solutions(one, name):
            try:
                value = evaluate(other, point, real=False)
                beside = evaluate(other, point | {name: point[name] + 1}, real=False)
            except OutOfDomainError:
                continue
            if is_matrix(value) or abs(value) > _OFF * max(1, abs(beside)):
                return True
    return False


def _solutions(equation: Node, name: str) -> Iterator[dict[str, Any]]:
    ctx = context(30)
    rng = random.Random(name)
    for start in _STARTS:
        rest = {other: Fraction(rng.randint(-3000, 3000), 997) for other in symbols(equation) if other != name}

        def at(value: Any, rest: dict[str, Any] = rest) -> Any:
            found = evaluate(equation, rest | {name: value}, real=False)
            if is_matrix(found):
                raise Unreadable("an equation of matrices")
            return ctx.mpf(found.numerator) / found.denominator if isinstance(found, Fraction) else found

        try:
            root = ctx.findroot(at, ctx.convert(start), tol=_ON)
        except (ValueError, ZeroDivisionError, OutOfDomainError):  # none was found from here
            continue
        yield rest | {name: root}


def same_inequalities(one: Node, other: Node) -> bool:
    """Whether two inequalities, or chains of them, hold for the same values."""
    left, right = _oriented(one), _oriented(other)
    if len(left) == len(right) and all(any(_same_step(a, b) for b in right) for a in left):
        return True
    found = same_set(one, other)
    if found is not None:
        return found
    return len(symbols(one)) == 1 and symbols(one) == symbols(other) and solutions_agree(one, other)


Step = tuple[Node, str, Node]


def _oriented(chain: Node) -> list[Step]:
    """The steps of a chain, each with the smaller side first."""
    turned = {">": "<", ">=": "<="}
    return [
        (right, turned[sign], left) if sign in turned else (left, sign, right)
        for left, sign, right in zip(chain.args, chain.value, chain.args[1:], strict=False)
    ]


def _same_step(one: Step, other: Step) -> bool:
    if one[1] != other[1]:
        return False
    if one == other:
        return True
    if not all(side.kind in EXPRESSIONS for side in (one[0], one[2], other[0], other[2])):
        return False
    gaps = [Node("add", (step[2], Node("neg", (step[0],)))) for step in (one, other)]
    if any(node.kind == "const" and node.value == "inf" for gap in gaps for node in gap.walk()):
        return same_value(one[0], other[0]) and same_value(one[2], other[2])
    times = ratio_to(*gaps)
    if times is None:
        return False
    return one[1] == "!=" or (not isinstance(times, context(30).mpc) and times > 0)
