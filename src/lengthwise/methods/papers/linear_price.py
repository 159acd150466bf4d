"""A plain price per token, centred in its group and not divided by its spread. Ours: no paper.

Division by the group's std would make the price as loud as correctness in every group that is all right. Without it
the objective is accuracy less a price per token: the Lagrangian of the accuracy-length frontier itself.
"""

from __future__ import annotations

from functools import partial

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import PRICES, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import group_normalised
from lengthwise.objectives import linear_price as priced


class LinearPriceOptions(Gated):
    """Options of the plain price."""

    price: float = setting(1e-4, ge=0, help="Price of a token.")


@declare(
    "linear-price",
    LinearPriceOptions,
    paper="ours, no paper",
    summary="a price per token, centred and not divided by the group's spread",
    knob=Knob("price", PRICES),
    wrong="shorter is better",
    baseline=True,
)
def linear_price(options: LinearPriceOptions) -> Method:
    """Correctness less `price` per token."""
    return gated(
        options,
        reward=lambda r, state: priced(r.correct, r.num_tokens, price=options.price),
        advantage=partial(group_normalised, divide_by_std=False),
    )
