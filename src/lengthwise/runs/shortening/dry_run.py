"""`lengthwise shorten --dry-run`: one prompt, its gold answer given back and graded, and what the run will take."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.training import MovingCap
from lengthwise.engine.batches import check_needs
from lengthwise.engine.distillation import check_teacher
from lengthwise.engine.gates import order_warning
from lengthwise.engine.method import Recipe
from lengthwise.engine.model_folders import resolve_device
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.trainer import check_method
from lengthwise.errors import LengthwiseWarning
from lengthwise.grading.answer_extraction.readers import pattern_reader
from lengthwise.grading.answer_extraction.stated_answer import final
from lengthwise.grading.gold_answers import alternatives
from lengthwise.grading.graders import Grader, Verdict, grade
from lengthwise.grading.pattern_samples import texts_with
from lengthwise.grading.prompt_contract import PromptContract, split_response
from lengthwise.grading.worker_pool import SafeGrader
from lengthwise.json_types import JsonObject
from lengthwise.lab.shipped_models import model_folder
from lengthwise.methods import build_method
from lengthwise.runs.resource_estimate import Estimate, Measuring, device_name, estimate, measuring, parameter_counts
from lengthwise.runs.run_folder import check_run_folder
from lengthwise.runs.shortening.resolve import Prepared, prepared
from lengthwise.statistics.json_form import Result
from lengthwise.threads import threads_for

TEXTS = 20
"""Texts of an answer pattern that are looked at, the plainest first."""
PARTS = (
    "process", "weights", "gradients_and_optimizer", "reference_model", "critic", "sampling_weights",
    "kv_cache", "logits", "activations",
)  # fmt: skip
"""Of the memory of a step, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Cost(Result):
    """What a run will take: memory and time of a step, `total` bytes with the measurements, and the `seconds` of all.

    `seconds` is None for a method whose stages are all there is. `device` is what it was estimated for, in words.
    """

    step: Estimate
    cap: int
    total: int
    seconds: float | None
    device: str
    measuring: Measuring

    def to_dict(self) -> JsonObject:
        """As JSON has it, a step's numbers beside the others."""
        found = super().to_dict()
        del found["step"]
        return {**self.step.to_dict(), **found}


@dataclass(frozen=True, kw_only=True)
class DryRun(Result):
    """One rendered prompt with its gold answer given back and graded, what would be done, and what it would take.

    `sample` is None where no text was found that the contract reads as the gold answer; then it has no verdict.
    """

    prompt: str
    prompt_tokens: int
    eos_ids: Sequence[int]
    thinking: str | None
    gold: str
    sample: str | None
    verdict: Verdict | None
    grader: str | None
    method: str
    options: Mapping[str, object]
    cap: int | Literal["auto"]
    schedule: MovingCap | None
    train_problems: int
    eval_problems: int
    estimate: Cost
    evaluation: str


def dry_run(settings: ShortenSettings) -> DryRun:
    """One rendered prompt, its gold answer given back and graded, and an estimate; no weights are read."""
    with threads_for(model_folder(settings.model), wanted=settings.runtime.threads):
        check_run_folder(settings.out)
        return _shown(prepared(settings))


def _shown(given: Prepared) -> DryRun:
    settings, contract, number = given.settings, given.contract, given.settings.schedule.number
    sample, verdict = _graded_gold(given)
    cap = number or given.eval_cap
    method = build_method(settings.method, cap=cap, **given.options)
    estimated = _cost(given, method, cap)
    if method.loop is not None:
        check_method(method.loop, settings.training)
        check_learnable(given.config, given.longest_prompt + cap)
        task = given.train.task()
        check_needs(task, method.loop, settings.training.group_size)
        check_teacher(task, method.loop, given.config)
        if number is not None and (warning := order_warning(method.loop, cap)) is not None:
            warnings.warn(warning, LengthwiseWarning, stacklevel=2)
    return DryRun(
        prompt=given.train.texts[0],
        prompt_tokens=len(given.train.prompts[0]),
        eos_ids=contract.eos_ids,
        thinking=contract.think_reason,
        gold=given.train.answers[0],
        sample=sample,
        verdict=verdict,
        grader=settings.contract.grader,
        method=settings.method,
        options=given.options,
        cap="auto" if number is None else number,
        schedule=settings.schedule.moving,
        train_problems=len(given.train),
        eval_problems=len(given.held_out),
        estimate=estimated,
        evaluation=given.evaluation,
    )


