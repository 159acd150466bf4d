"""From prompts to a batch worth learning from, and from a batch to micro-batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.engine.backends.partial_rollouts import pad_left
from lengthwise.engine.backends.protocol import Backend, World
from lengthwise.engine.method import Asked, Method, State
from lengthwise.engine.rollouts import NO_TOKEN, Rollouts, join
from lengthwise.engine.thinking_cuts import ClosingTokens, answered
from lengthwise.errors import ConfigError

TaskWorld = Callable[[Sequence[int], torch.Generator], World | None]
"""(problem number of every row, generator) -> the world of one sampling call."""
WORLD_STAGE = 2_000
OBSERVE_STAGE = 1_000
ANSWER_STAGE = 500


@dataclass(frozen=True)
class Task:
    """What is practised: prompts as token ids and a grader of (problem number, response token ids).

    `world`, if any, makes from the problem of every row, and a generator for what is left to chance, what may write
    tokens into the responses. `instruct(problem, words)` is the prompt with words before the problem, and
    `token_id(text)` the one token that a text is: for methods that speak to the model. `grade_all` is `grade` of a
    whole batch, for graders that work side by side. `thinking(response)` counts the tokens of a response that are
    thinking; None where nothing marks its end, and all of it is. `encode(text)` gives the token ids of a text.
    """

    prompts: Sequence[Sequence[int]]
    grade: Callable[[int, list[int]], bool]
    world: TaskWorld | None = None
    instruct: Callable[[int, str], list[int]] | None = None
    token_id: Callable[[str], int] | None = None
    grade_all: Callable[[Sequence[int], Sequence[list[int]]], Sequence[bool]] | None = None
    thinking: Callable[[Sequence[int]], int] | None = None
    encode: Callable[[str], list[int]] | None = None

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ConfigError("prompts is empty; a task needs at least one problem")


@dataclass(frozen=True)
class Collected:
    """One step's rollouts: all that were `drawn` and the `kept` rows, whole groups only; perhaps none."""

    drawn: Rollouts
    kept: Rollouts
    draws: int
    cursor: int


def step_generator(seed: int, step: int, stage: int, device: torch.device) -> torch.Generator:
    """A generator that depends on seed, step and stage alone, so that a resumed run draws the same numbers."""
    mixed = (seed * 1_000_003 + step) * 4_099 + stage
    return torch.Generator(device=device).manual_seed(mixed % (2**63))


def world_generator(seed: int, step: int, draw: int) -> torch.Generator:
    """What a task's world draws from: never the numbers that the sampler draws, and always on the CPU."""
    return step_generator(seed, step, WORLD_STAGE + draw, torch.device("cpu"))


def problem_at(cursor: int, count: int, seed: int) -> int:
    """The problem at a place of the endless reading order: a new permutation every epoch."""
    epoch, place = divmod(cursor, count)
    return int(_epoch(epoch, count, seed)[place])


@functools.lru_cache(maxsize=3)
def _epoch(epoch: int, count: int, seed: int) -> Tensor:
    """One epoch's reading order; kept for the epoch read, the next one, and the first, which watched sets are of."""
    return torch.randperm(count, generator=step_generator(seed, epoch, 4_001, torch.device("cpu")))


def grade_rollouts(rollouts: Rollouts, task: Task) -> Rollouts:
    """Fill in `answer_correct` with the grader's verdicts."""
    problems: list[int] = rollouts.problem_ids.tolist()
    responses = [rollouts.response(row) for row in range(len(rollouts))]
    if task.grade_all is not None:
        verdicts = list(task.grade_all(problems, responses))
    else:
        verdicts = [task.grade(problem, tokens) for problem, tokens in zip(problems, responses, strict=True)]
    return rollouts.with_fields(answer_correct=torch.tensor(verdicts, device=rollouts.finished.device))


