"""At which distance other training-free methods put two tokens; both keep every key, so neither streams.

The primitive is that of `Rule`: a score is scale * (R_a q).(R_b k), and the distance is a - b.
"""

from __future__ import annotations

from lengthwise.context.lambda_shaped_attention.window_rules import whole
from lengthwise.errors import ConfigError


def _check(position: int, key: int) -> None:
    if not 0 <= whole("key", key, 0) <= whole("position", position, 0):
        raise ConfigError(f"key is {key}; a query at {position} sees the tokens 0 .. {position}")


def _check_groups(group: int, window: int) -> None:
    if whole("window", window, 1) % whole("group", group, 1):
        raise ConfigError(f"group is {group}; it must divide the window ({window})")


def self_extend_distance(position: int, key: int, *, group: int = 8, window: int = 1024) -> int:
    """Self-Extend: p - s within the window, else floor(p/g) + w - w/g - floor(s/g).

    "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", arXiv 2401.01325.

    Raises:
        ConfigError: a key after the query, or a group that does not divide the window.
    """
    _check(position, key)
    _check_groups(group, window)
    if position - key < window:
        return position - key
    return position // group + window - window // group - key // group


def self_extend_length(trained: int, *, group: int = 8, window: int = 1024) -> int:
    """(L0 - w) g + w: tokens that Self-Extend makes usable of a trained context of L0.

    Raises:
        ConfigError: a group that does not divide the window, or a window above the trained context.
    """
    _check_groups(group, window)
    if whole("trained", trained, 1) < window:
        raise ConfigError(f"window is {window}; give at most the trained context ({trained})")
    return (trained - window) * group + window


def dual_chunk_distance(position: int, key: int, *, trained: int) -> int:
    """Dual chunk attention with a trained context L0: chunk K = 3/4 L0, c = K - L0/8, b = s mod c.

    a = p mod c in the key's own chunk of c, min(p mod c + c, K) in the next, K in all later ones.
    "Training-Free Long-Context Scaling of Large Language Models", arXiv 2402.17463.

    Raises:
        ConfigError: a key after the query, or a trained context that 8 does not divide.
    """
    _check(position, key)
    if whole("trained", trained, 8) % 8:
        raise ConfigError(f"trained is {trained}; give a multiple of 8")
    longest = 3 * trained // 4
    chunk = longest - trained // 8
    apart = position // chunk - key // chunk
    place = position % chunk
    here = place if apart == 0 else min(place + chunk, longest) if apart == 1 else longest
    return here - key % chunk
