"""The gate of a method's reward: which rollouts it pays by length, what that did to a batch, what can go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.engine.rollouts import Rollouts
from lengthwise.objectives import gate, gate_metrics, order_gap, probe_groups

if TYPE_CHECKING:
    from lengthwise.engine.method import Method, State

PROBED_LENGTHS = 5
"""Lengths from 1 to the cap that every combination of answers is asked about."""
NO_GAP = 1e-9
"""A wrong answer is paid more only beyond rounding."""


def own_groups(rollouts: Rollouts) -> Tensor:
    """The groups in which the engine drew its rows, int [B]."""
    return rollouts.group_ids


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A reward in two parts, so that its length term can be kept from some rows.

    `shaped(rollouts, state)` is the reward as its paper has it, float [B]; `base(rollouts)` what the same verdict
    earns without a length term. `kind`, `min_right` and `floor` are those of `objectives.gate`; `groups(rollouts)` are
    the rows that are compared, int [B]. `loudest` is the state under which length is paid most, where the method has
    one: what `order_warning` asks about, and `way_out` what it advises.
    """

    shaped: Callable[[Rollouts, State], Tensor]
    base: Callable[[Rollouts], Tensor]
    kind: str = "none"
    min_right: int = 1
    floor: float | None = None
    groups: Callable[[Rollouts], Tensor] = own_groups
    loudest: State | None = None
    way_out: str = "give --gate right, or weigh length less"

    def paid(self, rollouts: Rollouts, state: State) -> Tensor:
        """The reward behind the gate, float [B]; with `kind` none and no floor the shaped one as it is."""
        shaped = self.shaped(rollouts, state)
        if self.kind == "none" and self.floor is None:
            return shaped
        return gate(
            self.base(rollouts), shaped, rollouts.correct, self.groups(rollouts),
            kind=self.kind, min_right=self.min_right, floor=self.floor,
        )  # fmt: skip

    def measured(self, rollouts: Rollouts, state: State) -> dict[str, float]:
        """What it did to a batch, by the names of the step log; no gap where no group has right and wrong rows."""
        found = gate_metrics(
            self.base(rollouts), self.shaped(rollouts, state), rollouts.correct, self.groups(rollouts),
            kind=self.kind, min_right=self.min_right, floor=self.floor,
        )  # fmt: skip
        return {f"gate_{name}": float(value) for name, value in found.items() if math.isfinite(value)}


def worst_gap(method: Method, cap: int) -> float:
    """The lowest paid right answer less the highest paid wrong one of its group, over groups of all lengths to a cap.

    Below 0: with its options the method can pay a wrong answer more than a right one.
    """
    state: State = method.initial_state()
    if method.gate is not None and method.gate.loudest is not None:
        state = method.gate.loudest
    correct, num_tokens, group_ids = probe_groups(cap=cap, points=PROBED_LENGTHS)
    asked = probe_rollouts(correct, num_tokens, group_ids, cap=cap)
    groups = group_ids if method.gate is None else method.gate.groups(asked)
    return float(order_gap(method.reward(asked, state), correct, groups))


def order_warning(method: Method, cap: int) -> str | None:
    """What is to be said of a method that can pay a wrong answer more than a right one; None where it cannot."""
    if method.gate is None:
        return None
    gap = worst_gap(method, cap)
    if gap >= -NO_GAP:
        return None
    return (
        f"with these options and a cap of {cap}, method {method.name!r} can pay a wrong answer {-gap:.3g} more than a "
        f"right one of its group, and a short wrong answer is easy to write; {method.gate.way_out}"
    )


def probe_rollouts(correct: Tensor, num_tokens: Tensor, group_ids: Tensor, *, cap: int) -> Rollouts:
    """Finished answers of given verdicts bool [B], lengths int [B] and groups int [B], half of each answer thinking.

    Their tokens are all unlike, and take no memory.
    """
    rows, width = len(correct), max(int(num_tokens.max()), 1)
    mask = torch.arange(width) < num_tokens[:, None]
    zero = torch.zeros((), dtype=torch.long)
    yes = torch.ones(rows, dtype=torch.bool)
    return Rollouts(
        prompt_ids=zero.expand(rows, 1), prompt_mask=yes[:, None], completion_ids=torch.arange(width).expand(rows, -1),
        mask=mask, train_mask=mask, num_tokens=num_tokens, finished=yes, done=yes, answer_correct=correct,
        group_ids=group_ids, problem_ids=group_ids, cap=zero.expand(rows) + cap,
        logp=torch.zeros(()).expand(rows, width), policy_version=zero.expand(rows, width), is_long=~yes, obeys=yes,
        bare_prompt_ids=zero.expand(rows, 1), thinking_tokens=num_tokens - num_tokens // 2,
        answer_start=num_tokens - num_tokens // 2,
    )  # fmt: skip


def own_metrics(method: Method, rollouts: Rollouts, state: State, advantages: Tensor) -> Mapping[str, float]:
    """What the step log says of a batch beside what it says of every method's: its gate, its own numbers."""
    gated = {} if method.gate is None else method.gate.measured(rollouts, state)
    own = {} if method.measure is None else method.measure(rollouts, state, advantages)
    return {**gated, **own}
