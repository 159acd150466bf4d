"""Nemotron's group length bonus: thinking and answer are each placed between the group's extremes.

NVIDIA NeMo-Gym; Nemotron 3 Nano report, arXiv 2512.20848, read from a secondary source.
"""

from __future__ import annotations

from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import CENTRED, GatedFirst, gated, verdict_reward
from lengthwise.objectives import group_length_bonus


class GroupBonusOptions(GatedFirst):
    """Options of the group length bonus."""

    thinking_weight: float = setting(0.1, ge=0, help="Weight of the place of the thinking's length.")
    answer_weight: float = setting(0.1, ge=0, help="Weight of the place of the answer's length.")
    thinking_bonus: float = setting(0.0, ge=0, help="Flat bonus of the shortest thinking, if its score is high.")
    answer_bonus: float = setting(0.0, ge=0, help="Flat bonus of the shortest answer, if its score is high.")
    top_share: float = setting(0.2, ge=0, le=1, help="Share of the group whose lowest score is high.")


@declare(
    "group-bonus",
    GroupBonusOptions,
    paper="Nemotron 3 Nano, arXiv 2512.20848; NVIDIA NeMo-Gym",
    summary="thinking and answer earn apart by their place between the group's shortest and longest",
    knob=Knob("thinking_weight", (0.1, 0.3, 0.5, 0.03), {"answer_weight": 0.0}),
    wrong="shorter is better",
)
def group_bonus(options: GroupBonusOptions) -> Method:
    """Correctness plus a zero-centred place of the thinking's and of the answer's tokens, centred in its group.

    Where the thinking ends is the prompt contract's to say; without a mark, or where it never closes, all of a response
    is thinking. Theirs counts characters, and pays wrong answers too (gate none).
    """

    def reward(r: Rollouts, state: State) -> Tensor:
        assert r.thinking_tokens is not None, "the method needs thinking_tokens"
        return group_length_bonus(
            verdict_reward(r), r.thinking_tokens, r.num_tokens - r.thinking_tokens, r.group_ids,
            thinking_weight=options.thinking_weight, answer_weight=options.answer_weight,
            thinking_bonus=options.thinking_bonus, answer_bonus=options.answer_bonus, top_share=options.top_share,
            counted=options.counted(r),
        )  # fmt: skip

    return gated(options, reward=reward, advantage=CENTRED, needs=("thinking_tokens",))
