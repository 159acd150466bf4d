"""What one forward knows of itself: where it stands in the stream, and which of its tokens are real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function

from lengthwise.errors import InputError, UnsupportedModelError

Kind = TypeVar("Kind")
CACHE_NAMES = ("past_key_values", "cache")
"""Arguments that carry the cache: the second is what transformers calls it from 5.24 on."""


@dataclass
class Call:
    """`offset` tokens came before this forward's; `real` is bool [B, n] where some new tokens are padding.

    It travels where the attention mask would, from the mask function to every layer's attention function; `memo`
    holds what the layers share (angles, masks).
    """

    offset: int
    queries: int
    device: torch.device
    real: Tensor | None
    memo: dict[object, Any] = field(default_factory=dict)
    positions_checked: bool = False

    def shared(self, key: object, make: Callable[[], Kind]) -> Kind:
        """The value of `make`, made by the first layer that asks."""
        if key not in self.memo:
            self.memo[key] = make()
        found: Kind = self.memo[key]
        return found

    def arange(self, start: int, stop: int) -> Tensor:
        """start .. stop-1 on the call's device."""
        return torch.arange(start, stop, device=self.device)

    def check_positions(self, positions: Tensor | None) -> None:
        """Refuse position ids that are not the tokens' places; those of padding do not matter."""
        if positions is None or self.positions_checked:
            return
        wrong = positions != self.arange(self.offset, self.offset + self.queries)
        if positions.ndim != 2 or bool((wrong if self.real is None else wrong & self.real).any()):
            raise InputError(
                "position_ids are not the tokens' places in the stream; under lambda_attention a token's place is its "
                "column. Leave position_ids out, and pad on the right"
            )
        self.positions_checked = True


def lambda_mask(
    *,
    q_length: int,
    q_offset: int | Tensor = 0,
    mask_function: Callable[..., object],
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    device: torch.device | str = "cpu",
    **_: object,
) -> Call:
    """The registered mask function: checks what it is asked for, and makes the `Call` of this forward.

    Padding on the right is inert, because no real query comes after it; any other is refused.

    Raises:
        UnsupportedModelError: a native sliding or chunked layer.
        InputError: padding before a real token, or another mask than plain causal attention (packed sequences).
    """
    if local_size is not None:
        raise UnsupportedModelError(f"the model has native sliding layers (window {local_size}); it cannot be served")
    if mask_function is not causal_mask_function:
        raise InputError(
            "only plain causal attention is understood; this call asks for another mask. Packed sequences (position "
            "ids that start anew): give one sequence per row"
        )
    offset, real = int(q_offset), None
    if attention_mask is not None and not bool(attention_mask.all()):
        if bool((attention_mask[:, 1:] & ~attention_mask[:, :-1]).any()):
            raise InputError(
                "attention_mask has padding before a real token; the first tokens of a row are its start tokens. Pad "
                "on the right and read each row alone, or give rows of equal length"
            )
        real = attention_mask[:, offset : offset + q_length]
    return Call(offset, q_length, torch.device(device), real)
