"""Schedules of the token cap: a step number in, a real number of tokens out. The engine rounds half up."""

from __future__ import annotations

import math

from lengthwise.errors import ConfigError
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


def _check_cycle(step: int, longest: float, shortest: float, cycle: int) -> None:
    checks.whole("step", step, low=0)
    checks.whole("cycle", cycle, low=1)
    checks.number("shortest", shortest, low=1)
    checks.number("longest", longest, low=1)
    if shortest > longest:
        raise ConfigError(
            f"shortest is {shortest} but longest is {longest}; pass a shortest cap of at most the longest"
        )


def _wave(longest: float, shortest: float, angle: float) -> float:
    """Return the midpoint plus half the span times cos(angle), never outside [shortest, longest] by a rounding."""
    wave = (longest + shortest) / 2 + (longest - shortest) / 2 * math.cos(angle)
    return min(max(wave, float(shortest)), float(longest))


def cosine_cap(step: int, *, longest: float, shortest: float, cycle: int) -> float:
    """Return a cap that falls and rises on a cosine, from the longest to the shortest and back.

    L(t) = (Lmax + Lmin)/2 + (Lmax − Lmin)/2 · cos(2πu),  u = (t mod T)/T.

    SIRI: Scaling Iterative Reinforcement Learning with Interleaved Compression, arXiv 2509.25176 (16384, 8192
    and 640 there).

    Args:
        step: t, batches sampled so far by the policy, at least 0; after a resume it goes on from the saved one.
        longest: Lmax in tokens, at least ``shortest``.
        shortest: Lmin in tokens, at least 1.
        cycle: T, steps until the cap is back, at least 1.

    Returns:
        Tokens as a float in [shortest, longest]; their mean over a cycle of two or more steps is the midpoint.

    Raises:
        ConfigError: an argument out of range or of the wrong type.
    """
    _check_cycle(step, longest, shortest, cycle)
    return _wave(longest, shortest, 2 * math.pi * (step % cycle) / cycle)


def stair_cap(step: int, *, longest: float, shortest: float, cycle: int, first: str = "compression") -> float:
    """Return a cap that is the shortest for one half of the cycle and the longest for the other.

    L(t) = Lmin for u < 1/2, Lmax for u ≥ 1/2,  u = (t mod T)/T; of an odd T the first ⌈T/2⌉ steps are the first
    half.

    SIRI, arXiv 2509.25176. Inferred: that compression comes first; ``first="expansion"`` swaps the halves.

    Args:
        step: t, batches sampled so far by the policy, at least 0.
        longest: Lmax in tokens, at least ``shortest``.
        shortest: Lmin in tokens, at least 1.
        cycle: T, steps until the cap is back, at least 1.
        first: ``compression`` or ``expansion``.

    Returns:
        Tokens as a float: ``shortest`` or ``longest``.

    Raises:
        ConfigError: an argument out of range or of the wrong type.
    """
    _check_cycle(step, longest, shortest, cycle)
    checks.choice("first", first, ("compression", "expansion"))
    first_half = 2 * (step % cycle) < cycle
    return float(shortest if first_half == (first == "compression") else longest)


def stair_cosine_cap(step: int, *, longest: float, shortest: float, cycle: int) -> float:
    """Return a cap that rests at both ends for a quarter of the cycle and moves on a cosine between them.

    φ = 2πu, u = (t mod T)/T:  Lmax for u < 1/8 or u ≥ 7/8;  m + h·cos(2(φ − π/4)) for 1/8 ≤ u < 3/8;
    Lmin for 3/8 ≤ u < 5/8;  m + h·cos(2(φ − 3π/4)) for 5/8 ≤ u < 7/8, with m the midpoint and h half the span.

    SIRI, arXiv 2509.25176.

    Args:
        step: t, batches sampled so far by the policy, at least 0.
        longest: Lmax in tokens, at least ``shortest``.
        shortest: Lmin in tokens, at least 1.
        cycle: T, steps until the cap is back, at least 1.

    Returns:
        Tokens as a float in [shortest, longest].

    Raises:
        ConfigError: an argument out of range or of the wrong type.
    """
    _check_cycle(step, longest, shortest, cycle)
    place = 8 * (step % cycle)
    if place < cycle or place >= 7 * cycle:
        return float(longest)
    if 3 * cycle <= place < 5 * cycle:
        return float(shortest)
    start = math.pi / 4 if place < 3 * cycle else 3 * math.pi / 4
    return _wave(longest, shortest, 2 * (2 * math.pi * place / (8 * cycle) - start))


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
