"""The end of an optimizer step, alike for every model that learns."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.errors import TrainingError

WAY_OUT = "the last checkpoint is kept. Lower the learning rate, or train in float32"


def take_step(optimizer: torch.optim.Optimizer, parameters: list[Tensor], grad_clip: float, loss: float) -> float:
    """Clip the gradients of `parameters` to a norm of `grad_clip`, step, and return the norm before clipping.

    Raises:
        TrainingError: `loss` or the norm is not finite; the weights are left as they were.
    """
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, grad_clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise TrainingError(f"loss {loss:.4g} or gradient norm {norm:.4g} is not finite; {WAY_OUT}")
    optimizer.step()
    torch.clear_autocast_cache()  # or the next update would compute with casts of the weights before this one
    return norm
