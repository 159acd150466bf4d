"""What needs no training: the untouched model colder, stopped early, asked to be brief. A method must beat these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine.batches import TaskWorld
from lengthwise.engine.model_folders import Policy
from lengthwise.generation.free_baselines import asking, ending
from lengthwise.generation.sampling import ROWS_AT_ONCE, complete, graded_rollouts, record_of_drawn, sample_answers
from lengthwise.grading.problems import Problems, prepare
from lengthwise.statistics.graded_problems import Graded
from lengthwise.statistics.records import Record

Baseline = Callable[[Policy, Problems, Record], Record]
"""(untouched model, problems, its record by sampling) -> record of the same model under the baseline."""
TEMPERATURES = (0.6, 0.3, 0.0)
AGREES = "stopped once it agrees"
BUDGET_SHARE, FIRST_OF, ANSWER_ROOM = 0.6, 4, 256


def baselines_for(problems: Problems) -> dict[str, Baseline]:
    """The baselines that these problems' contract allows, by name."""
    found: dict[str, Baseline] = {_degree(t): _colder(t) for t in TEMPERATURES}
    if problems.contract.answer_pattern is None:  # else nobody knows how to ask for an answer
        found[AGREES] = partial(_intervened, Intervention(early_stop="agree"))
        found["thinking budget"] = _budgeted
    found[f"first of {FIRST_OF} to finish"] = partial(_intervened, Intervention(short_of=FIRST_OF))
    if problems.contract.answer_format != "lab":
        found["asked to be concise"] = _concise
    return found


def temperatures_for() -> dict[str, Baseline]:
    """Those that change nothing but the temperature, for worlds that write into the responses themselves."""
    return {_degree(t): _colder(t) for t in TEMPERATURES}


def _degree(temperature: float) -> str:
    return f"temperature {temperature:g}" if temperature else "greedy"


def _sampling(before: Record, **changes: Any) -> Sampling:
    return Sampling.of(before.context, sample_rows=ROWS_AT_ONCE, **changes)


def _colder(temperature: float) -> Baseline:
    def measure(policy: Policy, problems: Problems, before: Record) -> Record:
        samples = before.context["samples"] if temperature else 1
        return _drawn(policy, problems, before, _degree(temperature), temperature=temperature, samples=samples)

    return measure


def forced(policy: Policy, problems: Problems, before: Record, name: str, world: TaskWorld) -> Record:
    """The untouched model in another world, one that stops it."""
    return _drawn(policy, problems, before, name, world=world)


def _drawn(
    policy: Policy, problems: Problems, before: Record, name: str, *, world: TaskWorld | None = None, **changes: Any
) -> Record:
    sampling = _sampling(before, **changes)
    rollouts = sample_answers(policy, problems, sampling, world=world)
    context = before.context
    return record_of_drawn(
        graded_rollouts(rollouts), problems, sampling, name=name, model=str(context["model"]), data=str(context["data"])
    )


def _budgeted(policy: Policy, problems: Problems, before: Record) -> Record:
    """The thinking is ended after six tenths of the mean length, and the answer asked for."""
    cap = before.cap
    room = len(problems.tokenizer(ending(Intervention(budget=1), problems.contract))["input_ids"]) + 1
    budget = max(1, min(round(BUDGET_SHARE * float(before.tokens.mean())), cap - room))
    return _intervened(Intervention(budget=budget), policy, problems, before)


def _concise(policy: Policy, problems: Problems, before: Record) -> Record:
    """The prompt asks for brevity; what is asked otherwise, and what is right, stays the same."""
    asked, contract = Intervention(concise=True), problems.contract
    rows: list[Mapping[str, Any]] = [
        {contract.problem_column: question, contract.answer_column: answer}
        for question, answer in zip(problems.questions, problems.answers, strict=True)
    ]
    brief = prepare(
        rows, contract, problems.tokenizer, cap=1, positions=None, source="concise", asking=asking(asked, contract)
    )
    return _intervened(asked, policy, replace(problems, texts=brief.texts, prompts=brief.prompts), before)


def _intervened(asked: Intervention, policy: Policy, problems: Problems, before: Record) -> Record:
    sampling = _sampling(before)
    found = complete(policy, problems, sampling, intervention=asked)
    owners = [place // sampling.samples for place in range(len(found))]
    right = problems.are_right(owners, [one.text for one in found])
    graded = [Graded(correct, one.finished, one.num_tokens) for correct, one in zip(right, found, strict=True)]
    name = ", ".join(f"{key} {value}" for key, value in (asked.context() or {}).items())
    context = before.context
    return record_of_drawn(
        graded, problems, sampling, name=name, model=str(context["model"]), data=str(context["data"]),
        intervention=asked,
    )  # fmt: skip
