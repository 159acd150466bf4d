"""Gated decay: right answers decay with their excess over the group's shortest right one. No paper: NeMo-RL #4225."""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import Knob, declare
from lengthwise.methods.gating import CENTRED, GatedFirst, gated, verdict_reward
from lengthwise.objectives import gated_decay as decayed


class GatedDecayOptions(GatedFirst):
    """Options of the gated decay."""

    beta: float = setting(0.5, ge=0, help="Rate of decay for one reference length of excess.")
    reference_tokens: int = setting(32768, ge=1, help="Tokens by which an excess is measured.")


@declare(
    "gated-decay",
    GatedDecayOptions,
    paper="gated decay (no paper: NVIDIA-NeMo/RL #4225, open)",
    summary="right answers decay with their excess over the shortest right one, the less the harder the prompt",
    knob=Knob("beta", (0.5, 1.0, 0.25, 2.0), {"reference_tokens": "1L"}),
)
def gated_decay(options: GatedDecayOptions) -> Method:
    """A right answer keeps the share of wrong answers to its prompt; the rest decays with its excess tokens.

    Theirs counts the tokens of the whole context and measures them by 32,768; here those of the response. With short
    responses lower `reference_tokens`, or nothing decays.
    """
    return gated(
        options,
        reward=lambda r, state: decayed(
            verdict_reward(r), r.correct, r.num_tokens, r.group_ids,
            beta=options.beta, reference_tokens=options.reference_tokens,
        ),
        advantage=CENTRED,
    )  # fmt: skip
