"""Graders: is the answer in a response the reference answer?

Extraction is explicit and in one order (`extract_answer`), each step named in the verdict; Math-Verify then
decides whether two expressions are equal. Nothing here uses signals, so it works in any thread; expressions
that could keep a computer algebra system busy for ever are compared as text only.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any

from lengthwise.errors import ConfigError, InputError
from lengthwise.evaluation.prompts import (
    ANSWER_FORMATS,
    PromptContract,
    as_number,
    last_boxed,
    read_gold,
    split_response,
    split_thinking,
    unknown_name,
)

GRADER_VERSION = 1
"""Raised whenever a verdict may change, so that records of unlike graders refuse to be compared."""

LAST_NUMBER = "last number"
NO_ANSWER = "no answer"
EMPTY = "empty response"
UNCLOSED = "thinking never closed"


@dataclass(frozen=True)
class Verdict:
    """What a grader found: ``correct``, the text taken as the answer (or ``None``), and how it was found."""

    correct: bool
    extracted: str | None
    how: str

    def __bool__(self) -> bool:
        return self.correct


Grader = Callable[[str, str], Verdict]
"""(response, answer) -> verdict."""


def grade(
    response: str,
    answer: Any,
    *,
    contract: PromptContract | None = None,
    answer_format: str = "auto",
) -> Verdict:
    """Grade one response against the reference answer.

    ``answer``: anything `prompts.read_gold` reads; an unreadable one raises `InputError`. With a ``contract``
    its answer format and thinking marks hold; without one ``answer_format`` does, and a ``</think>`` or a
    leading ``<think>`` in the response marks its thinking.

    An answer is read from the text after the thinking only. A response that is empty, or whose thinking never
    closes, is wrong; ``answer_before_close`` lets answers that are marked as such (boxed, "the answer is")
    be read from unclosed thinking, never its last number.

    ``lab``: exactly the text after the last ``A:``. ``gsm8k``, ``math``, ``aime``, ``auto``: see
    `extract_answer` and `same_answer`.
    """
    form = answer_format if contract is None else contract.answer_format
    if form not in ANSWER_FORMATS:
        raise ConfigError(unknown_name("answer_format", form, ANSWER_FORMATS))
    if not isinstance(response, str):
        raise InputError(f"response is a {type(response).__name__}; pass its text")
    gold = read_gold(answer, form)
    if not response.strip():
        return Verdict(False, None, EMPTY)
    thinking, text, closed = _split(response, contract)
    if not closed:
        if contract is None or not contract.answer_before_close:
            return Verdict(False, None, UNCLOSED)
        text = thinking
    found = extract_answer(text, form, marked_only=not closed)
    if found is None:
        return Verdict(False, None, NO_ANSWER if closed else UNCLOSED)
    extracted, how = found
    return Verdict(same_answer(extracted, gold, form), extracted, how)


def extract_answer(text: str, answer_format: str, *, marked_only: bool = False) -> tuple[str, str] | None:
    r"""Find the answer in text outside the thinking: ``(answer, how)``, or ``None``.

    ``lab`` takes what follows the last ``A:`` and nothing else. The others try, in this order: the last
    ``#### 18`` (``gsm8k`` and ``auto`` first, the others after the box), the last ``\boxed{18}``, the last
    "the answer is 18" or "Answer: 18" (``auto`` also ``A: 18``), the last bold ``**18**``; and, unless
    ``marked_only``, the last formula or number of the text, whichever ends later.
    """
    if answer_format == "lab":
        return _after_lab_mark(text)
    steps = [_after_hashes, _boxed] if answer_format in ("gsm8k", "auto") else [_boxed, _after_hashes]
    steps += [_after_phrase, _after_lab_mark, _bold] if answer_format == "auto" else [_after_phrase, _bold]
    if not marked_only:
        steps.append(_last_formula_or_number)
    for step in steps:
        found = step(text)
        if found is not None:
            return found
    return None


def same_answer(extracted: str, gold: str, answer_format: str) -> bool:
    """Whether two answers are equal: as text for ``lab``, else as text, as numbers, or by Math-Verify.

    Spacing, ``\\text{}``, ``\\left`` and a final full stop do not count as text. ``gsm8k`` and ``aime`` take
    the number before words or signs of an answer that is no expression ("18 dollars", "18%"). Expressions too
    costly to check, nested powers or integrals for example, are equal only as text.
    """
    if answer_format == "lab":
        return " ".join(extracted.split()) == " ".join(gold.split())
    if _plain(extracted) == _plain(gold):
        return True
    number, wanted = as_number(extracted), as_number(gold)
    if number is None and answer_format in ("gsm8k", "aime"):
        number = _number_with_unit(extracted)
    if number is not None and wanted is not None:
        if number == wanted:
            return True
        if number.denominator == wanted.denominator == 1:
            return False
    if _costly(extracted) or _costly(gold):
        return False
    return _math_verify_equal(extracted, gold)


def load_grader(path: str) -> Grader:
    """Load a grader of your own from ``module:function``, found from the working folder too.

    The function takes ``(response, answer)``, the whole response text and the reference as text, and returns
    true or false (or a `Verdict`). Anything else it returns raises; its own errors are not hidden.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"grader is {path!r}; write module:function, for example my_graders:exact")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # an installed command does not look beside the user, python -m does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there and lacks a dependency of its own
        raise ConfigError(
            f"grader {path!r}: no module {error.name!r}; install it, or run from the folder that holds it"
        ) from error
    finally:
        sys.path.remove(here)
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"grader {path!r}: {unknown_name('function', name, there)}")
    return OwnGrader(path, function)


