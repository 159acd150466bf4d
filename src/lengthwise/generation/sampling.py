"""Sample answers to problems with our own sampler, and make a record of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.config.groups.sampling import EXITS, Intervention, Sampling
from lengthwise.engine import listening
from lengthwise.engine.backends.protocol import Backend, World
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.batches import TaskWorld, step_generator, world_generator
from lengthwise.engine.model_folders import Policy
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.generation.early_exits import Exit, check_exit
from lengthwise.generation.free_baselines import (
    Agreed,
    Due,
    FirstOfGroup,
    ForcedEnding,
    budget_spent,
    ending,
    first_to_finish,
)
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.grading.problems import Problems, Questions
from lengthwise.json_types import JsonObject
from lengthwise.statistics.graded_problems import Graded, GradedProblem, record_of
from lengthwise.statistics.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVALUATION_STAGE = 4_002
ROWS_AT_ONCE = 1024
"""Rows in flight where a run measures itself; `Sampling.sample_rows` by default is for models of any size."""


def draw(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    copies: int = 1,
    part: int = 0,
    world: TaskWorld | None = None,
) -> Rollouts:
    """Draw `samples` times `copies` responses per problem, not graded: rows sorted as the problems are.

    ``part`` seeds the draws beside the seed. ``world`` makes, from the problem of every row, what writes tokens into
    the responses; by default the contract's stop strings.
    """
    owners = [problem for problem in range(len(problems)) for _ in range(sampling.samples * copies)]
    seed = sampling.seed or 0
    writes_in = (world or problems.stops)(owners, world_generator(seed, part, EVALUATION_STAGE))
    with policy.compute():
        return _backend(policy, problems, sampling, writes_in).generate(
            [problems.prompts[owner] for owner in owners],
            caps=sampling.most_tokens,
            generator=step_generator(seed, part, EVALUATION_STAGE, policy.device),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            group_ids=owners,
            problem_ids=owners,
            world=writes_in,
            stop_repeats=sampling.stop_repeats,
        )


def _backend(policy: Policy, problems: Problems, sampling: Sampling, writes_in: World | None) -> Backend:
    """The policy's own backend; where something writes into responses, or it has none, the model itself."""
    if policy.backend is not None and writes_in is None:
        return policy.backend
    return Sampler(
        policy.model, eos_ids=problems.contract.eos_ids, pad_id=policy.pad_id, max_rows=sampling.sample_rows,
        endless=policy.endless,
    )  # fmt: skip


def sample_answers(
    policy: Policy, problems: Problems, sampling: Sampling, *, world: TaskWorld | None = None
) -> Rollouts:
    """`draw` responses and grade them."""
    rollouts = draw(policy, problems, sampling, world=world)
    responses = [rollouts.response(row) for row in range(len(rollouts))]
    verdicts = problems.responses_are_right(rollouts.problem_ids.tolist(), responses)
    return rollouts.with_fields(answer_correct=torch.tensor(verdicts, device=policy.device))


def complete(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    intervention: Intervention | None = None,
    part: int = 0,
) -> list[Completion]:
    """Draw `samples` responses per problem under an intervention (see `check_forcing`), problem by problem."""
    asked = intervention or Intervention()
    copies, stops = asked.short_of or 1, problems.stop_world()
    leave = _exit(policy, problems, asked, sampling)
    forcing = _forced_ending(problems, asked, stops, leave) if asked.forces else None
    siblings = FirstOfGroup(copies, eos_id=problems.contract.eos_ids[0], otherwise=stops) if copies > 1 else None
    world = forcing or siblings  # without either, the problems' own
    rollouts = draw(
        policy, problems, sampling, copies=copies, part=part, world=None if world is None else lambda *_: world
    )
    ended_for_it = (forcing.cut if forcing else set()) | (siblings.stopped if siblings else set())
    forced = forcing.started if forcing else {}
    found = [
        _completion(problems, rollouts, row, sampling.most_tokens, ended=row in ended_for_it, forced=row in forced)
        for row in range(len(rollouts))
    ]
    if leave is not None:
        return [replace(one, spent_tokens=one.num_tokens + leave.trial_tokens[row]) for row, one in enumerate(found)]
    return found if copies == 1 else [chosen(found[i : i + copies]) for i in range(0, len(found), copies)]


def check_forcing(questions: Questions, sampling: Sampling, intervention: Intervention) -> None:
    """Refuse, before any response is drawn, to end the thinking where that cannot be done.

    Raises:
        ConfigError: no tokenizer to render the prompt with, or a budget that leaves no room for an answer.
    """
    if not intervention.forces:
        return
    if not isinstance(questions, Problems):
        raise ConfigError(
            "budget and early_stop continue a response where its thinking was ended, which a chat endpoint cannot: "
            "the prompt must be rendered here; give --tokenizer FOLDER, the model's own"
        )
    tokens = len(_ending_ids(questions, intervention))
    if intervention.budget is not None and intervention.budget + tokens >= sampling.most_tokens:
        raise ConfigError(
            f"budget is {intervention.budget}, and {tokens} tokens ask for the answer, but the cap is {sampling.cap}; "
            "lower the budget or raise the cap"
        )


def _ending_ids(problems: Problems, asked: Intervention) -> list[int]:
    return list(problems.tokenizer(ending(asked, problems.contract), add_special_tokens=False)["input_ids"])


def _exit(policy: Policy, problems: Problems, asked: Intervention, sampling: Sampling) -> Exit | None:
    """What asks the model whether its thinking has settled, where that is wanted."""
    if asked.early_stop not in EXITS:
        return None
    check_exit(policy, asked)
    return Exit(policy, problems, asked, _ending_ids(problems, asked), sampling.samples, sampling.most_tokens)


