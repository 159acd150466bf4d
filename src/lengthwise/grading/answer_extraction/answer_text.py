r"""Text of answers, whatever dress it wears: numbers, and the key that equal answers share.

Everything here is linear in its text and knows nothing of problems, prompts or graders.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from fractions import Fraction

LONGEST_STATEMENT = 1000
"""Characters after "the answer is"; what is longer is no answer but a text."""


def folded(text: str) -> str:
    """Text with full-width and other typographic forms as ASCII, character by character, so that places stay.

    Decimal digits of every script, full-width and small signs and letters, minus signs and short dashes, quotes,
    spaces of all widths (a comma where they group digits), and invisible marks (as spaces).
    """
    return text if text.isascii() else _GROUPED.sub(",", text).translate(_ascii_forms())


_GROUPED = re.compile(r"(?<=\d)[\u00a0\u2007-\u2009\u202f](?=\d{3}(?!\d))")
_SIGNS = {
    "−‐‑‒–﹣": "-", "、،": ",", "٬": ",", "٫": ".", "。｡": ".", "٪": "%", "∶꞉": ":", "⁄∕": "/",
    "“”„«»": '"', "‘’‚": "'", "\u2028\u2029": "\n",
}  # fmt: skip


@functools.cache
def _ascii_forms() -> dict[int, str]:
    forms = {sign: plain for signs, plain in _SIGNS.items() for sign in signs}
    for sign in map(chr, range(0x80, 0x20000)):
        category = unicodedata.category(sign)
        if category == "Nd":
            forms[sign] = str(unicodedata.decimal(sign))
        elif category in ("Zs", "Cf"):
            forms[sign] = " "
        elif unicodedata.decomposition(sign).startswith(("<wide>", "<small>")):
            wide = unicodedata.normalize("NFKC", sign)
            if wide.isascii():
                forms.setdefault(sign, wide)
    return {ord(sign): plain for sign, plain in forms.items()}


_MOST_DIGITS = 1000
_NUMBER = re.compile(r"([-+]?)\s*(\d{1,3}(?:,\d{3})+|\d+)?(\.\d+)?(?:/(\d+))?")
_NOT_NUMBER = re.compile(r"\\[,!;]\s*|\\\$|[$€£¥]|\\[()]|\{,\}")


def as_number(text: str) -> Fraction | None:
    """Text that is one plain number, exactly; ``None`` for anything else.

    Takes thousands separators (``2,125``), decimals, ``3/4``, signs, currency, and LaTeX's ``$`` and spacing.
    Text of more than 1000 characters is none: Python refuses to read such numbers, and no problem asks for one.
    """
    if len(text) > _MOST_DIGITS:
        return None
    if text.isdecimal():
        return Fraction(int(text))
    bare = _NOT_NUMBER.sub(lambda m: "," if m[0] == "{,}" else "", folded(text).strip().rstrip("."))
    match = _NUMBER.fullmatch(bare.strip())
    if match is None or not (match[2] or match[3]):
        return None
    sign, whole, decimals, denominator = match.groups(default="")
    if denominator and (decimals or int(denominator) == 0):
        return None
    value = Fraction(f"{sign}{whole.replace(',', '') or '0'}{decimals}")
    return value / int(denominator) if denominator else value


NUMBER_TEXT = r"[-+]?\$?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?"
"""Source of a regular expression: one number in running text."""
UNIT = re.compile(
    rf"(?P<number>{NUMBER_TEXT})"
    r"(?:\s*\\?%|\s*\^?\s*\{?\\(?:circ|degree)\}?|°|\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?"
    r"|,?\s+(?!(?:and|or|to|plus|minus|times|by|over)\b)[A-Za-z]{2}.*)",
    re.DOTALL,
)
"""A number and its unit, or the words behind it: "18%", "90^\\circ", "18 eggs for 9 people"."""
_NUMBER_WITH_UNIT = re.compile(
    rf"(?:\(?[A-J]\)\s)?[^\d=+*/^(){{}}]*?(?P<number>{NUMBER_TEXT})"
    r"(?:\s*(?![\s\d+*/^=!({,.:×-])|\s+\([A-Za-z]{2}|,\s*(?![\s\d$(.\\-])|!(?:\s|$))(?P<behind>.*)",
    re.DOTALL,
)
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
"""Words that multiply the number before them."""
_SCALE = re.compile(rf"(?:\\text\s*\{{\s*)?({'|'.join(SCALES)})\b", re.IGNORECASE)
# Units that a smaller one may follow: 2 hours 10 minutes, 5 ft 6 in.
_LARGE_UNIT = (
    r"(?:\\(?:text|mathrm|mbox)\s*\{[^{}]*\}"
    r"|(?:h|hrs?|hours?|mins?|minutes?|days?|weeks?|months?|years?|yrs?|feet|foot|ft|yards?|miles?|km|kg|lbs?|pounds?)\.?)"
)
_ANOTHER_NUMBER = re.compile(rf"\A{_LARGE_UNIT}\s*\d|(?:\b(?:and|or)\b|[,;&])(?:\s|\}}|\\[,;: ])*[-+$]?\d")


def number_with_unit(text: str) -> Fraction | None:
    """The number before or after words or signs, "$18 per day" or "3 + 4 = 7 eggs"; ``None`` for an expression.

    What stands before the number, or comes right after it, may not be arithmetic: 10^2 and 3 + 4 are expressions.
    "5 million" is that many. ``None`` too where another number belongs to the answer: "6 kg and 9 kg", "2 h 10 min".
    """
    match = _NUMBER_WITH_UNIT.fullmatch(without_latex_spacing(text.rsplit("=", 1)[-1]).strip())
    if match is None or _ANOTHER_NUMBER.search(match["behind"]):
        return None
    number, scale = as_number(match["number"]), _SCALE.match(match["behind"])
    return number if number is None or scale is None else number * SCALES[scale[1].lower()]


_FRACTION = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d*)\\frac(?:\{(?P<top>-?\d+)\}|(?P<top1>\d))(?:\{(?P<bottom>\d+)\}|(?P<bottom1>\d))"
)
# What may stand before "=" without being part of the answer: one name, f(x), or arithmetic.
_LEFT_SIDE = re.compile(r"\s*+(?:\\?[A-Za-z](?:_\{?\w{1,9}\}?|\([a-z]\))?|(?:[-+*/().,\d\s$×÷^]|\\times|\\cdot)++)\s*+")


def answer_key(text: str) -> str:
    r"""Canonical text of an answer: equal keys mean equal answers, without any computer algebra.

    Numbers become exact fractions whatever their dress (``2,125``, ``\$18.00``, ``\dfrac34``, ``1\frac12``,
    "18 dollars", ``90^\circ``, ``x = 5``); a percentage counts by its number. Other text loses spacing, case and
    the LaTeX that carries no meaning. Unequal keys may still be equal answers (``x+1`` and ``1+x``): ask a
    grader. Empty text has the key ``""``.
    """
    text = right_side(folded(text))
    for number in (as_number(text), _dressed_number(text)):
        if number is not None:
            return str(number)
    return lone_choice(text) or plain(text)


def right_side(text: str) -> str:
    """What follows the last "=" where only names and arithmetic stand before it; else the text itself."""
    left, equals, right = text.rpartition("=")
    only = equals and right.strip() and all(_LEFT_SIDE.fullmatch(part) for part in left.split("="))
    return right.strip() if only else text


def _dressed_number(text: str) -> Fraction | None:
    if len(text) > LONGEST_STATEMENT:
        return None
    unit = UNIT.fullmatch(without_latex_spacing(text).strip().rstrip("."))
    if unit is not None:
        return as_number(unit["number"])
    match = _FRACTION.fullmatch(plain(text))
    if match is None:
        return None
    top, bottom = int(match["top"] or match["top1"]), int(match["bottom"] or match["bottom1"])
    if bottom == 0 or (match["whole"] and top < 0):
        return None
    value = int(match["whole"] or 0) + Fraction(top, bottom)
    return -value if match["sign"] == "-" else value


def without_latex_spacing(text: str) -> str:
    r"""Text as `folded` has it, without LaTeX's thin spaces; ``{,}`` and ``\$`` become ``,`` and ``$``."""
    return re.sub(r"\\[,!;:]\s*", "", folded(text)).replace("{,}", ",").replace("\\$", "$")