@dataclass(frozen=True)
class OwnGrader:
    """A user's function as a `Grader`; a class and not a closure so that it can be pickled."""

    path: str
    function: Callable[[str, str], Any]

    def __call__(self, response: str, answer: str) -> Verdict:
        """Call the function and check what it returns."""
        result = self.function(response, answer)
        if isinstance(result, Verdict):
            return result
        if hasattr(result, "item"):  # a numpy or torch scalar
            result = result.item()
        if not isinstance(result, Real) or result not in (0, 1):
            raise InputError(f"the grader {self.path!r} returned {result!r}; it must return True or False")
        return Verdict(bool(result), None, self.path)


def grader_name(answer_format: str) -> str:
    """Name and version of a built-in grader, for records: what may change a verdict is in it."""
    if answer_format not in ANSWER_FORMATS:
        raise ConfigError(unknown_name("answer_format", answer_format, ANSWER_FORMATS))
    if answer_format == "lab":
        return f"lengthwise-lab/{GRADER_VERSION}"
    from importlib.metadata import version

    return f"lengthwise-{answer_format}/{GRADER_VERSION} (math-verify {version('math-verify')})"


def _split(response: str, contract: PromptContract | None) -> tuple[str, str, bool]:
    if contract is not None:
        return split_response(contract, response)
    if "</think>" in response or response.lstrip().startswith("<think>"):
        return split_thinking(response, "<think>", "</think>")
    return "", response, True


def _after_lab_mark(text: str) -> tuple[str, str] | None:
    # A mark is a word of its own; "BA:" is none.
    marks = list(re.finditer(r"(?<![A-Za-z])A:", text))
    return (text[marks[-1].end() :].strip(), "after A:") if marks else None


def _after_hashes(text: str) -> tuple[str, str] | None:
    matches = re.findall(r"####[ \t]*([^\n]*\S)", text)
    return (_tidy(matches[-1]), "after ####") if matches else None


def _boxed(text: str) -> tuple[str, str] | None:
    boxed = last_boxed(text)
    return (boxed, "boxed") if boxed else None


_PHRASE = re.compile(
    r"\banswers?(?:\s+(?:to|of|for)\b[^.:\n]{0,80}?)?\s*(?:\bis\b(?!\s+not\b)|\bare\b|:|=)\s*:?\s*", re.IGNORECASE
)
_FORMULA = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<![\\\d$])\$(?P<d>(?!\s)(?:\\.|[^$\n\\])+?)\$(?!\d)",
    re.DOTALL,
)
_DIGITS = r"[-+−]?\$?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?"
_NUMBER_IN_TEXT = re.compile(rf"(?<![\w.]){_DIGITS}")
_NUMBER_WITH_UNIT = re.compile(rf"[^\d=+*/^(){{}}]*?(?P<number>{_DIGITS})\s*(?![\s\d+*/^=!({{,.:×-]).*", re.DOTALL)


def _after_phrase(text: str) -> tuple[str, str] | None:
    text = text.replace("**", "").replace("__", "")
    matches = list(_PHRASE.finditer(text))
    if not matches:
        return None
    rest = text[matches[-1].end() :]
    formula = _FORMULA.match(rest)
    if formula is not None:
        return _formula_text(formula), "phrase"
    # To the end of the sentence; a full stop inside a number ends nothing.
    sentence = re.split(r"\.(?=\s|$)|\n|;", rest.lstrip(), maxsplit=1)[0]
    formulas = list(_FORMULA.finditer(sentence))
    if formulas and not re.match(r"\s*[-+−$]?\d", sentence):
        return _formula_text(formulas[0]), "phrase"
    return (_tidy(sentence), "phrase") if _tidy(sentence) else None


