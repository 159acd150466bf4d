"""Rotary factors that switch with a text's length: rows on two sides of the switch must not share a forward.

transformers chooses such factors once for a whole batch, by its longest row, so a row's log-probability would change
with its company. Here they are chosen for each row by itself: a token that is predicted from n tokens is predicted as
a plain forward of those n tokens alone would.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lengthwise.errors import UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.modeling_rope_utils import RopeParameters

LONGROPE = ("longrope", "su")
"""Two sets of factors; "su" is what folders of the first Phi-3 call it."""
DYNAMIC = "dynamic"
"""Part of the names of all types whose factors follow the length of what was read."""


@dataclass(frozen=True)
class Switch:
    """Up to `length` tokens a model reads with its first rotary factors.

    Beyond it `steady` factors are one other set for every length (longrope); else each length has its own (dynamic),
    which also stay behind in the model for what is read next.
    """

    kind: str
    length: int
    steady: bool

    def company(self, tokens: int, more: int) -> int:
        """Which rows may be decoded together, as equal numbers: `tokens` are read, at most `more` will be written.

        Steady: one side each. Else rows that stay within `length`, and of the others those of one length.
        """
        if self.steady:
            return int(tokens > self.length)
        return tokens if tokens + more - 1 > self.length else 0

    def until(self, tokens: int, more: int) -> int:
        """How many of `more` tokens may be written to a row of `tokens` before it must be read anew."""
        return min(more, self.length + 1 - tokens) if self.steady and tokens <= self.length else more


def switch_of(config: PreTrainedConfig) -> Switch | None:
    """Where a model's rotary factors switch, read off its config; None where they never do.

    Several kinds of layers that switch at different lengths count as one that is not steady beyond the first.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = {switch for rope in _ropes(text) if (switch := _switch(rope, text)) is not None}
    if len(found) <= 1:
        return next(iter(found), None)
    return Switch("/".join(sorted({one.kind for one in found})), min(one.length for one in found), steady=False)


def _ropes(config: PreTrainedConfig) -> list[RopeParameters]:
    """The rotary parameters of every kind of layer."""
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in given.values() if isinstance(value, dict)]
    return nested or [given]


def _switch(rope: RopeParameters, config: PreTrainedConfig) -> Switch | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    positions = getattr(config, "max_position_embeddings", None)
    if DYNAMIC in kind and positions:
        return Switch(kind, int(positions), steady=False)
    named = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    length = named or positions
    if kind in LONGROPE and length:
        return Switch(kind, int(length), steady=True)
    return None


def check_learnable(config: PreTrainedConfig, tokens: int) -> None:
    """See that responses can be learnt from: that a forward of a whole text scores its tokens as they were drawn.

    `tokens` is the most that a prompt and its response have together. The last one is never read.

    Raises:
        UnsupportedModelError: rotary factors that change with every length, and texts that long.
    """
    switch = switch_of(config)
    if switch is not None and not switch.steady and tokens - 1 > switch.length:
        raise unlearnable(config, switch, tokens)


def unlearnable(config: PreTrainedConfig, switch: Switch, tokens: int) -> UnsupportedModelError:
    """What is said of texts that cannot be scored as they were drawn."""
    kind = getattr(config, "model_type", type(config).__name__)
    return UnsupportedModelError(
        f"model_type {kind!r} has {switch.kind} rotary factors, which beyond {switch.length} tokens change with every "
        f"token, and a prompt and its response may have {tokens}: one forward cannot score such a response as it was "
        f"drawn. Lower the cap so that both stay within {switch.length} tokens, or extend the model by another scheme "
        "(yarn, linear)"
    )


def check_shared(config: PreTrainedConfig, tokens: int, engine: str, *, ours: bool = True) -> None:
    """See that another engine, which batches rows as it likes, never reads beyond a switch.

    `tokens` is the most that a row has there, padding counted. `ours`: our own engine could do the same work.

    Raises:
        UnsupportedModelError: it could; or a response would be learnt from at positions drawn anew.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    switch = switch_of(config)
    if ours and any(rope.get("randomised") for rope in _ropes(config)):
        raise UnsupportedModelError(
            f"model_type {kind!r} draws positions anew in training mode, in which {engine} scores what it sampled at "
            "plain ones; use `lengthwise shorten` on one device"
        )
    if switch is not None and tokens > switch.length:
        way = ", or use `lengthwise shorten` on one device" if ours and switch.steady else ""
        raise UnsupportedModelError(
            f"model_type {kind!r} has {switch.kind} rotary factors that switch at {switch.length} tokens, and a prompt "
            f"and its response may have {tokens}: {engine} puts rows of all lengths into one batch, where a row's "
            f"log-probability would depend on its company. Keep both within {switch.length} tokens{way}"
        )


@torch.no_grad()
def forget(model: PreTrainedModel, switch: Switch | None) -> None:
    """Put factors that a long text left behind in the model back to the first ones, by reading one token."""
    if switch is not None and not switch.steady:
        token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        model(input_ids=token, use_cache=False)
