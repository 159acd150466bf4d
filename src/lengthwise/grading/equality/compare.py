r"""Whether two answers are equal: part by part, each part as what it is.

Lists have no order, points and intervals do; names, units and ratios are compared, and so is every part that could
not be read, as text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from lengthwise.grading.equality import relations, units
from lengthwise.grading.equality.intervals import same_set
from lengthwise.grading.equality.numeric import EXPRESSIONS
from lengthwise.grading.equality.points import constant, last_digit, same_value
from lengthwise.grading.equality.structure import Way, read_answer
from lengthwise.grading.equality.tokens import GROUPED, SCIENTIFIC, Unreadable
from lengthwise.grading.equality.tree import Node, num, sym, symbols

_MOST_UNLIKE = 25  # entries of a list without order that are not written alike on both sides
LONGEST = 1000
"""Characters of an answer that is more than text."""


@functools.lru_cache(maxsize=4096)
def same_meaning(given: str, wanted: str) -> bool:
    """Whether an answer and a reference, which differ as text, mean the same.

    A text that could be read in several ways is read in each, and one in which the two agree is enough.
    """
    if max(len(given), len(wanted)) > LONGEST:
        return False
    answers, references = readings(given), readings(wanted)
    if not answers or not references:
        return False
    if any(_same_in_case(answer, reference) for answer in answers for reference in references):
        return True
    return any(_same_in_case(*pair) for pair in _with_unit_letters(given, wanted, answers[0], references[0]))


@functools.lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Node, ...]:
    """What a text can be read as, the likeliest first; nothing for a text that falls into no parts."""
    text = text.strip()
    text = text if text.endswith("..") else text.rstrip(".")
    found: dict[Node, None] = {}
    ambiguous = any(",0" not in number for number in GROUPED.findall(text))  # the entries of no list begin with 0
    for grouped in (True, False) if ambiguous else (True,):
        for scientific in (True, False) if SCIENTIFIC.search(text) else (True,):
            try:
                reading = read_answer(text, Way(grouped, scientific))
                found[reading.node] = None
                if reading.loose:
                    found[read_answer(text, Way(grouped, scientific, tight=True)).node] = None
            except Unreadable:
                continue
    return tuple(found)


def _with_unit_letters(given: str, wanted: str, answer: Node, reference: Node) -> Iterator[tuple[Node, Node]]:
    """The two with a bare letter behind a number read as a unit, where it must be one.

    It must where the other side has a unit there, and where a space is before it and the reference is a number.
    """
    if reference.kind == "quantity":
        yield _read(given, Way(letters=True, spaced=False)) or answer, reference
    elif answer.kind == "quantity":
        yield answer, _read(wanted, Way(letters=True, spaced=False)) or reference
    elif reference.kind in ("num", "decimal", "neg") and not symbols(reference):
        yield _read(given, Way(letters=True)) or answer, reference


def _read(text: str, way: Way) -> Node | None:
    try:
        return read_answer(text, way).node
    except Unreadable:
        return None


def _same_in_case(given: Node, wanted: Node) -> bool:
    # X for x is let pass, unless an answer has both: R - r is not r - R.
    if same(given, wanted):
        return True
    if any(len({name.lower() for name in names}) < len(names) for names in map(_letters, (given, wanted))):
        return False
    lowered = _lower(given), _lower(wanted)
    return lowered != (given, wanted) and same(*lowered)


def _letters(node: Node) -> set[str]:
    return symbols(node) | {part.value for part in node.walk() if part.kind == "const"}


def _lower(node: Node) -> Node:
    if node.kind == "sym" and len(node.value.partition("_")[0]) == 1:
        return sym(node.value.lower())
    return Node(node.kind, tuple(map(_lower, node.args)), node.value) if node.args else node


def same(given: Node, wanted: Node) -> bool:
    """Whether two parts are equal; the second is of the reference."""
    if given == wanted:
        return True
    kinds = {given.kind, wanted.kind}
    if kinds == {"num"}:
        return False
    try:
        for kind, compare in _BY_KIND:
            if kind in kinds:
                return compare(given, wanted)
        return kinds <= EXPRESSIONS and same_value(given, wanted)
    except Unreadable:  # too large to be worked out, or of kinds that do not go together
        return False


# ---- relations -------------------------------------------------------------------------------------------------------


def _same_relations(given: Node, wanted: Node) -> bool:
    if given.kind == wanted.kind == "rel":
        if relations.is_equation(given) and relations.is_equation(wanted):
            return _same_equations(_oriented(given), _oriented(wanted))
        return relations.same_inequalities(given, wanted)
    if "list" in (given.kind, wanted.kind) and _same_lists(given, wanted):
        return True
    relation, other = (given, wanted) if given.kind == "rel" else (wanted, given)
    if not relations.is_equation(relation):
        return bool(same_set(relation, other))
    relation = _oriented(relation)
    named = relations.is_name(relation.args[0])
    if given.kind == "rel":
        # The left side is what was asked for; of an equation that ends in 0 it is not.
        asked_for = named or wanted != num(0) or not symbols(relation)
        return asked_for and any(same(value, wanted) for value in _values(relation))
    return named and any(same(given, value) for value in _values(relation))


def _oriented(equation: Node) -> Node:
    """The equation with a name on the left, if one of its two sides is a name."""
    left, right = equation.args[0], equation.args[-1]
    turn = len(equation.args) == 2 and relations.is_name(right) and not relations.is_name(left)
    return Node("rel", (right, left), equation.value) if turn else equation


def _values(equation: Node) -> tuple[Node, ...]:
    """What an equation says of its left side: the last side, or each where one is only near the other."""
    if "≈" not in equation.value:
        return equation.args[-1:]
    return equation.args[1:] if relations.is_name(equation.args[0]) else equation.args


def _same_equations(given: Node, wanted: Node) -> bool:
    names = [equation.args[0] for equation in (given, wanted)]
    named = all(map(relations.is_name, names))
    in_words = [name.kind == "words" for name in names]
    if named and (names[0] == names[1] or in_words[0] != in_words[1]):
        if len(given.args) == len(wanted.args):
            last = _as_near if "≈" in given.value and "≈" in wanted.value else same
            if last(given.args[-1], wanted.args[-1]) and all(map(_may_agree, given.args[1:-1], wanted.args[1:-1])):
                return True
        elif any(same(value, other) for value in _values(given) for other in _values(wanted)):
            return True
    elif len(given.args) == len(wanted.args) and all(map(same, given.args, wanted.args)):
        return True
    return relations.same_equation(given, wanted)


def _as_near(given: Node, wanted: Node) -> bool:
    """Whether two sides agree, or are decimals of which one rounds the other."""
    last = max(last_digit(given), last_digit(wanted))
    if last and {part.kind for part in (given, wanted)} <= {"num", "decimal", "neg"}:
        return bool(abs(constant(given) - constant(wanted)) <= Fraction(last) / 2)
    return same(given, wanted)


def _may_agree(given: Node, wanted: Node) -> bool:
    """Whether sides amid two chains may be two ways to the same end: those of the same variables must be the same."""
    if given.kind in EXPRESSIONS and wanted.kind in EXPRESSIONS and symbols(given) != symbols(wanted):
        return True
    return same(given, wanted)


# ---- lists, points, sets ---------------------------------------------------------------------------------------------


def _same_lists(given: Node, wanted: Node) -> bool:
    if _are_inequalities(given) or _are_inequalities(wanted):
        found = same_set(given, wanted)
        if found is not None:
            return found
    if sym("mathbb R") in (given, wanted):
        return bool(same_set(given, wanted))
    brackets = {"" if node.kind == "list" else _brackets(node) for node in (given, wanted)}
    entries = _entries(given), _entries(wanted)
    # A closed or half-open interval is no point, and no list of its ends; [1, 2, 3] is a list.
    if len(brackets) > 1 and brackets & {"[]", "(]", "[)"} and len(entries[0]) < 3:
        return False
    return _same_entries(*entries, ordered=not brackets <= {"", "{}"})


def _brackets(node: Node) -> str:
    """Those of a point for a row or a column, too."""
    return str(node.value) if node.kind == "seq" else "()" if node.kind == "matrix" else ""


def _entries(node: Node) -> tuple[Node, ...]:
    if node.kind == "rel" and all(side.kind == "seq" for side in node.args) and len(node.args) == 2:
        names, values = (side.args for side in node.args)
        if len(names) == len(values):  # (x, y) = (1, 2)
            return tuple(Node("rel", pair, ("=",)) for pair in zip(names, values, strict=True))
    is_vector = node.kind == "matrix" and node.value in (1, len(node.args))
    return node.args if node.kind in ("list", "seq") or is_vector else (node,)


def _are_inequalities(node: Node) -> bool:
    entries = _entries(node)
    return bool(entries) and all(part.kind == "rel" and not relations.is_equation(part) for part in entries)


def _same_entries(given: Sequence[Node], wanted: Sequence[Node], *, ordered: bool) -> bool:
    if not given or not wanted or (len(given) != len(wanted) and (ordered or len(given) < len(wanted))):
        return not given and not wanted
    given, wanted = _each_named(given), _each_named(wanted)
    names = [_names(entries) for entries in (given, wanted)]
    stems = [None if found is None else _stem(found) for found in names]
    short = all(len(part.args) == 2 for part in (*given, *wanted) if part.kind == "rel")
    unnamed = [all(part.kind != "rel" for part in entries) for entries in (given, wanted)]
    if any(unnamed) or (short and stems[0] is not None and stems[0] == stems[1]):
        given, wanted = (
            entries if found is None else [part.args[-1] for part in entries]
            for entries, found in zip((given, wanted), names, strict=True)
        )
        # Values of x, y, z that come without names come in this order; those of x, x, x in none.
        ordered = ordered or any(found is not None and stem is None for found, stem in zip(names, stems, strict=True))
    if ordered or Node("text", (), "…") in (*given, *wanted):
        return len(given) == len(wanted) and all(map(same, given, wanted))
    return _matched(list(given), wanted)


def _matched(given: list[Node], wanted: Sequence[Node]) -> bool:
    """Whether every entry of the reference has one of its own, and what is given beyond is only said again."""
    others = []
    for entry in wanted:  # those that are written alike need no thought
        if entry in given:
            given.remove(entry)
        else:
            others.append(entry)
    if len(others) > _MOST_UNLIKE:
        return False
    for entry in others:
        place = next((place for place, other in enumerate(given) if same(other, entry)), None)
        if place is None:
            return False
        given.pop(place)
    return all(any(same(other, entry) for entry in wanted) for other in given)


def _each_named(entries: Sequence[Node]) -> Sequence[Node]:
    """x = 1, 2, 3 as x = 1, x = 2, x = 3."""
    first, *rest = entries
    if not _is_named(first) or any(part.kind == "rel" for part in rest):
        return entries
    return [first, *(Node("rel", (first.args[0], part), ("=",)) for part in rest)]


def _is_named(node: Node) -> bool:
    return relations.is_equation(node) and relations.is_name(node.args[0])


def _names(entries: Sequence[Node]) -> list[Node] | None:
    return [part.args[0] for part in entries] if all(map(_is_named, entries)) else None


def _stem(names: Sequence[Node]) -> str | None:
    """The one name of x, x, x, or of the roots x_1, x_2, x_3; None if the names are several."""
    written = [str(name.value) if name.kind == "sym" else repr(name) for name in names]
    if len(set(written)) == 1:
        return written[0]
    stem = written[0].partition("_")[0]
    return stem if sorted(written) == sorted(f"{stem}_{place}" for place in range(1, len(names) + 1)) else None


def _same_sets(given: Node, wanted: Node) -> bool:
    """Unions and the like: the same parts, or the same numbers."""
    if given.kind == wanted.kind and given.value == wanted.value and len(given.args) == len(wanted.args):
        in_order = set(given.value) == {"∖"}
        if all(map(same, given.args, wanted.args)) if in_order else _matched(list(given.args), wanted.args):
            return True
    return bool(same_set(given, wanted))


# ---- numbers -----------------------------------------------------------------------------------------------------


def _same_ratios(given: Node, wanted: Node) -> bool:
    if given.kind != wanted.kind:
        ratio, other = (given, wanted) if given.kind == "ratio" else (wanted, given)
        return len(ratio.args) == 2 and same(Node("div", ratio.args), other)
    if len(given.args) != len(wanted.args):
        return False
    if all(map(same, given.args, wanted.args)):
        return True
    kinds = {part.kind for part in (*given.args, *wanted.args)}
    if None not in (given.value, wanted.value) or not kinds <= EXPRESSIONS:
        return False  # two times of day, or parts with units
    crossed = [
        (Node("mul", (given.args[0], other)), Node("mul", (wanted.args[0], part)))
        for part, other in zip(given.args[1:], wanted.args[1:], strict=True)
    ]
    return all(same(*pair) for pair in crossed)


def _same_quantities(given: Node, wanted: Node) -> bool:
    if given.kind == wanted.kind:
        one, other = given.value, wanted.value
        in_radians = [unit.dimensions == ((units.RADIAN, 1),) for unit in (one, other)]
        if in_radians[0] != in_radians[1]:  # beside degrees
            sides = zip((given, wanted), in_radians, strict=True)
            turned = [part.args[0] if bare else part for part, bare in sides]
            return _same_quantities(*turned) and not same(given.args[0], wanted.args[0])
        if not one.agrees(other):
            return False
        if one.dimensions != other.dimensions:  # square units, whatever they are
            return same(given.args[0], wanted.args[0])
        return same(_times(given.args[0], one.factor), _times(wanted.args[0], other.factor))
    quantity, other = (given, wanted) if given.kind == "quantity" else (wanted, given)
    value, dimensions = quantity.args[0], quantity.value.dimensions
    if same(value, other):  # a unit on one side only is let pass
        return True
    if dimensions == ((units.PERCENT, 1),):
        return same(Node("div", (value, num(100))), other)
    if dimensions == ((units.ANGLE, 1),):
        return same(Node("mul", (value, Node("div", (Node("const", (), "pi"), num(180))))), other)
    return False


def _times(node: Node, factor: Fraction) -> Node:
    return node if factor == 1 else Node("mul", (node, num(factor)))


def _same_based(given: Node, wanted: Node) -> bool:
    """52_8: the digits, and the base where both give one; a problem often names it itself."""
    if given.kind == wanted.kind:
        return bool(given.value == wanted.value)
    based, other = (given, wanted) if given.kind == "based" else (wanted, given)
    return same(num(Fraction(based.value[0])), other)


def _same_text(given: Node, wanted: Node) -> bool:
    return bool({given.kind, wanted.kind} <= {"text", "words"} and given.value == wanted.value)


# The first kind of either side decides.
_BY_KIND: tuple[tuple[str, Callable[[Node, Node], bool]], ...] = (
    ("text", _same_text), ("rel", _same_relations), ("sets", _same_sets), ("list", _same_lists), ("seq", _same_lists),
    ("ratio", _same_ratios), ("quantity", _same_quantities), ("based", _same_based), ("words", _same_text),
)  # fmt: skip
