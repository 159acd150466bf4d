"""A method's parts called once on a few made-up rows, so that an option out of range is refused before any sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.method import BarePrompts, LossInputs, Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.thinking_cuts import ThinkingCuts

GROUPS, GROUP_SIZE, LONGEST = 2, 8, 4


def rehearse(method: Method) -> None:
    """Call every part of a method in the engine's order, on two mixed groups of eight rows of one to four tokens.

    Raises:
        LengthwiseError: what a part says of its options; nothing is caught, and nothing else changes.
    """
    state = method.initial_state()
    rollouts = _made_up(method.cap(0, state), method.cuts)
    if method.observe is not None:
        state = method.observe.update(state, rollouts)
    if method.keep is not None:
        method.keep(rollouts)
    rewards = method.reward(rollouts, state)
    credit = rewards[:, None] * rollouts.train_mask if method.windows is not None else rewards
    advantages = method.advantage(credit, rollouts)
    if method.measure is not None:
        method.measure(rollouts, state, advantages)
    if method.teacher is None:
        _rehearse_losses(method, rollouts, advantages)
    method.update_state(state, rollouts)


def _rehearse_losses(method: Method, rollouts: Rollouts, advantages: Tensor) -> None:
    old_logp = rollouts.logp
    logp = (old_logp * 1.01).requires_grad_()  # no ratio is exactly 1, so the clips are read
    shared = None if method.shared is None else method.shared(logp.detach(), old_logp, rollouts.train_mask)
    normaliser = method.normaliser(rollouts)
    method.loss(LossInputs(logp, old_logp, advantages, rollouts.train_mask, rollouts, normaliser, shared))
    rows = torch.arange(GROUPS) * GROUP_SIZE
    for extra in method.extra_losses:
        logits = torch.zeros(GROUPS, max(2, len(extra.words)))
        extra.function(BarePrompts(logits, rollouts, rows, tuple(range(len(extra.words)))))


def _made_up(cap: float, cuts: ThinkingCuts | None = None) -> Rollouts:
    """Two groups, half right, half asked for long answers, of every length up to four tokens; one answer is cut."""
    each = 1 if cuts is None else len(cuts.budgets) * cuts.answers
    size, longest = GROUP_SIZE * each, max(1, min(LONGEST, int(cap)))
    count = GROUPS * size
    places = torch.arange(count)
    num_tokens = 1 + places % longest
    mask = torch.arange(longest) < num_tokens[:, None]
    finished = places > 0
    return Rollouts(
        prompt_ids=torch.zeros(count, 1, dtype=torch.long),
        prompt_mask=torch.ones(count, 1, dtype=torch.bool),
        completion_ids=(places[:, None] + torch.arange(longest)) * mask,
        mask=mask,
        train_mask=mask,
        num_tokens=num_tokens,
        finished=finished,
        done=torch.ones_like(finished),
        answer_correct=places // 2 % 2 == 0,
        group_ids=places // size,
        problem_ids=places // size,
        cap=torch.full_like(places, longest),
        logp=torch.full(mask.shape, -0.5) * mask,
        policy_version=torch.zeros(mask.shape, dtype=torch.long),
        is_long=places % size < size // 2,
        obeys=torch.ones_like(finished),
        bare_prompt_ids=torch.zeros(count, 1, dtype=torch.long),
        thinking_tokens=num_tokens // 2,
        **({} if cuts is None else _cut(places, num_tokens, cuts)),
    )


def _cut(places: Tensor, num_tokens: Tensor, cuts: ThinkingCuts) -> dict[str, Tensor]:
    each = len(cuts.budgets) * cuts.answers
    budget = torch.tensor(cuts.budgets)[places // cuts.answers % len(cuts.budgets)]
    start = (num_tokens // 2).clamp(max=cuts.budgets[-1])
    return {"thinking_ids": places // each, "budget": budget, "answer_start": start}
