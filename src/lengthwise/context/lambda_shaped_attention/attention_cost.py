"""What attention costs, with and without a window: visible pairs, floating-point operations and bytes of the cache.

Per sequence, attention only. A multiply-add counts as 2 operations. Without a window (`rule` None) every earlier
token is seen. "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", arXiv 2308.16137.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from lengthwise.context.lambda_shaped_attention.window_rules import Rule, whole

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def visible_keys(position: int, rule: Rule | None) -> int:
    """V(p) = min(p+1, W) + min(G, max(0, p-W+1)) keys that the query at `position` sees; p+1 without a window."""
    whole("position", position, 0)
    return position + 1 if rule is None else min(position + 1, rule.window) + rule.far(position)


def visible_pairs(tokens: int, rule: Rule | None) -> int:
    """Sum of V(p) over p = 0 .. n-1; n(n+1)/2 without a window. No token: 0."""
    n = whole("tokens", tokens, 0)
    if rule is None:
        return n * (n + 1) // 2
    return _capped(n, rule.window) + _capped(max(0, n - rule.window), rule.n_global)


def _capped(count: int, cap: int) -> int:
    """Sum of min(i, cap) over i = 1 .. count."""
    rising = min(count, cap)
    return rising * (rising + 1) // 2 + (count - rising) * cap


@dataclass(frozen=True)
class Attention:
    """The sizes of a model's attention: D layers, H query and H_kv key heads, head dimension d, e bytes a number."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    element_size: int

    @classmethod
    def of(cls, config: PreTrainedConfig, dtype: torch.dtype) -> Self:
        """The sizes that a transformers config names, with numbers of `dtype`."""
        heads = config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(config.num_hidden_layers, heads, kv_heads, dim, dtype.itemsize)

    def cache_bytes(self, tokens: int, rule: Rule | None) -> int:
        """2 D H_kv d e min(t, G+W-1) after t tokens; 2 D H_kv d e t without a window."""
        columns = whole("tokens", tokens, 0) if rule is None else min(whole("tokens", tokens, 0), rule.capacity)
        return self._column_bytes * columns

    def decode_flops(self, tokens: int, rule: Rule | None) -> int:
        """4 D H d M for one token after t-1 others, M = t or min(t, G+W) columns read."""
        return 4 * self.layers * self.heads * self.head_dim * self._read(tokens, rule)

    def decode_bytes(self, tokens: int, rule: Rule | None, parameter_bytes: int) -> int:
        """Bytes that one token has to read: the columns it sees and all parameters. It bounds the speed of decoding."""
        return self._column_bytes * self._read(tokens, rule) + parameter_bytes

    def prefill_flops(self, tokens: int, rule: Rule | None) -> int:
        """4 D H d sum_p V(p): what a prefill of n tokens cannot do without."""
        return 4 * self.layers * self.heads * self.head_dim * visible_pairs(tokens, rule)

    def blocked_prefill_flops(self, tokens: int, rule: Rule) -> int:
        """6 D H d n (G + 2W - 1): blocks of W queries, the score half doubled by head-dimension concatenation."""
        columns = rule.n_global + 2 * rule.window - 1
        return 6 * self.layers * self.heads * self.head_dim * whole("tokens", tokens, 0) * columns

    @property
    def _column_bytes(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * self.element_size

    def _read(self, tokens: int, rule: Rule | None) -> int:
        whole("tokens", tokens, 1)
        return tokens if rule is None else min(tokens, rule.n_global + rule.window)
