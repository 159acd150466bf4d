"""What a backend may be asked: the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from lengthwise.errors import ConfigError, InputError

BROKEN_WEIGHTS = (
    "the model's logits are NaN, so its weights are broken; go back to the last checkpoint and lower the learning rate"
)


def check_arguments(
    prompts: Sequence[Sequence[int]], caps: Sequence[int], temperature: float, top_p: float, *, limit: int | None
) -> None:
    """Refuse what no response can be drawn for; `limit` bounds a prompt and its response together, in tokens.

    Raises:
        ConfigError: no prompt, an empty prompt, a cap below 1, temperature below 0, top_p outside (0, 1].
        InputError: a prompt and its cap together exceed the limit.
    """
    if not prompts:
        raise ConfigError("prompts is empty; give at least one")
    if len(caps) != len(prompts):
        raise ConfigError(f"caps has {len(caps)} entries for {len(prompts)} prompts; give one per prompt")
    if not temperature >= 0:
        raise ConfigError(f"temperature is {temperature}; give 0 (greedy) or a positive number")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p is {top_p}; give a number above 0 and up to 1")
    for row, (prompt, cap) in enumerate(zip(prompts, caps, strict=True)):
        if not len(prompt):
            raise ConfigError(f"prompts[{row}] has no token; a response needs something to continue")
        if cap < 1:
            raise ConfigError(f"cap is {cap} for row {row}; a response has at least 1 token")
        if limit is not None and len(prompt) + cap > limit:
            raise InputError(
                f"prompt {row} has {len(prompt)} tokens and the cap is {cap}, but the model allows {limit} "
                "positions in all; shorten the prompt or lower the cap"
            )


def numbered(prompts: Sequence[Sequence[int]]) -> list[int]:
    """A number for each prompt, the same for the same tokens: the groups of rows that name none."""
    seen: dict[tuple[int, ...], int] = {}
    return [seen.setdefault(tuple(prompt), len(seen)) for prompt in prompts]
