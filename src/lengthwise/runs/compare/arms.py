"""What is compared: every method with the knob that it names, the one that trades length for accuracy in it.

A value is a number, or follows from the untouched model (see `methods.Knob`), so that defaults fit a model whose
answers have fifty tokens and one whose answers have five thousand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lengthwise.engine.method import Recipe
from lengthwise.errors import ConfigError, InputError, LengthwiseError
from lengthwise.methods import build_method, maker_of, option_of, options_of
from lengthwise.methods.declaration import Option, Value
from lengthwise.methods.user_method import is_own

SETTINGS, LEAST_ANSWERS = 3, 10
_NUMBER = r"(\d*\.?\d+(?:[eE][+-]?\d+)?)"
_QUANTILE, _PER_TOKEN = re.compile(r"p(\d{1,2})"), re.compile(_NUMBER + "/L")
_PER_RUN, _SHARE = re.compile(_NUMBER + r"\*steps"), re.compile(_NUMBER + "L")
Settled = Value | None
"""A value as a method takes it, True and False among them."""
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class Arm:
    """One method in a comparison: its knob's `values`, and `options` that are the same for all of them.

    `name` is how tables and folders call it, so that one method can stand there twice with other options.

    Raises:
        ConfigError: a name that cannot be a folder's, no values, or one that stands there twice.
    """

    name: str
    method: str
    knob: str
    values: tuple[Value, ...]
    options: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not _NAME.fullmatch(self.name) or self.name == "base":
            raise ConfigError(f"arm is called {self.name!r}; use letters, digits and -, and another name than 'base'")
        if not self.values or len(set(self.values)) < len(self.values):
            raise ConfigError(f"sweep of {self.name} is {list(self.values)}; give one or more values, each once")
        if self.knob in self.options:
            raise ConfigError(f"{self.name}: {self.knob} is both swept and fixed; give it once")


@dataclass(frozen=True)
class Facts:
    """What is known of the untouched model: its right answers' lengths, mean response tokens, accuracy.

    `steps`: how many batches the run's tokens pay for at the untouched model's length.
    """

    right_lengths: Sequence[int]
    mean_tokens: float
    accuracy: float
    steps: int

    def __post_init__(self) -> None:
        if len(self.right_lengths) < LEAST_ANSWERS:
            raise InputError(
                f"only {len(self.right_lengths)} answers of the untouched model are right; too few to set caps by: "
                "measure more problems, raise --eval-cap, or check the prompt with `lengthwise shorten --dry-run`"
            )


def arm_of(method: str, *, values: Sequence[Value] = (), knob: str = "", settings: int = SETTINGS) -> Arm:
    """A method with its own knob and the first of its default values, or with those given.

    Raises:
        ConfigError: no such method or option, or a method without a knob or with too few default values.
    """
    default = maker_of(method).knob
    name = Path(method).stem.rpartition(":")[2] if is_own(method) else method
    if knob:
        option_of(method, knob)
    if not knob and default is None:
        raise ConfigError(
            f"method {method!r} has no knob that compare knows; name one and its values: --sweep "
            f"{method}:OPTION=V1,V2,... with an option of {', '.join(sorted(options_of(method)))}"
        )
    if values and (knob or default is not None):
        fixed = default.fixed if default is not None else {}
        option = knob or (default.option if default is not None else "")
        return Arm(name, method, option, tuple(values), {k: v for k, v in fixed.items() if k != option})
    assert default is not None, "refused above"
    if settings > len(default.values):
        raise ConfigError(
            f"{method} has {len(default.values)} default settings, {settings} are wanted; name them with --sweep "
            f"{method}:{default.option}=V1,V2,..."
        )
    return Arm(name, method, default.option, default.values[:settings], default.fixed)


def read_arms(
    methods: Sequence[str], sweeps: Sequence[str] = (), options: Sequence[str] = (), settings: int | None = None
) -> list[Arm]:
    """Arms from the command line's words: names, ``METHOD:KNOB=v1,v2`` and ``METHOD:OPTION=value``.

    Raises:
        ConfigError: an unknown method or option, a method twice, sweeps of unequal sizes, or words of another form.
    """
    if not methods:
        raise ConfigError("methods is empty; name at least one, `lengthwise methods` lists them")
    if settings is not None and settings < 1:
        raise ConfigError(f"settings is {settings}; give every method at least 1")
    for name in methods:
        if len(name.split()) > 1 and not is_own(name):
            raise ConfigError(f"methods is {name!r}; put commas between names: {','.join(name.split())}")
        options_of(name)
        if list(methods).count(name) > 1:
            raise ConfigError(f"methods names {name!r} twice; name each once")
    swept: dict[str, tuple[str, tuple[Value, ...]]] = {}
    for text in sweeps:
        name, option, values = _split(text, "sweep", methods)
        if name in swept:
            raise ConfigError(f"sweep names {name} twice; a method has one knob")
        swept[name] = (option, values)
    sizes = {name: len(values) for name, (_, values) in swept.items()}
    count = settings or next(iter(sizes.values()), SETTINGS)
    if any(size != count for size in sizes.values()):
        said = ", ".join(f"{name} {size}" for name, size in sizes.items())
        asked = f"; --settings asks for {settings}" if settings is not None else ""
        raise ConfigError(
            f"sweeps have unequal sizes ({said}{asked}): every method gets as many settings, or the one that may "
            "choose from more looks better; give equally many values"
        )
    fixed: dict[str, dict[str, Value]] = {}
    for text in options:
        name, option, values = _split(text, "option", methods)
        if len(values) > 1:
            raise ConfigError(f"option is {text!r}, which names several values; give one, or all of them as --sweep")
        if option in fixed.get(name, {}):
            raise ConfigError(f"option names {option} of {name} twice; give it once")
        fixed.setdefault(name, {})[option] = values[0]
    arms = []
    for name in methods:
        knob, given = swept.get(name, ("", ()))
        arm = arm_of(name, values=given, knob=knob, settings=count)
        own = fixed.get(name, {})
        arms.append(replace(arm, options={**arm.options, **own}))
    return arms


def _split(text: str, flag: str, methods: Sequence[str]) -> tuple[str, str, tuple[Value, ...]]:
    # A method of one's own may hold a colon itself: module:function.
    named = max((name for name in methods if text.startswith(f"{name}:")), key=len, default="")
    name, colon, rest = (named, ":", text[len(named) + 1 :]) if named else text.partition(":")
    option, equals, values = rest.partition("=")
    if not (name and colon and option and equals and values):
        form = "METHOD:KNOB=V1,V2,..." if flag == "sweep" else "METHOD:OPTION=VALUE"
        raise ConfigError(f"{flag} is {text!r}; write {form}")
    if not all(part.strip() for part in values.split(",")):
        raise ConfigError(f"{flag} is {text!r}, with nothing between two commas; leave one out")
    if name not in methods:
        raise ConfigError(f"{flag} is {text!r}, but {name!r} is not compared; methods are {', '.join(methods)}")
    return name, option, tuple(read_value(part) for part in values.split(","))


def read_value(text: str) -> Value:
    """A value from the command line: a number if it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()


