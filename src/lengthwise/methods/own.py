"""A method of one's own: a Python file with a `reward` or a `method`, named in place of a method."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lengthwise.engine.method import Method, Recipe, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError, InputError
from lengthwise.methods.grpo import grpo

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
        module = _from_file(Path(name))
        found = getattr(module, "method", None) or getattr(module, "reward", None)
    else:
        module_name, _, function = name.partition(":")
        module = _from_module(name, module_name)
        found = getattr(module, function, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise ConfigError(f"method is {name!r}; {WANTED}. It has {', '.join(there) or 'no function'}")
    if "cap" in inspect.signature(found).parameters:
        return _checked(name, found)
    return _rewarded(name, found)


def source_of(name: str) -> Path | None:
    """The file that an own method stands in; None for a method by name."""
    if not is_own(name):
        return None
    if name.endswith(".py"):
        return Path(name)
    spec = importlib.util.find_spec(name.partition(":")[0])
    return None if spec is None or spec.origin is None else Path(spec.origin)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"method is {str(path)!r}: no such file (the working folder is {Path.cwd()})")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"method is {str(path)!r}: it cannot be run ({type(error).__name__}: {error})") from error
    return module


def _from_module(name: str, module: str) -> ModuleType:
    here = str(Path.cwd())
    sys.path.insert(0, here)  # an installed command does not look beside the user, python -m does
    try:
        return importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"method is {name!r}: {error}; write module:function or a file's name, and run from its folder"
        ) from error
    finally:
        sys.path.remove(here)


def _checked(name: str, maker: Callable[..., Any]) -> Maker:
    def make(**options: Any) -> Recipe:
        made = maker(**options)
        if not isinstance(made, Recipe):
            raise ConfigError(f"method {name!r} made a {type(made).__name__}; return a lengthwise.Method")
        return made

    make.__signature__ = inspect.signature(maker)  # type: ignore[attr-defined]
    return make


def _rewarded(name: str, reward: Callable[[Rollouts, State], Any]) -> Maker:
    """GRPO with a reward of one's own."""
    taken = [p for p in inspect.signature(reward).parameters.values() if p.default is p.empty]
    if len(taken) != 2:
        raise ConfigError(f"method is {name!r}: its reward takes {len(taken)} arguments; it gets (rollouts, state)")
    first_line = (inspect.getdoc(reward) or "a reward of one's own").splitlines()[0]

    def scored(rollouts: Rollouts, state: State) -> Tensor:
        rewards = reward(rollouts, state)
        if not isinstance(rewards, Tensor) or rewards.shape != rollouts.num_tokens.shape:
            shape = tuple(rewards.shape) if isinstance(rewards, Tensor) else type(rewards).__name__
            raise InputError(
                f"the reward of {name!r} gave {shape}; give a tensor with one number for each of {len(rollouts)} rows"
            )
        if not bool(torch.isfinite(rewards).all()):
            raise InputError(f"the reward of {name!r} gave a number that is not finite; rewards are finite")
        return rewards.float()

    def make(**options: Any) -> Method:
        plain = grpo(**options)
        return dataclasses.replace(
            plain, name=Path(name).stem if name.endswith(".py") else name, paper="one's own", summary=first_line,
            reward=scored,
        )  # fmt: skip

    make.__signature__ = inspect.signature(grpo)  # type: ignore[attr-defined]
    return make
