"""Which tokens a query sees and at which distance: LM-Infinite's rule and StreamingLLM's, over one primitive.

Legend: G = `n_global` start tokens, W = `window` tokens seen locally (the query's own included), C = `ceiling`.
Positions count tokens of the whole stream from 0; p is a query's, s a key's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.errors import ConfigError


def whole(name: str, value: object, least: int) -> int:
    """The value itself if it is a whole number of at least `least`; else `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} is {value!r}; give a whole number of at least {least}")
    return value


@dataclass(frozen=True)
class Rule:
    """Start tokens beside a sliding window, for any number of tokens in constant memory.

    A query p sees the keys of its window (0 <= p - s < W) at their true distance, and the start tokens older than
    that (s < G, p - s >= W). Scores are scale * (R_a q).(R_b k) with one softmax over both branches:
    local a = p, b = s; start, LM-Infinite (`ceiling` given): a = C, b = 0, so every start token is at distance C;
    start, StreamingLLM (`ceiling` None): a = min(p, G+W-1), b = s, so kept tokens are numbered by their place in
    the cache. W = 1 sees itself and the start tokens; G = 0 is a plain sliding window.

    "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", arXiv 2308.16137, and
    "Efficient Streaming Language Models with Attention Sinks", arXiv 2309.17453. Differs from LM-Infinite's code:
    with C > W its dense path scores distances in [W, C) as 0; here a start token is at distance C once it leaves
    the window, whatever C is.

    Raises:
        ConfigError: G below 0, W or C below 1, or a number that is not whole.
    """

    n_global: int
    window: int
    ceiling: int | None

    def __post_init__(self) -> None:
        whole("n_global", self.n_global, 0)
        whole("window", self.window, 1)
        if self.ceiling is not None:
            whole("ceiling", self.ceiling, 1)

    @property
    def capacity(self) -> int:
        """Columns that a cache keeps at most: G + W - 1."""
        return self.n_global + self.window - 1

    def frame(self, position: int) -> int:
        """Where positions are counted from around a query: keys of its window are at 0 .. 2W-2 from there.

        W * max(0, floor((p + 1) / W) - 1): it moves on by W once in W tokens, so a key that was rotated in its
        frame is rotated again at most once in its life, and no angle grows with the stream.
        """
        return self.window * max(0, (position + 1) // self.window - 1)

    def far(self, position: int) -> int:
        """How many start tokens are older than the window of a query: clamp(p - W + 1, 0, G)."""
        return min(self.n_global, max(0, position - self.window + 1))

    def distance(self, position: int, key: int) -> int | None:
        """At which distance the query at `position` sees the token `key`; None: not at all."""
        if 0 <= position - key < self.window:
            return position - key
        if not 0 <= key < self.far(position):
            return None
        return min(position, self.capacity) - key if self.ceiling is None else self.ceiling

    def far_query(self, positions: Tensor) -> Tensor:
        """a(p) of the start branch; int, shape of `positions`."""
        if self.ceiling is None:
            return positions.clamp(max=self.capacity)
        return torch.full_like(positions, self.ceiling)

    def far_keys(self, positions: Tensor) -> Tensor:
        """b(s) of the start branch; int, shape of `positions`."""
        return positions if self.ceiling is None else torch.zeros_like(positions)


@dataclass(frozen=True)
class TopK:
    """Bring the best `k` forgotten tokens back, for the last query of each call (LM-Infinite, section on top-k).

    In layers `first_layer` <= layer < `last_layer` (None: all that follow) and once at least k tokens have left the
    window, the k middle keys with the highest scale * (R_I q).(R_0 k), I = `distance`, join the softmax at those
    scores, for each head by itself; ties take the lowest index. I is the smaller of 2048 and the window by default. It
    needs every key: memory grows with the stream.

    Raises:
        ConfigError: k or distance below 1, first_layer below 0, no layer in the range.
    """

    k: int = 5
    first_layer: int = 4
    last_layer: int | None = None
    distance: int | None = None

    def __post_init__(self) -> None:
        whole("k", self.k, 1)
        whole("first_layer", self.first_layer, 0)
        if self.distance is not None:
            whole("distance", self.distance, 1)
        if self.last_layer is not None and whole("last_layer", self.last_layer, 1) <= self.first_layer:
            raise ConfigError(f"last_layer is {self.last_layer}; give one above first_layer ({self.first_layer})")

    def at(self, layer: int) -> bool:
        """Whether this layer takes part."""
        return self.first_layer <= layer and (self.last_layer is None or layer < self.last_layer)
