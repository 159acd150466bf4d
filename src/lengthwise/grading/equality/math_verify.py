"""Math-Verify, asked where numbers did not decide: do two equations or inequalities have the same solutions?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from lengthwise.grading.equality.tokens import Unreadable
from lengthwise.grading.equality.tree import Node


def solutions_agree(one: Node, other: Node) -> bool:
    """Whether Math-Verify takes two relations for the same; False for what it cannot be told.

    Without a time limit: what may run for ever is the affair of `isolated`.
    """
    try:
        wanted, found = to_sympy(one), to_sympy(other)
    except Unreadable:
        return False
    if one.value != ("=",) or other.value != ("=",):
        return bool(wanted.as_set() == found.as_set())
    return bool(ready()(wanted, found, timeout_seconds=None)) and not _without_solutions(wanted)


@functools.cache
def ready() -> Callable[..., bool]:
    """Math-Verify's own comparison; imported late because it brings sympy."""
    import math_verify.grader

    # It warns once that its SIGALRM timeouts are off; they are off on purpose, so that it works in any thread.
    math_verify.grader.TIMEOUT_WARNING_SHOWN = True
    verify: Callable[..., bool] = math_verify.grader.verify
    return verify


def _without_solutions(relation: Any) -> bool:
    # Math-Verify compares the solutions of two equations, so that all equations without any are equal to it.
    from sympy import Eq, solve  # type: ignore[import-untyped]

    return isinstance(relation, Eq) and not solve(relation, list(relation.free_symbols))


def to_sympy(node: Node) -> Any:
    """A relation or an expression as sympy has it; `Unreadable` for what is neither."""
    import sympy

    if node.kind in ("num", "decimal"):
        return sympy.Rational(node.value.numerator, node.value.denominator)
    if node.kind == "sym":
        return sympy.Symbol(node.value, real=True)
    if node.kind == "const":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "inf": sympy.oo}[node.value]
    parts = [to_sympy(part) for part in node.args]
    if node.kind == "rel":
        steps = zip(node.value, parts, parts[1:], strict=False)
        relations = [_relations(sympy)[sign](left, right, evaluate=False) for sign, left, right in steps]
        return relations[0] if len(relations) == 1 else sympy.And(*relations)
    name = node.value if node.kind == "func" else node.kind
    if name not in _FUNCTIONS:
        raise Unreadable(f"a {name} for sympy")
    return _FUNCTIONS[name](sympy, *parts)


def _relations(sympy: Any) -> dict[str, Any]:
    return {"=": sympy.Eq, "!=": sympy.Ne, "<": sympy.Lt, ">": sympy.Gt, "<=": sympy.Le, ">=": sympy.Ge}


_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda sympy, *parts: sympy.Add(*parts), "mul": lambda sympy, *parts: sympy.Mul(*parts),
    "div": lambda _, top, bottom: top / bottom, "pow": lambda _, base, exponent: base**exponent,
    "neg": lambda _, part: -part, "abs": lambda sympy, part: sympy.Abs(part),
    "sqrt": lambda sympy, part: sympy.sqrt(part), "root": lambda sympy, part, n: sympy.root(part, n),
    "ln": lambda sympy, part: sympy.log(part), "log": lambda sympy, part: sympy.log(part, 10),
    "exp": lambda sympy, part: sympy.exp(part),
    **{name: functools.partial(lambda name, sympy, part: getattr(sympy, name)(part), name) for name in _TRIGONOMETRIC},
}  # fmt: skip
