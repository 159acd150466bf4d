"""`evaluate_context`: how long a model can read, task by task, by length and by place of the evidence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lengthwise.context.lambda_shaped_attention.patching import lambda_attention
from lengthwise.context.lambda_shaped_attention.streaming import read
from lengthwise.context.positions.scheme_config import NOTE, extend, trained_context
from lengthwise.context.tasks.lines import lines_rows, read_longchat
from lengthwise.context.tasks.passkey import passkey_rows
from lengthwise.context.tasks.qa import altered_rows, freeform_rows, read_released, read_sources
from lengthwise.context.tasks.rows import NEW_TOKENS, TaskRow, plain
from lengthwise.context.tasks.scoring import loss_by_position, perplexity, score_rows
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import AUTO, Policy, check_dtype, dtype_words, load_policy, resolve_device
from lengthwise.engine.rotary_switch import forget, switch_of
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import atomic_write_json, atomic_write_text
from lengthwise.folder_lock import writes
from lengthwise.generation.endpoint import Endpoint
from lengthwise.grading.prompt_contract import PromptContract, resolve
from lengthwise.lab.shipped_models import model_folder
from lengthwise.output_paths import real
from lengthwise.pretrained import load_tokenizer
from lengthwise.runs.evaluate_context.inputs import check_inputs, read_text
from lengthwise.runs.evaluate_context.schemes import AS_IS, LAMBDA, parse_scheme
from lengthwise.statistics.bootstrap import Interval, cluster_bootstraps, mean_interval
from lengthwise.threads import on_few_threads

TASKS = ("lines", "freeform-qa", "altered-qa", "passkey", "perplexity")
RESULT, ANSWERS, REPORT = "context.json", "answers.jsonl", "report.html"
PLACES = 5
"""Rows of the heat map: fifths of the text before the evidence."""
POSITIONS = 8
"""Parts of a length over which the mean loss is told."""

Answerer = Callable[[Sequence[TaskRow]], Iterator[str]]
Listener = Callable[[str, Mapping[str, Any]], None]
"""Told of progress: ("phase", name and steps), ("done", steps done in it)."""


@dataclass(frozen=True)
class Reading:
    """The command line's words; see ``lengthwise evaluate-context --help`` for each.

    ``models``: folders, lab:reader, or NAME=FOLDER. ``schemes``: as-is, lambda, or NAME:FACTOR. ``data``: QA rows;
    ``lines``: a LongChat file in place of the generator; ``text``: plain text for perplexity.

    Raises:
        ConfigError: an unknown task or scheme, a number out of range, or a file that a task needs and does not have.
    """

    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    out: Path
    models: tuple[str, ...] = ()
    schemes: tuple[str, ...] = (AS_IS,)
    rows: int = 50
    seed: int = 0
    data: str | None = None
    lines: str | None = None
    text: str | None = None
    chat_template: bool = False
    device: str = "auto"
    dtype: str = AUTO
    trust_remote_code: bool = False
    endpoint: Endpoint | None = None
    tokenizer: str | None = None

    @property
    def folders(self) -> list[Path]:
        """The folders of the models that it computes with: none where a server does."""
        return [model_folder(text.rpartition("=")[2]) for text in self.models]

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in TASKS:
                raise ConfigError(f"task {task!r} is none of {', '.join(TASKS)}")
        if not self.tasks or not self.lengths or min(self.lengths) < 2:
            raise ConfigError("give at least one task and lengths of at least 2 tokens, for example --lengths 1k,2k")
        if self.rows < 1 or self.seed < 0:
            raise ConfigError(f"rows is {self.rows} and seed {self.seed}; give at least 1 row and a seed from 0 on")
        for name, needs in (("data", {"freeform-qa", "altered-qa"}), ("text", {"perplexity"})):
            if needs & set(self.tasks) and getattr(self, name) is None:
                raise ConfigError(f"{' and '.join(sorted(needs & set(self.tasks)))} needs --{name} FILE")
        for scheme in self.schemes:
            parse_scheme(scheme)
        names = [text.rpartition("=")[0] or real(text).name for text in self.models]
        for what, given in (("task", self.tasks), ("scheme", self.schemes), ("model", names)):
            if twice := [name for name in given if given.count(name) > 1]:
                raise ConfigError(f"the {what} {twice[0]!r} is named twice; name each once, models as NAME=FOLDER")
        check_dtype(self.dtype)
        resolve_device(self.device)
        if (self.endpoint is None) == (not self.models):
            raise ConfigError("give one or more MODEL folders, or --endpoint URL with --model and --tokenizer")
        if self.endpoint is not None:
            if self.tokenizer is None:
                raise ConfigError("--endpoint needs --tokenizer FOLDER, the model's own, to build prompts of a length")
            if "perplexity" in self.tasks or self.schemes != (AS_IS,):
                raise ConfigError("perplexity and schemes need the model's weights; give a MODEL folder for them")


@on_few_threads("asked.folders")
@writes("asked.out")
def evaluate_context(asked: Reading, *, listener: Listener = lambda *_: None) -> dict[str, Any]:
    """Measure every model under every scheme, and write ``context.json``, ``answers.jsonl`` and ``run_report.html``.

    Returns what ``context.json`` holds: per arm its cells (task, length) with accuracy or perplexity and intervals.

    Raises:
        InputError: a file or model that is not what is wanted.
        ConfigError: an impossible option.
        UnsupportedModelError: a scheme that a model cannot take.
    """
    from lengthwise.runs.evaluate_context.page import page

    check_inputs(asked, result=RESULT)
    given = {name: value for name in ("data", "lines", "text") if (value := getattr(asked, name)) is not None}
    result: dict[str, Any] = {
        "lengthwise": metadata.version("lengthwise"),
        "tasks": list(asked.tasks),
        "lengths": list(asked.lengths),
        "rows": asked.rows,
        "seed": asked.seed,
        "chat_template": asked.chat_template,
        "files": {name: Path(value).name for name, value in given.items()},
        "arms": [],
    }
    answers: list[dict[str, Any]] = []
    for arm in _arms(asked):
        with arm:
            result["arms"].append(_measured(asked, arm, answers, listener))
        # After every arm, so that what was measured stays when a later one fails.
        atomic_write_text(asked.out / ANSWERS, "".join(json.dumps(row) + "\n" for row in answers))
        atomic_write_json(asked.out / RESULT, result)
        atomic_write_text(asked.out / REPORT, page(result))
    return result


class Arm:
    """A model under a scheme, as a context: what it answers and, with weights, what it loses."""

    def __init__(
        self, name: str, facts: dict[str, Any], tokenizer: Any, answer: Answerer, policy: Policy | None
    ) -> None:
        self.name, self.facts, self.tokenizer, self.answer, self.policy = name, facts, tokenizer, answer, policy
        self._undo: Any = nullcontext()

    def under(self, undo: Any) -> Arm:
        """The same arm, inside the context `undo`."""
        self._undo = undo
        return self

    def __enter__(self) -> Arm:
        self._undo.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._undo.__exit__(*error)

    @torch.no_grad()
    def losses(self, ids: Sequence[int]) -> torch.Tensor:
        """NLL_t of tokens 1 .. n-1 given those before, float32 [n-1], natural logarithm."""
        assert self.policy is not None
        forget(self.policy.model, switch_of(self.policy.model.config))
        tokens = torch.tensor([list(ids)], device=self.policy.device)
        with self.policy.compute():
            logits = self.policy.model(input_ids=tokens, use_cache=False).logits[0, :-1]
        parts = [
            torch.nn.functional.cross_entropy(part.float(), target, reduction="none")
            for part, target in zip(logits.split(1024), tokens[0, 1:].split(1024), strict=True)
        ]
        return torch.cat(parts).cpu() if parts else torch.zeros(0)


def _arms(asked: Reading) -> Iterator[Arm]:
    if asked.endpoint is not None:
        from lengthwise.runs.evaluate_context.endpoint_answers import ask

        endpoint = asked.endpoint
        tokenizer = load_tokenizer(
            model_folder(str(asked.tokenizer)), name="tokenizer", trust_remote_code=asked.trust_remote_code
        )  # fmt: skip
        facts = {"scheme": AS_IS, "factor": None, "trained_factor": None, "trained_context": None, "computed_in": None}
        yield Arm(endpoint.model, facts, tokenizer, lambda rows: ask(endpoint, rows), None)
        return
    for text in asked.models:
        name, _, folder = text.rpartition("=")
        for scheme in asked.schemes:
            yield _local_arm(asked, name or real(folder).name, folder, scheme)


def _local_arm(asked: Reading, name: str, folder: str, text: str) -> Arm:
    source = model_folder(folder)
    policy = load_policy(
        source, device=asked.device, dtype=asked.dtype, trust_remote_code=asked.trust_remote_code, frozen=True
    )  # fmt: skip
    scheme, factor = parse_scheme(text)
    model, undo = policy.model, None
    if scheme == LAMBDA:
        undo = lambda_attention(model)
    elif scheme != AS_IS:
        extend(model, scheme, factor=factor)
    rope = getattr(model.config, "rope_parameters", None) or {}
    note = getattr(model.config, NOTE, None) or {}
    facts = {
        "scheme": scheme if scheme != AS_IS else note.get("scheme", rope.get("rope_type", AS_IS)),
        "factor": note.get("factor", rope.get("factor")),
        "trained_factor": note.get("trained_factor"),
        "trained_context": trained_context(model.config) if rope else None,
        "computed_in": dtype_words(source, asked.dtype),
    }
    shown = name if text == AS_IS else f"{name}, {text}"
    arm = Arm(shown, facts, policy.tokenizer, lambda rows: _answers(policy, rows, undo), policy)
    return arm if undo is None else arm.under(undo)


def _measured(asked: Reading, arm: Arm, answers: list[dict[str, Any]], listener: Listener) -> dict[str, Any]:
    arm.tokenizer.model_max_length = 10**9  # longer texts than it was made for are the point
    cells = []
    _check_lengths(asked, arm.tokenizer)
    for task in asked.tasks:
        if task == "perplexity":
            cells += [_perplexity_cell(asked, arm, length, listener) for length in asked.lengths]
            continue
        for length, rows, left_out in _rows(asked, task, arm.tokenizer):
            listener("phase", {"name": f"{arm.name}: {task}, {length} tokens", "steps": len(rows)})
            texts = []
            for text in arm.answer(rows):
                texts.append(text)
                listener("done", {"done": len(texts)})
            right = score_rows(rows, texts)
            cells.append(_cell(asked, task, length, rows, right, left_out))
            answers += [
                {"arm": arm.name, "task": task, "length": length, "tokens": row.tokens, "place": row.place,
                 "labels": row.labels, "answer": row.answer, "response": text, "correct": ok}
                for row, text, ok in zip(rows, texts, right, strict=True)
            ]  # fmt: skip
    return {"name": arm.name, **arm.facts, "cells": cells}


def _check_lengths(asked: Reading, tokenizer: Any) -> None:
    """Make one row of every task and length: a length that is too short for the last task is told before the first."""
    one = replace(asked, rows=1)
    for task in asked.tasks:
        if task == "perplexity":
            for length in asked.lengths:
                _documents(str(asked.text), tokenizer, length)
        elif not (task == "lines" and asked.lines is not None):
            for _ in _rows(one, task, tokenizer):
                pass


def _rows(asked: Reading, task: str, tokenizer: Any) -> Iterator[tuple[int, list[TaskRow], Counter[str]]]:
    """(length, rows, source rows left out) of a task; released rows come at their own length."""
    template = _chat(tokenizer) if asked.chat_template else plain
    if task == "lines" and asked.lines is not None:
        released = read_longchat(asked.lines, tokenizer, template=template)[: asked.rows]
    elif task.endswith("-qa") and _is_released(str(asked.data)):
        released = read_released(str(asked.data), tokenizer, task=task, template=template)[: asked.rows]
    else:
        for length in asked.lengths:
            yield length, *_generated(asked, task, tokenizer, length, template)
        return
    yield round(sum(row.tokens for row in released) / len(released)), released, Counter()


def _generated(
    asked: Reading, task: str, tokenizer: Any, length: int, template: Callable[[str], str]
) -> tuple[list[TaskRow], Counter[str]]:
    if task in ("lines", "passkey"):
        make = lines_rows if task == "lines" else passkey_rows
        return make(tokenizer, length=length, rows=asked.rows, seed=asked.seed, template=template), Counter()
    build, sources = freeform_rows if task == "freeform-qa" else altered_rows, read_sources(str(asked.data))
    built = build(sources, tokenizer, length=length, rows=asked.rows, seed=asked.seed, template=template)
    return built.rows, built.left_out


def _is_released(path: str) -> bool:
    return "conversations" in read_rows(path)[0]


def _chat(tokenizer: Any) -> Callable[[str], str]:
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError("--chat-template: the tokenizer has no chat template; leave the flag away")

    def template(text: str) -> str:
        asked = [{"role": "user", "content": text}]
        found = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        # The template writes its own BOS, and the tokenizer puts one before every text.
        return found.removeprefix(tokenizer.bos_token) if tokenizer.bos_token else found

    return template


@torch.no_grad()
def _answers(policy: Policy, rows: Sequence[TaskRow], method: Any) -> Iterator[str]:
    """Greedy answers, row by row, with the cache of the method where there is one."""
    from transformers import DynamicCache

    contract = resolve(PromptContract("context"), policy.tokenizer, policy.model.generation_config)
    ends = list(contract.eos_ids)
    for row in rows:
        least, most = NEW_TOKENS[row.task]
        ids = policy.tokenizer(row.prompt)["input_ids"]
        cache = DynamicCache() if method is None else method.new_cache()
        # A whole prompt at once: rotations that depend on the length must not change within it.
        size, said = len(ids) if method is None else 2048, list[int]()
        switch = None if method is not None else switch_of(policy.model.config)
        forget(policy.model, switch)
        with policy.compute():
            logits = read(policy.model, ids, cache=cache, chunk=size, on_read=lambda _: None)
            while True:
                if len(said) < least:
                    logits[ends] = -torch.inf
                said.append(int(logits.argmax()))
                if said[-1] in ends or len(said) == most:
                    break
                if switch is not None and switch.steady and len(ids) + len(said) == switch.length + 1:
                    cache, text = DynamicCache(), [*ids, *said]
                    logits = read(policy.model, text, cache=cache, chunk=len(text), on_read=lambda _: None)
                    continue
                token = torch.tensor([said[-1:]], device=policy.device)
                logits = policy.model(input_ids=token, past_key_values=cache, use_cache=True).logits[0, -1]
        yield policy.tokenizer.decode(said, skip_special_tokens=True)


def _cell(
    asked: Reading, task: str, length: int, rows: Sequence[TaskRow], right: Sequence[bool], left_out: Counter[str]
) -> dict[str, Any]:
    def accuracy(chosen: Sequence[bool]) -> Interval:
        return mean_interval([float(x) for x in chosen], rng=np.random.default_rng(asked.seed))

    places = []
    for part in range(PLACES):
        here = [ok for row, ok in zip(rows, right, strict=True) if _part(row.place) == part]
        places.append(
            {"from": part / PLACES, "rows": len(here), "accuracy": accuracy(here).to_dict() if here else None}
        )
    return {
        "task": task,
        "length": length,
        "rows": len(rows),
        "tokens": round(sum(row.tokens for row in rows) / len(rows), 1),
        "accuracy": accuracy(right).to_dict(),
        "places": places,
        "short": sum(row.short for row in rows),
        "left_out": dict(left_out),
    }


def _part(place: float | None) -> int | None:
    return None if place is None else min(PLACES - 1, int(place * PLACES))


def _perplexity_cell(asked: Reading, arm: Arm, length: int, listener: Listener) -> dict[str, Any]:
    documents = _documents(str(asked.text), arm.tokenizer, length)[: asked.rows]
    listener("phase", {"name": f"{arm.name}: perplexity, {length} tokens", "steps": len(documents)})
    losses = []
    for ids in documents:
        losses.append(arm.losses(ids))
        listener("done", {"done": len(losses)})
    sums = [[float(one.double().sum()), len(one)] for one in losses]
    found = cluster_bootstraps(
        sums, {"": lambda m: np.exp(np.minimum(m[:, 0] / m[:, 1], 700.0))}, rng=np.random.default_rng(asked.seed)
    )[""]
    buckets = loss_by_position(losses, bucket=max(1, -(-(length - 1) // POSITIONS)))
    return {
        "task": "perplexity",
        "length": length,
        "rows": len(documents),
        "tokens": length,
        "perplexity": {**found.to_dict(), "estimate": min(perplexity(losses), 1e300)},
        "by_position": [{"to": to, "loss": loss, "tokens": tokens} for to, loss, tokens in buckets],
        "short": 0,
        "left_out": {},
    }


def _documents(path: str, tokenizer: Any, length: int) -> list[list[int]]:
    """The text cut into documents of `length` tokens, one after the other."""
    # Enough characters for some hundred documents; a tokenizer is slow on gigabytes.
    ids = tokenizer(read_text(path)[:20_000_000], add_special_tokens=False)["input_ids"]
    if len(ids) < length:
        raise InputError(f"text is {path!r} with {len(ids)} tokens; perplexity at {length} needs at least so many")
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]
