"""Quantile slack: right answers pay beyond what a low quantile of the group's right lengths allows. No paper: miles."""

from __future__ import annotations

from functools import partial

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import GatedFirst, gated, verdict_reward
from lengthwise.objectives import group_normalised
from lengthwise.objectives import quantile_slack as fined


class QuantileSlackOptions(GatedFirst):
    """Options of the quantile slack."""

    quantile: float = setting(0.25, ge=0, le=1, help="Quantile of the group's right lengths that is the reference.")
    slack: float = setting(0.1, ge=0, help="Share of the reference that costs nothing beyond it.")
    margin: int = setting(16, ge=0, help="Tokens that cost nothing beyond that.")
    rate: float = setting(0.1, ge=0, help="Fine for one reference length beyond what is allowed.")
    most: float = setting(0.2, ge=0, help="The largest fine.")
    least: float = setting(0.8, ge=0, le=1, help="What a right answer keeps whatever the fine.")
    divide_by_std: bool = setting(False, help="Divide advantages by the group's standard deviation, as miles does.")


@declare(
    "quantile-slack",
    QuantileSlackOptions,
    paper="quantile slack (no paper: radixark/miles #1573, open)",
    summary="right answers pay beyond a slack over a low quantile of the group's right lengths",
    knob=Knob("rate", (0.1, 0.3, 1.0, 0.03)),
)
def quantile_slack(options: QuantileSlackOptions) -> Method:
    """A bounded fine for right answers that are longer than the group's short right ones allow.

    miles divides by the group's spread afterwards, under which any fine is as loud as being right in groups that are
    all right; here sums are centred alone *(ours)*.
    """
    return gated(
        options,
        reward=lambda r, state: fined(
            verdict_reward(r), r.correct, r.num_tokens, r.group_ids, quantile=options.quantile, slack=options.slack,
            margin=options.margin, rate=options.rate, most=options.most, least=options.least,
        ),
        advantage=partial(group_normalised, divide_by_std=options.divide_by_std),
    )  # fmt: skip