def collect(
    backend: Backend,
    task: Task,
    method: Method,
    state: State,
    *,
    step: int,
    cap: int,
    cursor: int,
    prompts: int,
    group_size: int,
    max_draws: int,
    temperature: float,
    seed: int,
    stage: int = 0,
) -> Collected:
    """Sample whole groups, drawing again while the method keeps too few, at most `max_draws` times.

    Fewer kept groups than `prompts` after the last draw is a smaller batch, also one without any. `stage` parts the
    random numbers of different samplings in one step.
    """
    drawn: list[Rollouts] = []
    kept: list[Rollouts] = []
    found, asked = 0, 0
    while found < prompts and len(drawn) < max_draws:
        share = found / asked if found else 0.5
        ask = min(prompts, math.ceil((prompts - found) / max(share, 0.25))) if drawn else prompts
        rows, owners, groups = _ask(task, method, cursor, ask, group_size, asked, seed)
        batch = backend.generate(
            [row.prompt for row in rows],
            caps=cap if method.cuts is None else method.cuts.budgets[-1],
            generator=step_generator(seed, step, stage + len(drawn), backend.device),
            temperature=temperature,
            group_ids=groups,
            problem_ids=owners,
            policy_version=step,
            world=None if task.world is None else task.world(owners, world_generator(seed, step, stage + len(drawn))),
        )
        if method.cuts is not None:
            batch = _answered(backend, batch, task, method, step, seed, stage + len(drawn), temperature)
        batch = _with_needs(grade_rollouts(batch, task), task, method, rows)
        cursor, asked = cursor + ask, asked + ask
        drawn.append(batch)
        good = batch if method.keep is None else batch.select(method.keep(batch))
        found += len(good.group_ids.unique())
        if len(good):
            kept.append(good)
    everything = join(drawn)
    chosen = _first_groups(join(kept), prompts) if kept else everything.select(torch.zeros_like(everything.done))
    return Collected(everything, chosen, len(drawn), cursor)


def closing_tokens(task: Task, method: Method) -> ClosingTokens:
    """The words with which a method that cuts thinking closes it, as token ids.

    Raises:
        ConfigError: a task without text, or what `ClosingTokens.of` refuses.
    """
    assert method.cuts is not None, "the method cuts thinking"
    if task.encode is None:
        raise ConfigError(
            f"method {method.name!r} writes closing words behind thinking, but this task knows no words; "
            "take problems of text"
        )
    return ClosingTokens.of(method.cuts, task.encode(method.cuts.closing), task.encode(method.cuts.mark))


def _answered(
    backend: Backend, thinkings: Rollouts, task: Task, method: Method, step: int, seed: int, stage: int,
    temperature: float,
) -> Rollouts:  # fmt: skip
    assert method.cuts is not None, "the method cuts thinking"
    each = len(method.cuts.budgets) * method.cuts.answers
    owners = [problem for problem in thinkings.problem_ids.tolist() for _ in range(each)]
    return answered(
        backend, thinkings, method.cuts, closing_tokens(task, method),
        generator=step_generator(seed, step, ANSWER_STAGE + stage, backend.device), temperature=temperature,
        world=None if task.world is None else task.world(owners, world_generator(seed, step, ANSWER_STAGE + stage)),
    )  # fmt: skip


