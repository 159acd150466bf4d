r"""The text of an answer as tokens: every sign of it is in one, or is known to carry no meaning (``\left``, spaces).

What has no place here raises `Unreadable`, and such a text is compared as text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from lengthwise.grading.equality.tree import names


class Unreadable(Exception):  # noqa: N818 - nothing went wrong: it is no mathematics that is known here
    """A text that cannot be read whole; the message says what stood in the way."""


@dataclass(frozen=True, slots=True)
class Token:
    r"""One token. ``kind``: ``number``, ``letter``, ``word``, ``command``, ``sign``.

    ``text``: as it is written; of a command its name. ``value``: of a number. ``spaced``: space stands before it.
    ``upright``: it stands in ``\text{}``, ``\mathrm{}`` or the like.
    """

    kind: str
    text: str
    spaced: bool = False
    upright: bool = False
    value: Fraction | None = None


FUNCTIONS = names(
    "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc arsinh "
    "arcosh artanh arcsinh arccosh arctanh asin acos atan ln log lg exp max min gcd lcm"
)
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "∕": "/", "⁄": "/", "≤": "<=",
    "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!=", "′": "'", "’": "'", "**": "^", "...": "…", "==": "=",
    "<=": "<=", ">=": ">=", "!=": "!=",
} | {sign: sign for sign in "±∓√∞°≈∈∪∩∖…⟨⟩∅≡ℝℤℕℚℂ¢€£¥⌊⌋⌈⌉"}  # fmt: skip
_COMMANDS = {
    "times": "*", "cdot": "*", "ast": "*", "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=",
    "geq": ">=", "geqslant": ">=", "ne": "!=", "neq": "!=", "lt": "<", "gt": ">", "pm": "±", "mp": "∓", "infty": "∞",
    "cup": "∪", "cap": "∩", "bigcup": "∪", "bigcap": "∩", "oslash": "∅", "setminus": "∖", "backslash": "∖", "in": "∈",
    "approx": "≈", "simeq": "≈", "doteq": "≈", "ldots": "…", "dots": "…", "cdots": "…", "dotsc": "…", "dotsb": "…",
    "degree": "°", "langle": "⟨", "rangle": "⟩", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "lparen": "(", "rparen": ")", "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "colon": ":", "emptyset": "∅",
    "varnothing": "∅", "prime": "'", "euro": "€", "pounds": "£", "yen": "¥", "cent": "¢", "land": "and",
    "wedge": "and", "lor": "or", "vee": "or", "equiv": "≡", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉",
    "%": "%", "$": "$", "{": r"\{", "}": r"\}", "|": "‖", "Vert": "‖", "lVert": "‖", "rVert": "‖",
}  # fmt: skip
_RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "epsilon": "varepsilon",
    "phi": "varphi", "widehat": "hat", "widetilde": "tilde", "overrightarrow": "vec", "bar": "overline",
}  # fmt: skip
_NO_MEANING = names(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr middle displaystyle textstyle "
    "scriptstyle limits nolimits quad qquad thinspace medspace thickspace space mathstrut enspace nobreakspace "
    "mathit mathbf boldsymbol bm bold pmb boxed fbox ensuremath"
)
_UPRIGHT = names("text mathrm textrm textnormal mbox hbox textsf mathsf textup operatorname textit textbf")
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "φ": "varphi", "ϕ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
    "∠": "angle", "△": "triangle",
}  # fmt: skip
GREEK_NAMES = frozenset({*_GREEK.values(), "vartheta", "varrho", "varsigma", "upsilon", "Upsilon"})
_WORDS = {
    "sqrt": "sqrt", "infinity": "∞", "infty": "∞", "inf": "∞", "oo": "∞", "and": "and", "or": "or",
    "percent": "%", "percentage": "%", "pct": "%", "epsilon": "varepsilon", "phi": "varphi",
} | {name: name for name in (FUNCTIONS | GREEK_NAMES) - {"min", "sec"}}  # fmt: skip
_WRITTEN_SIGNS = frozenset(["∞", "and", "or", "%"])

_PLAIN_SIGNS = frozenset("+-*/^_=<>!(){}[],.;:|'%&\"?")
_SUPERSCRIPTS = ("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUBSCRIPTS = ("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
_RAISED, _LOWERED = str.maketrans(*_SUPERSCRIPTS), str.maketrans(*_SUBSCRIPTS)
_ENDING = r"\\(?:text|mathrm|mbox|textsuperscript)\s*\{\s*(?:th|st|nd|rd)\s*\}"
# What is written in several ways, made one before tokens are taken; in this order.
_ALIKE: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\\!\s*|\\(?:left|right)\s*\.|(?<!\\)\$|(?<!\\)\\[()\[\]]"), ""),
    (re.compile("~"), " "),
    (re.compile(r"(?<=\d)\{,\}\s?(?=\d{3})|(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<![\d.,])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?! ?\d)"), lambda number: number[0].replace(" ", "")),
    (
        re.compile(r"\^\s*(?:\{\s*\\(?:circ|degree)\s*\}|\\(?:circ|degree)(?![A-Za-z]))|(?<=\d)\s*\\circ(?![A-Za-z])"),
        "°",
    ),
    (re.compile(r"\^\s*\{\s*\\prime\s*\\prime\s*\}"), "''"),
    (re.compile(r"\^\s*(?:\{\s*\\prime\s*\}|\\prime(?![A-Za-z]))"), "'"),
    (re.compile(r"(\d+)°\s*(\d+)['′’]\s*(\d+(?:\.\d+)?)(?:''|[\"″”])"), r"(\1+\2/60+\3/3600)°"),
    (re.compile(r"(\d+)°\s*(\d+)['′’]"), r"(\1+\2/60)°"),
    (re.compile(rf"(?<=\d)(?:\^\{{{_ENDING}\}}|\^?{_ENDING}|\^\{{(?:th|st|nd|rd)\}})"), ""),
    (re.compile(r"(?<=\d)(?:th|(?<=1)st|(?<=2)nd|(?<=3)rd)(?![A-Za-z])"), ""),
    (re.compile(r"(?<![A-Za-z\\])([AaPp])\.\s?[Mm](?:\.|(?![A-Za-z]))"), r"\1m"),
)
GROUPED = re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
"""A number with thousands separators, or a list of numbers of three digits."""
SCIENTIFIC = re.compile(r"(?<![A-Za-z\d])\d+[eE][+-]?\d")
"""A number such as 2e-3, or twice Euler's number less three."""
_NUMBER = (
    r"(?P<repeating>(?P<whole>\d*)\.(?P<fixed>\d*)(?:\\(?:overline|bar|dot)\s*\{(?P<again>\d+)\}|\((?P<more>\d+)\)))"
    r"|(?P<endless>\d*\.\d{6,})(?:\.\.\.|…|\\[lc]?dots(?![A-Za-z]))"
    r"|(?P<number>(?:%s\d+(?:\.\d+|\.(?=[-*/+)\]}]))?|\.\d+)%s)"
)
_REST = (
    r"|\\(?P<part>begin|end)\s*\{(?P<environment>[A-Za-z]+)\*?\}|\\(?P<command>[A-Za-z]+|.)|(?P<letters>[A-Za-z]+)|(?P<foreign>[^\W\d_A-Za-z\u0370-\u03ff]+)"
    r"|(?P<space>\s+)|(?P<sign><=|>=|(?<=\s)!=|==|\*\*|\.\.\.|.)"
)
_PATTERNS = {
    (grouped, scientific): re.compile(
        _NUMBER
        % (rf"{GROUPED.pattern}(?:\.\d+)?|" if grouped else "", r"(?:[eE][+-]?\d{1,4}(?![\d.]))?" if scientific else "")
        + _REST,
        re.DOTALL,
    )
    for grouped in (False, True)
    for scientific in (False, True)
}
_MOST_DIGITS = 1000  # Python refuses to read many more, and no problem asks for them