def _forced_ending(
    problems: Problems, asked: Intervention, otherwise: World | None, leave: Exit | None
) -> ForcedEnding:
    asks = _ending_ids(problems, asked)
    due: Due = leave or Agreed(problems.response_text, problems.contract)
    if asked.budget is not None:
        due = budget_spent(asked.budget, problems.response_text, problems.contract)
    eos_id = problems.contract.eos_ids[0]
    return ForcedEnding(due, asks, answer_tokens=asked.answer_room, eos_id=eos_id, otherwise=otherwise)


def _completion(problems: Problems, rollouts: Rollouts, row: int, cap: int, *, ended: bool, forced: bool) -> Completion:
    tokens = rollouts.response(row)
    repeats = not rollouts.finished[row] and len(tokens) < cap
    if ended:  # by an EOS of ours, which is no token of the response
        tokens.pop()
    finished = bool(rollouts.finished[row]) and not ended
    return Completion(problems.response_text(tokens), len(tokens), finished, forced=forced, repeats=bool(repeats))


def chosen(drafts: Sequence[Completion]) -> Completion:
    """The first of some drafts to finish, with what all of them spent; see `free_baselines.first_to_finish`."""
    first, spent = first_to_finish([d.num_tokens for d in drafts], [d.finished for d in drafts])
    return replace(drafts[first], spent_tokens=spent)


def complete_all(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    log: ResponseLog,
    *,
    intervention: Intervention,
    tell: Callable[[Sequence[Completion]], None],
) -> None:
    """Draw what a log lacks, part by part; a part is as many problems as fit into `sampling.sample_rows` rows.

    Each part has draws of its own, so a log that was continued holds the same responses, to the bit, as one that was
    not. `tell` hears of every part that is on the disk, and once of all that was there before.
    """
    size = max(1, sampling.sample_rows // (sampling.samples * (intervention.short_of or 1)))
    missing = sorted({problem // size for problem, _ in log.missing(problems, sampling.samples)})
    if missing and policy.backend is None and not policy.endless:  # Lambda attention proves itself, and is never padded
        Sampler(policy.model, eos_ids=problems.contract.eos_ids, pad_id=policy.pad_id).check()
    for number, part in enumerate(missing, 1):
        some = problems.part(part * size, size)
        with listening.before((len(missing) - number) * sampling.most_tokens):
            found = complete(policy, some, sampling, intervention=intervention, part=part)
        places = ((n // sampling.samples, n % sampling.samples, one) for n, one in enumerate(found))
        log.add(some, places)
        tell(found)


def context_of(
    questions: Questions,
    sampling: Sampling,
    *,
    model: str,
    data: str,
    grader: str,
    tokenizer: str,
    intervention: JsonObject | None = None,
) -> JsonObject:
    """What a record must carry to be compared: everything that its numbers depend on."""
    return {
        "model": model,
        "data": data,
        "contract": questions.contract.to_dict(),
        "template": questions.contract.fingerprint(),
        **sampling.context(),
        "grader": grader,
        "tokenizer": tokenizer,
        "intervention": intervention,
    }


def context_of_drawn(
    problems: Problems, sampling: Sampling, *, model: str, data: str, intervention: Intervention | None = None
) -> JsonObject:
    """`context_of` for what our own sampler draws."""
    return context_of(
        problems, sampling, model=model, data=data, grader=problems.grader_name,
        tokenizer=tokenizer_name(problems.tokenizer),
        intervention=None if intervention is None else intervention.context(),
    )  # fmt: skip


def source_name(source: str) -> str:
    """What records call their data: a file's name without its folder, or the name of a data set."""
    return Path(source).name if Path(source).is_file() else source


def tokenizer_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """What records call a tokenizer: its class and the size of its vocabulary."""
    return f"{type(tokenizer).__name__}/{len(tokenizer)}"


def record_of_drawn(
    graded: Sequence[Graded],
    problems: Problems,
    sampling: Sampling,
    *,
    name: str,
    model: str,
    data: str,
    intervention: Intervention | None = None,
) -> Record:
    """The record of graded responses, problem by problem, with everything that must be alike before it may be compared.

    Each problem has `sampling.samples` of them.
    """
    context = context_of_drawn(problems, sampling, model=model, data=data, intervention=intervention)
    return record_of_samples(name, context, problems, sampling.samples, graded)


def record_of_samples(
    name: str, context: JsonObject, questions: Questions, samples: int, graded: Sequence[Graded | None]
) -> Record:
    """The record of graded responses, ``samples`` to each problem in turn.

    None is a response that could not be graded; a problem that has no other is left out.
    """
    categories: Sequence[str | None] = questions.categories or [None] * len(questions)
    groups = [
        [one for one in graded[first : first + samples] if one is not None] for first in range(0, len(graded), samples)
    ]
    found = map(GradedProblem, questions.ids, categories, groups)
    return record_of(name, context, (problem for problem in found if problem.responses))


def graded_rollouts(rollouts: Rollouts) -> list[Graded]:
    """What a record keeps of each row."""
    columns = (rollouts.answer_correct.tolist(), rollouts.finished.tolist(), rollouts.num_tokens.tolist())
    return list(map(Graded, *columns))


def evaluate(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    name: str,
    data: str,
) -> tuple[Record, Rollouts]:
    """Sample, grade and record: accuracy and length of a model on problems, with its rollouts.

    See `Record` for the numbers that follow.
    """
    rollouts = sample_answers(policy, problems, sampling)
    graded = graded_rollouts(rollouts)
    return record_of_drawn(graded, problems, sampling, name=name, model=str(policy.folder), data=data), rollouts
