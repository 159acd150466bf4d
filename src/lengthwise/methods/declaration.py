"""What a method says of itself: its options as fields, its paper, the knob that `compare` sweeps, what it goes with."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from lengthwise.config import values
from lengthwise.config.definition import Facts, setting
from lengthwise.config.failures import SettingError
from lengthwise.config.settings import Entry, Settings
from lengthwise.engine.method import Recipe
from lengthwise.errors import ConfigError

Value = int | float | str
O = TypeVar("O", bound="Options")  # noqa: E741  # an options class
R = TypeVar("R", bound=Recipe)


class Options(Settings):
    """The options of a method; a subclass adds its own with `setting`, or changes an inherited default with `again`.

    An option whose default follows from others is given none, and stands in `dependent_defaults`.
    """

    cap: int = setting(ge=1, help="Most response tokens.")

    @classmethod
    def of(cls, **given: object) -> Self:
        """The options of what was given; None for one whose default follows from others asks for that default."""
        follow = cls.dependent_defaults({"cap": 1, **given})
        return cls.from_dict({name: value for name, value in given.items() if value is not None or name not in follow})


@dataclass(frozen=True)
class Knob:
    """The option that trades length for accuracy: its values (the first ones are taken), and others that stay fixed.

    A value is a number, or follows from the untouched model: ``0.6L`` (six tenths of its mean response tokens), ``p40``
    (a length that two in five of its right answers keep to), ``0.1/L`` (0.1 per mean response token), ``0.5*steps``
    (half the run), ``accuracy``.
    """

    option: str
    values: tuple[Value, ...]
    fixed: Mapping[str, Value] = field(default_factory=dict)


CAPS = Knob("cap", ("0.6L", "0.4L", "0.8L", "0.3L"))
"""The knob of methods whose cap is what shortens."""
PRICES = ("0.1/L", "0.3/L", "0.03/L", "1/L")
WEIGHTS = (1.0, 0.5, 2.0, 0.25)
BONUSES = (0.5, 0.25, 1.0, 0.1)


@dataclass(frozen=True)
class Option:
    """One option as users see it; ``default`` is None where it has to be given or follows from others."""

    name: str
    annotation: object
    default: object = None
    default_text: str = ""
    bounds: str = ""
    help: str = ""
    required: bool = False

    @property
    def kinds(self) -> tuple[object, ...]:
        """The types of its values, None apart; without an annotation that of its default, where it has one."""
        if self.annotation is Any:
            return () if self.default is None else (type(self.default),)
        return values.parts(self.annotation)

    @property
    def type(self) -> str:
        """Its type in words."""
        words = values.choices(self.annotation)
        if words:
            return " or ".join(words)
        names = [kind.__name__ if isinstance(kind, type) else str(kind) for kind in self.kinds]
        return " or ".join([*names, *(["none"] if values.optional(self.annotation) else [])]) or "any"

    @property
    def wanted(self) -> str:
        """Its values in words: the bounds of a number, the words to choose from, else the type."""
        words = values.choices(self.annotation)
        if self.bounds or words:
            return self.bounds or ", ".join(words)
        return {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}.get(
            self.type, self.type
        )

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "type": self.type,
            "default": values.to_json(self.default),
            "default_text": self.default_text or None,
            "bounds": self.bounds or None,
            "help": self.help or None,
        }


class Maker(ABC):
    """What makes a method: a `Declaration`, or a function of somebody's own that declares nothing."""

    name: str
    knob: Knob | None = None
    wrong: str | None = None

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Option]:
        """The options that are known, `cap` among them."""

    @property
    def takes_more(self) -> bool:
        """Whether options that are not known are taken too."""
        return False

    def check_name(self, option: str) -> None:
        """Raise `ConfigError` for an option that the method has not; the nearest names are given."""
        if option not in self.options and not self.takes_more:
            raise ConfigError(f"method {self.name!r} has no option {option!r}; {nearest(option, self.options)}")

    @abstractmethod
    def read(self, option: str, text: str) -> object:
        """The value that an option's text stands for.

        Raises:
            ConfigError: text of another kind.
        """

    @abstractmethod
    def __call__(self, **options: object) -> Recipe:
        """Make the method."""


