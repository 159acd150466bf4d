"""Thinking that is cut at budgets: closing words are written behind it, and answers are drawn after each cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lengthwise.engine.backends.partial_rollouts import Written
from lengthwise.engine.backends.protocol import Backend, World
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ThinkingCuts:
    """At which `budgets` of tokens, strictly rising, the thinking of a rollout is cut, and how it is answered then.

    `closing` is written behind a thinking that was cut; `mark` is the text by which one that closed by itself is known,
    and a part of `closing`. After each cut `answers` answers are drawn, of at most `answer` tokens with the closing
    words or the mark. What is written for the model is not learnt from, and thinking that several rows share in one
    of them alone: that of the last budget's first answer.
    """

    budgets: tuple[int, ...]
    closing: str
    mark: str
    answer: int
    answers: int = 1

    def __post_init__(self) -> None:
        if not self.budgets or list(self.budgets) != sorted({b for b in self.budgets if b >= 1}):
            raise ConfigError(f"budgets is {self.budgets}; give strictly rising tokens of at least 1")
        if self.answers < 1:
            raise ConfigError(f"answers is {self.answers}; give at least 1 answer at each cut")
        if not self.mark or self.closing.count(self.mark) != 1:
            raise ConfigError(
                f"closing is {self.closing!r} and mark {self.mark!r}; the closing words must hold the mark once, or a "
                "thinking that was cut would count as never closed"
            )


@dataclass(frozen=True)
class ClosingTokens:
    """Closing words and mark as token ids."""

    closing: tuple[int, ...]
    mark: tuple[int, ...]

    @classmethod
    def of(cls, cuts: ThinkingCuts, closing: Sequence[int], mark: Sequence[int]) -> ClosingTokens:
        """Those of a tokenizer.

        Raises:
            ConfigError: it knows no mark, does not write it alike in the closing words, or they fill the answer.
        """
        found = cls(tuple(closing), tuple(mark))
        if not found.mark or _places(found.closing, found.mark) != 1:
            raise ConfigError(
                f"the mark {cuts.mark!r} is {list(mark)} to this model's tokenizer and {cuts.closing!r} "
                f"{list(closing)}, which does not hold it once; give the options mark, which ends this model's "
                "thinking, and closing, which holds it"
            )
        if len(found.closing) >= cuts.answer:
            raise ConfigError(
                f"answer is {cuts.answer} tokens, and the closing words alone are {len(found.closing)}; give more"
            )
        return found

    def start(self, tokens: Sequence[int]) -> int | None:
        """Where the mark stands first; None where it does not."""
        size = len(self.mark)
        return next((i for i in range(len(tokens) - size + 1) if tuple(tokens[i : i + size]) == self.mark), None)

    def once(self, tokens: Sequence[int]) -> bool:
        """Whether the mark stands in the tokens exactly once."""
        return _places(tokens, self.mark) == 1


def answered(
    backend: Backend,
    thinkings: Rollouts,
    cuts: ThinkingCuts,
    words: ClosingTokens,
    *,
    generator: torch.Generator,
    temperature: float,
    world: World | None = None,
) -> Rollouts:
    """The answers after each cut of each thinking, by thinking, budget and answer; not graded yet.

    A thinking that closed by itself is cut behind its mark. One that ended without a mark stays as it is. Filled in are
    `thinking_ids`, `budget`, `answer_start` and `thinking_tokens` (all where the mark does not stand there once).
    """
    prompts, kept, forced, caps, source, budgets = [], [], [], [], [], []
    for row in range(len(thinkings)):
        tokens = thinkings.response(row)
        at = words.start(tokens)
        ended = at is None and bool(thinkings.finished[row])
        for budget in cuts.budgets:
            whole = len(tokens) if ended else len(tokens) + 1 if at is None else at + len(words.mark)
            closed = whole <= budget
            for _ in range(cuts.answers):
                prompts.append(thinkings.prompt(row))
                kept.append(tokens[: whole if closed else budget])
                forced.append([] if closed else list(words.closing))
                caps.append(min(budget, at if closed and at is not None else budget) + cuts.answer)
                source.append(row)
                budgets.append(budget)
    state = Written(prompts, [z + more for z, more in zip(kept, forced, strict=True)], caps)
    versions = thinkings.policy_version
    for number, (row, z, more) in enumerate(zip(source, kept, forced, strict=True)):
        lone = budgets[number] == cuts.budgets[-1] and number % cuts.answers == 0
        trained: list[bool] = thinkings.train_mask[row, : len(z)].tolist() if lone else [False] * len(z)
        state.logps[number] = [*thinkings.logp[row, : len(z)].tolist(), *[0.0] * len(more)]
        state.trained[number] = [*trained, *[False] * len(more)]
        state.versions[number] = [*versions[row, : len(z)].tolist(), *[int(versions[row, 0])] * len(more)]
        ends = bool(thinkings.finished[row]) and words.start(z) is None and not more
        state.finished[number] = ends
    rows = torch.tensor(source)
    begun = state.rollouts(
        thinkings.group_ids[rows].tolist(), thinkings.problem_ids[rows].tolist(), int(versions.max()),
        pad_id=backend.pad_id, device=backend.device,
    )  # fmt: skip
    drawn = backend.resume(
        begun, caps=caps, generator=generator, temperature=temperature, policy_version=int(versions.max()), world=world
    )
    once = torch.tensor([words.once(drawn.response(row)) for row in range(len(drawn))], device=backend.device)
    start = begun.num_tokens
    # ids that differ between the batches of a step, as those of groups do
    ids = thinkings.group_ids[rows] * 2**20 + rows.to(backend.device)
    return drawn.with_fields(
        thinking_ids=ids, budget=torch.tensor(budgets, device=backend.device), answer_start=start,
        thinking_tokens=torch.where(once, start, drawn.num_tokens),
    )  # fmt: skip


def _places(tokens: Sequence[int], mark: Sequence[int]) -> int:
    size = len(mark)
    return sum(tuple(tokens[i : i + size]) == tuple(mark) for i in range(len(tokens) - size + 1)) if size else 0
