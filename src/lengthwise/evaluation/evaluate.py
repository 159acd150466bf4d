"""Sample answers to problems with our own sampler and make a record of them."""

from __future__ import annotations

from typing import Any

import torch

from lengthwise.engine.batches import TaskWorld, step_generator, world_generator
from lengthwise.engine.models import Policy
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.sampler import Sampler
from lengthwise.errors import ConfigError
from lengthwise.evaluation.graders import grader_name
from lengthwise.evaluation.problems import Problems
from lengthwise.evaluation.records import Record

EVALUATION_STAGE = 4_002
ROWS_AT_ONCE = 1024


def sample_answers(
    policy: Policy,
    problems: Problems,
    *,
    cap: int,
    temperature: float,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    rows_at_once: int = ROWS_AT_ONCE,
    world: TaskWorld | None = None,
) -> Rollouts:
    """Draw and grade `samples` responses per problem: rows problem by problem, sorted as the problems are.

    `world` makes, from the problem of every row, what writes tokens into the responses; by default the
    contract's stop strings.
    """
    if samples < 1:
        raise ConfigError(f"samples is {samples}; draw at least 1 response per problem")
    owners = [problem for problem in range(len(problems)) for _ in range(samples)]
    sampler = Sampler(policy.model, eos_ids=problems.contract.eos_ids, pad_id=policy.pad_id, max_rows=rows_at_once)
    with policy.compute():
        rollouts = sampler.generate(
            [problems.prompts[owner] for owner in owners],
            caps=cap,
            generator=step_generator(seed, 0, EVALUATION_STAGE, policy.device),
            temperature=temperature,
            top_p=top_p,
            group_ids=owners,
            problem_ids=owners,
            world=(world or problems.stops)(owners, world_generator(seed, 0, EVALUATION_STAGE)),
        )
    verdicts = [problems.is_right(owner, rollouts.response(row)) for row, owner in enumerate(owners)]
    return rollouts.with_fields(answer_correct=torch.tensor(verdicts, device=policy.device))


def record_of(
    rollouts: Rollouts,
    problems: Problems,
    *,
    name: str,
    model: str,
    data: str,
    cap: int,
    temperature: float,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
) -> Record:
    """The record of graded rollouts, with everything that must be alike before it may be compared."""

    def table(values: torch.Tensor) -> list[list[Any]]:
        return values.view(len(problems), samples).tolist()

    own = getattr(problems.grader, "path", None)
    context = {
        "model": model,
        "data": data,
        "contract": problems.contract.to_dict(),
        "template": problems.contract.fingerprint(),
        "cap": cap,
        "temperature": temperature,
        "top_p": top_p,
        "samples": samples,
        "seed": seed,
        "grader": own or grader_name(problems.contract.answer_format),
        "tokenizer": type(problems.tokenizer).__name__ + f"/{len(problems.tokenizer)}",
    }
    return Record(
        name=name,
        context=context,
        problem_ids=problems.ids,
        categories=problems.categories,
        answer_correct=table(rollouts.answer_correct),
        finished=table(rollouts.finished),
        num_tokens=table(rollouts.num_tokens),
    )


def evaluate(
    policy: Policy,
    problems: Problems,
    *,
    name: str,
    data: str,
    cap: int,
    temperature: float,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    rows_at_once: int = ROWS_AT_ONCE,
) -> tuple[Record, Rollouts]:
    """Sample, grade and record: accuracy and length of a model on problems, with its rollouts.

    `cap` is the most response tokens, temperature 0 is greedy. See `Record` for the numbers that follow.
    """
    rollouts = sample_answers(
        policy, problems, cap=cap, temperature=temperature, top_p=top_p, samples=samples, seed=seed,
        rows_at_once=rows_at_once,
    )  # fmt: skip
    record = record_of(
        rollouts, problems, name=name, model=str(policy.folder), data=data, cap=cap,
        temperature=temperature, top_p=top_p, samples=samples, seed=seed,
    )  # fmt: skip
    return record, rollouts
