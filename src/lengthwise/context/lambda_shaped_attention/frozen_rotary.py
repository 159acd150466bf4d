"""A model's own rotary embedding, frozen, applied at positions of our choosing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lengthwise.errors import UnsupportedModelError

Angles = tuple[Tensor, Tensor]
"""cos and sin, float32 [1, n, r], with the RoPE type's attention scaling in them; r rotary dimensions."""


class Rotation:
    """R_x of one model, whatever its RoPE type and layout (half-split, interleaved, part of the head).

    Frequencies are those of the model's trained context: types that change them with the length (dynamic, longrope)
    are held there, because positions are relative and never longer than that.

    `rotary` is the model's rotary module, `apply` its own ``apply_rotary_pos_emb``.

    Raises:
        UnsupportedModelError: the module does not give one pair of cos and sin.
    """

    def __init__(self, rotary: Any, apply: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self._rotary, self._apply = copy.deepcopy(rotary), apply
        if not isinstance(getattr(self._rotary, "rope_type", "default"), str):
            raise UnsupportedModelError(
                "the model rotates differently in different kinds of layers; it cannot be served"
            )
        device = next((x.device for x in self._rotary.buffers()), torch.device("cpu"))
        cos, _ = self._pair(torch.zeros(1, 1, dtype=torch.long, device=device))
        # After a forward at position 0 the frequencies are the original ones; as "default" they stay so.
        self._rotary.rope_type = "default"
        self.size = cos.shape[-1]
        self.scale = float(cos.flatten()[0])

    def _pair(self, positions: Tensor) -> Angles:
        like = torch.empty(0, dtype=torch.float32, device=positions.device)
        found = self._rotary(like, position_ids=positions)
        if not (isinstance(found, tuple) and len(found) == 2 and all(x.shape[:2] == positions.shape for x in found)):
            raise UnsupportedModelError("the model's rotary module does not give one pair of cos and sin per position")
        return found

    def identity(self, like: Tensor, positions: Tensor) -> Angles:
        """cos 1 and sin 0 [rows, n, r] in the dtype of `like`: leaves queries and keys exactly as they are."""
        cos = like.new_ones(*positions.shape, self.size)
        return cos, torch.zeros_like(cos)

    @torch.no_grad()
    def angles(self, positions: Tensor) -> Angles:
        """The angles at the positions [n] (int, relative ones: small), on their device."""
        return self._pair(positions[None])

    def at(self, x: Tensor, angles: Angles) -> Tensor:
        """R_x of queries or keys [B, heads, n, d]; computed in float32 and given back in their dtype."""
        rotated = self._apply(x[..., : self.size], x[:, :0, :, : self.size], *angles)[0].to(x.dtype)
        return rotated if self.size == x.shape[-1] else torch.cat([rotated, x[..., self.size :]], -1)

    def moved(self, x: Tensor, by: int) -> Tensor:
        """Keys rotated at positions s turned into the same keys rotated at s - `by`, the scaling kept once."""
        cos, sin = self.angles(torch.tensor([by], device=x.device))
        return self.at(x, (cos / self.scale, -sin / self.scale))
