"""GRPO-lambda: the length penalty only for the groups that are solved best. arXiv 2505.18086.

Read from a secondary source: `fraction` is its example, `alpha` ours *(inferred)*.
"""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import selective_length_penalty


class GrpoLambdaOptions(Gated):
    """Options of GRPO-lambda."""

    fraction: float = setting(0.2, ge=0, le=1, help="Share of the batch's groups, the best solved, that pays.")
    alpha: float = setting(0.2, ge=0, lt=1, help="The most that a right answer loses by its length.")
    min_accuracy: float = setting(0.0, ge=0, le=1, help="Share of right answers that a group needs to pay.")


@declare(
    "grpo-lambda",
    GrpoLambdaOptions,
    paper="Stable Reinforcement Learning for Efficient Reasoning, arXiv 2505.18086",
    summary="a length penalty for the best-solved share of groups only",
    knob=Knob("alpha", (0.2, 0.4, 0.1, 0.6)),
)
def grpo_lambda(options: GrpoLambdaOptions) -> Method:
    """The best-solved `fraction` of groups pays up to `alpha` for length, the others nothing."""
    return gated(
        options,
        reward=lambda r, state: selective_length_penalty(
            r.correct, r.num_tokens, r.group_ids,
            fraction=options.fraction, alpha=options.alpha, min_accuracy=options.min_accuracy,
        ),
    )  # fmt: skip
