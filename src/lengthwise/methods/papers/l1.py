"""L1: a reward for keeping to a token budget. arXiv 2503.04697.

The paper names the budget in the prompt, another one for each; here it is one fixed `target` for all prompts, since
a prompt's wording belongs to the prompt contract.
"""

from __future__ import annotations

from typing import Literal

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method
from lengthwise.methods._parts import Targeted
from lengthwise.methods.declaration import CAPS, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import budget_exact, budget_max

PAPER = "L1: Controlling How Long A Reasoning Model Thinks With Reinforcement Learning, arXiv 2503.04697"


class L1ExactOptions(Targeted, Gated):
    """Options of L1-Exact."""

    alpha: float = setting(3e-4, ge=0, help="Price of a token of distance to the target.")


class L1MaxOptions(Targeted, Gated):
    """Options of L1-Max."""

    alpha: float = setting(3e-4, ge=0, help="What a token below the target earns.")
    form: Literal["paper", "code"] = setting("paper", help="The reward as the paper prints it, or as its code has it.")


@declare(
    "l1-exact",
    L1ExactOptions,
    paper=PAPER,
    summary="pays for every token of distance to a target length",
    wrong="nearer the target is better",
    knob=Knob("target", CAPS.values, {"alpha": "1/L"}),
    baseline=True,
)
def l1_exact(options: L1ExactOptions) -> Method:
    """Correctness less `alpha` per token of distance to the `target`."""
    return gated(
        options, reward=lambda r, state: budget_exact(r.correct, r.num_tokens, options.target, alpha=options.alpha)
    )


@declare(
    "l1-max",
    L1MaxOptions,
    paper=PAPER,
    summary="right answers earn by how far below a target length they stay",
    knob=Knob("target", CAPS.values, {"alpha": "1/L"}),
    baseline=True,
)
def l1_max(options: L1MaxOptions) -> Method:
    """Right answers earn more the further below the `target`; `form` paper or code."""
    return gated(
        options,
        reward=lambda r, state: budget_max(
            r.correct, r.num_tokens, options.target, alpha=options.alpha, form=options.form
        ),
    )