class Declaration(Maker, Generic[O, R]):
    """A method that describes itself; calling it with `cap` and options makes it. Made by `declare`."""

    __name__: str

    def __init__(
        self,
        name: str,
        kind: type[O],
        make: Callable[[O], R],
        *,
        paper: str,
        summary: str,
        knob: Knob | None,
        one_cap: str | None,
        wrong: str | None,
        baseline: bool,
    ) -> None:
        functools.update_wrapper(self, make)  # its docstring, name and module are the method's
        self.name, self.kind, self.make = name, kind, make
        self.paper, self.summary, self.knob = paper, summary, knob
        self.one_cap, self.wrong, self.baseline = one_cap, wrong, baseline
        if knob is not None and not {knob.option, *knob.fixed} <= kind.entries().keys():
            raise TypeError(f"the knob of {name} names an option that it has not")

    def __call__(self, **options: object) -> R:
        """Make the method; all options but `cap` have defaults.

        Raises:
            ConfigError: no such option, one out of its bounds, or options that do not go together.
        """
        for option in options:
            self.check_name(option)
        given = self.kind.of(**options)
        made = self.make(given)
        return dataclasses.replace(
            made, name=self.name, paper=self.paper, summary=self.summary, options=given.flat(), one_cap=self.one_cap
        )

    @property
    def options(self) -> Mapping[str, Option]:
        """The options by name: `cap`, those that it shares with others, its own."""
        return {name: _option(name, entry.annotation, entry.default, entry.facts, entry.required)
                for name, entry in self.kind.entries().items()}  # fmt: skip

    def read(self, option: str, text: str) -> object:
        """The value that an option's text stands for.

        Raises:
            ConfigError: text of another kind.
        """
        entry = self.kind.entries()[option]
        found = values.from_text(text, entry.annotation, entry.facts)
        if isinstance(found, str) and str not in values.parts(entry.annotation) and not _is_word(found, entry):
            raise SettingError(f"option {option} is {text!r}; {values.wanted(entry.annotation, entry.facts)}", option)
        return found


def declare(
    name: str,
    kind: type[O],
    *,
    paper: str,
    summary: str,
    knob: Knob | None = None,
    one_cap: str | None = None,
    wrong: str | None = None,
    baseline: bool = False,
) -> Callable[[Callable[[O], R]], Declaration[O, R]]:
    """Declare a method; decorates the function that makes it of its options, an instance of ``kind``.

    ``paper``: title and arXiv number. ``summary``: what it does, in one line without a period. ``knob``: what
    `compare` sweeps. ``one_cap``: why its cap may not move, to follow a colon. ``wrong``: which of two wrong answers
    its formula pays more, where it pays them by length. ``baseline``: listed behind the methods that `lengthwise` is
    about.
    """

    def decorate(make: Callable[[O], R]) -> Declaration[O, R]:
        return Declaration(
            name, kind, make, paper=paper, summary=summary, knob=knob, one_cap=one_cap, wrong=wrong, baseline=baseline
        )

    return decorate


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names nearest to one that is not, and all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}choose one of {', '.join(names)}"


def _is_word(found: str, entry: Entry) -> bool:
    return found in values.choices(entry.annotation)


def _option(name: str, annotation: object, default: object, facts: Facts, required: bool) -> Option:
    numbers = int in values.parts(annotation) or float in values.parts(annotation)
    bounded = any(bound is not None for bound in (facts.ge, facts.gt, facts.le, facts.lt))
    return Option(
        name, annotation, default, facts.default_text or "", interval(facts) if numbers and bounded else "",
        facts.help, required,
    )  # fmt: skip


def interval(facts: Facts) -> str:
    """The bounds of a number, short: ``0 to 1``, ``at least 1``, ``above 0``, ``0 to below 1``."""
    low = (
        ""
        if facts.ge is None and facts.gt is None
        else f"{facts.ge:g}"
        if facts.ge is not None
        else f"above {facts.gt:g}"
    )
    high = (
        ""
        if facts.le is None and facts.lt is None
        else f"{facts.le:g}"
        if facts.le is not None
        else f"below {facts.lt:g}"
    )
    if low and high:
        return f"{low} to {high}"
    if low:
        return low if facts.gt is not None else f"at least {low}"
    return high if facts.lt is not None else f"at most {high}"