def tokenize(text: str, *, grouped: bool = True, scientific: bool = True) -> list[Token]:
    r"""Tokens of a text; `Unreadable` for a sign or command without a place here.

    ``grouped``: 1,234 is a number, not a list; ``scientific``: 2e-3 is a number, not twice e less three.
    """
    if not text.isascii():
        text = _in_ascii(text)
    if "\\\\" in text and "\\begin" not in text:  # escaped twice, as JSON in JSON is
        text = re.sub(r"\\\\(?=[A-Za-z{}%$])", r"\\", text)
    for pattern, alike in _ALIKE:
        text = pattern.sub(alike, text)
    return _scan(text, _PATTERNS[grouped, scientific], upright=False)


def _in_ascii(text: str) -> str:
    text = re.sub(f"[{_SUPERSCRIPTS[0]}]+", lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    text = re.sub(f"[{_SUBSCRIPTS[0]}]+", lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    return "".join(sign if sign in _SIGNS or sign in _GREEK else _compatible(sign) for sign in text)


def _compatible(sign: str) -> str:
    # Full-width digits and letters, one half as one sign, no-break spaces.
    found = unicodedata.normalize("NFKC", sign)
    top, slash, bottom = found.partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}" if slash and top.isdigit() and bottom.isdigit() else found


def _scan(text: str, pattern: re.Pattern[str], *, upright: bool) -> list[Token]:
    tokens: list[Token] = []
    start, spaced = 0, False
    while start < len(text):
        match = pattern.match(text, start)
        assert match is not None, "the last alternative takes any sign"
        start = match.end()
        command = match["command"]
        if match["space"] is not None or (command is not None and (command in _NO_MEANING or command in ",;: ")):
            spaced = True
            continue
        if command in _UPRIGHT:
            inside, start = _braced(text, start)
            found = _scan(inside, pattern, upright=True)
            if found and spaced:
                found[0] = replace(found[0], spaced=True)
            tokens += found
            spaced = inside[-1:].isspace()
            continue
        tokens += _tokens_of(match, spaced, upright)
        spaced = False
    return tokens


def _braced(text: str, start: int) -> tuple[str, int]:
    """What stands in the braces that open at ``start`` (or the one sign there), and where they end."""
    while text[start : start + 1].isspace():
        start += 1
    if text[start : start + 1] != "{":
        raise Unreadable("no braces behind a change of type")
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start + 1 : place], place + 1
    raise Unreadable("braces that never close")


