"""A method of one's own: a Python file with a `reward` or a `method`, named in place of a method."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from lengthwise.engine.method import Method, Recipe, State
from lengthwise.engine.method_validation import rehearse
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods.declaration import Declaration, Maker, Option
from lengthwise.methods.option_values import annotated, read_option
from lengthwise.methods.papers.grpo import grpo
from lengthwise.methods.user_method_parts import guarded, rewards_of
from lengthwise.user_code import from_file, from_module, naming

WANTED = (
    "define reward(rollouts, state), which gives one number per row, or method(*, cap, ...), which gives a "
    "lengthwise.Method"
)


class FunctionMaker(Maker):
    """A function that makes a method, its options read off its signature."""

    def __init__(
        self, name: str, make: Callable[..., Recipe], signature: inspect.Signature, source: Callable[..., object]
    ) -> None:
        self.name, self._make, self._source = name, make, source
        self._parameters = {
            p.name: p for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        }
        self._more = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    @property
    def options(self) -> Mapping[str, Option]:
        """The options by name."""
        return {name: self._option(parameter) for name, parameter in self._parameters.items()}

    def _option(self, parameter: inspect.Parameter) -> Option:
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        return Option(parameter.name, annotated(parameter, self._source), default, required=required)

    @property
    def takes_more(self) -> bool:
        """Whether the function takes whatever it is given."""
        return self._more

    def read(self, option: str, text: str) -> object:
        """The value that an option's text stands for."""
        if option not in self._parameters:
            return read_option(option, text, Any)
        said = self.options[option]
        return read_option(option, text, said.annotation, said.default)

    def __call__(self, **options: object) -> Recipe:
        """Make the method."""
        return self._make(**options)


class DeclaredMaker(Maker):
    """A method of somebody's own with options that are declared, by itself or by the method it is built on."""

    def __init__(
        self, name: str, declared: Declaration[Any, Any], make: Callable[..., Recipe], *, itself: bool = False
    ) -> None:
        self.name, self.declared, self._make = name, declared, make
        if itself:
            self.knob, self.wrong = declared.knob, declared.wrong

    @property
    def options(self) -> Mapping[str, Option]:
        """Those that are declared."""
        return self.declared.options

    def read(self, option: str, text: str) -> object:
        """The value that an option's text stands for."""
        return self.declared.read(option, text)

    def __call__(self, **options: object) -> Recipe:
        """Make the method."""
        return self._make(**options)


def is_own(name: str) -> bool:
    """Whether a method's name names a file or a function instead: ``my_method.py`` or ``module:function``."""
    return name.endswith(".py") or ":" in name


def own_maker(name: str) -> Maker:
    """What makes the method of a file or of ``module:function``.

    A file's `method` is taken, else its `reward`, on top of GRPO and with GRPO's options. A function is a method's
    maker if it takes `cap`, else a reward.

    Raises:
        ConfigError: no such file, module or function, a file that does not run, or neither of the two in it.
    """
    if name.endswith(".py"):
        module = from_file(Path(name), f"method is {name!r}")
        found = getattr(module, "method", None) or _declared(module) or getattr(module, "reward", None)
    else:
        module_name, _, function = name.partition(":")
        module = from_module(module_name, f"method is {name!r}")
        found = getattr(module, function, None)
    if isinstance(found, Declaration):
        return DeclaredMaker(name, found, _guarding(name, found), itself=True)
    if not callable(found):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise ConfigError(f"method is {name!r}; {WANTED}. It has {', '.join(there) or 'no function'}")
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError) as error:  # a function that is written in C
        raise ConfigError(f"method is {name!r}, but what it takes is not known ({error}); {WANTED}") from error
    if "cap" in signature.parameters:
        return FunctionMaker(name, _guarding(name, found), signature, found)
    return _rewarded(name, found, signature)


def _declared(module: ModuleType) -> Declaration[Any, Any] | None:
    """The method that a file declares itself, whatever it is called there."""
    here = [one for one in vars(module).values() if isinstance(one, Declaration) and one.__module__ == module.__name__]
    return here[0] if len(here) == 1 else None


def source_of(name: str) -> Path | None:
    """The file that an own method stands in; None for a method by name."""
    if not is_own(name):
        return None
    if name.endswith(".py"):
        return Path(name)
    spec = importlib.util.find_spec(name.partition(":")[0])
    return None if spec is None or spec.origin is None else Path(spec.origin)


def from_anywhere(name: str) -> str:
    """The same method by a name that holds in every folder; of a ``module:function`` imports must find the module."""
    return str(Path(name).resolve()) if name.endswith(".py") else name


def _guarding(name: str, maker: Callable[..., object]) -> Callable[..., Recipe]:
    def make(**options: object) -> Recipe:
        with naming(f"method {name!r} could not be made:", ConfigError):
            made = maker(**options)
        if not isinstance(made, Recipe):
            raise ConfigError(f"method {name!r} made a {type(made).__name__}; return a lengthwise.Method")
        return guarded(name, made if made.name else dataclasses.replace(made, name=Path(name).stem))

    return make


def _rewarded(name: str, reward: Callable[[Rollouts, State], object], signature: inspect.Signature) -> Maker:
    """GRPO with a reward of one's own."""
    taken = [p for p in signature.parameters.values() if p.default is p.empty]
    if len(taken) != 2:
        raise ConfigError(f"method is {name!r}: its reward takes {len(taken)} arguments; it gets (rollouts, state)")
    first_line = next(iter((inspect.getdoc(reward) or "").splitlines()), "") or "a reward of one's own"
    what = f"the reward of {name!r}"

    def scored(rollouts: Rollouts, state: State) -> Tensor:
        with naming(f"{what} raised"):
            found = reward(rollouts, state)
        return rewards_of(what, found, rollouts).float()

    def make(**options: object) -> Method:
        plain = grpo(**options)
        rehearse(plain)
        return dataclasses.replace(
            plain, name=Path(name).stem if name.endswith(".py") else name, paper="one's own", summary=first_line,
            reward=scored,
        )  # fmt: skip

    return DeclaredMaker(name, grpo, make)
