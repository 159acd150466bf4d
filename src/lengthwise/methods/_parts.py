"""Parts that several methods name: the objectives, fed from the engine's values."""

from __future__ import annotations

from torch import Tensor

from lengthwise.engine.method import LossInputs
from lengthwise.objectives import clipped_surrogate, loss_normaliser


def surrogate(
    inputs: LossInputs,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    aggregate: str,
    cap: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`clipped_surrogate` over one micro-batch, divided as its mini-batch is."""
    return clipped_surrogate(
        inputs.logp,
        inputs.old_logp,
        inputs.advantages,
        inputs.mask,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        aggregate=aggregate,
        max_tokens=cap,
        normaliser=inputs.normaliser,
    )


def surrogate_normaliser(mask: Tensor, *, aggregate: str, cap: int) -> float:
    """What the surrogate of a mini-batch with this mask is divided by."""
    return loss_normaliser(mask, aggregate=aggregate, max_tokens=cap)
