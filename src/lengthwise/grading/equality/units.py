r"""Units: what stands behind a number and says of what it is one.

A word in ``\text{}`` behind a value is a unit or says what is counted. Bare letters are variables: 7d is no number of
days. Bare words that can be nothing but a unit (cm, kg, hours) are one directly behind a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from lengthwise.grading.answer_extraction.answer_text import SCALES
from lengthwise.grading.equality.tokens import Token, Unreadable
from lengthwise.grading.equality.tree import names

Dimensions = tuple[tuple[str, int], ...]
ANGLE, RADIAN, PERCENT, ANY = "degree", "radian", "%", "unit"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number is a number of.

    ``dimensions``: base units with their powers, sorted. ``factor``: how many of the base units one is. ``words``:
    what else is said ("apples", "east"). Equal values in 100 cm and 1 m are equal; 10 cm and 10 m are not.
    """

    dimensions: Dimensions = ()
    factor: Fraction = Fraction(1)
    words: frozenset[str] = frozenset()

    def agrees(self, other: Unit) -> bool:
        """Whether the two may be units of one number: the same kind, and nothing said that the other denies."""
        if self.dimensions != other.dimensions:
            generic = ANY in dict(self.dimensions) or ANY in dict(other.dimensions)
            if not generic or sorted(power for _, power in self.dimensions) != sorted(p for _, p in other.dimensions):
                return False
        return self.words <= other.words or other.words <= self.words


def _table(*groups: tuple[str, Mapping[str, Fraction | int]]) -> dict[str, tuple[str, Fraction]]:
    return {
        name: (base, Fraction(size))
        for base, sizes in groups
        for names, size in sizes.items()
        for name in names.split()
    }


