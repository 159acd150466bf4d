"""HAPO: shorter than the shortest right answer so far. arXiv 2505.11225. The history is saved with the checkpoint."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods.declaration import WEIGHTS, Knob, declare
from lengthwise.methods.gating import Gated, gated
from lengthwise.objectives import history_length, updated_history


class HapoOptions(Gated):
    """Options of HAPO."""

    weight: float = setting(1.0, ge=0, help="Weight of the length term.")
    form: Literal["cosine", "linear"] = setting("cosine", help="How the length term falls with the length.")


@declare(
    "hapo",
    HapoOptions,
    paper="HAPO: Training Language Models to Reason Concisely via History-Aware Policy Optimization, arXiv 2505.11225",
    summary="rewards answers shorter than the shortest right one seen before",
    knob=Knob("weight", WEIGHTS),
    wrong="beyond the history shorter is better",
    baseline=True,
)
def hapo(options: HapoOptions) -> Method:
    """Correctness plus `weight` times how the length compares with the problem's shortest right answer so far."""
    return gated(
        options,
        reward=lambda r, state: history_length(
            r.correct, r.num_tokens, known(state, r), weight=options.weight, form=options.form
        ),
        initial_state=lambda: {"shortest": {}},
        update_state=remember,
    )


def known(state: State, rollouts: Rollouts) -> Tensor:
    """Shortest right answer to each row's problem in earlier batches, int [B]; 0 for none."""
    found = [state["shortest"].get(str(problem), 0) for problem in rollouts.problem_ids.tolist()]
    return torch.tensor(found, device=rollouts.num_tokens.device)


def remember(state: State, rollouts: Rollouts) -> dict[str, object]:
    """The state after a batch."""
    best = updated_history(known(state, rollouts), rollouts.correct, rollouts.num_tokens, rollouts.problem_ids)
    pairs = zip(rollouts.problem_ids.tolist(), best.tolist(), strict=True)
    return {"shortest": {**state["shortest"], **{str(problem): length for problem, length in pairs if length}}}
