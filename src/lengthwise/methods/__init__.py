"""Methods by name: one file per paper, each a `Method` value that names its objectives and defaults."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from lengthwise.engine.method import Method, Recipe
from lengthwise.engine.method_validation import rehearse
from lengthwise.errors import ConfigError
from lengthwise.methods import option_values
from lengthwise.methods._parts import group_relative
from lengthwise.methods.a_dlp import a_dlp
from lengthwise.methods.ada_r1 import ada_r1
from lengthwise.methods.adaptive import adaptive
from lengthwise.methods.alp import alp
from lengthwise.methods.cosine import cosine
from lengthwise.methods.dler import da_dler, dler
from lengthwise.methods.drpo import disco, drpo
from lengthwise.methods.grpo import dr_grpo, grpo
from lengthwise.methods.grpo_lambda import grpo_lambda
from lengthwise.methods.hapo import hapo
from lengthwise.methods.kimi import kimi
from lengthwise.methods.l1 import l1_exact, l1_max
from lengthwise.methods.laser import laser, laser_d, laser_de
from lengthwise.methods.linear_price import linear_price
from lengthwise.methods.moving_cap import under_schedule as under_schedule
from lengthwise.methods.rloo import rloo, rloo_lp
from lengthwise.methods.shorter_better import shorter_better
from lengthwise.methods.siri import siri
from lengthwise.methods.soft_overlong import soft_overlong
from lengthwise.methods.t_ppo import ppo, t_ppo
from lengthwise.methods.user_method import is_own, own_maker

METHODS: dict[str, Callable[..., Recipe]] = {
    "dler": dler,
    "da-dler": da_dler,
    "drpo": drpo,
    "disco": disco,
    "siri": siri,
    "grpo-lambda": grpo_lambda,
    "t-ppo": t_ppo,
    "ppo": ppo,
    "adaptive": adaptive,
    "ada-r1": ada_r1,
    "grpo": grpo,
    "dr-grpo": dr_grpo,
    "rloo": rloo,
    "rloo-lp": rloo_lp,
    "alp": alp,
    "hapo": hapo,
    "l1-exact": l1_exact,
    "l1-max": l1_max,
    "shorter-better": shorter_better,
    "laser": laser,
    "laser-d": laser_d,
    "laser-de": laser_de,
    "kimi": kimi,
    "soft-overlong": soft_overlong,
    "cosine": cosine,
    "a-dlp": a_dlp,
    "linear-price": linear_price,
}


def options_of(name: str) -> dict[str, Any]:
    """A method's options with their defaults, those that it shares with others too.

    Raises:
        ConfigError: no such method; the nearest names are given.
    """
    return {option: parameter.default for option, (parameter, _) in _parameters(name)[0].items()}


def read_option(name: str, option: str, text: str) -> Any:
    """An option's text as the value that its method takes.

    Raises:
        ConfigError: no such method or option, or text of another kind; the message says what is wanted.
    """
    known, takes_more = _parameters(name)
    if option not in known and not takes_more:
        raise _unknown(name, option, known)
    if option not in known:
        return option_values.read_option(option, text, Any)
    parameter, written = known[option]
    default = None if parameter.default is parameter.empty else parameter.default
    return option_values.read_option(option, text, option_values.annotated(parameter, written), default)


def build_method(name: str, **options: Any) -> Recipe:
    """Make a method by its name with its own options; `name` may also be a file or function of yours (see `own`).

    The parts of a method by name are rehearsed on a few made-up rows, so that options out of range are refused here.

    Raises:
        ConfigError: no such method, an option that it does not have (the nearest names are given) or one out of range.
    """
    known, takes_more = _parameters(name)
    for option in options:
        if option not in known and not takes_more:
            raise _unknown(name, option, known)
    made = _maker(name)(**options)
    if isinstance(made, Method) and not is_own(name):
        rehearse(made)
    return made


def _parameters(name: str) -> tuple[dict[str, tuple[inspect.Parameter, Callable[..., Any]]], bool]:
    """A method's options, each with the function that takes it, and whether it takes others that are not known."""
    maker = _maker(name)
    own = inspect.signature(maker).parameters.values()
    found = {p.name: (p, maker) for p in own if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    takes_more = any(p.kind is p.VAR_KEYWORD for p in own)
    if takes_more and not is_own(name):  # the rest goes to what it is built on
        base: Callable[..., Any] = dler if name == "da-dler" else group_relative
        shared = inspect.signature(base).parameters.values()
        usable = {p.name: (p, base) for p in shared if p.default is not p.empty and not callable(p.default)}
        found, takes_more = {**usable, **found}, False
    return found, takes_more


def _unknown(name: str, option: str, known: Any) -> ConfigError:
    return ConfigError(f"method {name!r} has no option {option!r}; {_nearest(option, known)}")


def _maker(name: str) -> Callable[..., Recipe]:
    if is_own(name):
        return own_maker(name)
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}; {_nearest(name, METHODS)}")
    return METHODS[name]


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}choose one of {', '.join(sorted(known))}"


__all__ = ["METHODS", "build_method", "under_schedule", *(maker.__name__ for maker in METHODS.values())]
