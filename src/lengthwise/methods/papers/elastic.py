"""Elastic Reasoning and BRPO (AnytimeReasoner): thinking that is cut at budgets. arXiv 2505.05315 and 2505.13438.

Of AnytimeReasoner the abstract and the code were read; its closing words and the discount of its paper were not
*(inferred)*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.thinking_cuts import ThinkingCuts
from lengthwise.errors import ConfigError
from lengthwise.methods._parts import GroupRelative, group_relative, part_of
from lengthwise.methods.declaration import CAPS, declare
from lengthwise.objectives import (
    budget_answers,
    budget_relative,
    budget_weights,
    even_budgets,
    segment_credit,
    separated_truncation,
)
from lengthwise.objectives._wide import wide

ONE_CAP = "its budgets are parts of one cap"


class CutOptions(GroupRelative):
    """Options of methods that cut thinking."""

    answer: int = setting(ge=1, help="Most tokens of an answer, closing words with it.", default_text="half the cap")
    mark: str = setting("</think>", help="What ends the model's thinking.")
    closing: str = setting("\n</think>\n\n", help="What is written behind a thinking that was cut; holds the mark.")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The answer's half of the cap."""
        return {**super().dependent_defaults(given), "answer": part_of(given["cap"], 2)}

    def check(self) -> None:
        """Room for thinking."""
        super().check()
        if self.answer >= self.cap > 1:
            raise ConfigError(f"answer is {self.answer} of a cap of {self.cap}, which leaves no thinking; give less")

    @property
    def thinking(self) -> int:
        """Tokens of the longest thinking."""
        return max(1, self.cap - self.answer)


class BrpoOptions(CutOptions):
    """Options of BRPO."""

    answer: int = setting(ge=1, help="Most tokens of an answer, closing words with it.", default_text="1/8 of the cap")
    budgets: int = setting(ge=1, help="Budgets, evenly up to what the answer leaves of the cap.", default_text="4")
    answers: int = setting(4, ge=1, help="Answers drawn after each cut.")
    weights: Literal["uniform", "proportional", "last"] = setting("uniform", help="What each budget weighs.")
    growth: float = setting(2.0, gt=0, help="Weight of a later budget's score against the one before, in the baseline.")
    last_only: bool = setting(False, help="Train the last budget's answers alone.")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """An answer is an eighth of the cap; four budgets, where so many differ."""
        answer = part_of(given["cap"], 8)
        left = [cut for cut in (given["cap"], given.get("answer") or answer) if isinstance(cut, int)]
        budgets = max(1, min(4, left[0] - left[1])) if len(left) == 2 else 4
        return {**super().dependent_defaults(given), "answer": answer, "budgets": budgets}

    def check(self) -> None:
        """Budgets that differ."""
        super().check()
        if self.budgets > self.thinking:
            raise ConfigError(
                f"budgets is {self.budgets}, but cap {self.cap} less answer {self.answer} leaves {self.thinking} "
                "tokens of thinking; give fewer budgets or a longer cap"
            )


@declare(
    "elastic",
    CutOptions,
    paper="Scalable Chain of Thoughts via Elastic Reasoning, arXiv 2505.05315",
    summary="thinking is cut at a budget and the answer asked for; right within both budgets earns, no length term",
    knob=CAPS,
    one_cap=ONE_CAP,
)
def elastic(options: CutOptions) -> Method:
    """GRPO on answers after a thinking of at most `cap` less `answer` tokens, closed by force where it did not close.

    The paper trains at 1024 and 1024 tokens and is asked at any pair. Closing words are part of the response and not
    trained; here they count for the answer's tokens *(choice)*. Drawn in two requests, so with vLLM too.
    """

    def reward(r: Rollouts, state: State) -> Tensor:
        start = answer_start(r)
        return separated_truncation(
            r.answer_correct, start.clamp(max=options.thinking), r.num_tokens - start, r.finished,
            thinking_budget=options.thinking, answer_budget=options.answer,
        )  # fmt: skip

    cuts = ThinkingCuts(budgets=(options.thinking,), closing=options.closing, mark=options.mark, answer=options.answer)
    return group_relative(options, reward=reward, cuts=cuts)


@declare(
    "brpo",
    BrpoOptions,
    paper="Optimizing Anytime Reasoning via Budget Relative Policy Optimization, arXiv 2505.13438",
    summary="each thinking is cut at several budgets and answered at each; credit by segment, no length term",
    knob=CAPS,
    one_cap=ONE_CAP,
)
def brpo(options: BrpoOptions) -> Method:
    """Each thinking is cut at `budgets` budgets and `answers` answers are drawn after each cut.

    A segment of thinking earns what the answers after it score, against the group and the cuts before; an answer its
    score less its siblings'. Right with exactly one mark scores 1. A step learns from budgets x answers rows for each
    rollout, so take fewer prompts. Closing words beyond the mark are ours.
    """
    budgets = even_budgets(options.thinking, options.budgets)
    weights = budget_weights(budgets, kind=options.weights)

    def advantage(rewards: Tensor, r: Rollouts) -> Tensor:
        index = thinkings(r)
        place = torch.bucketize(_given(r.budget), torch.tensor(budgets, device=rewards.device))
        order = torch.argsort(index * len(budgets) + place, stable=True)
        table = rewards[order].reshape(-1, len(budgets), options.answers)
        groups = r.group_ids[order].reshape(table.shape)[:, 0, 0]
        segments = budget_relative(table.mean(dim=2), groups, weights=weights, growth=options.growth)
        answers = torch.empty_like(rewards, dtype=segments.dtype)
        answers[order] = budget_answers(table, groups, last_only=options.last_only).reshape(-1)
        columns = torch.arange(r.mask.shape[1], device=rewards.device)
        before = columns < answer_start(r)[:, None]
        credit = segment_credit(segments[index], r.train_mask & before, budgets=budgets)
        return (credit + answers[:, None] * (r.train_mask & ~before)).float()

    method = group_relative(
        options,
        reward=lambda r, state: wide(r.correct & (_given(r.thinking_tokens) < r.num_tokens)),
        cuts=ThinkingCuts(
            budgets=tuple(budgets), closing=options.closing, mark=options.mark, answer=options.answer,
            answers=options.answers,
        ),
    )  # fmt: skip
    # a thinking that ended without an answer is learnt once, and its other rows have no token
    return dataclasses.replace(
        method, advantage=advantage, normaliser=lambda r: method.normaliser(r.select(r.train_mask.any(1)))
    )


def answer_start(rollouts: Rollouts) -> Tensor:
    """Tokens before the answer, int [B]."""
    return _given(rollouts.answer_start)


def thinkings(rollouts: Rollouts) -> Tensor:
    """The number of each row's thinking in the batch, int [B] from 0."""
    found: Tensor = _given(rollouts.thinking_ids).unique(return_inverse=True)[1]
    return found


def _given(field: Tensor | None) -> Tensor:
    assert field is not None, "the engine fills in what cuts say"
    return field
