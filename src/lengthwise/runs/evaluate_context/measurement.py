"""`evaluate_context`: how long a model can read, task by task, by length and by place of the evidence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch

from lengthwise.config.commands import EvaluateContextSettings
from lengthwise.config.files import CONFIG, run_config
from lengthwise.config.groups.model import Runtime
from lengthwise.context.lambda_shaped_attention.patching import LambdaAttention, lambda_attention
from lengthwise.context.lambda_shaped_attention.streaming import read
from lengthwise.context.positions.scheme_config import NOTE, extend, trained_context
from lengthwise.context.tasks.lines import lines_rows, read_longchat
from lengthwise.context.tasks.passkey import passkey_rows
from lengthwise.context.tasks.qa import altered_rows, freeform_rows, read_released, read_sources
from lengthwise.context.tasks.rows import NEW_TOKENS, TaskRow, plain
from lengthwise.context.tasks.scoring import loss_by_position, perplexity, score_rows
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import Policy, dtype_words, load_policy
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
from lengthwise.runs.evaluate_context.results import (
    AnswerCell,
    ArmFacts,
    ArmResult,
    Cell,
    ContextResult,
    PerplexityCell,
    Place,
)
from lengthwise.runs.evaluate_context.schemes import AS_IS, LAMBDA, parse_scheme
from lengthwise.statistics.bootstrap import Interval, cluster_bootstraps, mean_interval
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

RESULT, ANSWERS, REPORT = "context.json", "answers.jsonl", "report.html"
PLACES = 5
"""Rows of the heat map: fifths of the text before the evidence."""
POSITIONS = 8
"""Parts of a length over which the mean loss is told."""

Answerer = Callable[[Sequence[TaskRow]], Iterator[str]]
Listener = Callable[[str, Mapping[str, object]], None]
"""Told of progress: ("phase", name and steps), ("done", steps done in it)."""


@writes("settings.out")
def evaluate_context(settings: EvaluateContextSettings, *, listener: Listener = lambda *_: None) -> ContextResult:
    """Measure every model under every scheme, and write ``context.json``, ``answers.jsonl`` and the report.

    Returns per arm its cells (task, length) with accuracy or perplexity and intervals, as ``context.json`` holds them.
    The settings stand in ``config.json``.

    Raises:
        InputError: a file or model that is not what is wanted.
        ConfigError: an impossible option, or no folder to write.
        UnsupportedModelError: a scheme that a model cannot take.
    """
    from lengthwise.runs.evaluate_context.page import build_page

    out = check_inputs(settings, result=RESULT)
    arms: list[ArmResult] = []
    answers: list[dict[str, object]] = []
    with threads_for(*_folders(settings), wanted=settings.runtime.threads):
        for arm in _arms(settings):
            with arm:
                arms.append(_measured(settings, arm, answers, listener))
            result = ContextResult(settings, tuple(arms))
            # After every arm, so that what was measured stays when a later one fails.
            atomic_write_text(out / ANSWERS, "".join(json.dumps(row) + "\n" for row in answers))
            atomic_write_json(out / RESULT, result.to_dict())
            atomic_write_json(out / CONFIG, run_config(settings))
            build_page(result, out / REPORT)
    return result


def _folders(settings: EvaluateContextSettings) -> list[Path]:
    """The folders of the models that are computed with: none where a server does."""
    if settings.server.endpoint is not None:
        return []
    return [model_folder(text.rpartition("=")[2]) for text in settings.models]


class Arm:
    """A model under a scheme, as a context: what it answers and, with weights, what it loses."""

    def __init__(
        self, name: str, facts: ArmFacts, tokenizer: Tokenizer, answer: Answerer, policy: Policy | None
    ) -> None:
        self.name, self.facts, self.tokenizer, self.answer, self.policy = name, facts, tokenizer, answer, policy
        self._undo: AbstractContextManager[object] = nullcontext()

    def under(self, undo: AbstractContextManager[object]) -> Arm:
        """The same arm, inside the context `undo`."""
        self._undo = undo
        return self

    def __enter__(self) -> Arm:
        self._undo.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

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


def _arms(settings: EvaluateContextSettings) -> Iterator[Arm]:
    server = settings.server
    if server.endpoint is not None:
        from lengthwise.runs.evaluate_context.endpoint_answers import ask

        name = settings.models[0]
        endpoint = Endpoint(server, name)
        tokenizer = load_tokenizer(
            model_folder(str(server.tokenizer)), name="tokenizer",
            trust_remote_code=settings.runtime.trust_remote_code,
        )  # fmt: skip
        yield Arm(name, ArmFacts(AS_IS), tokenizer, lambda rows: ask(endpoint, rows), None)
        return
    for text in settings.models:
        name, _, folder = text.rpartition("=")
        for scheme in settings.scheme:
            yield _local_arm(settings.runtime, name or real(folder).name, folder, scheme)


def _local_arm(runtime: Runtime, name: str, folder: str, text: str) -> Arm:
    source = model_folder(folder)
    policy = load_policy(
        source, device=runtime.device, dtype=runtime.dtype, trust_remote_code=runtime.trust_remote_code, frozen=True
    )  # fmt: skip
    scheme, factor = parse_scheme(text)
    model, undo = policy.model, None
    if scheme == LAMBDA:
        undo = lambda_attention(model)
    elif scheme != AS_IS:
        extend(model, scheme, factor=factor)
    rope = getattr(model.config, "rope_parameters", None) or {}
    note = getattr(model.config, NOTE, None) or {}
    facts = ArmFacts(
        scheme=scheme if scheme != AS_IS else note.get("scheme", rope.get("rope_type", AS_IS)),
        factor=note.get("factor", rope.get("factor")),
        trained_factor=note.get("trained_factor"),
        trained_context=trained_context(model.config) if rope else None,
        computed_in=dtype_words(source, runtime.dtype),
    )
    shown = name if text == AS_IS else f"{name}, {text}"
    arm = Arm(shown, facts, policy.tokenizer, lambda rows: _answers(policy, rows, undo), policy)
    return arm if undo is None else arm.under(undo)


def _measured(
    settings: EvaluateContextSettings, arm: Arm, answers: list[dict[str, object]], listener: Listener
) -> ArmResult:
    arm.tokenizer.model_max_length = 10**9  # longer texts than it was made for are the point
    cells: list[Cell] = []
    asked = settings.reading
    _check_lengths(settings, arm.tokenizer)
    for task in asked.tasks:
        if task == "perplexity":
            cells += [_perplexity_cell(settings, arm, length, listener) for length in asked.lengths]
            continue
        for length, rows, left_out in _rows(settings, task, arm.tokenizer):
            listener("phase", {"name": f"{arm.name}: {task}, {length} tokens", "steps": len(rows)})
            texts = []
            for text in arm.answer(rows):
                texts.append(text)
                listener("done", {"done": len(texts)})
            right = score_rows(rows, texts)
            cells.append(_cell(settings.seed, task, length, rows, right, left_out))
            answers += [
                {"arm": arm.name, "task": task, "length": length, "tokens": row.tokens, "place": row.place,
                 "labels": row.labels, "answer": row.answer, "response": text, "correct": ok}
                for row, text, ok in zip(rows, texts, right, strict=True)
            ]  # fmt: skip
    return ArmResult(arm.name, arm.facts, cells)


def _check_lengths(settings: EvaluateContextSettings, tokenizer: Tokenizer) -> None:
    """Make one row of every task and length: a length that is too short for the last task is told before the first."""
    one = settings.replace(limit=1)
    for task in settings.reading.tasks:
        if task == "perplexity":
            for length in settings.reading.lengths:
                _documents(str(settings.reading.text), tokenizer, length)
        elif not (task == "lines" and settings.reading.lines is not None):
            for _ in _rows(one, task, tokenizer):
                pass


def _rows(
    settings: EvaluateContextSettings, task: str, tokenizer: Tokenizer
) -> Iterator[tuple[int, list[TaskRow], Counter[str]]]:
    """(length, rows, source rows left out) of a task; released rows come at their own length."""
    asked, limit = settings.reading, settings.limit
    template = _chat(tokenizer) if settings.chat_template else plain
    if task == "lines" and asked.lines is not None:
        released = read_longchat(asked.lines, tokenizer, template=template)[:limit]
    elif task.endswith("-qa") and _is_released(str(asked.data)):
        released = read_released(str(asked.data), tokenizer, task=task, template=template)[:limit]
    else:
        for length in asked.lengths:
            yield length, *_generated(settings, task, tokenizer, length, template)
        return
    yield round(sum(row.tokens for row in released) / len(released)), released, Counter()


def _generated(
    settings: EvaluateContextSettings, task: str, tokenizer: Tokenizer, length: int, template: Callable[[str], str]
) -> tuple[list[TaskRow], Counter[str]]:
    rows, seed = settings.limit, settings.seed
    if task in ("lines", "passkey"):
        make = lines_rows if task == "lines" else passkey_rows
        return make(tokenizer, length=length, rows=rows, seed=seed, template=template), Counter()
    build = freeform_rows if task == "freeform-qa" else altered_rows
    sources = read_sources(str(settings.reading.data))
    built = build(sources, tokenizer, length=length, rows=rows, seed=seed, template=template)
    return built.rows, built.left_out


def _is_released(path: str) -> bool:
    return "conversations" in read_rows(path)[0]


def _chat(tokenizer: Tokenizer) -> Callable[[str], str]:
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError("--chat-template: the tokenizer has no chat template; leave the flag away")

    def template(text: str) -> str:
        asked = [{"role": "user", "content": text}]
        found = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
        # The template writes its own BOS, and the tokenizer puts one before every text.
        return found.removeprefix(tokenizer.bos_token) if tokenizer.bos_token else found

    return template


@torch.no_grad()
def _answers(policy: Policy, rows: Sequence[TaskRow], method: LambdaAttention | None) -> Iterator[str]:
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
    seed: int, task: str, length: int, rows: Sequence[TaskRow], right: Sequence[bool], left_out: Counter[str]
) -> AnswerCell:
    def accuracy(chosen: Sequence[bool]) -> Interval:
        return mean_interval([float(x) for x in chosen], rng=np.random.default_rng(seed))

    places = []
    for part in range(PLACES):
        here = [ok for row, ok in zip(rows, right, strict=True) if _part(row.place) == part]
        places.append(Place(part / PLACES, len(here), accuracy(here) if here else None))
    return AnswerCell(
        task=task,
        length=length,
        rows=len(rows),
        tokens=round(sum(row.tokens for row in rows) / len(rows), 1),
        accuracy=accuracy(right),
        places=tuple(places),
        short=sum(row.short for row in rows),
        left_out=left_out,
    )


def _part(place: float | None) -> int | None:
    return None if place is None else min(PLACES - 1, int(place * PLACES))


def _perplexity_cell(settings: EvaluateContextSettings, arm: Arm, length: int, listener: Listener) -> PerplexityCell:
    documents = _documents(str(settings.reading.text), arm.tokenizer, length)[: settings.limit]
    listener("phase", {"name": f"{arm.name}: perplexity, {length} tokens", "steps": len(documents)})
    losses = []
    for ids in documents:
        losses.append(arm.losses(ids))
        listener("done", {"done": len(losses)})
    sums = [[float(one.double().sum()), len(one)] for one in losses]
    found = cluster_bootstraps(
        sums, {"": lambda m: np.exp(np.minimum(m[:, 0] / m[:, 1], 700.0))}, rng=np.random.default_rng(settings.seed)
    )[""]
    return PerplexityCell(
        length=length,
        rows=len(documents),
        perplexity=replace(found, estimate=min(perplexity(losses), 1e300)),
        by_position=loss_by_position(losses, bucket=max(1, -(-(length - 1) // POSITIONS))),
    )


def _documents(path: str, tokenizer: Tokenizer, length: int) -> list[list[int]]:
    """The text cut into documents of `length` tokens, one after the other."""
    # Enough characters for some hundred documents; a tokenizer is slow on gigabytes.
    ids = tokenizer(read_text(path)[:20_000_000], add_special_tokens=False)["input_ids"]
    if len(ids) < length:
        raise InputError(f"text is {path!r} with {len(ids)} tokens; perplexity at {length} needs at least so many")
    return [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]