def plain(text: str) -> str:
    r"""Text without spacing, case and the LaTeX that carries no meaning (``\text``, ``\left``, ``\dfrac``, ``$``).

    Case counts in commands, and for letters that the text has in both cases; a space between two digits counts.
    """
    if text.isascii() and text.isalnum():
        return text.lower()
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", without_latex_spacing(text))
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = re.sub(r"\$|\\[()]", "", text)
    # Between two digits a space tells 1 1/2 from 11/2.
    return _without_case(re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text).rstrip("."))


_LETTERS = re.compile(r"\\?[A-Za-z]+")


def _without_case(text: str) -> str:
    r"""Text in small letters, but for commands (``\Delta``) and for letters that stand in it in both cases (R - r)."""
    if not any(map(str.isupper, text)):
        return text
    variables = "".join(run for run in _LETTERS.findall(text) if len(run) < 3 and run[0] != "\\")
    both = len(set(variables)) > len(set(variables.lower()))
    kept = 3 if both else 1  # letters that a word has at least
    text = _LETTERS.sub(lambda run: run[0] if run[0][0] == "\\" or len(run[0]) < kept else run[0].lower(), text)
    return text if text.isascii() else text.casefold()


_DRESS = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|bf)(?![a-z])\s*|[{}$*_`\"]|\\[()]")
_WORDS = r"yes|no|true|false"
_LONE = re.compile(rf"\s*(?:[(\[]\s?([A-Ja-j])\s?[)\]]|([A-J])[).:]?|((?i:{_WORDS})))\s*[.!]?\s*")
_NAMED = r"(?i:option|choice|letter|alternative)\s?[:#]?\s?"
_CHOSEN = re.compile(
    rf"\s*(?:(?i:the|correct|right|best|answer|is|it|must be|:)\s+)*(?:{_NAMED})?"
    rf"(?:[(\[]\s?([A-Ja-j])\s?[)\]]|([A-J])(?:\)|[.:](?=\s|$)|\s*$|(?=,|;|\s(?:because|since|as|is)\b))"
    rf"|([a-j])\s*$|((?i:{_WORDS}))(?=\s*[,.;:!]|\s*$|\s(?:because|since|as)\b))"
)
_NAMED_LATER = re.compile(rf"\b{_NAMED}[(\[]?([A-J])\b")


def lone_choice(text: str) -> str | None:
    r"""The choice that a text is and nothing else, in lower case: ``B``, ``\text{(B)}``, "Yes"; else ``None``."""
    match = _LONE.fullmatch(_undressed(text)) if len(text) < _LONGEST_CHOICE else None
    return None if match is None else next(filter(None, match.groups())).casefold()


def chosen(text: str) -> str | None:
    """The choice that an answer names, in lower case: "option B", "B) 12 apples", "Yes, because"; else ``None``."""
    bare = _undressed(text[:LONGEST_STATEMENT])
    match = _CHOSEN.match(bare)
    if match is not None:
        letter: str = next(filter(None, match.groups()))
        return letter.casefold()
    named = _NAMED_LATER.findall(bare)
    return named[-1].casefold() if named else None


_LONGEST_CHOICE = 40


def _undressed(text: str) -> str:
    return re.sub(r"\\[ ,;!]", " ", _DRESS.sub("", folded(text)))


def tidy(text: str) -> str:
    """Text without the emphasis, spaces and stops around it."""
    return text.strip().strip("*").rstrip(".,;").strip()
