"""LACONIC: a mean length to be met, by a price that moves by itself. arXiv 2602.14468.

Read from a secondary account, its README and scripts; the released trainer was not read, so that the fine at the cap
stands outside of the price's bound is *inferred*.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import Targeted
from lengthwise.methods.declaration import CAPS, Knob, declare
from lengthwise.methods.gating import GatedFirst, gated, verdict_reward
from lengthwise.objectives import constrained_cost, updated_multiplier
from lengthwise.objectives._wide import wide


class LaconicOptions(Targeted, GatedFirst):
    """Options of LACONIC."""

    rate: float = setting(0.002, ge=0, help="How far the multiplier moves for a batch twice the target.")
    start: float = setting(0.0, ge=0, help="The multiplier in the first batch.")
    low: float = setting(0.0, ge=0, help="The least multiplier.")
    high: float = setting(0.1, ge=0, help="The largest multiplier; there, with a longer mean, the target is not met.")
    most: float = setting(0.4, ge=0, help="The largest price of the excess.")
    hit: float = setting(0.1, ge=0, help="What a response costs that reaches the cap.")

    def check(self) -> None:
        """A target that lengths can miss, and a start within its bounds."""
        super().check()
        if self.target >= self.cap:
            raise ConfigError(
                f"target is {self.target} and cap {self.cap}, so no length would ever cost; give a target below the cap"
            )
        if not self.low <= self.start <= self.high:
            raise ConfigError(
                f"start is {self.start}, which is not from low {self.low} to high {self.high}; give a start between"
            )


@declare(
    "laconic",
    LaconicOptions,
    paper="LACONIC, arXiv 2602.14468",
    summary="a price on tokens beyond a target that rises until the mean length meets it",
    knob=Knob("target", CAPS.values),
    one_cap="its fine is for reaching one cap",
    wrong="beyond the target shorter is better",
)
def laconic(options: LaconicOptions) -> Method:
    """Correctness less min(multiplier * excess over `target`, `most`), and less `hit` at the cap.

    After each batch, all that was drawn counted, the multiplier moves by `rate` times the mean length over the target
    less 1, between `low` and `high`; it is saved in the checkpoint. The script for a 1.5B model has a target of 1500
    under a cap of 4096. Wrong answers pay too with gate none, as in the released code.
    """

    def reward(r: Rollouts, state: State) -> Tensor:
        return constrained_cost(
            verdict_reward(r), r.num_tokens, target=options.target, multiplier=state["multiplier"],
            max_tokens=options.cap, most=options.most, hit=options.hit,
        )  # fmt: skip

    def update(state: State, r: Rollouts) -> dict[str, float]:
        moved = updated_multiplier(
            state["multiplier"], r.num_tokens, target=options.target, rate=options.rate, low=options.low,
            high=options.high,
        )  # fmt: skip
        return {"multiplier": moved}

    def measure(r: Rollouts, state: State, advantages: Tensor) -> Mapping[str, float]:
        over = float(wide(r.num_tokens).mean()) / options.target - 1
        return {"multiplier": state["multiplier"], "over_target": over,
                "target_missed": float(state["multiplier"] >= options.high and over > 0)}  # fmt: skip

    return gated(
        options, reward=reward, initial_state=lambda: {"multiplier": options.start}, update_state=update,
        loudest={"multiplier": options.high}, measure=measure,
    )  # fmt: skip
