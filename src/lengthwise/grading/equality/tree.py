"""What an answer is read as: a tree of expressions, and of the parts that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an answer.

    Expressions: ``num`` (exact) and ``decimal`` with a Fraction (its argument: what one in its last digit is worth),
    ``sym`` and ``const`` with a name; ``add``, ``mul``,
    ``div``, ``pow``, ``neg``, ``pm`` (plus or minus its one argument), ``mp``, ``fact``, ``binom``, ``abs``,
    ``floor``, ``ceil``, ``det``, ``transpose``; ``func`` and ``call`` with a name; ``based`` with (digits, base);
    ``matrix`` with its number of columns, row by row.

    Parts: ``list`` (no brackets) with the words between its entries, ``seq`` with its brackets, ``rel`` with its
    signs, ``sets`` with its operators, ``ratio``, ``quantity`` with its `units.Unit`, ``words``, and ``text``, which
    could not be read and is compared as it stands.
    """

    kind: str
    args: tuple[Node, ...] = ()
    value: Any = None

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for part in self.args:
            yield from part.walk()

    def has(self, *kinds: str) -> bool:
        """Whether a node of one of the kinds is in it."""
        return any(node.kind in kinds for node in self.walk())


def num(value: int | Fraction) -> Node:
    """An exact number."""
    return Node("num", (), Fraction(value))


def decimal(value: Fraction, written: str) -> Node:
    """A number that may be rounded, as it is written: 2.50, 1e-3."""
    digits, _, power = written.lower().partition("e")
    places = len(digits.partition(".")[2]) - int(power or 0)
    return Node("decimal", (num(Fraction(1, 10**places) if places > 0 else 10**-places),), value)


def sym(name: str) -> Node:
    """A variable, or a word that stands for one."""
    return Node("sym", (), name)


def symbols(node: Node) -> set[str]:
    """Names of all variables in it."""
    return {part.value for part in node.walk() if part.kind == "sym"}


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
