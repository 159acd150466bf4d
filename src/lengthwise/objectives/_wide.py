"""The type that statistics over rows are computed in: float64 wherever a device has it."""

from __future__ import annotations

import torch

LACK_FLOAT64 = {"mps"}
"""Types of devices that have no float64; statistics are float32 there."""


def wide_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it."""
    return torch.float32 if device.type in LACK_FLOAT64 else torch.float64


def wide(values: torch.Tensor) -> torch.Tensor:
    """The values in `wide_dtype`, so that a sum over a batch or a share of a group is rounded once."""
    return values.to(wide_dtype(values.device))
