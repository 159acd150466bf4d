"""The model that the sampler runs in half precision: the policy, with linear layers whose weights are ready for use.

Under autocast every step casts what is held in float32, and on a CPU every matrix product first puts its weight into
another layout. Here both are done once after an update. All else, parameters included, is the policy's own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROWS_HINT = 64
"""Rows that the layout of a packed weight is chosen for; it serves any number of them."""


@dataclass(frozen=True)
class Adapter:
    """A layer's LoRA: it adds scale * up(down(x))."""

    down: nn.Linear
    up: nn.Linear
    scale: float


class HalfLinear(nn.Module):
    """W x + b, or W x + b + scale * up(down(x)), with what a linear layer computes under autocast, to the bit.

    An adapter is not merged into W, whose rounding would swallow small changes. What is trained is held from `refresh`
    to `release`; a frozen W in `dtype` is the policy's own, but for the layout that a CPU wants.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, adapter: Adapter | None = None) -> None:
        super().__init__()
        self.policy_layer, self.adapter, self.dtype = (linear,), adapter, dtype  # a tuple: it is not a part of this one
        self.packed = packs(linear.weight.device, dtype)
        self.trained = linear.weight.requires_grad
        self.held: Tensor | None = None
        self.bias: Tensor | None = None
        self.factors: tuple[Tensor, Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        """The policy's, for whoever asks for its type."""
        return self.policy_layer[0].weight

    def refresh(self) -> None:
        """Hold the policy's numbers as they are now."""
        (linear,) = self.policy_layer
        if self.trained or self.held is None:
            half = linear.weight.detach().to(self.dtype)
            self.held = torch.ops.mkldnn._reorder_linear_weight(half, ROWS_HINT) if self.packed else half
        self.bias = None if linear.bias is None else linear.bias.detach().to(self.dtype)
        if self.adapter is not None:
            down, up = (part.weight.detach().to(self.dtype) for part in (self.adapter.down, self.adapter.up))
            self.factors = (down, up)

    def release(self) -> None:
        """Free what an update is about to change."""
        if self.trained:
            self.held = None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output in `dtype`."""
        x = x.to(self.dtype)
        if self.packed:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.held, self.bias, "none", [], "")
        else:
            assert self.held is not None, "refreshed before it runs"
            out = functional.linear(x, self.held, self.bias)
        if self.adapter is None or self.factors is None:
            return out
        down, up = self.factors
        return out + functional.linear(functional.linear(x, down), up) * self.adapter.scale


class DecodingModel:
    """A policy's model in which linear layers are `HalfLinear`; `model` shares all other parameters with it."""

    def __init__(self, policy: PreTrainedModel, dtype: torch.dtype) -> None:
        base = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
        self.dtype = dtype
        self.layers: list[HalfLinear] = []
        # What is in the memo is taken as it is, so a copy of the modules has these in their places.
        shared = (*base.parameters(), *base.buffers(), base.config)
        memo: dict[int, object] = {id(one): one for one in shared}
        inside: set[nn.Module] = set()
        for module in base.modules():
            layer = None if module in inside else _half_linear(module, dtype)
            if layer is not None:
                inside.update(module.modules())  # an adapter's parts are no layers of their own
                memo[id(module)] = layer
                self.layers.append(layer)
        self.model: PreTrainedModel = copy.deepcopy(base, memo)
        self._stale = True

    def release(self) -> None:
        """The policy's weights have changed: free the old ones that are held."""
        for layer in self.layers:
            layer.release()
        self._stale = True

    def ready(self) -> PreTrainedModel:
        """The model with the policy's weights as they are now."""
        if self._stale:
            for layer in self.layers:
                layer.refresh()
            self._stale = False
        return self.model


def computes_in(model: PreTrainedModel) -> torch.dtype:
    """What a model's matrix products are computed in: autocast's type where that is on, else its weights'."""
    return autocast_dtype(model) or model.dtype


def autocast_dtype(model: PreTrainedModel) -> torch.dtype | None:
    """Autocast's type on a model's device; None where it is off."""
    kind = torch.device(model.device).type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def gains(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Whether a `DecodingModel` of `dtype` saves work: casts of weights, an adapter's layers, or changes of layout."""
    return dtype != torch.float32 and (autocast_dtype(model) is not None or packs(torch.device(model.device), dtype))


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the processor multiplies numbers of `dtype` from a layout of its own."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float16 and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


def held_bytes(linear_weights: int, dtype: torch.dtype, device: torch.device, *, frozen: bool) -> int:
    """Bytes of what is held beside the policy's weights for so many weights of linear layers."""
    if dtype == torch.float32 or (frozen and not packs(device, dtype)):
        return 0
    return linear_weights * dtype.itemsize


@runtime_checkable
class _LoraLayer(Protocol):
    """What is read of peft's layers; peft itself is an extra."""

    base_layer: nn.Module
    lora_A: Mapping[str, nn.Linear]  # noqa: N815
    lora_B: Mapping[str, nn.Linear]  # noqa: N815
    scaling: Mapping[str, float]
    active_adapters: Sequence[str]
    merged: bool
    disable_adapters: bool


def _half_linear(module: nn.Module, dtype: torch.dtype) -> HalfLinear | None:
    """What stands for a linear layer with or without LoRA; None for any other module, and for one with hooks."""
    linear, adapter = module, None
    if isinstance(module, _LoraLayer):
        linear, adapter = module.base_layer, _plain_adapter(module)
        if adapter is None:
            return None
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in (module, linear))
    if type(linear) is not nn.Linear or hooked:
        return None
    return HalfLinear(linear, dtype, adapter)


def _plain_adapter(layer: _LoraLayer) -> Adapter | None:
    """A layer's LoRA where that is all there is: one adapter, switched on, not merged, without a variant's terms."""
    active, variant = list(layer.active_adapters), getattr(layer, "lora_variant", None)
    if len(active) != 1 or list(layer.lora_A) != active or variant or layer.merged or layer.disable_adapters:
        return None
    down, up = layer.lora_A[active[0]], layer.lora_B[active[0]]
    if (type(down), type(up)) != (nn.Linear, nn.Linear) or up.bias is not None:
        return None
    return Adapter(down, up, float(layer.scaling[active[0]]))
