"""LoRA's linear layers in half precision, forward and backward as one step of autograd.

Under autocast peft copies a layer's input to float32 and back and keeps both for the backward pass; with a small rank
that costs more than the layer itself. Here the input is kept once, in half precision.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lengthwise.optional_imports import importing

with importing("LoRA", "peft", "trl"):
    from peft.tuners.lora.layer import Linear as PeftLinear


def hasten(model: nn.Module) -> int:
    """Let plain LoRA layers over frozen half-precision weights compute in one step; returns how many there are.

    Outputs equal those of peft under autocast bit for bit where the scale is a power of two, and so do the gradients up
    to rounding. A layer that is merged, switched off or given arguments beyond its input stays peft's own.
    """
    found = [layer for layer in model.modules() if type(layer) is PeftLinear and _plain(layer)]
    for layer in found:
        layer.__class__ = HalfLoraLinear  # a copy of the model has it too; what peft asks of it stays true
    return len(found)


def _plain(layer: PeftLinear) -> bool:
    base, names = layer.base_layer, list(layer.lora_A)
    if (
        type(base) is not nn.Linear
        or base.weight.requires_grad
        or base.weight.dtype not in (torch.bfloat16, torch.half)
    ):
        return False
    variants = getattr(layer, "lora_variant", None)
    return len(names) == 1 and not variants and layer.lora_B[names[0]].bias is None


class HalfLoraLinear(PeftLinear):  # type: ignore[misc]
    """W x + scale * up(down(x)) in the type of the frozen W; the trained factors stay in float32."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The layer's output, in W's type."""
        (name,) = self.lora_A
        if self.disable_adapters or self.merged or list(self.active_adapters) != [name] or args or kwargs:
            whole: Tensor = super().forward(x, *args, **kwargs)
            return whole
        base = self.base_layer
        out: Tensor = _HalfLora.apply(  # type: ignore[no-untyped-call]
            x.to(base.weight.dtype), base.weight, base.bias, self.lora_A[name].weight, self.lora_B[name].weight,
            float(self.scaling[name]),
        )  # fmt: skip
        return out


class _Saved(Protocol):
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    scale: float

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _HalfLora(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Saved, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            small = functional.linear(x, down.to(x.dtype))
            out = functional.linear(x, weight, bias)
            out.add_(functional.linear(small, up.to(x.dtype)), alpha=scale)
        ctx.save_for_backward(x, small, weight, down, up)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: _Saved, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, small, weight, down, up = ctx.saved_tensors
        rows, back = grad.flatten(0, -2), None
        inward = (rows @ up.to(grad.dtype)).mul_(ctx.scale)
        to_up = (small.flatten(0, -2).T @ rows).T.float().mul_(ctx.scale)
        to_down = (inward.T @ x.flatten(0, -2)).float()
        if ctx.needs_input_grad[0]:
            back = (rows @ weight).addmm_(inward, down.to(grad.dtype)).view_as(x)
        return back, None, None, to_down, to_up, None
