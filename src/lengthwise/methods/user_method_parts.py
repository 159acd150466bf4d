"""The functions of a method of one's own: what they raise is said with its place, and what they give is looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from lengthwise.engine.method import Asked, ExtraLoss, LossInputs, Recipe, Stage
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError, InputError
from lengthwise.user_code import naming

K = TypeVar("K")
R = TypeVar("R", bound=Recipe)


def guarded(name: str, made: R) -> R:
    """The same method, each of whose functions names itself and its file where it fails.

    Raises:
        ConfigError: a part that is no function, or none of the parts that its place wants.
    """
    changes: dict[str, Any] = {}
    for place in ("prepare", "finish"):
        stages = _all(name, place, getattr(made, place), Stage)
        changes[place] = tuple(replace(s, run=_part(name, f"stage {s.name}", s.run, _facts)) for s in stages)
    loop = made.loop
    if loop is not None:
        for part, check in CHECKS.items():
            function = getattr(loop, part)
            if function is not None or part not in OPTIONAL:
                changes[part] = _part(name, part, function, check)
        extras = _all(name, "extra_losses", loop.extra_losses, ExtraLoss)
        changes["extra_losses"] = tuple(replace(e, function=_part(name, e.name, e.function, _scalar)) for e in extras)
        if loop.observe is not None:
            changes["observe"] = loop.observe._replace(update=_part(name, "observe", loop.observe.update, _state))
    return replace(made, **changes)


def _all(name: str, place: str, given: object, kind: type[K]) -> tuple[K, ...]:
    if not isinstance(given, tuple | list) or not all(isinstance(one, kind) for one in given):
        raise ConfigError(f"the {place} of {name!r} is {given!r}; give a tuple of {kind.__module__}.{kind.__name__}")
    return tuple(given)


def _part(name: str, part: str, function: object, check: Callable[..., object]) -> Callable[..., Any]:
    if not callable(function):
        raise ConfigError(f"the {part} of {name!r} is {function!r}; give a function")
    what = f"the {part} of {name!r}"

    @wraps(function)
    def called(*given: object) -> object:
        with naming(f"{what} raised"):
            found = function(*given)
        return check(what, found, *given)

    return called


def rewards_of(what: str, rewards: object, rollouts: Rollouts, *_: object) -> Tensor:
    """What a reward gave, float [B].

    Raises:
        InputError: no tensor of one finite number a row.
    """
    if not isinstance(rewards, Tensor) or rewards.shape != rollouts.num_tokens.shape:
        raise InputError(
            f"{what} gave {_kind(rewards)}; give a tensor with one number for each of {len(rollouts)} rows"
        )
    if not bool(torch.isfinite(rewards).all()):
        raise InputError(f"{what} gave a number that is not finite; rewards are finite")
    return rewards if rewards.is_floating_point() else rewards.float()


def _advantages(what: str, found: object, _: Tensor, rollouts: Rollouts) -> Tensor:
    shapes = (rollouts.num_tokens.shape, rollouts.mask.shape)
    if not isinstance(found, Tensor) or found.shape not in shapes or not found.is_floating_point():
        raise InputError(f"{what} gave {_kind(found)}; give floats, one a row or one a token: {[*map(tuple, shapes)]}")
    if not bool(torch.isfinite(found).all()):
        raise InputError(f"{what} gave a number that is not finite; advantages are finite")
    return found


def _rows(what: str, found: object, rollouts: Rollouts) -> Tensor:
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != rollouts.num_tokens.shape:
        raise InputError(f"{what} gave {_kind(found)}; give a bool tensor with one entry for each row")
    return found


def _loss(what: str, found: object, inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Mapping):
        raise InputError(f"{what} gave {_kind(found)}; give the loss and a dict of statistics (it may be empty)")
    loss = _scalar(what, found[0])
    if inputs.logp.requires_grad and not loss.requires_grad:
        raise InputError(f"{what} gave a loss that does not depend on inputs.logp; nothing would be learnt from it")
    stats = {key: torch.as_tensor(value) for key, value in found[1].items()}
    if any(stat.numel() != 1 for stat in stats.values()):
        raise InputError(f"{what} gave statistics of several numbers; give one number each")
    return loss, stats


def _scalar(what: str, found: object, *_: object) -> Tensor:
    if not isinstance(found, Tensor) or found.dim() != 0:
        raise InputError(f"{what} gave {_kind(found)}; give a loss of one number, a 0-d tensor")
    return found


def _number(what: str, found: object, *_: object) -> Any:
    if not isinstance(found, Real) or isinstance(found, bool) or not math.isfinite(found):
        raise InputError(f"{what} gave {found if isinstance(found, Real) else _kind(found)}; give a finite number")
    return found


def _divisor(what: str, found: object, *_: object) -> object:
    if _number(what, found) <= 0:
        raise InputError(f"{what} gave {found}; give a number above 0, the loss is divided by it")
    return found


def _state(what: str, found: object, *_: object) -> object:
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{what} gave {_kind(found)}; give a dict by names, which checkpoints keep")
    try:
        json.dumps(dict(found))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} gave what JSON cannot hold ({error}); give numbers, text, lists and dicts") from error
    return found


def _facts(what: str, found: object, *_: object) -> object:
    return _state(what, {} if found is None else found)


def _asked(what: str, found: object, *_: object) -> object:
    if not isinstance(found, list) or not found or not all(isinstance(one, Asked) for one in found):
        raise InputError(f"{what} gave {_kind(found)}; give a list of lengthwise.engine.method.Asked, at least one")
    return found


def _anything(what: str, found: object, *_: object) -> object:
    return found


def _kind(found: object) -> str:
    if isinstance(found, Tensor):
        return f"{tuple(found.shape)} of {str(found.dtype).removeprefix('torch.')}"
    return type(found).__name__


CHECKS: dict[str, Callable[..., object]] = {
    "prompts": _asked,
    "cap": _number,
    "keep": _rows,
    "reward": rewards_of,
    "advantage": _advantages,
    "loss": _loss,
    "normaliser": _divisor,
    "shared": _anything,
    "initial_state": _state,
    "update_state": _state,
}
OPTIONAL = ("keep", "shared")
