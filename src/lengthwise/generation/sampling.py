"""Sample answers to problems with our own sampler, and make a record of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch

from lengthwise.engine import listening
from lengthwise.engine.backends.transformers_sampler import Sampler, World
from lengthwise.engine.batches import TaskWorld, step_generator, world_generator
from lengthwise.engine.model_folders import Policy
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError
from lengthwise.generation.free_baselines import (
    Agreed,
    Due,
    FirstOfGroup,
    ForcedEnding,
    Intervention,
    budget_spent,
    first_to_finish,
)
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.grading.problems import Problems, Questions
from lengthwise.statistics.records import Record

EVALUATION_STAGE = 4_002
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn: most tokens each, temperature (0 is greedy), top-p, samples per problem, seed.

    ``seed`` None: a server's own. ``stop_repeats``: a response that goes round in a circle is cut there, see
    `engine.repeating`.

    Raises:
        ConfigError: a value out of its range.
    """

    cap: int
    temperature: float = 1.0
    top_p: float = 1.0
    samples: int = 1
    seed: int | None = 0
    stop_repeats: bool = False

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise ConfigError(f"cap is {self.cap}; a response has at least 1 token")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature is {self.temperature}; give 0 (greedy) or a positive number")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; give a number above 0 and up to 1")
        if self.samples < 1:
            raise ConfigError(f"samples is {self.samples}; draw at least 1 response per problem")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as records have it; ``stop_repeats`` only where it is on."""
        return {name: value for name, value in asdict(self).items() if name != "stop_repeats" or value}

    @classmethod
    def of(cls, context: Mapping[str, Any], **changes: Any) -> Self:
        """The sampling of a record's context, with changes."""
        return cls(**{f.name: context[f.name] for f in fields(cls) if f.name in context} | changes)


def draw(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    copies: int = 1,
    part: int = 0,
    rows_at_once: int = ROWS_AT_ONCE,
    world: TaskWorld | None = None,
) -> Rollouts:
    """Draw `samples` times `copies` responses per problem, not graded: rows sorted as the problems are.

    ``part`` seeds the draws beside the seed. ``world`` makes, from the problem of every row, what writes tokens into
    the responses; by default the contract's stop strings.
    """
    owners = [problem for problem in range(len(problems)) for _ in range(sampling.samples * copies)]
    seed = sampling.seed or 0
    sampler = Sampler(
        policy.model, eos_ids=problems.contract.eos_ids, pad_id=policy.pad_id, max_rows=rows_at_once,
        endless=policy.endless,
    )  # fmt: skip
    with policy.compute():
        return sampler.generate(
            [problems.prompts[owner] for owner in owners],
            caps=sampling.cap,
            generator=step_generator(seed, part, EVALUATION_STAGE, policy.device),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            group_ids=owners,
            problem_ids=owners,
            world=(world or problems.stops)(owners, world_generator(seed, part, EVALUATION_STAGE)),
            stop_repeats=sampling.stop_repeats,
        )


def sample_answers(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
    world: TaskWorld | None = None,
) -> Rollouts:
    """`draw` responses and grade them."""
    rollouts = draw(policy, problems, sampling, rows_at_once=rows_at_once, world=world)
    owners = rollouts.problem_ids.tolist()
    verdicts = [problems.is_right(owner, rollouts.response(row)) for row, owner in enumerate(owners)]
    return rollouts.with_fields(answer_correct=torch.tensor(verdicts, device=policy.device))


def complete(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    intervention: Intervention | None = None,
    part: int = 0,
    rows_at_once: int = ROWS_AT_ONCE,
) -> list[Completion]:
    """Draw `samples` responses per problem under an intervention (see `check_forcing`), problem by problem."""
    asked = intervention or Intervention()
    copies, stops = asked.short_of or 1, problems.stop_world()
    forcing = _forced_ending(problems, asked, stops) if asked.forces else None
    siblings = FirstOfGroup(copies, eos_id=problems.contract.eos_ids[0], otherwise=stops) if copies > 1 else None
    world = forcing or siblings or stops
    rollouts = draw(
        policy, problems, sampling, copies=copies, part=part, rows_at_once=rows_at_once, world=lambda *_: world
    )
    ended_for_it = (forcing.cut if forcing else set()) | (siblings.stopped if siblings else set())
    forced = forcing.started if forcing else {}
    found = [
        _completion(problems, rollouts, row, sampling.cap, ended=row in ended_for_it, forced=row in forced)
        for row in range(len(rollouts))
    ]
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
    ending = len(_ending_ids(questions, intervention))
    if intervention.budget is not None and intervention.budget + ending >= sampling.cap:
        raise ConfigError(
            f"budget is {intervention.budget}, and {ending} tokens ask for the answer, but the cap is {sampling.cap}; "
            "lower the budget or raise the cap"
        )


