"""The peers of the guarded study on whole models: task arithmetic and Safe LoRA."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lengthwise.merging import task_arithmetic
from lengthwise.repair.safe_lora import safe_lora

Tensors = Mapping[str, torch.Tensor]
PREFIX = "base_model.model."


def reset_by_tasks(attacked: Tensors, aligned: Tensors, unaligned: Tensors, gamma: float) -> dict[str, torch.Tensor]:
    """RESTA: attacked + gamma (aligned - unaligned), which is task arithmetic on the aligned model."""
    return task_arithmetic(aligned, [attacked, unaligned], weights=[1.0, -gamma])


def projected(
    factors: Tensors, aligned: Tensors, unaligned: Tensors, threshold: float
) -> tuple[dict[str, torch.Tensor], float]:
    """The second factors of an adapter after Safe LoRA, and the share of layers that were projected."""
    new, changed = {}, 0
    for name, factor_b in factors.items():
        if ".lora_B." not in name:
            continue
        layer = name.removeprefix(PREFIX).split(".lora_B.")[0] + ".weight"
        factor_a = factors[name.replace(".lora_B.", ".lora_A.")]
        new[name] = safe_lora(factor_a, factor_b, aligned[layer], unaligned[layer], threshold=threshold)
        changed += not torch.equal(new[name], factor_b)
    return new, changed / len(new)
