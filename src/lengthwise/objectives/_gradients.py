"""What the hand-written gradients share: a scalar with a known gradient, and the log-ratio of two policies."""

from __future__ import annotations

from typing import Protocol, cast

import torch

from lengthwise.errors import InputError

# exp of it is about 5e8: far outside every clip range, and its square still fits in float32
LOG_RATIO_BOUND = 20.0


class Saved(Protocol):
    """What a hand-written function keeps between its forward and its backward pass."""

    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor) -> None:
        """Keep tensors for `saved_tensors` of the backward pass."""


class _WithGradient(torch.autograd.Function):
    """Gives a scalar that was computed outside autograd its known gradient with respect to one tensor."""

    @staticmethod
    def forward(ctx: Saved, _logp: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Saved, grad_output: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None


def with_gradient(values: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the scalar ``value`` as a function of ``values`` whose gradient is known."""
    return cast(torch.Tensor, _WithGradient.apply(values, value, gradient))  # type: ignore[no-untyped-call]


def log_difference(logp: torch.Tensor, other: torch.Tensor, other_name: str, padding: torch.Tensor) -> torch.Tensor:
    """Return logp − other, [B,T], with 0 in the padding; refuse what is not finite elsewhere."""
    difference = (logp - other).masked_fill_(padding, 0.0)
    if difference.numel() == 0:
        return difference
    # two numbers instead of a [B,T] test; both carry NaN
    low, high = torch.aminmax(difference)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        row = int((~torch.isfinite(difference)).any(dim=1).nonzero()[0])
        raise InputError(
            f"logp or {other_name} is not finite on a token inside the mask, first in row {row}; "
            "log-probabilities of sampled tokens are finite, so look for an overflow in the forward pass"
        )
    return difference
