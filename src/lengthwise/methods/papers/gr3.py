"""GR3: the reward divided by one plus the length relative to the group's mean. arXiv 2603.10535.

Read from its abstract, a secondary account and prime-rl, which shipped it; its own code was not found.
"""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import CENTRED, GatedFirst, gated, verdict_reward
from lengthwise.objectives import relative_length


class Gr3Options(GatedFirst):
    """Options of GR3."""

    alpha: float = setting(0.3, ge=0, help="Strength of the division by relative length.")


@declare(
    "gr3",
    Gr3Options,
    paper="GR3, arXiv 2603.10535",
    summary="right answers are divided by 1 + alpha times their length relative to the group's mean",
    knob=Knob("alpha", (0.3, 1.0, 0.1, 3.0)),
)
def gr3(options: Gr3Options) -> Method:
    """r / (1 + `alpha` n / mean n), centred and not divided by the spread.

    `alpha` as large as leaves a typical right answer a positive advantage *(secondary: 0.3)*. Behind the gates right
    and rate-right the mean is that of right answers *(ours)*; with gate none it is prime-rl's, of all rows.
    """
    return gated(
        options,
        reward=lambda r, state: relative_length(
            verdict_reward(r), r.num_tokens, r.group_ids, alpha=options.alpha, counted=options.counted(r)
        ),
        advantage=CENTRED,
    )
