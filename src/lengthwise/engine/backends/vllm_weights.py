"""The policy's weights as vLLM takes them: named as in a checkpoint, adapters merged, a tied head by its own name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PEFT, BASE, UP, DOWN = "base_model.model.", ".base_layer", ".lora_B.default.weight", ".lora_A.default.weight"


def tied_names(model: PreTrainedModel) -> tuple[str, str] | None:
    """The names of a model's embedding and of its head where they are one tensor; else None."""
    head = model.get_output_embeddings()
    shared = None if head is None else head.weight
    found = [n.removeprefix(PEFT) for n, p in model.named_parameters(remove_duplicate=False) if p is shared]
    return (found[0], found[-1]) if len(found) > 1 else None


def lora_scaling(model: PreTrainedModel) -> float:
    """The factor on an adapter's B A; 1 without one."""
    config = getattr(model, "peft_config", {}).get("default")
    return 1.0 if config is None else float(config.lora_alpha / config.r)


@torch.no_grad()
def served_weights(
    weights: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype,
    scaling: float = 1.0,
    tied: tuple[str, str] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name in the folder: W + scaling B A where LoRA's A and B stand beside it.

    `tied`: the head is the embedding, and vLLM, which packs the head, is handed both; without it the packed copy would
    stay as it was, in silence. A merged weight is added in float32 and rounded to `dtype` once.
    """
    found = {name.removeprefix(PEFT): tensor.detach() for name, tensor in weights}
    for name, tensor in found.items():
        if name.endswith((UP, DOWN)):
            continue
        plain = name.replace(BASE, "")
        module = plain.removesuffix(".weight")
        if plain.endswith(".weight") and module + UP in found:
            tensor = tensor.float() + scaling * (found[module + UP].float() @ found[module + DOWN].float())
        served = tensor.to(dtype)
        yield plain, served
        if tied is not None and name == tied[0]:
            yield tied[1], served
