"""How much a model may write where it is measured, unless that is said."""

from __future__ import annotations

LONGEST_EVAL = 32_768
USUAL_CAP = 2_048
TRAINING_CAPS, LEAST_CAP = 8, 512
"""Beside a training cap evaluation allows eight times as much, and at least so many tokens."""


def room(longest_prompt: int, positions: int | None) -> int:
    """The longest response that fits behind a prompt of so many tokens, at most `LONGEST_EVAL`."""
    return min(LONGEST_EVAL, positions - longest_prompt) if positions is not None else LONGEST_EVAL


def usual_cap(most: int, training: int | None = None) -> int:
    """The cap of a measurement that was not given one: at most `most`, the room that the model has.

    2,048 tokens; beside a training cap, eight times that and at least 512. A model that answers at once seldom needs
    more, and one that never stops would write for hours.
    """
    return min(most, USUAL_CAP if training is None else max(TRAINING_CAPS * training, LEAST_CAP))


def cap_words(cap: int, given: int | None, most: int, flag: str) -> str:
    """The cap in the first line that a command shows, and how to raise it where nobody gave it."""
    said = f"at most {cap:,} response tokens"
    if given is not None or cap >= most:
        return said
    return f"{said}, the default ({flag} raises it, up to {most:,})"