_INCH, _POUND = Fraction(254, 10000), Fraction("453.59237")
# Words that are units and nothing else, singular: what one is of its base unit.
_NAMES = _table(
    ("m", {
        "meter metre": 1, "centimeter centimetre": Fraction(1, 100), "millimeter millimetre": Fraction(1, 1000),
        "kilometer kilometre": 1000, "decimeter decimetre": Fraction(1, 10), "nanometer nanometre": Fraction(1, 10**9),
        "inch": _INCH, "foot feet": 12 * _INCH, "yard": 36 * _INCH, "mile": 63360 * _INCH,
    }),
    ("g", {
        "gram gramme": 1, "kilogram": 1000, "milligram": Fraction(1, 1000), "tonne": 10**6, "ounce": _POUND / 16,
    }),
    ("s", {
        "second sec": 1, "minute min": 60, "hour hr": 3600, "day": 86400, "week": 604800,
        "millisecond": Fraction(1, 1000),
    }),
    ("month", {"month": 1, "year yr": 12, "decade": 120, "century centurie": 1200}),
    ("pound", {"pound lb": 1}),  # of mass or money
    ("ton", {"ton": 1}),
    ("l", {"liter litre": 1, "milliliter millilitre": Fraction(1, 1000), "deciliter": Fraction(1, 10)}),
    ("gallon", {"gallon gal": 1, "quart": Fraction(1, 4), "pint": Fraction(1, 8), "cup": Fraction(1, 16)}),
    ("acre", {"acre": 1}), ("hectare", {"hectare ha": 1}),
    ("dollar", {"dollar usd": 1, "cent": Fraction(1, 100), "penny pennie": Fraction(1, 100)}),
    ("euro", {"euro eur": 1}), ("yen", {"yen": 1}), ("yuan", {"yuan rmb cny": 1}), ("rupee", {"rupee rs inr": 1}),
    (ANGLE, {"degree deg": 1}), (RADIAN, {"radian rad": 1}), ("celsius", {"celsius": 1}),
    ("fahrenheit", {"fahrenheit": 1}), ("kelvin", {"kelvin": 1}),
    (ANY, {"unit": 1}),
)  # fmt: skip
# Derived ones, by name and symbol: base units with powers, and how many of g, m and s one is.
_DERIVED: dict[str, tuple[dict[str, int], int | Fraction]] = {
    "newton N": ({"g": 1, "m": 1, "s": -2}, 1000), "joule J": ({"g": 1, "m": 2, "s": -2}, 1000),
    "watt W": ({"g": 1, "m": 2, "s": -3}, 1000), "pascal Pa": ({"g": 1, "m": -1, "s": -2}, 1000),
    "hertz Hz": ({"s": -1}, 1), "mph": ({"m": 1, "s": -1}, 63360 * _INCH / 3600),
    "kph kmh kmph": ({"m": 1, "s": -1}, Fraction(1000, 3600)), "cc": ({"m": 3}, Fraction(1, 10**6)),
}  # fmt: skip
_DERIVED_NAMES = {name: what for written, what in _DERIVED.items() for name in written.split()}
# Symbols, which are units in \text{} only, and their prefixes.
_SYMBOLS = {
    "m": "m", "g": "g", "s": "s", "L": "l", "l": "l", "N": "newton", "J": "joule", "W": "watt", "V": "volt",
    "A": "ampere", "Hz": "hertz", "Pa": "pascal", "eV": "electronvolt", "mol": "mole", "K": "kelvin", "C": "coulomb",
    "F": "farad", "T": "tesla", "B": "byte", "cal": "calorie",
}  # fmt: skip
_OTHER_SYMBOLS = {"h": "hour", "d": "day", "ft": "foot", "in": "inch", "yd": "yard", "mi": "mile", "oz": "ounce"}
_PREFIXES = {"": 0, "k": 3, "M": 6, "G": 9, "d": -1, "c": -2, "m": -3, "μ": -6, "n": -9}
_PREFIXED_BARE = names(
    "cm mm km dm kg mL ml ft yd oz lb lbs sec secs min mins hr hrs yr yrs mph kph kmh Hz am pm men day deg rad inch in "
    "USD EUR"
)
"""Symbols that are units without ``\\text{}`` too, directly behind a number."""
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWERS_AFTER = {"squared": 2, "cubed": 3}
_SILENT = names("of the a an in about approximately exactly only")
CURRENCY = {"$": "dollar", "£": "pound", "€": "euro", "¥": "yen"}
CURRENCY_WORDS = names("USD EUR Rs INR RMB CNY")
"""Words that stand before an amount."""


def is_unit_word(token: Token) -> bool:
    """Whether a bare word behind a number can be nothing but a unit, or a count of things."""
    if token.kind != "word" or token.upright:
        return token.kind == "word"
    name = token.text
    known = _singular(name.lower()) in _NAMES or name.lower() in SCALES
    if name in _PREFIXED_BARE or (known and len(name) > 3):
        return True
    # A word, and no product of letters: "18 apples", but neither 2xyz nor 2mg.
    return token.spaced and len(name) > 3 and bool(set(name.lower()) & set("aeiou"))


def _singular(word: str) -> str:
    for name in (word, word.removesuffix("s"), word.removesuffix("es")):
        if name in _NAMES or name in _DERIVED_NAMES:
            return name
    return word.removesuffix("s") if len(word) > 3 else word


def _base(name: str, upright: bool) -> tuple[dict[str, int], Fraction] | None:
    """Base units with powers, and their number, of a unit's name or symbol."""
    if upright or len(name) > 1:
        for prefix, exponent in _PREFIXES.items():
            symbol = _SYMBOLS.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if symbol is not None and len(name) > len(prefix):
                return _scaled(symbol, Fraction(10) ** exponent)
    lower = name.lower() if len(name) > 1 else name
    named = _singular(_OTHER_SYMBOLS.get(name, lower))
    if named in _DERIVED_NAMES or name in _DERIVED_NAMES:
        return _scaled(named if named in _DERIVED_NAMES else name, Fraction(1))
    if named in _NAMES:
        base, size = _NAMES[named]
        return {base: 1}, size
    return None


