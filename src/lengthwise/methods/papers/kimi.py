"""The min-max length term of Kimi k1.5. arXiv 2501.12599."""

from __future__ import annotations

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods.declaration import WEIGHTS, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import min_max_length


class KimiOptions(Gated):
    """Options of Kimi k1.5's length term."""

    weight: float = setting(
        1.0, ge=0, help="Weight of the length term.",
        refusal="give 0 or a positive number, or long answers are paid for",
    )  # fmt: skip


@declare(
    "kimi",
    KimiOptions,
    paper="Kimi k1.5: Scaling Reinforcement Learning with LLMs, arXiv 2501.12599",
    summary="adds the place of the length between the group's shortest and longest answer",
    knob=Knob("weight", WEIGHTS),
    wrong="shorter than the middle is better",
    baseline=True,
)
def kimi(options: KimiOptions) -> Method:
    """Correctness plus `weight` times the place between the group's shortest (+.5) and longest (-.5) answer."""
    return gated(
        options,
        reward=lambda r, state: (
            r.correct.float()
            + options.weight * min_max_length(r.correct, r.num_tokens, r.group_ids, counted=options.counted(r))
        ),
    )
