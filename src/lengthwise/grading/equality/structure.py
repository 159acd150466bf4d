r"""Reads an answer: its entries, brackets, relations, ratios and units, and in them its expressions.

An entry that cannot be read whole becomes a ``text`` node, which equals nothing but the same text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from lengthwise.grading.equality import units
from lengthwise.grading.equality.expressions import read_expression
from lengthwise.grading.equality.splitting import OPENS, end_of, split, text_of
from lengthwise.grading.equality.tokens import Token, Unreadable, tokenize
from lengthwise.grading.equality.tree import Node, names, num, sym
from lengthwise.grading.equality.unit_places import as_unit, says_unit, starts_unit

_PAIRS = frozenset(["()", "[]", "(]", "[)", "{}", r"\{\}", "⟨⟩"])
_SEPARATORS = frozenset([",", ";", "and", "or"])
_RELATIONS = names("= < > <= >= != ∈ ≈")
_SETS = frozenset(["∪", "∩", "∖"])
_NUMBER_SETS = {"ℝ": "mathbb R", "ℤ": "mathbb Z", "ℕ": "mathbb N", "ℚ": "mathbb Q", "ℂ": "mathbb C"}
_TIME = re.compile(r"\d{1,2}:\d\d(?::\d\d)?")
_DEEPEST = 20  # brackets in brackets
_MOST_SIGNS = 4  # plus-or-minus signs that are spelled out, two values each


@dataclass(frozen=True)
class Way:
    """One way to read a text that could be read in several.

    ``grouped``, ``scientific``: see `tokens.tokenize`. ``tight``: see `expressions.read_expression`. ``letters``: a
    bare letter of a unit behind a number is that unit; ``spaced``: only where a space stands before it.
    """

    grouped: bool = True
    scientific: bool = True
    tight: bool = False
    letters: bool = False
    spaced: bool = True


@dataclass
class Reading:
    """An answer read in one way; ``loose``: a division in it could be read in another."""

    node: Node
    loose: bool


def read_answer(text: str, way: Way) -> Reading:
    """Read a text in one way; `Unreadable` if it does not fall into entries."""
    reader = _Reader(way)
    node = reader.entries(tokenize(text, grouped=way.grouped, scientific=way.scientific))
    return Reading(node, reader.loose)


class _Reader:
    def __init__(self, way: Way) -> None:
        self.way = way
        self.loose = False
        self._depth = 0

    def entries(self, tokens: Sequence[Token], *, spelled_out: bool = True) -> Node:
        """A list, or its only entry; ``spelled_out``: what is plus or minus is two entries."""
        slices, between = split(tokens, _SEPARATORS)
        if ";" in between and "," in between:  # p = 5, q = 2; p = 7, q = 2
            groups, _ = split(tokens, frozenset([";"]))
            return Node("list", tuple(self.entries(group) for group in groups if group), frozenset([";"]))
        while between and not slices[-1]:  # "1, 2," and ", and"
            slices.pop()
            between.pop()
        kept = [place for place, entry in enumerate(slices) if entry or place == 0]
        found = [self.entry(slices[place]) for place in kept]
        if spelled_out:
            found = [node for entry in found for node in _spelled_out(entry)]
        if len(found) == 1:
            return found[0]
        words = frozenset(between)
        return _joined(found) or Node("list", tuple(found), words)

    def entry(self, tokens: Sequence[Token]) -> Node:
        """One entry; what cannot be read whole stays text."""
        if not tokens:
            raise Unreadable("an empty entry")
        if len(tokens) == 1 and tokens[0].text == "…":
            return Node("text", (), "…")
        try:
            return self.relation(tokens)
        except Unreadable:
            return Node("text", (), text_of(tokens))

    def relation(self, tokens: Sequence[Token]) -> Node:
        slices, signs = split(tokens, _RELATIONS)
        if signs and not slices[0] and signs[0] in ("=", "≈"):
            slices, signs = slices[1:], signs[1:]
        if not signs:
            return self.side(slices[0])
        sides = tuple(self.side_or_text(part) for part in slices)
        if all(side.kind == "text" for side in sides) or not any(map(str.isalnum, text_of(slices[0]))):
            raise Unreadable("a relation between unknown sides")
        if not set(signs) <= {"=", "≈", "∈"}:  # what has an order is an index, and no imaginary number
            sides = tuple(map(_with_index, sides))
        return Node("rel", sides, tuple("=" if sign == "∈" else sign for sign in signs))

    def side_or_text(self, tokens: Sequence[Token]) -> Node:
        try:
            return self.side(tokens)
        except Unreadable:
            if not tokens:
                raise
            return Node("text", (), text_of(tokens))

    def side(self, tokens: Sequence[Token]) -> Node:
        slices, between = split(tokens, frozenset([":"]))
        if between:
            time = "".join(token.text for token in tokens if token.kind != "word")
            return Node("ratio", tuple(self.leaf(part) for part in slices), time if _TIME.fullmatch(time) else None)
        slices, between = split(tokens, _SETS)
        if between:
            return Node("sets", tuple(self.leaf(part) for part in slices), tuple(between))
        return self.leaf(tokens)

    def leaf(self, tokens: Sequence[Token]) -> Node:
        if not tokens:
            raise Unreadable("nothing beside a sign")
        if len(tokens) == 1 and tokens[0].text in _NUMBER_SETS:
            return sym(_NUMBER_SETS[tokens[0].text])
        if len(tokens) == 1 and tokens[0].text == "∅":
            return Node("seq", (), "{}")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Unreadable("brackets nested too deeply")
        ways = (self.words, self.bracketed, self.named_point, self.compound, self.quantity, self.expression)
        node = next(node for read in ways if (node := read(tokens)) is not None)
        self._depth -= 1
        return node

    def expression(self, tokens: Sequence[Token]) -> Node | None:
        node, loose = read_expression(tokens, tight=self.way.tight)
        self.loose = self.loose or loose
        return node

    def words(self, tokens: Sequence[Token]) -> Node | None:
        dated = tokens[0].kind == "word" and tokens[0].text.istitle() and tokens[0].text not in units.CURRENCY_WORDS
        if not all(
            token.kind == "word" or token.upright or token.text in "'-.\"?" or (dated and token.kind == "number")
            for token in tokens
        ):
            return None
        if tokens[0].kind == "number" or (len(tokens) == 1 and not _is_name(tokens[0])):
            return None
        if tokens[0].text == "-" or not any(_is_name(token) for token in tokens):
            return None
        return Node("words", (), text_of(tokens))

    def bracketed(self, tokens: Sequence[Token]) -> Node | None:
        if tokens[0].text not in OPENS or end_of(tokens, 0) != len(tokens) - 1:
            return None
        brackets = tokens[0].text + tokens[-1].text
        if brackets == "{}" and any(token.text == "choose" for token in tokens):
            return None
        if brackets not in _PAIRS:
            raise Unreadable(f"the brackets {brackets}")
        inside = tokens[1:-1]
        if brackets == r"\{\}":
            return self.braced(inside)
        node = self.entries(inside, spelled_out=False)
        if node.kind != "list":
            if brackets in ("(]", "[)"):
                raise Unreadable("an interval with one end")
            if node.kind == "text":
                raise Unreadable("what stands in brackets")
            return node
        return Node("seq", node.args, "()" if brackets == "⟨⟩" else brackets)

    def braced(self, inside: Sequence[Token]) -> Node:
        if not inside:
            return Node("seq", (), "{}")
        slices, between = split(inside, frozenset(["|", ":"]))
        if len(between) == 1 and len(slices[0]) > 0 and slices[0][0].kind == "letter":
            return Node("sets", (self.entries(slices[1]),), ())  # {x | x > 3}
        node = self.entries(inside)
        return Node("seq", node.args if node.kind == "list" else (node,), "{}")

    def named_point(self, tokens: Sequence[Token]) -> Node | None:
        """P(1,2), or f(x,y), which is a name."""
        if len(tokens) < 4 or tokens[0].kind != "letter" or tokens[1].text != "(":
            return None
        if end_of(tokens, 1) < len(tokens) - 1:
            return None
        slices, between = split(tokens[2:-1], _SEPARATORS)
        if not between:
            return None
        inside = tuple(self.leaf(part) for part in slices)
        if all(node.kind == "sym" for node in inside):
            return Node("call", inside, tokens[0].text)
        return Node("rel", (sym(tokens[0].text), Node("seq", inside, "()")), ("=",))

    # ---- numbers with units --------------------------------------------------------------------------------------

    def compound(self, tokens: Sequence[Token]) -> Node | None:
        """2 h 10 min: several numbers, each with its unit, all of one kind."""
        starts = [0] + [
            place
            for place in range(2, len(tokens))
            if tokens[place].kind == "number" and (says_unit(tokens[place - 1]) or tokens[place - 1].text == "°")
        ]
        if len(starts) == 1 or tokens[0].kind != "number":
            return None
        chunks = [tokens[start:end] for start, end in itertools.pairwise([*starts, len(tokens)])]
        joined = _joined([node for chunk in chunks if (node := self.quantity(chunk)) is not None])
        if joined is None:
            raise Unreadable("numbers with unlike units side by side")
        return joined

    def quantity(self, tokens: Sequence[Token]) -> Node | None:
        before = [place for place in (0, 1) if place < len(tokens) and tokens[place].text in units.CURRENCY]
        if before and (before[0] == 0 or tokens[0].text == "-"):
            return self.price(tokens, before[0])
        if tokens[0].text in units.CURRENCY_WORDS and tokens[-1].kind == "number":
            dot = len(tokens) > 1 and tokens[1].text == "."
            return self.price([tokens[0], *tokens[1 + dot :]], 0)
        for place in range(1, len(tokens)):
            if starts_unit(tokens, place, letters=self.way.letters, spaced=self.way.spaced):
                try:
                    unit, scale = units.read_unit(as_unit(tokens[place:]))
                except Unreadable:  # no unit, as the first angle of a sum of angles
                    continue
                return _quantity(self.leaf(tokens[:place]), unit, scale)
        return None

    def price(self, tokens: Sequence[Token], place: int) -> Node:
        unit, _ = units.read_unit(tokens[place : place + 1])
        rest = self.leaf([*tokens[:place], *tokens[place + 1 :]])
        if rest.kind != "quantity":
            return _quantity(rest, unit, Fraction(1))
        if rest.value.dimensions and rest.value != unit:
            raise Unreadable("a price with another unit")
        return Node("quantity", rest.args, replace(unit, words=rest.value.words))


def _with_index(node: Node) -> Node:
    if node == Node("const", (), "i"):
        return sym("i")
    return Node(node.kind, tuple(map(_with_index, node.args)), node.value) if node.args else node


def _is_name(token: Token) -> bool:
    return token.kind == "word" and (token.upright or len(token.text) > 2)


def _quantity(head: Node, unit: units.Unit, scale: Fraction) -> Node:
    if head.kind in ("list", "words", "text", "rel", "quantity"):
        raise Unreadable("a unit behind what is no number")
    if head.kind == "ratio":
        last = _quantity(head.args[-1], unit, scale)
        return Node("ratio", (*head.args[:-1], last), head.value)
    value = head if scale == 1 else Node("mul", (head, num(scale)))
    return Node("quantity", (value,), unit) if unit != units.Unit() else value


def _joined(parts: Sequence[Node]) -> Node | None:
    """2 h and 10 min as one quantity: units of one kind, ever smaller; `None` if they are not so."""
    if len(parts) < 2 or not all(part.kind == "quantity" for part in parts):
        return None
    found = [part.value for part in parts]
    falling = all(after.factor < before.factor for before, after in itertools.pairwise(found))
    alike = all(unit.dimensions == found[0].dimensions and not unit.words for unit in found)
    if not (falling and alike and found[0].dimensions):
        return None
    last = found[-1]
    terms = tuple(
        Node("mul", (part.args[0], num(unit.factor / last.factor))) for part, unit in zip(parts, found, strict=True)
    )
    return Node("quantity", (Node("add", terms),), last)


# ---- plus or minus -------------------------------------------------------------------------------------------------


def _spelled_out(node: Node) -> list[Node]:
    """The values of a node with plus-or-minus signs; with a minus-or-plus sign, all of them go together."""
    signs = [part.kind for part in node.walk() if part.kind in ("pm", "mp")]
    if not signs or node.kind == "text":
        return [node]
    if len(signs) > _MOST_SIGNS:
        return [Node("text", (), repr(node))]
    if "mp" in signs:
        return [_with_signs(node, iter([sign] * len(signs))) for sign in (1, -1)]
    return [_with_signs(node, iter(choice)) for choice in itertools.product((1, -1), repeat=len(signs))]


def _with_signs(node: Node, signs: Iterator[int]) -> Node:
    if node.kind in ("pm", "mp"):
        sign = next(signs) * (1 if node.kind == "pm" else -1)
        value = _with_signs(node.args[0], signs)
        return value if sign == 1 else Node("neg", (value,))
    if not node.args:
        return node
    return Node(node.kind, tuple(_with_signs(part, signs) for part in node.args), node.value)
