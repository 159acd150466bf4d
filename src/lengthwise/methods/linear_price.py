"""A plain price per token, centred in its group and not divided by its spread. Ours: no paper.

Division by the group's std would make the price as loud as correctness in every group that is all right. Without it
the objective is accuracy less a price per token: the Lagrangian of the accuracy-length frontier itself.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import group_normalised
from lengthwise.objectives import linear_price as priced


def linear_price(*, cap: int, price: float = 1e-4, **common: Any) -> Method:
    """Correctness less `price` per token."""
    return group_relative(
        name="linear-price",
        paper="ours, no paper",
        summary="a price per token, centred and not divided by the group's spread",
        cap=cap,
        reward=lambda r, state: priced(r.correct, r.num_tokens, price=price),
        options={"price": price},
        advantage=partial(group_normalised, divide_by_std=False),
        **common,
    )
