"""Graders: is the answer in a response the reference answer?

Extraction is explicit and in one order (`extraction.extract_answer`), each step named in the verdict; Math-Verify
then decides whether two expressions are equal. Nothing here uses signals, so it works in any thread. Extraction is
linear in the text. Expressions that are known to keep a computer algebra system busy are compared as text only,
but no list of them is complete: where responses come from strangers, grade in a worker process with a time
limit (`isolated.SafeGrader`, `isolated.IsolatedPool`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import Any

from lengthwise.errors import ConfigError, InputError
from lengthwise.evaluation.answer_text import as_number, chosen, lone_choice, number_with_unit, plain
from lengthwise.evaluation.extraction import extract_answer
from lengthwise.evaluation.prompts import (
    ANSWER_FORMATS,
    NUMERIC_FORMATS,
    PromptContract,
    read_gold,
    split_response,
    unknown_name,
)
from lengthwise.evaluation.thinking import KINDS, split_thinking
from lengthwise.own_code import from_module, naming

GRADER_VERSION = 2
"""Raised whenever a verdict of the formats for mathematics may change: records of unlike graders are not compared."""
LAB_GRADER_VERSION = 1
"""The same for the format ``lab``."""

NO_ANSWER = "no answer"
EMPTY = "empty response"
UNCLOSED = "thinking never closed"
STOPPED = "stopped by the time limit"
"""`Verdict.how` of a response whose grading was stopped in its worker process (see `isolated`): wrong, and counted."""


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
    answer_pattern: str | None = None,
) -> Verdict:
    """Grade one response against the reference answer.

    ``answer``: anything `prompts.read_gold` reads; an unreadable one raises `InputError`. With a ``contract``
    its answer format, answer pattern and thinking marks hold; without one ``answer_format`` and
    ``answer_pattern`` do, and marks in the response, of any kind in `thinking.KINDS`, tell its thinking.

    An answer is read from the text after the thinking only. A response that is empty, or whose thinking never
    closes, is wrong; ``answer_before_close`` lets answers that are marked as such (boxed, "the answer is")
    be read from unclosed thinking, never its last number.

    ``lab``: exactly the text after the last ``A:``. ``gsm8k``, ``math``, ``aime``, ``auto``: see
    `extraction.extract_answer` and `same_answer`.
    """
    if contract is not None:
        answer_format, answer_pattern = contract.answer_format, contract.answer_pattern
    if answer_format not in ANSWER_FORMATS:
        raise ConfigError(unknown_name("answer_format", answer_format, ANSWER_FORMATS))
    if not isinstance(response, str):
        raise InputError(f"response is a {type(response).__name__}; pass its text")
    gold = read_gold(answer, answer_format)
    if not response.strip():
        return Verdict(False, None, EMPTY)
    thinking, text, closed = _split(response, contract)
    if not closed:
        if contract is None or not contract.answer_before_close:
            return Verdict(False, None, UNCLOSED)
        text = thinking
    found = extract_answer(
        text,
        answer_format,
        answer_pattern=answer_pattern,
        marked_only=not closed,
        choice=answer_format not in NUMERIC_FORMATS and lone_choice(gold) is not None,
    )
    if found is None:
        return Verdict(False, None, NO_ANSWER if closed else UNCLOSED)
    extracted, how = found
    return Verdict(same_answer(extracted, gold, answer_format), extracted, how)


def same_answer(extracted: str, gold: str, answer_format: str) -> bool:
    r"""Whether two answers are equal: as text for ``lab``, else as text, as numbers, or by Math-Verify.

    Spacing, ``\text{}``, ``\left`` and a final full stop do not count as text. Plain numbers are compared exactly,
    with half a unit of the sixth decimal of tolerance unless both are whole (0.333333 is 1/3). ``gsm8k`` and
    ``aime`` take the number before words or signs of an answer that is no expression ("18 dollars", "18%").

    What Math-Verify lets pass: units are not compared (10 cm is 10 m), 50% is 50 and 0.5, order counts in points
    and intervals but not in sets and lists, and a point answers for a set of the same numbers. What it gets wrong
    is refused: equations without solutions are equal only when their sides are, number bases must not differ, and
    congruences are compared as text. So are expressions too costly to check, towers of powers or integrals for
    example.
    """
    if answer_format == "lab":
        return " ".join(extracted.split()) == " ".join(gold.split())
    if plain(extracted) == plain(gold):
        return True
    number, wanted = as_number(extracted), as_number(gold)
    if number is None and answer_format in NUMERIC_FORMATS:
        number = number_with_unit(extracted)
    if number is not None and wanted is not None:
        return _same_number(number, wanted)
    choice = lone_choice(gold) if wanted is None else None
    given = None if choice is None else chosen(extracted)
    if given is not None:
        return given == choice
    if _text_only(extracted) or _text_only(gold) or _unlike_bases(extracted, gold):
        return False
    return _math_verify_equal(extracted, gold)


def load_grader(path: str) -> Grader:
    """Load a grader of your own from ``module:function``, found from the working folder too.

    The function takes ``(response, answer)``, the whole response text and the reference as text, and returns
    true or false (or a `Verdict`). Anything else it returns raises, and what it raises itself is an `InputError` that
    names its file and line.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"grader is {path!r}; write module:function, for example my_graders:exact")
    module = from_module(module_name, f"grader {path!r}")
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
        with naming(f"the grader {self.path!r} raised"):
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
        return f"lengthwise-lab/{LAB_GRADER_VERSION}"
    from importlib.metadata import version

    return f"lengthwise-{answer_format}/{GRADER_VERSION} (math-verify {version('math-verify')})"


