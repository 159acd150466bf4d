"""Other ways to repair after harmful fine-tuning, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.errors import InputError, ShapeError
from lengthwise.merging.option_checks import check_finite


def safe_lora(factor_a: Tensor, factor_b: Tensor, aligned: Tensor, unaligned: Tensor, *, threshold: float) -> Tensor:
    """Project a LoRA update onto what alignment changed, where the two point apart.

    V = W_aligned − W_unaligned, C = V Vᵀ / ‖V‖_F; where cos(C B A, B A) ≤ ``threshold`` B becomes C B, else it stays.
    Safe LoRA: the Silver Lining of Reducing Safety Risks when Fine-tuning Large Language Models, arXiv 2405.16833.

    Args:
        factor_a: A [r, in].
        factor_b: B [out, r].
        aligned, unaligned: weights [out, in] of the layer after and before alignment.
        threshold: tau; 1 projects every layer, −1 next to none. A zero update counts as pointing the same way.

    Returns:
        The new B in its dtype; its own bits where it stays.

    Raises:
        ShapeError: shapes that do not belong together.
        InputError: alignment changed nothing, so there is nothing to project onto; NaN or infinity.
    """
    check_finite("threshold", threshold)
    wanted = (factor_b.shape[0], factor_a.shape[1])
    if aligned.shape != wanted or unaligned.shape != wanted or factor_b.shape[1] != factor_a.shape[0]:
        raise ShapeError(
            f"A is {tuple(factor_a.shape)}, B {tuple(factor_b.shape)}, the weights {tuple(aligned.shape)} and "
            f"{tuple(unaligned.shape)}; pass A [r, in], B [out, r] and weights [out, in] of one layer"
        )
    change = aligned.float() - unaligned.float()
    norm = change.norm()
    if not torch.isfinite(norm) or not torch.isfinite(factor_a).all() or not torch.isfinite(factor_b).all():
        raise InputError("a weight holds NaN or infinity, which points nowhere; repair that layer or leave it out")
    if norm == 0:
        raise InputError("aligned equals unaligned, so no direction is safe; pass the model before its alignment")
    projected = change @ (change.T @ factor_b.float()) / norm
    before, after = (factor_b.float() @ factor_a.float()).flatten(), (projected @ factor_a.float()).flatten()
    norms = before.norm() * after.norm()
    cosine = torch.dot(before, after) / norms if norms > 0 else torch.ones(())
    return projected.to(factor_b.dtype) if cosine <= threshold else factor_b
