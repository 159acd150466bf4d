"""NeMo-RL's effort levels: prompts with a marker are paid for staying within a budget. No paper.

Half of each group is asked with the marker and half without; the two halves are compared among themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Ask, Asked, Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import part_of
from lengthwise.methods.declaration import CAPS, Knob, declare
from lengthwise.methods.gating import CENTRED, GatedFirst, gated, verdict_reward
from lengthwise.objectives import effort_reward


class EffortOptions(GatedFirst):
    """Options of effort levels."""

    budget: int = setting(ge=1, help="Tokens within which a marked response earns.", default_text="half the cap")
    weight: float = setting(0.1, ge=0, help="Strength of bonus and fine.")
    penalty: float = setting(1.0, ge=0, help="Factor of the fine beyond the budget.")
    marker: str = setting("{reasoning effort: efficient}", help="What asks for the effort; stands before the problem.")
    marker_sep: str = setting("\n", help="What stands between marker and problem.")
    marked: Literal["half", "all"] = setting("half", help="How many of a prompt's responses are asked with the marker.")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The budget is half the cap."""
        return {**super().dependent_defaults(given), "budget": part_of(given["cap"], 2)}

    def check(self) -> None:
        """A marker that can be seen."""
        super().check()
        if not self.marker.strip():
            raise ConfigError("marker is empty, so no prompt would ask for the effort; give words to ask with")


@declare(
    "effort",
    EffortOptions,
    paper="NeMo-RL's effort levels (no paper: NVIDIA-NeMo/RL)",
    summary="responses to prompts with a marker earn within a budget and pay beyond it",
    knob=Knob("budget", CAPS.values),
    wrong="beyond the budget shorter is better",
)
def effort(options: EffortOptions) -> Method:
    """Right answers to marked prompts earn up to `weight` more within the `budget`, and pay beyond it.

    The published setting is weight 0.1 and a budget of 15,000 tokens. All tokens of a response count; theirs counts
    those of the last message.
    """
    asked = f"{options.marker}{options.marker_sep}"

    def prompts(ask: Ask) -> list[Asked]:
        marked = Asked(ask(asked), is_long=False)
        return [marked] if options.marked == "all" else [Asked(ask(""), is_long=True), marked]

    def reward(r: Rollouts, state: State) -> Tensor:
        return effort_reward(
            verdict_reward(r), r.num_tokens, budget=options.budget, weight=options.weight, penalty=options.penalty,
            marked=~freely_asked(r),
        )  # fmt: skip

    method = gated(options, reward=reward, groups=by_effort, prompts=prompts, needs=("is_long",))
    return dataclasses.replace(method, advantage=lambda rewards, r: CENTRED(rewards, by_effort(r)))


def freely_asked(rollouts: Rollouts) -> Tensor:
    """Rows whose prompt has no marker, bool [B]."""
    assert rollouts.is_long is not None, "the method needs is_long"
    return rollouts.is_long


def by_effort(rollouts: Rollouts) -> Tensor:
    """Groups of rows that were asked alike, int [B]."""
    return 2 * rollouts.group_ids + freely_asked(rollouts)
