"""A-DLP: a price per token that accuracy itself regulates. Thinking Fast and Right, arXiv 2505.18298."""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods.declaration import PRICES, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import adaptive_weight, updated_weight


class ADlpOptions(Gated):
    """Options of A-DLP."""

    reference_accuracy: float = setting(0.8, ge=0, le=1, help="Accuracy above which the price rises.")
    rate: float = setting(1e-3, ge=0, help="How far the price moves in a batch, times accuracy less the reference.")
    start: float = setting(0.0, ge=0, help="Price of a token in the first batch.")


@declare(
    "a-dlp",
    ADlpOptions,
    paper="Thinking Fast and Right: Balancing Accuracy and Reasoning Length with Adaptive Rewards, arXiv 2505.18298",
    summary="a price per token that rises while accuracy is above a reference",
    knob=Knob("rate", PRICES, {"reference_accuracy": "accuracy"}),
    wrong="shorter is better, once the price has risen",
    baseline=True,
)
def a_dlp(options: ADlpOptions) -> Method:
    """Correctness less a price per token; after each batch the price moves by `rate` times accuracy - reference.

    `reference_accuracy` should be the untouched model's: above it the price rises, below it falls, never under 0.
    """

    def update(state: State, rollouts: Rollouts) -> dict[str, object]:
        weight = updated_weight(
            state["weight"], rollouts.correct, rate=options.rate, reference_accuracy=options.reference_accuracy
        )
        return {"weight": weight}

    return gated(
        options,
        reward=lambda r, state: adaptive_weight(r.correct, r.num_tokens, weight=state["weight"]),
        initial_state=lambda: {"weight": options.start},
        update_state=update,
    )
