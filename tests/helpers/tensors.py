"""Short ways to write small tensors in the objectives' tests."""

from __future__ import annotations

import torch


def bools(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def floats(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