def _graded_gold(given: Prepared) -> tuple[str | None, Verdict | None]:
    """The first gold answer as a response, and the verdict on it."""
    contract, grader, gold = given.contract, given.settings.contract.grader, given.train.answers[0]
    sample = _gold_response(contract, alternatives(gold)[0])
    if sample is None:
        return None, None
    judge: Grader = SafeGrader(contract, grader=grader) if grader else functools.partial(grade, contract=contract)
    return sample, judge(sample, gold)


def _cost(given: Prepared, method: Recipe, cap: int) -> Cost:
    settings, device = given.settings, resolve_device(given.settings.runtime.device)
    counts = parameter_counts(given.config, trust_remote_code=settings.runtime.trust_remote_code)
    step = estimate(
        given.config, settings.training, cap=cap, prompt_tokens=given.longest_prompt, dtype=settings.runtime.dtype,
        lora=settings.adaptation.lora, gradient_checkpointing=settings.adaptation.gradient_checkpointing,
        method=method, device=device, counts=counts,
    )  # fmt: skip
    sampled, greedy = len(given.held_out) * settings.measuring.eval_samples, len(given.held_out)
    measured = measuring(
        given.config, [sampled, greedy] * 2, cap=given.eval_cap, prompt_tokens=given.longest_prompt,
        dtype=settings.runtime.dtype, device=device, counts=counts,
    )  # fmt: skip
    return Cost(
        step=step,
        cap=cap,
        total=step.total + max(0, measured.kv_cache - max(step.kv_cache, step.activations)),
        seconds=step.seconds_per_step * settings.training.steps if method.loop is not None else None,
        device=device_name(device),
        measuring=measured,
    )


def _gold_response(contract: PromptContract, answer: str) -> str | None:
    """The gold answer said the way the contract reads it; None where no text was found that its pattern reads so."""
    if contract.answer_pattern is None:
        said = [f"A: {answer}" if contract.answer_format == "lab" else f"The answer is \\boxed{{{answer}}}."]
    else:
        said = list(itertools.islice(texts_with(answer, contract.answer_pattern), TEXTS))
    if contract.think_close is None:
        return next(iter(said), None)
    responses = [f"...{contract.think_close}{gap}{text}" for text in said for gap in ("\n", "")]
    if contract.answer_pattern is None:
        return responses[0]
    # What stands before it, and a mark of thinking in it, may keep a text from being read as it is by itself.
    reads = pattern_reader(contract.answer_pattern)
    for response in responses:
        found = final(reads(split_response(contract, response)[1]))
        if found is not None and found.text == answer.strip():
            return response
    return None


def _sample_lines(shown: DryRun) -> list[str]:
    verdict = shown.verdict
    if shown.sample is None or verdict is None:
        return [
            f"none: no text was found that the answer pattern reads as {shown.gold!r}, which says nothing against "
            "the pattern; try it on responses of the model with `lengthwise grade`"
        ]
    lines = [
        shown.sample,
        f"graded {'right' if verdict.correct else 'WRONG'} "
        f"(read {verdict.extracted!r} by {verdict.how}; gold {shown.gold!r})",
    ]
    if shown.grader is not None and not verdict.correct:
        lines.append("(the words around the answer are the prompt contract's; your grader may look for others)")
    return lines


def dry_run_lines(shown: DryRun) -> list[str]:
    """What `--dry-run` prints."""
    cost, step, measured, mib = shown.estimate, shown.estimate.step, shown.estimate.measuring, 2**20
    minutes = f"{measured.seconds / 60:12,.1f} min, before and after,"
    time = (
        f"{step.seconds_per_step:12,.1f} s a step, {cost.seconds / 60:,.1f} min of training, "
        f"at the speed of {cost.device}"
        if cost.seconds is not None
        else f"{'unknown':>12s}: stages without a training loop"
    )
    parts = {name: getattr(step, name) for name in PARTS} | {"total": cost.total}
    return [
        f"--- prompt ({shown.prompt_tokens} tokens; ends on {list(shown.eos_ids)}) ---",
        shown.prompt,
        *([f"(thinking: {shown.thinking})"] if shown.thinking else []),
        "--- its gold answer given back ---",
        *_sample_lines(shown),
        f"--- estimate for {step.parameters:,} parameters at cap {cost.cap} (rough) ---",
        *(f"{name.replace('_', ' '):24s} {size / mib:12,.1f} MiB" for name, size in parts.items()),
        f"time                     {time}",
        f"measuring                {minutes} for {measured.responses:,} responses, {shown.evaluation}",
        f"{shown.train_problems} problems to train on, {shown.eval_problems} to measure on",
    ]
