"""Which method runs inside which engine, and how: read off what a method says, not off its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import TypedDict, cast

from lengthwise.engine.method import Method, Recipe
from lengthwise.errors import ConfigError
from lengthwise.methods import METHODS, build_method
from lengthwise.methods._parts import surrogate

ENGINES = ("trl", "verl")
LOOKED_AT = 2_000
"""Steps over which a cap is looked at for whether it moves."""


def why_not(engine: str, method: Recipe) -> str | None:
    """Why a method cannot run inside an engine, with the alternative; None where it can."""
    loop = method.loop
    if loop is None:
        return "it has stages and no training loop; use `lengthwise shorten`"
    if loop.windows is not None:
        return (
            "it learns from responses that are not finished, and these engines end every one; "
            "use `lengthwise shorten` on one device, or the method grpo or dler"
        )
    if loop.teacher is not None:
        return (
            "its loss compares two distributions over the vocabulary, and these engines hand over the drawn tokens' "
            "log-probabilities alone; use `lengthwise shorten` on one device"
        )
    if loop.cuts is not None:
        return (
            "it cuts thinking and draws answers after each cut, and these engines draw whole responses; use "
            "`lengthwise shorten` on one device"
        )
    if loop.extra_losses or loop.needs or loop.prepare or loop.finish:
        return (
            "it has stages or losses of its own, and these engines have no place for them; use `lengthwise shorten` "
            "on one device"
        )
    return None if engine == "trl" else _why_not_verl(loop)


class Surrogate(TypedDict):
    """Settings of `clipped_surrogate` that a method's loss is made with."""

    clip_low: float
    clip_high: float
    dual_clip: float | None
    aggregate: str


def surrogate_settings(method: Method) -> Surrogate | None:
    """Clips and aggregate of a method whose loss is the clipped surrogate, by its names; None for any other loss."""
    loss = inspect.unwrap(method.loss)
    return cast(Surrogate, loss.keywords) if isinstance(loss, partial) and loss.func is surrogate else None


def _why_not_verl(method: Method) -> str | None:
    if method.coupling == "group" or method.shared is not None:
        return "its loss couples the rows of a group, and verl's policy loss sees no group ids; use TRL"
    if len({method.cap(step, method.initial_state()) for step in range(LOOKED_AT)}) > 1:
        return "its cap moves, and verl's response length is fixed for a run; use TRL"
    if method.observe is not None or dict(method.initial_state()):
        return "it remembers, and verl's estimators have no place in a checkpoint; use TRL"
    said = surrogate_settings(method)
    if said is None:
        return "its loss is its own, and verl's policy loss is given clips alone; use TRL"
    if method.kl_coef and said["aggregate"] != "token-mean":
        return (
            "its KL is a token mean and its loss is not, and verl averages both alike; set kl_coef=0 or "
            "aggregate=token-mean, or use TRL"
        )
    return None


def refuse(engine: str, method: Recipe) -> Method:
    """The loop of a method that can run inside an engine.

    Raises:
        ConfigError: it cannot; the message says why and what does.
    """
    reason = why_not(engine, method)
    if reason is not None:
        raise ConfigError(f"method {method.name!r} does not run inside {engine}: {reason}")
    assert method.loop is not None, "a method without a loop has a reason"
    return method.loop


def chosen(engine: str, method: str | Recipe, options: Mapping[str, object], cap: int) -> Method:
    """A method by name or value, made with the run's cap and found fit for an engine.

    Raises:
        ConfigError: no such method or option, options for a method that is made already, or an engine that cannot.
    """
    if isinstance(method, str):
        return refuse(engine, build_method(method, cap=cap, **options))
    if options:
        raise ConfigError(
            f"method_options is {options} but method {method.name!r} is made already; give its name, or make it with "
            "these options"
        )
    return refuse(engine, method)


def how(engine: str, recipe: Recipe) -> str:
    """In a few words how an engine carries a method out."""
    reason = why_not(engine, recipe)
    if reason is not None:
        return "refused: " + reason.split(", and ")[0].split("; use")[0]
    method = refuse(engine, recipe)
    parts = []
    if engine == "trl":
        parts.append("loss over the whole mini-batch" if method.coupling == "group" else "loss")
        if method.keep is not None:
            parts.append("groups drawn again")
        if len({method.cap(step, method.initial_state()) for step in range(LOOKED_AT)}) > 1:
            parts.append("cap moves")
        if dict(method.initial_state()):
            parts.append("state in the checkpoint")
        if method.observe is not None:
            parts.append("watched set")
    else:
        parts += ["reward manager", "estimator", "policy loss"]
        if method.keep is not None:
            parts.append("verl's filter_groups")
    if method.kl_coef:
        parts.append("KL")
    return ", ".join(parts)


def table(cap: int = 4_000) -> list[tuple[str, ...]]:
    """Every method with how TRL and how verl carry it out: the table of docs/engines.md."""
    rows: list[tuple[str, ...]] = []
    for name in METHODS:
        method = build_method(name, cap=cap)
        rows.append((name, *(how(engine, method) for engine in ENGINES)))
    return rows
