"""Rows that are decoded together: what is known of each beside a KV cache; some leave it, others are taken in later."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from lengthwise.engine.backends.growing_cache import takes_rows_in
from lengthwise.engine.repeating import Recent

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

FEW = 8
"""Places that are free are filled once they are more than one in so many."""


@dataclass
class Prefilled:
    """Contexts that were read, each once: next logits [D, V], cache, its mask [D, n] and last positions [D].

    `place` has the row of each context.
    """

    place: dict[tuple[int, ...], int]
    logits: Tensor
    cache: Cache
    mask: Tensor
    position: Tensor


class Queue:
    """Rows that wait for a place in a batch of `size`; `read` is what was read last, whose contexts they may share."""

    def __init__(self, rows: Sequence[int], size: int) -> None:
        self.waiting, self.size = deque(rows), size
        self.read: Prefilled | None = None

    @property
    def known(self) -> Set[tuple[int, ...]]:
        """The contexts that need not be read."""
        return set() if self.read is None else self.read.place.keys()

    def turn(self, in_flight: int) -> list[int]:
        """The rows that take places now: none while few are free, because reading costs as much as a few steps."""
        free = self.size - in_flight
        if free * FEW <= self.size:
            return []
        return [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]


@dataclass
class DecodingBatch:
    """B rows in flight. `rows` are their numbers among all, `room` the tokens that each may still get.

    `logits` [B, V] are of the next token, `position` [B] is that of the last one and `mask` [B, n] the cache's.
    `seeds` [B] are of rows that draw from numbers of their own. `recent` watches for circles where it is asked to.
    """

    rows: Tensor
    room: Tensor
    logits: Tensor
    cache: Cache
    mask: Tensor
    position: Tensor
    seeds: Tensor | None
    recent: Recent | None

    @property
    def takes_rows_in(self) -> bool:
        """Whether rows can be taken in later."""
        return takes_rows_in(getattr(self.cache, "layers", []))

    def keep(self, index: Tensor) -> None:
        """Go on with these rows."""
        self.rows, self.room, self.position = self.rows[index], self.room[index], self.position[index]
        self.mask = self.mask[index]
        self.seeds = None if self.seeds is None else self.seeds[index]
        if self.recent is not None:
            self.recent.keep(index)
        self.cache.batch_select_indices(index)

    def step(self, model: PreTrainedModel, token: Tensor) -> None:
        """Read one more token of every row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], 1)
        self.position = self.position + 1
        out = model(
            input_ids=token[:, None],
            attention_mask=self.mask,
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.logits, self.cache = out.logits[:, -1], out.past_key_values

    def take_in(
        self, rows: Tensor, room: Tensor, seeds: Tensor, read: Prefilled, spread: Tensor, responses: Sequence[list[int]]
    ) -> None:
        """Go on with K rows more, whose contexts `spread` [K] names; what no row reads any longer is forgotten."""
        self.rows, self.room = torch.cat([self.rows, rows]), torch.cat([self.room, room])
        self.logits = torch.cat([self.logits, read.logits[spread]])
        self.position = torch.cat([self.position, read.position[spread]])
        self.seeds = seeds if self.seeds is None else torch.cat([self.seeds, seeds])
        if self.recent is not None:
            self.recent.take_in(responses)
        width = max(self.mask.shape[1], read.mask.shape[1])
        old, new = (functional.pad(mask, (width - mask.shape[1], 0)) for mask in (self.mask, read.mask[spread]))
        mask = torch.cat([old, new])
        unread = int(mask.argmax(1).min())
        self.mask = mask[:, unread:]
        for layer, other in zip(self.cache.layers, read.cache.layers, strict=True):
            layer.take_in(other.keys[spread], other.values[spread])
            layer.forget_first(unread)
