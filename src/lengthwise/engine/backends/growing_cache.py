"""A KV cache in buffers that are kept: a token is written to its place, a row that ends moves only those behind it.

Rows may be taken in later: they end where those that are there end, with their beginnings masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeGuard

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
    """One layer's keys and values [B, H, n, D]: views of buffers with spare places for tokens, and for rows.

    It returns what transformers' `DynamicLayer` returns, whose every token copies all tokens before it. Rows are
    dropped in place. `dtype` is what the model computes in, by default the layer's: under autocast keys come in float32
    and would be cast, all of them, at every token. New buffers have places for `most_rows`.
    """

    def __init__(self, layer: DynamicLayer, dtype: torch.dtype | None = None, most_rows: int = 0) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = dtype or layer.dtype, layer.device, True
        self.most_rows = most_rows
        self._hold(layer.keys, layer.values)

    def _hold(self, keys: Tensor, values: Tensor, *, before: int = 0, more: int = 0) -> None:
        """Put these into new buffers, behind `before` places and with `more` of them and some, and show them."""
        held = keys.shape[2]
        room = before + held + more + max(SPARE, (held + more) // SHARE)
        self._keys, self._values = (
            x.new_empty(max(self.most_rows, len(x)), x.shape[1], room, x.shape[3], dtype=self.dtype)
            for x in (keys, values)
        )
        for buffer, x in ((self._keys, keys), (self._values, values)):
            buffer[: len(x), :, before : before + held] = x
        self._show(len(keys), before, before + held)

    def _show(self, rows: int, first: int, end: int) -> None:
        """The first rows, from one place to another, are the layer's."""
        self._rows, self._first, self._end = rows, first, end
        self.keys, self.values = (x[:rows, :, first:end] for x in (self._keys, self._values))

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Take new tokens in, and return all."""
        new = key_states.shape[2]
        if self._end + new > self._keys.shape[2]:
            self._hold(self.keys, self.values, more=new)
        now = self._end + new
        for buffer, x in ((self._keys, key_states), (self._values, value_states)):
            buffer[: self._rows, :, self._end : now] = x
        self._show(self._rows, self._first, now)
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
        self._show(len(rows), self._first, self._end)

    def take_in(self, keys: Tensor, values: Tensor) -> None:
        """Put rows [K, H, m, D] behind those that are there, ending where they end; what is before either is masked."""
        rows, held, new = self._rows + len(keys), self._end - self._first, keys.shape[2]
        lacking = max(new - held, 0)
        if rows > len(self._keys) or lacking > self._first:
            self.most_rows = max(self.most_rows, rows)
            self._hold(self.keys, self.values, before=lacking)
        first, begin = self._first - lacking, self._end - new
        for buffer, x in ((self._keys, keys), (self._values, values)):
            # Masked places weigh nothing, but nothing times what a fresh buffer may hold is no number.
            buffer[: self._rows, :, first : self._first] = 0
            buffer[self._rows : rows, :, first:begin] = 0
            buffer[self._rows : rows, :, begin : self._end] = x
        self._show(rows, first, self._end)

    def forget_first(self, tokens: int) -> None:
        """Forget so many of the first places, which are masked in every row."""
        self._show(self._rows, self._first + tokens, self._end)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget so many of the last tokens; a negative number, as transformers wants it."""
        self._show(self._rows, self._first, self._end - abs(tokens_to_remove))


def grow_in_place(cache: object, dtype: torch.dtype | None = None, *, most_rows: int = 0) -> None:
    """Let the plain layers of a filled cache grow in place; layers of any other kind stay as they are."""
    layers = getattr(cache, "layers", None) or []
    for place, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized and layer.keys.dim() == 4:
            layers[place] = GrowingLayer(layer, dtype, most_rows)


def takes_rows_in(layers: Sequence[object]) -> TypeGuard[Sequence[GrowingLayer]]:
    """Whether all layers of a cache can take rows in later."""
    return bool(layers) and all(isinstance(layer, GrowingLayer) for layer in layers)
