"""A KV cache in buffers that are kept: a token is written to its place, a row that ends moves only those behind it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

SPARE = 64
"""The least places that new buffers have beyond what they hold."""
SHARE = 4
"""They have one place more for every so many that they hold, so that copying to new ones stays a small share."""
ROWS_AT_ONCE = 8
"""Rows that move up together on a CPU: a temporary of few rows comes from memory that is in use already."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not read by the checker
    """One layer's keys and values [B, H, n, D]: views of buffers with spare places for tokens.

    It returns what transformers' `DynamicLayer` returns, whose every token copies all tokens before it. Rows are
    dropped in place. `dtype` is what the model computes in, by default the layer's: under autocast keys come in float32
    and would be cast, all of them, at every token.
    """

    def __init__(self, layer: DynamicLayer, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = dtype or layer.dtype, layer.device, True
        self._hold(layer.keys, layer.values)

    def _hold(self, keys: Tensor, values: Tensor) -> None:
        """Put these into buffers of their own, and show them as the layer's."""
        held = keys.shape[2]
        self._keys, self._values = (_with_room(x, held + max(SPARE, held // SHARE), self.dtype) for x in (keys, values))
        self._show(held)

    def _show(self, held: int) -> None:
        self.keys, self.values = self._keys[:, :, :held], self._values[:, :, :held]

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Take new tokens in, and return all."""
        held = self.keys.shape[2]
        now = held + key_states.shape[2]
        if now > self._keys.shape[2]:
            room = now + max(SPARE, now // SHARE)
            self._keys, self._values = (_with_room(x, room, self.dtype) for x in (self.keys, self.values))
        self._keys[:, :, held:now], self._values[:, :, held:now] = key_states, value_states
        self._show(now)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; where they ascend, in place."""
        rows: list[int] = indices.tolist()
        if any(a >= b for a, b in pairwise(rows)):
            self._hold(self.keys[indices], self.values[indices])
            return
        first = next((place for place, row in enumerate(rows) if place != row), len(rows))
        at_once = ROWS_AT_ONCE if indices.device.type == "cpu" else max(len(rows), 1)
        for start in range(first, len(rows), at_once):
            # Whatever moves comes from behind where it goes, so no row is written over before it has moved.
            moved = indices[start : start + at_once]
            for x in (self.keys, self.values):
                x[start : start + len(moved)] = x[moved]
        self._keys, self._values = self._keys[: len(rows)], self._values[: len(rows)]
        self._show(self.keys.shape[2])

    def crop(self, tokens_to_remove: int) -> None:
        """Forget so many of the last tokens; a negative number, as transformers wants it."""
        self._show(self.keys.shape[2] - abs(tokens_to_remove))


def _with_room(x: Tensor, room: int, dtype: torch.dtype) -> Tensor:
    """A buffer of `room` places that begins with the tokens of x [B, H, n, D]."""
    buffer = x.new_empty(*x.shape[:2], room, x.shape[3], dtype=dtype)
    buffer[:, :, : x.shape[2]] = x
    return buffer


def grow_in_place(cache: object, dtype: torch.dtype | None = None) -> None:
    """Let the plain layers of a filled cache grow in place; layers of any other kind stay as they are."""
    layers = getattr(cache, "layers", None) or []
    for place, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized and layer.keys.dim() == 4:
            layers[place] = GrowingLayer(layer, dtype)
