"""Graders: is the answer in a response the reference answer?

Extraction is explicit and in one order (`final_answer.extract_answer`), each step named in the verdict; `equality`
then decides whether two answers are equal. Nothing here uses signals, so it works in any thread. Extraction is
linear in the text, and answers are compared in numbers, but what these leave undecided goes to computer algebra,
which may run for ever: where responses come from strangers, grade in a worker process with a time limit
(`worker_pool.SafeGrader`, `worker_pool.IsolatedPool`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.answer_extraction.answer_text import lone_choice
from lengthwise.grading.answer_extraction.final_answer import extract_answer
from lengthwise.grading.equality import answers_agree, get_ready
from lengthwise.grading.equality import same_answer as same_answer
from lengthwise.grading.gold_answers import ALL, ANY, NUMERIC_FORMATS, alternatives, read_gold
from lengthwise.grading.prompt_contract import (
    ANSWER_FORMATS,
    PromptContract,
    split_response,
    unknown_name,
)
from lengthwise.grading.thinking_marks import KINDS, split_thinking
from lengthwise.user_code import from_module, naming

GRADER_VERSION = 3
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
    """What a grader found: ``correct``, the text taken as the answer (or ``None``), and how it was found.

    ``error``: name of the exception that comparing the answer with the reference raised; then it is wrong.
    """

    correct: bool
    extracted: str | None
    how: str
    error: str | None = None

    def __bool__(self) -> bool:
        return self.correct


Grader = Callable[[str, str], Verdict]
"""(response, answer) -> verdict."""


def grade(
    response: str,
    answer: object,
    *,
    contract: PromptContract | None = None,
    answer_format: str = "auto",
    answer_pattern: str | None = None,
    answers: str = ALL,
) -> Verdict:
    """Grade one response against the reference answer.

    ``answer``: anything `read_gold` reads; an unreadable one raises `InputError`. ``answers``: whether a list
    holds parts of it, all wanted (``"all"``), or alternatives, of which one is enough (``"any"``). With a ``contract``
    its answer format, answer pattern, ``answers`` and thinking marks hold; without one ``answer_format``,
    ``answer_pattern`` and ``answers`` do, and marks in the response, of any kind in `thinking_marks.KINDS`, tell its
    thinking.

    An answer is read from the text after the thinking only. A response that is empty, or whose thinking never
    closes, is wrong; ``answer_before_close`` lets answers that are marked as such (boxed, "the answer is")
    be read from unclosed thinking, never its last number.

    ``lab``: exactly the text after the last ``A:``. ``gsm8k``, ``math``, ``aime``, ``auto``: see
    `final_answer.extract_answer` and `equality.same_answer`. Whatever comparing raises makes the answer wrong, and is
    named in the verdict.
    """
    if contract is not None:
        answer_format, answer_pattern, answers = contract.answer_format, contract.answer_pattern, contract.answers
    if answer_format not in ANSWER_FORMATS:
        raise ConfigError(unknown_name("answer_format", answer_format, ANSWER_FORMATS))
    if not isinstance(response, str):
        raise InputError(f"response is a {type(response).__name__}; pass its text")
    if answers not in (ALL, ANY):
        raise ConfigError(unknown_name("answers", answers, (ALL, ANY)))
    gold = read_gold(answer, answer_format, answers=answers)
    if not response.strip():
        return Verdict(False, None, EMPTY)
    thinking, text, closed = _split(response, contract)
    if not closed:
        if contract is None or not contract.answer_before_close:
            return Verdict(False, None, UNCLOSED)
        text = thinking
    read = functools.partial(extract_answer, text, answer_format, answer_pattern=answer_pattern, marked_only=not closed)

    def verdict(wanted: str) -> Verdict:
        found = read(choice=answer_format not in NUMERIC_FORMATS and lone_choice(wanted) is not None)
        if found is None:
            return Verdict(False, None, NO_ANSWER if closed else UNCLOSED)
        extracted, how = found
        correct, error = answers_agree(extracted, wanted, answer_format)
        return Verdict(correct, extracted, how, error)

    return first_right(verdict, gold)


def first_right(verdict: Callable[[str], Verdict], gold: str) -> Verdict:
    """The verdict by the first alternative of a reference that is met; by the first of all where none is."""
    found = None
    for wanted in alternatives(gold):
        one = verdict(wanted)
        if one.correct:
            return one
        found = found or one
    assert found is not None
    return found


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
    function: Callable[[str, str], object]

    def __call__(self, response: str, answer: str) -> Verdict:
        """Call the function, on each alternative of a reference until one is right, and check what it returns."""
        return first_right(functools.partial(self._verdict, response), answer)

    def _verdict(self, response: str, answer: str) -> Verdict:
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
        get_ready()


def _split(response: str, contract: PromptContract | None) -> tuple[str, str, bool]:
    if contract is not None:
        return split_response(contract, response)
    return split_thinking(response, KINDS, begins=False)