def _bold(text: str) -> tuple[str, str] | None:
    for content in reversed(re.findall(r"\*\*([^*\n]+)\*\*", text)):
        content = content.strip()
        # Headings ("2. Solve", "Step 3:") are bold too; an answer begins with a number or a formula.
        heading = content.endswith(":") or re.match(r"\d+[.)]\s", content)
        formula = _FORMULA.fullmatch(content)
        if formula is not None:
            return _formula_text(formula), "bold"
        if not heading and re.match(r"\\?[-+−]?\\?[$€£¥]?[-+−]?\.?\d", content):
            return _tidy(content), "bold"
    return None


def _last_formula_or_number(text: str) -> tuple[str, str] | None:
    formulas, numbers = list(_FORMULA.finditer(text)), list(_NUMBER_IN_TEXT.finditer(text))
    if formulas and (not numbers or formulas[-1].end() >= numbers[-1].end()):
        return _formula_text(formulas[-1]), "last formula"
    return (numbers[-1][0].strip(), LAST_NUMBER) if numbers else None


def _formula_text(match: re.Match[str]) -> str:
    return _tidy(next(group for group in match.groups() if group is not None))


def _tidy(text: str) -> str:
    return text.strip().strip("*").rstrip(".,;").strip()


def _number_with_unit(text: str) -> Fraction | None:
    # After the last "=", as in "3 + 4 = 7 eggs". What stands before the number, or comes right after it,
    # may not be arithmetic: 10^2, \sqrt{16} and 3 + 4 are expressions, for Math-Verify to judge.
    match = _NUMBER_WITH_UNIT.fullmatch(_without_latex_spacing(text.rsplit("=", 1)[-1]).strip())
    return None if match is None else as_number(match["number"])


def _without_latex_spacing(text: str) -> str:
    return re.sub(r"\\[,!;:]\s*", "", text).replace("{,}", ",").replace("\\$", "$")


def _plain(text: str) -> str:
    text = re.sub(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}", r"\1", _without_latex_spacing(text))
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return re.sub(r"\s+|\$|\\[()]", "", text).rstrip(".").casefold()


_LONGEST = 300
_COSTLY = re.compile(
    r"\\(?:int|sum|prod|lim)(?![a-z])"  # evaluated term by term, or for ever
    r"|\^\s*\{?[^{}\s]*\^|\^\s*\{[^{}]*\{[^{}]*\^|\*\*[^*]*\*\*"  # a power in an exponent
    r"|\^\s*[{(]?\s*-?\d{5}|\*\*\s*\(?-?\d{5}"  # a power of more digits than fit on a page
    r"|\d{4,}\s*\)*!|!\s*\)*!|\\binom[^\d]*\d{4,}"
)


def _costly(text: str) -> bool:
    return len(text) > _LONGEST or _COSTLY.search(text) is not None


@functools.lru_cache(maxsize=4096)
def _math_verify_equal(extracted: str, gold: str) -> bool:
    parse, verify = _math_verify()
    target = _parsed(extracted, parse)
    return bool(target) and verify(_parsed(gold, parse), target, timeout_seconds=None)


def _parsed(text: str, parse: Callable[..., list[Any]]) -> list[Any]:
    # Words outside \text{} would be read as products of letters; then only the numbers in the text count.
    words = re.search(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}", re.sub(r"\\[a-zA-Z]+\s*\{[a-zA-Z .]*\}|\\[a-zA-Z]+", "", text))
    wrapped = text if words else f"${text.strip().strip('$')}$"
    return parse(wrapped, fallback_mode="no_fallback", parsing_timeout=None)


@functools.cache
def _math_verify() -> tuple[Callable[..., list[Any]], Callable[..., bool]]:
    """Math-Verify's two functions; imported late because it brings sympy."""
    import math_verify.grader
    import math_verify.parser

    # It warns once that its SIGALRM timeouts are off; they are off on purpose (see the module docstring).
    math_verify.parser.TIMEOUT_WARNING_SHOWN = True
    math_verify.grader.TIMEOUT_WARNING_SHOWN = True
    return math_verify.parser.parse, math_verify.grader.verify
