"""A-DLP: a price per token that accuracy itself regulates. Thinking Fast and Right, arXiv 2505.18298."""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import adaptive_weight, updated_weight


def a_dlp(
    *, cap: int, reference_accuracy: float = 0.8, rate: float = 1e-3, start: float = 0.0, **common: Any
) -> Method:
    """Correctness less a price per token; after each batch the price moves by `rate` times accuracy - reference.

    `reference_accuracy` should be the untouched model's: above it the price rises, below it falls, never under 0.
    """

    def update(state: State, rollouts: Rollouts) -> dict[str, Any]:
        weight = updated_weight(state["weight"], rollouts.correct, rate=rate, reference_accuracy=reference_accuracy)
        return {"weight": weight}

    return group_relative(
        name="a-dlp",
        paper="Thinking Fast and Right: Balancing Accuracy and Reasoning Length with Adaptive Rewards, "
        "arXiv 2505.18298",
        summary="a price per token that rises while accuracy is above a reference",
        cap=cap,
        reward=lambda r, state: adaptive_weight(r.correct, r.num_tokens, weight=state["weight"]),
        options={"reference_accuracy": reference_accuracy, "rate": rate, "start": start},
        **common,
        initial_state=lambda: {"weight": start},
        update_state=update,
    )
