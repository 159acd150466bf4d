"""Weights changed for a while, to see whether a hand-over takes all of them along."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

FACTOR = 1.25
"""On one tensor of each kind: embedding, norms, and the matrices and biases of one layer in the middle."""
SPREAD = 0.02
"""Of what a tensor of zeros gets, as LoRA's B is at first."""


@contextmanager
def changed_weights(model: nn.Module) -> Iterator[None]:
    """Within it one tensor of every kind of parameter is scaled; afterwards all are as before, to the bit."""
    kinds: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        kinds.setdefault(re.sub(r"\.\d+\.", ".", name), []).append(parameter.detach())
    chosen = [tensors[len(tensors) // 2] for tensors in kinds.values()]
    before = [tensor.clone() for tensor in chosen]
    try:
        for tensor in chosen:
            _change(tensor)
        torch.clear_autocast_cache()  # it would go on with casts of what was before
        yield
    finally:
        for tensor, old in zip(chosen, before, strict=True):
            tensor.copy_(old)
        torch.clear_autocast_cache()


def _change(tensor: Tensor) -> None:
    if bool(tensor.any()):
        tensor.mul_(FACTOR)
    else:
        waves = torch.arange(tensor.numel(), device=tensor.device).mul(0.7).sin()
        tensor.copy_(SPREAD * waves.view_as(tensor))
