"""What needs no training: the untouched model colder, stopped early, asked to be brief. A method must beat these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.engine.model_folders import Policy
from lengthwise.generation.free_baselines import asking, ending
from lengthwise.generation.measurement import measure
from lengthwise.generation.sampling import ROWS_AT_ONCE
from lengthwise.grading.problems import Problems, prepare
from lengthwise.statistics.records import Record

Baseline = Callable[[Policy, Problems, Record, Path], Record]
"""(untouched model, problems, its record by sampling, a log) -> record of the same model under the baseline.

The log keeps its responses, so that one that was killed goes on.
"""
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


def _colder(temperature: float) -> Baseline:
    def measured(policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
        sampling = again(before, temperature=temperature, **({} if temperature else {"samples": 1}))
        return measure_again(policy, problems, before, log, name=_degree(temperature), sampling=sampling)

    return measured


def again(before: Record, **changes: float) -> Sampling:
    """The sampling that a record was drawn by, with changes."""
    return Sampling.of(before.context, sample_rows=ROWS_AT_ONCE, **changes)


def measure_again(
    policy: Policy,
    problems: Problems,
    before: Record,
    log: Path,
    *,
    name: str,
    sampling: Sampling | None = None,
    intervention: Intervention | None = None,
) -> Record:
    """The untouched model measured as `before` was, but for what is given; `log` keeps its responses.

    ``problems`` may have another world than those of ``before``, one that stops the model, or other prompts.
    """
    drawn_by, data = sampling or again(before), str(before.context["data"])
    return measure(policy, problems, drawn_by, log, name=name, data=data, intervention=intervention).record


def _budgeted(policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
    """The thinking is ended after six tenths of the mean length, and the answer asked for."""
    room = len(problems.tokenizer(ending(Intervention(budget=1), problems.contract))["input_ids"]) + 1
    budget = max(1, min(round(BUDGET_SHARE * float(before.tokens.mean())), before.cap - room))
    return _intervened(Intervention(budget=budget), policy, problems, before, log)


def _concise(policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
    """The prompt asks for brevity; what is asked otherwise, and what is right, stays the same."""
    asked, contract = Intervention(concise=True), problems.contract
    rows: list[Mapping[str, object]] = [
        {contract.problem_column: question, contract.answer_column: answer}
        for question, answer in zip(problems.questions, problems.answers, strict=True)
    ]
    brief = prepare(
        rows, contract, problems.tokenizer, cap=1, positions=None, source="concise", asking=asking(asked, contract)
    )
    return _intervened(asked, policy, replace(problems, texts=brief.texts, prompts=brief.prompts), before, log)


def _intervened(asked: Intervention, policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
    name = ", ".join(f"{key} {value}" for key, value in (asked.context() or {}).items())
    return measure_again(policy, problems, before, log, name=name, intervention=asked)
