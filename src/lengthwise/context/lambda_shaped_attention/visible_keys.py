"""Which keys a call can see, by token, wherever they are kept: new, in the evicting cache, or in a plain one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaLayer
from lengthwise.context.lambda_shaped_attention.forward_state import Call
from lengthwise.context.lambda_shaped_attention.frozen_rotary import Angles, Rotation
from lengthwise.context.lambda_shaped_attention.window_rules import Rule, TopK


@dataclass
class State:
    """What an attention module of a switched-on model needs; `reached` collects layers while the model is proved."""

    rule: Rule
    rotation: Rotation
    top_k: TopK | None
    reached: set[int] = field(default_factory=set)


class Columns:
    """The keys and values that a call can see, by token: rotated in a frame (local) or at the start branch's place."""

    def __init__(self, state: State, call: Call, key: Tensor, value: Tensor, layer: LambdaLayer | None) -> None:
        self.rule, self.rotation, self.call = state.rule, state.rotation, call
        self.key, self.value, self.layer = key, value, layer
        self.origin = 0 if layer is None else layer.seen  # the token of the first column of `key`
        self.stop = self.origin + key.shape[2]

    def angles(self, start: int, stop: int) -> Angles:
        """Angles at start .. stop-1."""
        return self.call.shared(("angles", start, stop), lambda: self.rotation.angles(self.call.arange(start, stop)))

    def local(self, first: int, stop: int, frame: int) -> tuple[Tensor, Tensor]:
        """Keys rotated in `frame` and values of the tokens first .. stop-1, [B, H_kv, stop - first, d]."""
        parts = list(self._held(first, frame)) if self.layer is not None and first < self.origin else []
        begin = max(first, self.origin)
        new = slice(begin - self.origin, stop - self.origin)
        parts.append(
            (self.rotation.at(self.key[:, :, new], self.angles(begin - frame, stop - frame)), self.value[:, :, new])
        )
        return _joined(parts)

    def _held(self, first: int, frame: int) -> list[tuple[Tensor, Tensor]]:
        """What the evicting cache holds of the tokens from `first` on, in the same form."""
        layer, start = self.layer, min(self.rule.n_global, self.origin)
        assert layer is not None
        parts = []
        if first < start:
            keys, values = (x[:, :, first:start] for x in layer.columns())
            parts.append((self.rotation.at(keys, self.angles(first - frame, start - frame)), values))
        skipped = max(0, first - (self.origin - layer.n_local))
        keys, values = (x[:, :, skipped:] for x in layer.in_order())
        moved_by = frame - self.rule.frame(self.origin)
        parts.append((self.rotation.moved(keys, moved_by) if moved_by else keys, values))
        return parts

    def start(self, count: int) -> tuple[Tensor, Tensor]:
        """Keys at the start branch's place and values of the first `count` tokens."""
        parts: list[tuple[Tensor, Tensor]] = []
        held = 0
        if self.layer is not None:
            held = min(count, self.origin)
            keys, values = self.layer.columns()
            parts.append((keys[:, :, :held], values[:, :, :held]))
        parts.append((self.key[:, :, : count - held], self.value[:, :, : count - held]))
        keys, values = _joined(parts)
        places = self.call.shared(
            ("start", count), lambda: self.rotation.angles(self.rule.far_keys(self.call.arange(0, count)))
        )
        return self.rotation.at(keys, places), values

    def far_query(self, query: Tensor, first: int) -> Tensor:
        """Queries [B, H, n, d] of the tokens from `first` on, rotated for the start branch."""
        # Constant but for StreamingLLM's first tokens: one angle then serves all rows.
        stop = first + (query.shape[2] if self.rule.ceiling is None and first < self.rule.capacity else 1)
        angles = self.call.shared(
            ("far", first, stop), lambda: self.rotation.angles(self.rule.far_query(self.call.arange(first, stop)))
        )
        return self.rotation.at(query, angles)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    keys, values = zip(*parts, strict=True)
    return torch.cat(keys, 2), torch.cat(values, 2)
