"""Tokens drawn from half-precision logits of a large vocabulary: one random number a row, few rows at a time."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 512
"""Tokens whose weights are summed together, to find first the block and then the token in it."""
BYTES_AT_ONCE = 4 << 20
"""Float32 numbers of the rows that are drawn together on a CPU: so much stays in its cache."""


def draw_half(logits: Tensor, generator: torch.Generator, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probabilities, float32 [B], under softmax(logits / temperature); NaN where a logit is.

    `torch.multinomial` draws V numbers a row: for a vocabulary of 150,000 on a CPU that costs more than all else that
    follows the logits.
    """
    rows, size = logits.shape
    at_once = rows if logits.device.type != "cpu" else max(1, BYTES_AT_ONCE // (4 * size))
    weights = logits.new_empty(min(rows, at_once), size, dtype=torch.float32)
    found = [_draw(part, weights[: len(part)], generator, temperature) for part in logits.split(at_once)]
    tokens, logps = zip(*found, strict=True)
    return torch.cat(tokens), torch.cat(logps)


def _draw(logits: Tensor, weights: Tensor, generator: torch.Generator, temperature: float) -> tuple[Tensor, Tensor]:
    weights.copy_(logits)
    if temperature != 1:
        weights /= temperature
    most = weights.amax(-1, keepdim=True)
    weights.sub_(most).exp_()
    token = one_of_each(weights, generator)
    chosen = logits.gather(-1, token[:, None]).float() / temperature
    return token, (chosen - most - weights.sum(-1, keepdim=True).log())[:, 0]


def one_of_each(weights: Tensor, generator: torch.Generator) -> Tensor:
    """One token [B] in proportion to the weights of each row [B, V], at least 0, from one random number a row."""
    rows, size = weights.shape
    whole = size // BLOCK * BLOCK
    blocks = weights[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1) if whole else weights.new_empty(rows, 0)
    if whole < size:
        blocks = torch.cat([blocks, weights[:, whole:].sum(-1, keepdim=True)], -1)
    below = blocks.cumsum(-1)
    place = torch.rand((rows, 1), generator=generator, device=weights.device) * below[:, -1:]
    block = _place(below, place)
    place = place - torch.where(block > 0, below.gather(-1, (block - 1).clamp(min=0)), 0.0)
    column = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    inside = weights.gather(-1, column.clamp(max=size - 1)).masked_fill(column >= size, 0.0)
    token = block * BLOCK + _place(inside.cumsum(-1), place)
    return token.clamp(max=size - 1)[:, 0]  # beyond it only where a weight is no number


def _place(below: Tensor, place: Tensor) -> Tensor:
    """The entry [B, 1] of rising sums [B, N] in which `place` lies."""
    total = below[:, -1:]
    # Rounding may reach the total itself, behind which nothing has any weight.
    place = torch.minimum(place, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(below, place, right=True)
