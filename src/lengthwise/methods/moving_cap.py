"""Parts mixed: any method under a moving cap, with the mixes that mean nothing refused."""

from __future__ import annotations

import dataclasses

from lengthwise.engine.method import Method, Recipe
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import cap_schedule


def under_schedule(
    method: Recipe, shape: str, *, longest: int, shortest: int | None = None, cycle: int = 640
) -> Method:
    """The method, made with `longest` as its cap, under a cap that moves between `longest` and `shortest` and back.

    `shape`: cosine, stair or stair-cosine; `shortest` is half of `longest` unless given; `cycle` is in steps (SIRI:
    640).

    Raises:
        ConfigError: no such shape, lengths or a cycle that the schedule refuses, or a method whose parts rely on a cap
            that does not move; the reason is given.
    """
    least = -(-longest // 2) if shortest is None else shortest
    schedule = cap_schedule(shape, longest=longest, shortest=least, cycle=cycle)
    loop = method.loop
    if loop is None:
        raise ConfigError(f"method {method.name!r} has no training loop, so no cap can move; give --cap a number")
    if loop.one_cap is not None:
        raise ConfigError(
            f"method {method.name!r} does not go with a moving cap: {loop.one_cap}; give --cap a number, "
            "or take another method, for example drpo or dler"
        )
    target = method.options.get("target")
    if target is not None and target > least:
        raise ConfigError(
            f"method {method.name!r} has a target of {target} tokens, which no answer can use under a cap of {least}; "
            "give a smaller target or a larger shortest cap"
        )
    parts = {"shape": shape, "shortest": least, "cycle": cycle}
    return dataclasses.replace(loop, cap=schedule, options={**method.options, **parts})
