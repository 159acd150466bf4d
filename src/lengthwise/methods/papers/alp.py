"""ALP: a price per token that rises with how often the prompt is solved. Just Enough Thinking, arXiv 2506.05256."""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import PRICES, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import adaptive_penalty


class AlpOptions(Gated):
    """Options of ALP."""

    beta: float = setting(1e-7, ge=0, help="Price of a token, times the group's share of right answers.")


@declare(
    "alp",
    AlpOptions,
    paper="Just Enough Thinking: Efficient Reasoning with Adaptive Length Penalties, arXiv 2506.05256",
    summary="a price per token that rises with the share of right answers to the prompt",
    knob=Knob("beta", PRICES),
    wrong="shorter is better",
    baseline=True,
)
def alp(options: AlpOptions) -> Method:
    """Correctness less `beta` per token, times the group's share of right answers.

    Right and wrong answers pay alike *(unverified)*. Division by the group's std hides the scale of `beta` in groups
    that are all right.
    """
    return gated(
        options,
        reward=lambda r, state: adaptive_penalty(r.correct, r.num_tokens, r.group_ids, beta=options.beta),
    )
