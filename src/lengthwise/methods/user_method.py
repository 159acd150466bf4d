"""A method of one's own: a Python file with a `reward` or a `method`, named in place of a method."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from lengthwise.engine.method import Method, Recipe, State
from lengthwise.engine.method_validation import rehearse
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods.grpo import grpo
from lengthwise.methods.user_method_parts import guarded, rewards_of
from lengthwise.user_code import from_file, from_module, naming

Maker = Callable[..., Recipe]
WANTED = (
    "define reward(rollouts, state), which gives one number per row, or method(*, cap, ...), which gives a "
    "lengthwise.Method"
)


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
        found = getattr(module, "method", None) or getattr(module, "reward", None)
    else:
        module_name, _, function = name.partition(":")
        module = from_module(module_name, f"method is {name!r}")
        found = getattr(module, function, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise ConfigError(f"method is {name!r}; {WANTED}. It has {', '.join(there) or 'no function'}")
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError) as error:  # a function that is written in C
        raise ConfigError(f"method is {name!r}, but what it takes is not known ({error}); {WANTED}") from error
    return _checked(name, found, signature) if "cap" in signature.parameters else _rewarded(name, found, signature)


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


def _checked(name: str, maker: Callable[..., Any], signature: inspect.Signature) -> Maker:
    def make(**options: Any) -> Recipe:
        with naming(f"method {name!r} could not be made:", ConfigError):
            made = maker(**options)
        if not isinstance(made, Recipe):
            raise ConfigError(f"method {name!r} made a {type(made).__name__}; return a lengthwise.Method")
        return guarded(name, made)

    make.__wrapped__ = maker  # type: ignore[attr-defined]  # its annotations are read where it was written
    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


def _rewarded(name: str, reward: Callable[[Rollouts, State], Any], signature: inspect.Signature) -> Maker:
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

    def make(**options: Any) -> Method:
        plain = grpo(**options)
        rehearse(plain)
        return dataclasses.replace(
            plain, name=Path(name).stem if name.endswith(".py") else name, paper="one's own", summary=first_line,
            reward=scored,
        )  # fmt: skip

    make.__wrapped__ = grpo  # type: ignore[attr-defined]
    make.__signature__ = inspect.signature(grpo)  # type: ignore[attr-defined]
    return make
