"""vLLM in TRL's own process on a CPU: weights are handed over by the call that works there.

TRL 1.16 loads its weights tensor by tensor into vLLM's model, whose parameters are packed on a CPU and take none any
more ("'Parameter' object has no attribute 'weight_loader'"). On a GPU its own hand-over stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import torch

from lengthwise.engine.backends.vllm_weights import lora_scaling, served_weights, tied_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _ModelConfig(Protocol):
    dtype: torch.dtype


class _Engine(Protocol):
    model_config: _ModelConfig


class _LLM(Protocol):
    llm_engine: _Engine

    def collective_rpc(self, method: str, *, kwargs: Mapping[str, object]) -> object: ...
    def reset_prefix_cache(self) -> object: ...


class Generation(Protocol):
    """TRL's `VLLMGeneration` with vLLM in its own process, as far as it is used here."""

    mode: str
    llm: _LLM
    sync_weights: Callable[[], None]


def mend_hand_over(generation: Generation, model: PreTrainedModel, device: torch.device) -> None:
    """Let vLLM take the policy's weights, an adapter's merged, a tied head by its own name; only on a CPU."""
    if device.type != "cpu" or generation.mode != "colocate":
        return
    llm, tied, scaling = generation.llm, tied_names(model), lora_scaling(model)

    def sync_weights() -> None:
        weights = served_weights(
            model.named_parameters(), dtype=llm.llm_engine.model_config.dtype, scaling=scaling, tied=tied
        )
        llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        llm.reset_prefix_cache()

    generation.sync_weights = sync_weights
