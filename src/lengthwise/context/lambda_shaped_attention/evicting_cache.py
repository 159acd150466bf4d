"""The evicting cache: G start tokens and a ring of the last W-1 others, and nothing that grows with the stream."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from lengthwise.context.lambda_shaped_attention.frozen_rotary import Rotation
from lengthwise.context.lambda_shaped_attention.window_rules import Rule, whole
from lengthwise.errors import InputError

_HOLDER = "lengthwise_cache_layer"


class LambdaLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not read by the checker
    """One layer's columns: tokens 0..G-1 un-rotated, then a ring of W-1 rotated in the frame of the next query.

    `keys` and `values` are [B, H_kv, columns, d]; of the columns allocated the first `stored` = min(t, G+W-1) are
    in use after t tokens. The order inside the ring does not matter to a softmax, so nothing is ever moved: a new
    token overwrites the oldest. Stored tensors carry no gradient.

    `update` hands the new tokens on as they are and writes nothing: the oldest column is still needed by the
    query that comes with them. The attention function stores them when it is done (`store`).
    """

    is_compileable = False
    is_croppable = False
    is_sliding = False

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.reset()

    def reset(self) -> None:
        """Forget everything; the layer is as new."""
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.is_initialized = False
        self.seen = 0
        self.padded = False
        self._handed_on = False

    @property
    def n_local(self) -> int:
        """Columns of the ring in use."""
        return min(max(0, self.seen - self.rule.n_global), self.rule.window - 1)

    @property
    def stored(self) -> int:
        """Columns in use: min(t, G + W - 1)."""
        return min(self.seen, self.rule.n_global) + self.n_local

    @property
    def nbytes(self) -> int:
        """Bytes that the layer's tensors hold."""
        return sum(x.untyped_storage().nbytes() for x in (self.keys, self.values) if x is not None)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take shape, dtype and device from the first keys and values."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states.new_empty(*key_states.shape[:2], 0, key_states.shape[-1])
        self.values = value_states.new_empty(*value_states.shape[:2], 0, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Hand new un-rotated keys and values on to the attention function, with this layer attached."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._handed_on:
            raise InputError(
                "past_key_values is an evicting cache whose last tokens were never stored: it was used outside its "
                "lambda_attention, or a forward was interrupted. Use it inside, and a new one after an interruption"
            )
        if self.stored and key_states.shape[0] != self._full()[0].shape[0]:
            raise InputError(
                f"the call has {key_states.shape[0]} rows but the cache holds {self._full()[0].shape[0]}; give the "
                "same rows in every call"
            )
        self._handed_on = True
        vars(key_states)[_HOLDER] = self
        return key_states, value_states

    def _full(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None, "a layer is used after its first update"
        return self.keys, self.values

    def columns(self) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H_kv, stored, d] in use: start tokens first, then the ring in its own order."""
        keys, values = self._full()
        return keys[:, :, : self.stored], values[:, :, : self.stored]

    def in_order(self) -> tuple[Tensor, Tensor]:
        """The ring's keys (in the frame of the next query) and values, oldest first."""
        first = self.rule.n_global
        oldest = (self.seen - self.n_local - first) % (self.rule.window - 1) if self.n_local else 0
        keys, values = (x[:, :, first:] for x in self.columns())
        return (keys, values) if not oldest else (keys.roll(-oldest, 2), values.roll(-oldest, 2))

    @torch.no_grad()
    def store(self, key: Tensor, value: Tensor, rotation: Rotation, placed: Tensor | None = None) -> None:
        """Keep what the next query will need of the new tokens, and let go of what it will not.

        `key` [B, H_kv, n, d] is un-rotated; `placed` is the same rotated in the frame of the first of them, when
        the caller has it already.
        """
        rule, begin, stop = self.rule, self.seen, self.seen + key.shape[2]
        frame = rule.frame(stop)
        moved_by = frame - rule.frame(begin)
        first = max(rule.n_global, begin, stop - rule.window + 1)
        if moved_by and self.n_local and first == max(rule.n_global, begin):
            ring = self.columns()[0][:, :, rule.n_global :]
            ring.copy_(rotation.moved(ring, moved_by))
        self._make_room(min(stop, rule.capacity))
        keys, values = self._full()
        starts = max(0, min(rule.n_global, stop) - begin)
        keys[:, :, begin : begin + starts] = key[:, :, :starts]
        values[:, :, begin : begin + starts] = value[:, :, :starts]
        if first < stop:
            key, value = key[:, :, first - begin :], value[:, :, first - begin :]
            if placed is None or moved_by:
                placed = rotation.at(key, rotation.angles(torch.arange(first - frame, stop - frame, device=key.device)))
            self._write(first, placed, value)
        self.seen = stop
        self._handed_on = False

    def _write(self, token: int, key: Tensor, value: Tensor) -> None:
        """Write at most W-1 tokens into the ring, from `token` on; they wrap round at most once."""
        keys, values = self._full()
        start, size = self.rule.n_global, self.rule.window - 1
        slot = (token - start) % size
        head = min(key.shape[2], size - slot)
        for at, part in ((start + slot, slice(0, head)), (start, slice(head, None))):
            count = key[:, :, part].shape[2]
            keys[:, :, at : at + count] = key[:, :, part]
            values[:, :, at : at + count] = value[:, :, part]

    def _make_room(self, columns: int) -> None:
        """Allocate at least so many columns; doubling, so that a growing cache is copied only now and then."""
        keys, values = self._full()
        have = keys.shape[2]
        if have >= columns:
            return
        wanted = max(columns, min(self.rule.capacity, 2 * have))
        grown = []
        for old in (keys, values):
            new = old.new_empty(*old.shape[:2], wanted, old.shape[-1])
            new[:, :, :have] = old
            grown.append(new)
        self.keys, self.values = grown

    def get_seq_length(self) -> int:
        """Tokens seen in all, evicted ones too: it drives position ids."""
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(stored + new columns, 0)."""
        return self.stored + query_length, 0

    def get_max_length(self) -> int:
        """-1: any number of tokens may pass."""
        return -1

    get_max_cache_shape = get_max_length

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: the tokens that would come back are gone. Zero tokens may be removed."""
        if tokens_to_remove:
            raise InputError(
                f"tokens_to_remove is {tokens_to_remove}; an evicting cache cannot be cropped, what left the window is "
                "gone. Assisted decoding needs a cache that keeps everything: leave lambda_attention first"
            )

    def _select(self, index: Tensor) -> None:
        if self.is_initialized:
            keys, values = self._full()
            self.keys, self.values = (x.index_select(0, index.to(x.device)) for x in (keys, values))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Rows in the order of `beam_idx` (beam search)."""
        self._select(beam_idx)

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row `repeats` times."""
        if self.is_initialized:
            rows = torch.arange(self._full()[0].shape[0])
            self._select(rows.repeat_interleave(repeats))


class LambdaCache(Cache):  # type: ignore[misc]  # as above
    """A KV cache of constant size for a model inside `lambda_attention`, which makes one itself where none is given.

    `num_layers` is the model's number of layers; n_global and window must be those of the context. After t tokens it
    holds min(t, n_global + window - 1) columns in every layer. Cropping is refused, `reset` makes it as new.

    Raises:
        ConfigError: num_layers or window below 1, n_global below 0.
    """

    def __init__(self, num_layers: int, *, n_global: int = 10, window: int = 4096) -> None:
        self.rule = Rule(n_global, window, None)
        super().__init__(layers=[LambdaLayer(self.rule) for _ in range(whole("num_layers", num_layers, 1))])

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors; 2 D H_kv d e (G+W-1) once so many tokens have passed."""
        return sum(layer.nbytes for layer in self.layers)

    def crop(self, tokens_to_remove: int) -> None:
        """Refused, except for zero tokens."""
        for layer in self.layers:
            layer.crop(tokens_to_remove)


def holder(key: Tensor) -> LambdaLayer | None:
    """The evicting layer that handed these keys on, or None."""
    return vars(key).get(_HOLDER)
