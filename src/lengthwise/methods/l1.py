"""L1: a reward for keeping to a token budget. arXiv 2503.04697.

The paper names the budget in the prompt, another one for each; here it is one fixed `target` for all prompts, since
a prompt's wording belongs to the prompt contract.
"""

from __future__ import annotations

from typing import Any

from lengthwise.engine.method import Method
from lengthwise.methods._parts import group_relative
from lengthwise.objectives import budget_exact, budget_max

PAPER = "L1: Controlling How Long A Reasoning Model Thinks With Reinforcement Learning, arXiv 2503.04697"


def l1_exact(*, cap: int, target: int | None = None, alpha: float = 3e-4, **common: Any) -> Method:
    """Correctness less `alpha` per token of distance to the `target` (default: half the cap)."""
    goal = target or -(-cap // 2)
    return group_relative(
        name="l1-exact",
        paper=PAPER,
        summary="pays for every token of distance to a target length",
        cap=cap,
        reward=lambda r, state: budget_exact(r.correct, r.num_tokens, goal, alpha=alpha),
        options={"target": goal, "alpha": alpha},
        **common,
    )


def l1_max(*, cap: int, target: int | None = None, alpha: float = 3e-4, form: str = "paper", **common: Any) -> Method:
    """Right answers earn more the further below the `target` (default: half the cap); `form` paper or code."""
    goal = target or -(-cap // 2)
    return group_relative(
        name="l1-max",
        paper=PAPER,
        summary="right answers earn by how far below a target length they stay",
        cap=cap,
        reward=lambda r, state: budget_max(r.correct, r.num_tokens, goal, alpha=alpha, form=form),
        options={"target": goal, "alpha": alpha, "form": form},
        **common,
    )
