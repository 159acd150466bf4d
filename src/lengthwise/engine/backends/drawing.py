"""Tokens drawn from logits: with one random number a row where they are in half precision, or rows have their own."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.backends.arguments import BROKEN_WEIGHTS
from lengthwise.errors import TrainingError

BLOCK = 512
"""Tokens whose weights are summed together, to find first the block and then the token in it."""
BYTES_AT_ONCE = 4 << 20
"""Float32 numbers of the rows that are drawn together on a CPU: so much stays in its cache."""

Source = torch.Generator | Tensor
"""What random numbers come from; or they themselves, [B, 1] in [0, 1)."""
STEP, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""SplitMix64's (Steele, Lea and Flood, OOPSLA 2014)."""


def row_numbers(seeds: Tensor, places: Tensor) -> Tensor:
    """The random number [B, 1] in [0, 1) of each row's seed at a place in it, both int64 [B]; its company is nothing.

    SplitMix64's number of that place: no state, so a row may be drawn beside any others, or be put off.
    """
    mixed = seeds + places * _signed(STEP)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(FIRST)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(SECOND)
    # The highest 24 of 64 bits: as many as a float32 holds.
    return (_shifted(mixed ^ _shifted(mixed, 31), 40).float() * 2.0**-24)[:, None]


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned word."""
    return word - 2**64 if word >= 2**63 else word


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Words to the right, with zeros from the left."""
    return torch.bitwise_and(words >> bits, 2 ** (64 - bits) - 1)


def draw(logits: Tensor, source: Source, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Tokens [B] of logits [B, V], and their log-probabilities under softmax(logits / temperature), before top-p.

    Raises:
        TrainingError: a row's logits are NaN.
    """
    if logits.dtype != torch.float32 and temperature > 0 and top_p == 1:
        token, drawn = draw_half(logits, source, temperature)
        return token, _numbers(drawn)
    half, logits = logits.dtype != torch.float32, logits.float()
    if temperature == 0:
        token = logits.argmax(-1)
        return token, _numbers(log_prob(logits, token, temperature))
    logp = torch.log_softmax(logits if temperature == 1 else logits / temperature, -1)
    _numbers(logp[:, 0])
    probs = logp.exp()
    if top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True)
        # A token stays while the mass before it is below top_p, so the likeliest one always stays.
        outside = ordered.cumsum(-1) - ordered >= top_p
        probs = probs.masked_fill(outside.scatter(-1, order, outside), 0.0)
    if half or isinstance(source, Tensor):
        token = one_of_each(probs, source)
    else:
        token = torch.multinomial(probs, 1, generator=source)[:, 0]
    return token, logp.gather(-1, token[:, None])[:, 0]


def _numbers(logp: Tensor) -> Tensor:
    """The log-probabilities [B] of a token in each row; where any logit of a row is NaN, so is every one of them."""
    if bool(logp.isnan().any()):
        raise TrainingError(BROKEN_WEIGHTS)
    return logp


def log_prob(logits: Tensor, token: Tensor, temperature: float) -> Tensor:
    """The log-probability [B] of a token in each row of logits [B, V]."""
    scaled = logits.float() / (temperature or 1.0)
    return torch.log_softmax(scaled, -1).gather(-1, token[:, None])[:, 0]


def draw_half(logits: Tensor, source: Source, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens [B] and their log-probabilities, float32 [B], under softmax(logits / temperature); NaN where a logit is.

    `torch.multinomial` draws V numbers a row: for a vocabulary of 150,000 on a CPU that costs more than all else that
    follows the logits.
    """
    rows, size = logits.shape
    at_once = rows if logits.device.type != "cpu" else max(1, BYTES_AT_ONCE // (4 * size))
    weights = logits.new_empty(min(rows, at_once), size, dtype=torch.float32)
    parts = logits.split(at_once)
    numbers = source.split(at_once) if isinstance(source, Tensor) else [source] * len(parts)
    found = [_draw(part, weights[: len(part)], some, temperature) for part, some in zip(parts, numbers, strict=True)]
    tokens, logps = zip(*found, strict=True)
    return torch.cat(tokens), torch.cat(logps)


def _draw(logits: Tensor, weights: Tensor, source: Source, temperature: float) -> tuple[Tensor, Tensor]:
    weights.copy_(logits)
    if temperature != 1:
        weights /= temperature
    most = weights.amax(-1, keepdim=True)
    weights.sub_(most).exp_()
    token = one_of_each(weights, source)
    chosen = logits.gather(-1, token[:, None]).float() / temperature
    return token, (chosen - most - weights.sum(-1, keepdim=True).log())[:, 0]


def one_of_each(weights: Tensor, source: Source) -> Tensor:
    """One token [B] in proportion to the weights of each row [B, V], at least 0, from one random number a row."""
    rows, size = weights.shape
    if isinstance(source, torch.Generator):
        source = torch.rand((rows, 1), generator=source, device=weights.device)
    if size <= BLOCK:
        return _place(weights.cumsum(-1), source * weights.sum(-1, keepdim=True)).clamp(max=size - 1)[:, 0]
    whole = size // BLOCK * BLOCK
    blocks = weights[:, :whole].unflatten(-1, (-1, BLOCK)).sum(-1)
    if whole < size:
        blocks = torch.cat([blocks, weights[:, whole:].sum(-1, keepdim=True)], -1)
    below = blocks.cumsum(-1)
    place = source * below[:, -1:]
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
