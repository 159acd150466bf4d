"""Log-probabilities through a large head, chunk by chunk in one buffer, forward and backward."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


def chunked_log_prob(
    hidden: Tensor, head: nn.Linear, targets: Tensor, *, temperature: float, rows: int, entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target under softmax(head(hidden) / temperature), and its entropy in nats, detached.

    `hidden` [N, H], `targets` int [N]; both results are float32 [N]. The logits of at most `rows` tokens are held at
    once, in buffers that all chunks share, and computed once more in the backward pass. Entropy costs another pass over
    them; where it is not asked for it is 0. Under autocast the head multiplies in autocast's type.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
    bias = None if head.bias is None else head.bias.to(dtype)
    with torch.autocast(kind, enabled=False):
        found: tuple[Tensor, Tensor] = _Head.apply(  # type: ignore[no-untyped-call]
            hidden.to(dtype), head.weight.to(dtype), bias, targets, temperature, rows, entropy
        )
    return found


class _Saved(Protocol):
    """What the passes leave for each other."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    temperature: float
    rows: int

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...

    def mark_non_differentiable(self, *tensors: Tensor) -> None: ...


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Saved, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float,
        rows: int, entropy: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        buffer = _buffer(weight, rows, len(hidden))
        totals = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        logp, spread = torch.empty_like(totals), torch.zeros_like(totals)
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            scaled = _scaled(hidden[part], weight, bias, temperature, buffer)
            totals[part] = scaled.logsumexp(-1)
            logp[part] = scaled.gather(-1, targets[part, None])[:, 0] - totals[part]
            if entropy:
                # `entr` is 0 where a masked token's logit is -inf; exp(x) * x would be NaN there.
                spread[part] = torch.special.entr(scaled.sub_(totals[part, None]).exp_()).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, targets, totals)
        ctx.temperature, ctx.rows = temperature, rows
        ctx.mark_non_differentiable(spread)
        return logp, spread

    @staticmethod
    def backward(ctx: _Saved, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, totals = ctx.saved_tensors
        buffer = _buffer(weight, ctx.rows, len(hidden))
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight, to_bias = (
            torch.zeros(x.shape, dtype=torch.float32, device=x.device) if needed else None
            for x, needed in ((weight, ctx.needs_input_grad[1]), (bias, ctx.needs_input_grad[2]))
        )
        for first in range(0, len(hidden), ctx.rows):
            part = slice(first, first + ctx.rows)
            # d logp / d logits = (1 at the target - p) / temperature
            scaled = _scaled(hidden[part], weight, bias, ctx.temperature, buffer)
            share = grad[part, None] / ctx.temperature
            slope = scaled.sub_(totals[part, None]).exp_().mul_(-share)
            slope.scatter_add_(-1, targets[part, None], share)
            half = slope.to(weight.dtype)
            if to_hidden is not None:
                to_hidden[part] = half @ weight
            if to_weight is not None:
                to_weight += half.T @ hidden[part]
            if to_bias is not None:
                to_bias += slope.sum(0)
        gradients = (to_weight, weight), (to_bias, bias)
        own = (None if found is None else found.to(x.dtype) for found, x in gradients)
        return to_hidden, *own, None, None, None, None


def _buffer(weight: Tensor, rows: int, tokens: int) -> Tensor:
    return torch.empty(min(rows, tokens), len(weight), dtype=torch.float32, device=weight.device)


def _scaled(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, buffer: Tensor) -> Tensor:
    """The logits of a chunk over the temperature, float32, in the buffer."""
    scaled = buffer[: len(hidden)]
    scaled.copy_(functional.linear(hidden, weight, bias))
    return scaled if temperature == 1 else scaled.div_(temperature)