def ask_problem(task: Task, method: Method, problem: int, group_size: int) -> list[Asked]:
    """The prompts of one group of rollouts, a method's ways of asking in turn, each as often as the others.

    Raises:
        ConfigError: the group cannot be shared out, or the task cannot put words before a problem, does not know them,
            or cannot open an answer.
    """

    def ask(words: str) -> list[int]:
        if not words:
            return list(task.prompts[problem])
        if task.instruct is None:
            raise ConfigError(
                f"method {method.name!r} puts words before a problem, but this task's prompts are fixed; "
                "take problems of text"
            )
        told = list(task.instruct(problem, words))
        if told == list(task.prompts[problem]):
            raise ConfigError(
                f"method {method.name!r} puts {words!r} before a problem, but that changes no prompt: the model's "
                "tokenizer knows none of these words, or its chat template leaves them out; give words that it knows"
            )
        return told

    asked = [_opened(one, task, method) for one in method.prompts(ask)]
    if group_size % len(asked):
        raise ConfigError(
            f"group_size is {group_size} but method {method.name!r} asks each problem in {len(asked)} ways; "
            f"give a multiple of {len(asked)}"
        )
    return [one for one in asked for _ in range(group_size // len(asked))]


def _opened(asked: Asked, task: Task, method: Method) -> Asked:
    """The same with its opener at the prompt's end, where it is to stand there."""
    if not asked.opened:
        return asked
    if task.token_id is None or asked.opener is None:
        raise ConfigError(
            f"method {method.name!r} opens answers itself, but names no opener, or the task knows none; "
            "name one that is a token of the model"
        )
    return asked._replace(prompt=[*asked.prompt, task.token_id(asked.opener)])


def _ask(
    task: Task, method: Method, cursor: int, count: int, group_size: int, first_group: int, seed: int
) -> tuple[list[Asked], list[int], list[int]]:
    rows: list[Asked] = []
    owners: list[int] = []
    groups: list[int] = []
    for offset in range(count):
        problem = problem_at(cursor + offset, len(task.prompts), seed)
        group = ask_problem(task, method, problem, group_size)
        rows += group
        owners += [problem] * len(group)
        groups += [first_group + offset] * len(group)
    return rows, owners, groups


def _with_needs(batch: Rollouts, task: Task, method: Method, rows: Sequence[Asked]) -> Rollouts:
    """The batch with the optional fields that its method needs."""
    fields: dict[str, Tensor] = {}
    device = batch.num_tokens.device
    if "is_long" in method.needs:
        fields["is_long"] = torch.tensor([bool(row.is_long) for row in rows], device=device)
    if "obeys" in method.needs:
        assert task.token_id is not None, "check_needs has seen to it"
        wanted = [task.token_id(row.opener or "") for row in rows]
        fields["obeys"] = batch.completion_ids[:, 0] == torch.tensor(wanted, device=device)
    if "bare_prompt_ids" in method.needs:
        bare = [task.prompts[problem] for problem in batch.problem_ids.tolist()]
        fields["bare_prompt_ids"] = pad_left(bare, NO_TOKEN, device)[0]
    if "thinking_tokens" in method.needs:
        fields["thinking_tokens"] = _thinking_tokens(batch, task)
    return batch.with_fields(**fields) if fields else batch


def _thinking_tokens(batch: Rollouts, task: Task) -> Tensor:
    """How many tokens of each response are thinking, int [B]; all where the task knows no end of it."""
    if task.thinking is None:
        return batch.num_tokens
    found = [task.thinking(batch.response(row)) for row in range(len(batch))]
    return torch.tensor(found, device=batch.num_tokens.device)


def check_needs(task: Task, method: Method, group_size: int) -> None:
    """See before the first step that a task can give what a method needs.

    Raises:
        ConfigError: it cannot; the message names what is missing.
    """
    group = ask_problem(task, method, 0, group_size)
    if method.cuts is not None:
        closing_tokens(task, method)
    if "is_long" in method.needs and any(row.is_long is None for row in group):
        raise ConfigError(
            f"method {method.name!r} needs is_long, but its prompts do not say which mode they ask for; "
            "give Asked.is_long"
        )
    if "obeys" in method.needs:
        if task.token_id is None or any(row.opener is None for row in group):
            raise ConfigError(
                f"method {method.name!r} needs obeys, but no word opens its answers, or the task knows none; "
                "name one that is a token of the model"
            )
        for opener in {row.opener for row in group if row.opener is not None}:
            task.token_id(opener)  # complains of what is not one token


def _first_groups(rollouts: Rollouts, count: int) -> Rollouts:
    kept = rollouts.group_ids.unique()[:count]
    return rollouts.select(torch.isin(rollouts.group_ids, kept))


def nothing_kept(batch: Collected, cap: int) -> str:
    """Why no group of a batch was worth keeping, and what to do about it."""
    drawn, asked = batch.drawn, len(batch.drawn.group_ids.unique())
    correct = float(drawn.correct.float().mean())
    cut = 1 - float(drawn.finished.float().mean())
    advice = "raise the cap" if cut > 0.5 else "use harder problems" if correct > 0.5 else "use easier problems"
    return (
        f"kept 0 of {asked} prompts in {batch.draws} draws: every group is all right or all wrong at cap {cap} "
        f"(accuracy {correct:.1%}, cut {cut:.1%}); {advice}, or raise group_size or max_draws. Where accuracy was "
        "higher before, lower the learning rate"
    )


def mini_batches(group_ids: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Row indices of `count` mini-batches of whole groups, in random order; fewer if there are fewer groups."""
    groups = group_ids.unique()
    shuffled = groups[torch.randperm(len(groups), generator=generator).to(groups.device)]
    return [torch.isin(group_ids, part).nonzero()[:, 0] for part in shuffled.tensor_split(count) if len(part)]


def micro_batches(rollouts: Rollouts, rows: Tensor, *, max_tokens: int, whole_groups: bool) -> Iterator[Tensor]:
    """Split row indices into parts of at most `max_tokens` padded tokens, sorted by length.

    With `whole_groups` a group is never parted, even where it alone is over the limit; otherwise one row is the
    least that a part can hold.
    """
    totals = (rollouts.prompt_mask.sum(1) + rollouts.num_tokens)[rows].tolist()
    units: dict[int, list[int]] = {}
    for place, group in enumerate(rollouts.group_ids[rows].tolist()):
        units.setdefault(group if whole_groups else place, []).append(place)
    ordered = sorted(units.values(), key=lambda unit: max(totals[p] for p in unit))
    part: list[int] = []
    for unit in ordered:
        longest = max(totals[p] for p in unit)
        if part and longest * (len(part) + len(unit)) > max_tokens:
            yield rows[torch.tensor(part, device=rows.device)]
            part = []
        part = part + unit
    if part:
        yield rows[torch.tensor(part, device=rows.device)]