def _tokens_of(match: re.Match[str], spaced: bool, upright: bool) -> list[Token]:
    number = match["number"] or match["endless"] or match["repeating"]
    if number is not None:
        if len(number) > _MOST_DIGITS:
            raise Unreadable("a number of too many digits")
        return [Token("number", number.replace(",", ""), spaced, upright, _value(match))]
    if match["part"] is not None:
        return [Token("command", match["part"], spaced), Token("word", match["environment"])]
    if match["foreign"] is not None:
        return [Token("word", match["foreign"], spaced, upright=True)]
    if match["letters"] is not None:
        return [_word(match["letters"], spaced, upright)]
    return [_command(match["command"], spaced) if match["command"] is not None else _sign(match["sign"], spaced)]


def _value(match: re.Match[str]) -> Fraction:
    written = match["number"] or match["endless"]
    if written is not None:
        return Fraction(written.replace(",", ""))
    fixed, again = match["fixed"], match["again"] or match["more"]
    whole = Fraction(int(match["whole"] + fixed or "0"), 10 ** len(fixed))
    return whole + Fraction(int(again), 10 ** len(fixed) * (10 ** len(again) - 1))


def _word(letters: str, spaced: bool, upright: bool) -> Token:
    meant = _WORDS.get(letters if letters in _WORDS else letters.lower() if len(letters) > 1 else "")
    if meant in _WRITTEN_SIGNS:
        return Token("sign", meant, spaced, upright)
    if meant is not None:
        return Token("command", meant, spaced, upright)
    return Token("letter" if len(letters) == 1 else "word", letters, spaced, upright)


def _command(name: str, spaced: bool) -> Token:
    if name in _COMMANDS:
        return Token("sign", _COMMANDS[name], spaced)
    if name == "\\" or name.isalpha():
        return Token("command", _RENAMED.get(name, name), spaced)
    raise Unreadable(f"the command \\{name}")


def _sign(sign: str, spaced: bool) -> Token:
    if sign in _GREEK:
        return Token("command", _GREEK[sign], spaced)
    if sign in _SIGNS or sign in _PLAIN_SIGNS:
        return Token("sign", _SIGNS.get(sign, sign), spaced)
    if sign.isalpha():
        return Token("letter", sign, spaced)
    raise Unreadable(f"the sign {sign!r}")