def _ending_ids(problems: Problems, asked: Intervention) -> list[int]:
    return list(problems.tokenizer(asked.ending(problems.contract), add_special_tokens=False)["input_ids"])


def _forced_ending(problems: Problems, asked: Intervention, otherwise: World | None) -> ForcedEnding:
    ending = _ending_ids(problems, asked)
    due: Due = Agreed(problems.response_text, problems.contract)
    if asked.budget is not None:
        due = budget_spent(asked.budget, problems.response_text, problems.contract)
    eos_id = problems.contract.eos_ids[0]
    return ForcedEnding(due, ending, answer_tokens=asked.answer_room, eos_id=eos_id, otherwise=otherwise)


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
    return Completion(**{**asdict(drafts[first]), "spent_tokens": spent})


def complete_all(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    log: ResponseLog,
    *,
    intervention: Intervention,
    rows_at_once: int,
    tell: Callable[[Sequence[Completion]], None],
) -> None:
    """Draw what a log lacks, part by part; a part is as many problems as fit into `rows_at_once` rows.

    Each part has draws of its own, so a log that was continued holds the same responses, to the bit, as one that was
    not. `tell` hears of every part that is on the disk, and once of all that was there before.
    """
    size = max(1, rows_at_once // (sampling.samples * (intervention.short_of or 1)))
    missing = sorted({problem // size for problem, _ in log.missing(problems, sampling.samples)})
    if missing and not policy.endless:  # Lambda attention proves itself, and is never padded
        Sampler(policy.model, eos_ids=problems.contract.eos_ids, pad_id=policy.pad_id).check_padding()
    for number, part in enumerate(missing, 1):
        some = problems.part(part * size, size)
        with listening.before((len(missing) - number) * sampling.cap):
            found = complete(policy, some, sampling, intervention=intervention, part=part, rows_at_once=rows_at_once)
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
    intervention: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a record must carry to be compared: everything that its numbers depend on."""
    return {
        "model": model,
        "data": data,
        "contract": questions.contract.to_dict(),
        "template": questions.contract.fingerprint(),
        **sampling.to_dict(),
        "grader": grader,
        "tokenizer": tokenizer,
        "intervention": None if intervention is None else dict(intervention),
    }


def source_name(source: str) -> str:
    """What records call their data: a file's name without its folder, or the name of a data set."""
    return Path(source).name if Path(source).is_file() else source


def tokenizer_name(tokenizer: Any) -> str:
    """What records call a tokenizer: its class and the size of its vocabulary."""
    return f"{type(tokenizer).__name__}/{len(tokenizer)}"


def record_of(
    rollouts: Rollouts, problems: Problems, sampling: Sampling, *, name: str, model: str, data: str
) -> Record:
    """The record of graded rollouts, with everything that must be alike before it may be compared."""

    def table(values: torch.Tensor) -> list[list[Any]]:
        return values.view(len(problems), sampling.samples).tolist()

    return Record(
        name=name,
        context=context_of(
            problems,
            sampling,
            model=model,
            data=data,
            grader=problems.grader_name,
            tokenizer=tokenizer_name(problems.tokenizer),
        ),
        problem_ids=problems.ids,
        categories=problems.categories,
        answer_correct=table(rollouts.answer_correct),
        finished=table(rollouts.finished),
        num_tokens=table(rollouts.num_tokens),
    )


def evaluate(
    policy: Policy,
    problems: Problems,
    sampling: Sampling,
    *,
    name: str,
    data: str,
    rows_at_once: int = ROWS_AT_ONCE,
) -> tuple[Record, Rollouts]:
    """Sample, grade and record: accuracy and length of a model on problems, with its rollouts.

    See `Record` for the numbers that follow.
    """
    rollouts = sample_answers(policy, problems, sampling, rows_at_once=rows_at_once)
    return record_of(rollouts, problems, sampling, name=name, model=str(policy.folder), data=data), rollouts