def resolved(value: Value, facts: Facts) -> Settled:
    """A value as the method takes it: what depends on the untouched model measured out."""
    if not isinstance(value, str):
        return value
    known = {"true": True, "false": False, "none": None}
    if value.lower() in known:
        return known[value.lower()]
    if value == "accuracy":
        return facts.accuracy
    if found := _QUANTILE.fullmatch(value):
        return max(1, int(np.quantile(np.asarray(facts.right_lengths, float), int(found[1]) / 100)))
    if found := _SHARE.fullmatch(value):
        if float(found[1]) == 0:
            raise ConfigError(f"{value!r} is no length: nothing of the mean length L; give a share above 0, as 0.6L")
        return max(1, round(float(found[1]) * facts.mean_tokens))
    if found := _PER_TOKEN.fullmatch(value):
        return float(found[1]) / facts.mean_tokens
    if found := _PER_RUN.fullmatch(value):
        return max(2, round(float(found[1]) * facts.steps))
    return value


def settings_of(arm: Arm, *, cap: Value, facts: Facts) -> list[dict[str, Settled]]:
    """The options of every setting of an arm, ``cap`` among them, ready for `build_method`.

    Raises:
        ConfigError: two values that come out the same, or options that the method refuses.
    """
    found = []
    for value in arm.values:
        options = {"cap": cap, **arm.options, arm.knob: value}
        found.append({name: resolved(given, facts) for name, given in options.items()})
        built(arm, found[-1])  # says what it refuses
    for place, settled in enumerate(found):
        if settled in found[:place]:
            first = arm.values[found.index(settled)]
            raise ConfigError(
                f"{arm.name}: the values {first} and {arm.values[place]} of {arm.knob} both come out as "
                f"{settled[arm.knob]} for this model; give others with --sweep {arm.name}:{arm.knob}=..."
            )
    return found


def built(arm: Arm, options: Mapping[str, Settled]) -> Recipe:
    """The method of one setting.

    Raises:
        ConfigError: an option that the method has not, or a value of another kind than it takes.
    """
    for name, value in options.items():
        said = option_of(arm.method, name)
        if said is not None:
            _check_kind(arm, name, value, said)
    try:
        return build_method(arm.method, **options)
    except LengthwiseError as error:  # an objective does not know which of the compared methods it serves
        raise ConfigError(str(error) if repr(arm.method) in str(error) else f"{arm.name}: {error}") from error


def _check_kind(arm: Arm, name: str, value: Settled, said: Option) -> None:
    """Numbers for numbers, yes or no for yes or no; of other options the method itself says what they take."""
    kinds = {int} if name == "cap" else set(said.kinds)
    if value is None or not kinds or not kinds <= {bool, int, float}:
        return
    if type(value) not in kinds and not (float in kinds and type(value) is int):
        wanted = "true or false" if kinds == {bool} else "a whole number" if kinds == {int} else "a number"
        raise ConfigError(
            f"{arm.name}: {name} is {value!r}; give {wanted}, or what follows from the untouched model: 0.6L, p40, "
            "0.1/L, 0.5*steps, accuracy"
        )
    if name == "cap" and isinstance(value, int) and value < 1:
        raise ConfigError(f"{arm.name}: cap is {value}; a response has at least 1 token")
