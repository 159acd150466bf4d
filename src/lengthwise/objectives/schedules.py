"""Schedules of the token cap: a step number in, a real number of tokens out. The engine rounds half up."""

from __future__ import annotations

import math

from lengthwise.objectives import _checks as checks


def constant_cap(step: int, *, cap: float) -> float:
    """Return the same cap at every step.

    L(t) = cap.  The target of DLER, arXiv 2510.15110 (4000 tokens there).

    Args:
        step: batches sampled so far, at least 0.
        cap: tokens, at least 1.

    Returns:
        The cap in tokens as a float.

    Raises:
        ConfigError: a step below 0 or not an integer; a cap below 1, not finite or not a number.
    """
    checks.whole("step", step, low=0)
    checks.number("cap", cap, low=1)
    return float(cap)


def round_half_up(x: float) -> int:
    """Return the nearest integer, and of two equally near ones the larger: floor(x + 1/2).

    This turns the real number of a schedule into the cap of a batch, as in SIRI (Scaling Iterative
    Reinforcement Learning with Interleaved Compression), arXiv 2509.25176. Python's `round` would take 2.5
    to 2. The remainder is compared instead of adding 1/2, because 0.49999999999999994 + 0.5 rounds to 1.

    Args:
        x: any finite number.

    Returns:
        The integer; 2.5 gives 3 and -2.5 gives -2.

    Raises:
        ConfigError: ``x`` is NaN, infinite or not a number.
    """
    checks.number("x", x)
    below = math.floor(x)
    return below + (x - below >= 0.5)
