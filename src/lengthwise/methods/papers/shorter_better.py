"""ShorterBetter: the group's shortest right answer is the target. arXiv 2504.21370."""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import shortest_correct


class ShorterBetterOptions(Gated):
    """Options of ShorterBetter."""

    alpha: float = setting(2.0, ge=0, help="What a right answer earns.")
    beta: float = setting(1e-3, ge=0, help="Price of a token of distance to the group's shortest right answer.")


@declare(
    "shorter-better",
    ShorterBetterOptions,
    paper="ShorterBetter: Guiding Reasoning Models to Find Optimal Inference Length, arXiv 2504.21370",
    summary="pays for distance to the group's shortest right answer",
    knob=Knob("beta", ("1/L", "0.5/L", "2/L", "4/L")),
    wrong="nearer the group's shortest right answer is better",
    baseline=True,
)
def shorter_better(options: ShorterBetterOptions) -> Method:
    """`alpha` for a right answer, less `beta` per token of distance to the group's shortest right one."""
    return gated(
        options,
        base=(options.alpha, 0.0),
        reward=lambda r, state: shortest_correct(
            r.correct, r.num_tokens, r.group_ids, alpha=options.alpha, beta=options.beta
        ),
    )