def _scaled(name: str, times: Fraction) -> tuple[dict[str, int], Fraction]:
    if name in _DERIVED_NAMES:
        dimensions, size = _DERIVED_NAMES[name]
        return dimensions, times * size
    return {name: 1}, times


class _Phrase:
    """What a run of tokens behind a value says: units with powers, over units, and words."""

    def __init__(self) -> None:
        self.dimensions: Counter[str] = Counter()
        self.factor, self.scale = Fraction(1), Fraction(1)
        self.words: set[str] = set()
        self._last: tuple[dict[str, int], Fraction] | None = None
        self._side = 1  # -1 behind a slash or "per"
        self._power = 1  # of "square", for the next unit

    def unit(self, base: tuple[dict[str, int], Fraction]) -> None:
        self._apply(base, self._power * self._side)
        self._last, self._power = base, 1

    def power(self, power: int) -> None:
        if self._last is None:
            raise Unreadable("a power of no unit")
        self._apply(self._last, (power - 1) * self._side)
        self._last = None

    def _apply(self, base: tuple[dict[str, int], Fraction], times: int) -> None:
        for name, power in base[0].items():
            self.dimensions[name] += power * times
        self.factor *= base[1] ** times

    def word(self, word: str, token: Token) -> None:
        lower = word.lower()
        if lower in _POWERS:
            self._power = _POWERS[lower]
        elif lower in _POWERS_AFTER:
            self.power(_POWERS_AFTER[lower])
        elif lower in SCALES:
            self.scale *= SCALES[lower]
        elif lower == "per":
            self._side = -1
        elif (base := _base(word, token.upright)) is not None:
            self.unit(base)
        elif lower not in _SILENT:
            self.words.add(("per " if self._side < 0 else "") + _singular(lower))

    def over(self) -> None:
        if self._last is None and not self.words:
            raise Unreadable("a slash behind no unit")
        self._side, self._last = -1, None

    def found(self) -> tuple[Unit, Fraction]:
        kept = {name: power for name, power in self.dimensions.items() if power}
        if {"celsius", "fahrenheit"} & kept.keys():  # "degrees Celsius"
            kept.pop(ANGLE, None)
        return Unit(tuple(sorted(kept.items())), self.factor, frozenset(self.words)), self.scale


def read_unit(tokens: Sequence[Token]) -> tuple[Unit, Fraction]:
    """The unit that all the tokens make, and what they multiply the number by ("million"); else `Unreadable`."""
    phrase = _Phrase()
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token.kind in ("word", "letter"):
            phrase.word(token.text, token)
        elif token.text == "°":
            at += _temperature(phrase, tokens[at:])
        elif token.text == PERCENT:
            phrase.unit(({PERCENT: 1}, Fraction(1)))
        elif token.text in CURRENCY or token.text == "¢":
            phrase.unit(
                ({CURRENCY.get(token.text, "dollar"): 1}, Fraction(1, 100) if token.text == "¢" else Fraction(1))
            )
        elif token.text == "/":
            phrase.over()
        elif token.text == "^":
            power, at = _exponent(tokens, at)
            phrase.power(power)
        elif token.text not in ("*", "-", ".", "(", ")"):
            raise Unreadable(f"{token.text!r} in a unit")
    return phrase.found()


def _temperature(phrase: _Phrase, behind: Sequence[Token]) -> int:
    scale = {"C": "celsius", "F": "fahrenheit"}.get(behind[0].text) if behind else None
    phrase.unit(({scale or ANGLE: 1}, Fraction(1)))
    return scale is not None


def _exponent(tokens: Sequence[Token], at: int) -> tuple[int, int]:
    inside = [token.text for token in tokens[at : at + 4]]
    for form in (inside[:1], inside[:2], inside[:3], inside[:4]):
        digits = "".join(form).strip("{}")
        if digits.lstrip("-").isdigit() and "".join(form).count("{") == "".join(form).count("}"):
            return int(digits), at + len(form)
    raise Unreadable("the power of a unit")