def ready_for(answer_format: str) -> None:
    """Import what a built-in grader needs, so that no response is charged for it."""
    if answer_format != "lab":
        _math_verify_equal("x+1", "1+x")


def _split(response: str, contract: PromptContract | None) -> tuple[str, str, bool]:
    if contract is not None:
        return split_response(contract, response)
    return split_thinking(response, KINDS, begins=False)


_ABSOLUTE, _RELATIVE = Fraction(1, 2_000_000), Fraction(1, 100_000)


def _same_number(number: Fraction, wanted: Fraction) -> bool:
    if number == wanted or number.denominator == wanted.denominator == 1:
        return number == wanted
    apart = abs(number - wanted)
    return apart <= _ABSOLUTE and apart <= _RELATIVE * abs(wanted)


_LONGEST = 300
_COSTLY = re.compile(
    r"\\(?:int|sum|prod|lim)(?![a-z])"  # evaluated term by term, or for ever
    r"|\d[\s)}]*(?:\^|\*\*)[\s({]*-?\d+[\s)}]*(?:\^|\*\*)"  # a tower of powers: 9^{9^9}, (9^9)^9
    r"|\^\s*[{(][^{}()]*\d\s*(?:\^|\*\*)\s*[{(]*\d"  # a power of numbers in an exponent: 9^{9\cdot 9^9}
    r"|\^\s*[{(]?\s*-?\d{5}|\*\*\s*\(?-?\d{5}"  # a power of more digits than fit on a page
    r"|\)\s*(?:\^|\*\*)\s*[{(]*\d{4}"  # a sum to a power that expands into thousands of terms
    r"|\d{4,}\s*\)*!|!\s*\)*!|!\s*[)}]*\s*\^|\^[\s{(]*\d+\s*!|\\binom[^\d]*\d{4,}"
)
_CONGRUENCE = re.compile(r"\\equiv(?![a-z])|≡")  # Math-Verify takes all of them for equal
_BASE = re.compile(r"\d_\{?(\d+)\}?$")


def _text_only(text: str) -> bool:
    if len(text) > _LONGEST:
        return True
    bare = re.sub(r"\\(?:left|right)(?![a-z])", "", text)
    return _COSTLY.search(bare) is not None or _CONGRUENCE.search(bare) is not None


def _unlike_bases(extracted: str, gold: str) -> bool:
    # 52_8 and 52_9. An answer without its base is let pass: problems often name the base themselves.
    base, wanted = _BASE.search(plain(extracted)), _BASE.search(plain(gold))
    return base is not None and wanted is not None and base[1] != wanted[1]


@functools.lru_cache(maxsize=4096)
def _math_verify_equal(extracted: str, gold: str) -> bool:
    parse, verify = _math_verify()
    target, wanted = _parsed(extracted, parse), _parsed(gold, parse)
    if not target or not verify(wanted, target, timeout_seconds=None):
        return False
    unsolved = [(left, right) for left in wanted for right in target if _without_solutions(left)]
    return all(_same_sides(left, right, verify) for left, right in unsolved)


def _without_solutions(expression: Any) -> bool:
    # Math-Verify compares the solutions of two equations, so all equations without any are equal to it.
    from sympy import Eq, solve  # type: ignore[import-untyped]

    for equation in getattr(expression, "atoms", lambda _: ())(Eq):
        try:
            solutions = solve(equation, list(equation.free_symbols))
        except Exception:  # sympy raises anything here; what it cannot solve Math-Verify did not compare so
            continue
        if not solutions:
            return True
    return False


def _same_sides(left: Any, right: Any, verify: Callable[..., bool]) -> bool:
    from sympy import Eq

    if not isinstance(left, Eq) or not isinstance(right, Eq):
        return bool(left == right)
    apart = right.lhs - right.rhs
    return verify(left.lhs - left.rhs, [apart, -apart], timeout_seconds=None)


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
