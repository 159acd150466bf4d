"""`lengthwise shorten --dry-run`: one prompt, its gold answer given back and graded, and what the run will take."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

from lengthwise.context_length import reach
from lengthwise.engine.model_folders import resolve_device
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.trainer import check_method
from lengthwise.grading.answer_extraction.readers import final, pattern_reader
from lengthwise.grading.contract_choice import chosen_contract, contract_for_model
from lengthwise.grading.gold_answers import alternatives
from lengthwise.grading.graders import Grader, grade
from lengthwise.grading.pattern_samples import texts_with
from lengthwise.grading.problems import prepare
from lengthwise.grading.prompt_contract import PromptContract, split_response
from lengthwise.grading.worker_pool import SafeGrader
from lengthwise.methods import build_method
from lengthwise.pretrained import read_words
from lengthwise.runs.measuring import cap_words, room, usual_cap
from lengthwise.runs.resource_estimate import device_name, estimate, measuring, parameter_counts
from lengthwise.runs.run_folder import check_run_folder
from lengthwise.runs.shorten.request import Request, read_problems
from lengthwise.threads import on_few_threads

TEXTS = 20
"""Texts of an answer pattern that are looked at, the plainest first."""


@on_few_threads("asked.folders")
def dry_run(asked: Request) -> dict[str, Any]:
    """One rendered prompt, its gold answer given back and graded, and an estimate; no weights are read."""
    check_run_folder(asked.out)
    options, folder = asked.method_options(), asked.folder
    trusted = asked.trust_remote_code
    rows, held = read_problems(asked, chosen_contract(asked.contract))
    config, tokenizer = read_words(folder, trust_remote_code=trusted)
    contract = contract_for_model(asked.contract, folder, tokenizer)
    positions = reach(config)
    cap = asked.cap_number()
    own = asked.contract.grader
    train = prepare(rows, contract, tokenizer, cap=cap or 1, positions=positions, source=asked.data, grader=own)
    source = asked.eval_data or asked.data
    held_out = prepare(held, contract, tokenizer, cap=1, positions=positions, source=source, grader=own)
    longest = max(len(prompt) for prompt in (*train.prompts, *held_out.prompts))
    most = room(longest, positions)
    eval_cap = asked.eval_cap or usual_cap(most, cap)
    shown_cap = cap or eval_cap
    sample = _gold_response(contract, alternatives(train.answers[0])[0])
    judge: Grader = SafeGrader(contract, grader=own) if own else functools.partial(grade, contract=contract)
    verdict = None if sample is None else judge(sample, train.answers[0])
    counts = parameter_counts(config, trust_remote_code=trusted)
    method, device = build_method(asked.method, cap=shown_cap, **options), resolve_device(asked.device)
    cost = estimate(
        config, asked.train, cap=shown_cap, prompt_tokens=longest, dtype=asked.dtype,
        lora=asked.lora, gradient_checkpointing=asked.gradient_checkpointing, method=method, device=device,
        counts=counts,
    )  # fmt: skip
    sampled, greedy = len(held) * asked.eval_samples, len(held)
    measured = measuring(
        config, [sampled, greedy] * 2, cap=eval_cap, prompt_tokens=longest, dtype=asked.dtype, device=device,
        counts=counts,
    )  # fmt: skip
    if method.loop is not None:
        check_method(method.loop, asked.train)
        check_learnable(config, longest + shown_cap)
    return {
        "prompt": train.texts[0],
        "prompt_tokens": len(train.prompts[0]),
        "eos_ids": list(contract.eos_ids),
        "thinking": contract.think_reason,
        "gold": train.answers[0],
        "sample": sample,
        "verdict": None if verdict is None else dataclasses.asdict(verdict),
        "grader": own,
        "method": asked.method,
        "options": options,
        "cap": cap if cap is not None else "auto",
        "schedule": asked.schedule(),
        "train_problems": len(rows),
        "eval_problems": len(held),
        "estimate": {
            **dataclasses.asdict(cost), "cap": shown_cap,
            "total": cost.total + max(0, measured.kv_cache - max(cost.kv_cache, cost.activations)),
            "seconds": cost.seconds_per_step * asked.train.steps if method.loop is not None else None,
            "device": device_name(device),
            "measuring": dataclasses.asdict(measured),
        },
        "evaluation": cap_words(eval_cap, asked.eval_cap, most, "--eval-cap"),
    }  # fmt: skip


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


def _sample_lines(shown: Mapping[str, Any]) -> list[str]:
    verdict = shown["verdict"]
    if verdict is None:
        return [
            f"none: no text was found that the answer pattern reads as {shown['gold']!r}, which says nothing against "
            "the pattern; try it on responses of the model with `lengthwise grade`"
        ]
    lines = [
        shown["sample"],
        f"graded {'right' if verdict['correct'] else 'WRONG'} "
        f"(read {verdict['extracted']!r} by {verdict['how']}; gold {shown['gold']!r})",
    ]
    if shown["grader"] is not None and not verdict["correct"]:
        lines.append("(the words around the answer are the prompt contract's; your grader may look for others)")
    return lines


def dry_run_lines(shown: Mapping[str, Any]) -> list[str]:
    """What `--dry-run` prints."""
    cost, mib = shown["estimate"], 2**20
    measured = cost["measuring"]
    minutes = f"{measured['seconds'] / 60:12,.1f} min, before and after,"
    time = (
        f"{cost['seconds_per_step']:12,.1f} s a step, {cost['seconds'] / 60:,.1f} min of training, "
        f"at the speed of {cost['device']}"
        if cost["seconds"] is not None
        else f"{'unknown':>12s}: stages without a training loop"
    )
    parts = (
        "weights", "gradients_and_optimizer", "reference_model", "critic", "kv_cache", "logits", "activations", "total",
    )  # fmt: skip
    return [
        f"--- prompt ({shown['prompt_tokens']} tokens; ends on {shown['eos_ids']}) ---",
        shown["prompt"],
        *([f"(thinking: {shown['thinking']})"] if shown["thinking"] else []),
        "--- its gold answer given back ---",
        *_sample_lines(shown),
        f"--- estimate for {cost['parameters']:,} parameters at cap {cost['cap']} (rough) ---",
        *(f"{name.replace('_', ' '):24s} {cost[name] / mib:12,.1f} MiB" for name in parts),
        f"time                     {time}",
        f"measuring                {minutes} for {measured['responses']:,} responses, {shown['evaluation']}",
        f"{shown['train_problems']} problems to train on, {shown['eval_problems']} to measure on",
    ]
