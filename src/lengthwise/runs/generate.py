"""`lengthwise generate`: read a text of any length and write on, in constant memory under Lambda attention."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lengthwise.config.commands.context import GenerateSettings
from lengthwise.config.groups.model import LambdaWindow
from lengthwise.context import lambda_attention
from lengthwise.context.lambda_shaped_attention.streaming import TextStream, read, write
from lengthwise.context_length import reach
from lengthwise.engine.model_folders import Policy, dtype_words, load_policy
from lengthwise.engine.rotary_switch import switch_of
from lengthwise.errors import InputError
from lengthwise.grading.prompt_contract import PromptContract, render, resolve
from lengthwise.grading.think_auto import as_rendered
from lengthwise.lab.shipped_models import model_folder
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from transformers import Cache, PretrainedConfig, PreTrainedModel

Listener = Callable[[str, Mapping[str, object]], None]
"""Told of progress: (event, facts). Events: reading and writing (of), read (tokens), text (text, tokens)."""


@dataclass(frozen=True)
class Generated:
    """What was written, and what it took.

    ``finished``: the model ended it. ``stopped``: Ctrl-C did. ``cache_bytes``: what the cache holds at the end.
    ``dtype``: the numbers that it was computed in, ``computed_in`` the same in words.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    finished: bool
    stopped: bool
    cache_bytes: int
    read_seconds: float
    write_seconds: float
    dtype: str
    computed_in: str

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        fields = dataclasses.asdict(self)
        del fields["computed_in"]
        return fields


def generate(settings: GenerateSettings, text: str, *, listener: Listener | None = None) -> Generated:
    """Read a text, then write on until the model ends, up to the cap, or until Ctrl-C.

    Raises:
        InputError: no such model, a text without tokens, or more than the model reads without Lambda attention.
        ConfigError: a chat template is asked for, and there is none.
    """
    folder = model_folder(settings.model, in_its_world=True)
    runtime = settings.runtime
    policy = load_policy(
        folder, device=runtime.device, dtype=runtime.dtype, trust_remote_code=runtime.trust_remote_code, frozen=True
    )
    eos_ids, ids = _tokens(policy, text, settings.chat_template)
    if not settings.endless.lambda_:
        _check_room(policy.model.config, len(ids), settings.cap)
    with ExitStack() as stack:
        stack.enter_context(threads_for(folder, wanted=runtime.threads))
        cache = _cache(stack, policy.model, settings.endless)
        stack.enter_context(policy.compute())
        writer = _Writer(settings, policy, ids, cache, eos_ids, listener or (lambda event, facts: None))
        writer.run()
    return writer.result(dtype_words(folder, runtime.dtype))


def _tokens(policy: Policy, text: str, chat: bool) -> tuple[tuple[int, ...], list[int]]:
    """Every id that ends a text, and the prompt's ids."""
    contract = as_rendered(PromptContract("generate", chat_template=chat), policy.tokenizer)
    contract = resolve(contract, policy.tokenizer, policy.model.generation_config)
    # A longer text than the model was trained on is what this command is for: no warning of the tokenizer's.
    policy.tokenizer.model_max_length = sys.maxsize
    return contract.eos_ids, render(contract, policy.tokenizer, {"problem": text})[1]


def _check_room(config: PretrainedConfig, tokens: int, cap: int) -> None:
    """Without Lambda attention a model goes as far as its config says, and no further."""
    room = reach(config)
    if room is not None and (not cap or tokens + cap > room):
        wanted = "no bound on new tokens" if not cap else f"up to {cap} new ones"
        raise InputError(
            f"the prompt has {tokens} tokens and there may be {wanted}, but the model reads {room} in all; "
            "give --lambda, which reads and writes without end, or less text and a lower --cap"
        )


def _cache(stack: ExitStack, model: PreTrainedModel, window: LambdaWindow) -> Cache:
    """The cache to write with; under Lambda attention the model is under its rule until the stack closes."""
    if window.lambda_:
        return stack.enter_context(lambda_attention(model, **window.options)).new_cache()
    from transformers import DynamicCache

    return DynamicCache()


class _Writer:
    """Reads, then writes; keeps the text and what it took. Text that somebody shows as it comes is not kept."""

    def __init__(
        self,
        settings: GenerateSettings,
        policy: Policy,
        ids: list[int],
        cache: Cache,
        eos_ids: tuple[int, ...],
        tell: Listener,
    ) -> None:
        self._settings, self._policy, self._ids, self._cache = settings, policy, ids, cache
        self._eos_ids, self._tell = eos_ids, tell
        self._text, self._count, self._finished, self._stopped = "", 0, False, False
        self._read_seconds, self._write_seconds = 0.0, 0.0

    def run(self) -> None:
        """Read and write; Ctrl-C ends it with what there is."""
        text = TextStream(self._policy.tokenizer)
        try:
            self._write(self._read(), text)
        except KeyboardInterrupt:
            self._stopped = True
        finally:
            self._add(text.finish())

    def _read(self) -> torch.Tensor:
        begun, chunk = time.perf_counter(), self._settings.prefill_chunk
        if not self._settings.endless.lambda_ and switch_of(self._policy.model.config) is not None:
            chunk = max(chunk, len(self._ids))  # factors that depend on the length must not change within it
        self._tell("reading", {"of": len(self._ids)})
        done = 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            self._tell("read", {"tokens": done})

        logits = read(self._policy.model, self._ids, cache=self._cache, chunk=chunk, on_read=told)
        self._read_seconds = time.perf_counter() - begun
        return logits

    def _write(self, logits: torch.Tensor, text: TextStream) -> None:
        settings, begun = self._settings, time.perf_counter()
        switch = None if settings.endless.lambda_ else switch_of(self._policy.model.config)
        self._tell("writing", {"of": settings.cap or None})
        tokens = write(
            self._policy.model, logits, cache=self._cache, eos_ids=self._eos_ids, max_tokens=settings.cap,
            generator=torch.Generator(self._policy.device).manual_seed(settings.seed),
            temperature=settings.temperature, top_p=settings.top_p, prompt=() if switch is None else self._ids,
            anew=switch.length if switch is not None and switch.steady else None,
        )  # fmt: skip
        try:
            for token in tokens:
                self._count += 1
                self._finished = token in self._eos_ids
                self._add(text.push(token))
        finally:
            self._write_seconds = time.perf_counter() - begun

    def _add(self, text: str) -> None:
        self._tell("text", {"text": text, "tokens": self._count})
        if not self._settings.stream:
            self._text += text

    def result(self, computed_in: str) -> Generated:
        """What came of it."""
        held = sum(x.nbytes for layer in self._cache.layers for x in (layer.keys, layer.values) if x is not None)
        return Generated(
            text=self._text, prompt_tokens=len(self._ids), new_tokens=self._count, finished=self._finished,
            stopped=self._stopped, cache_bytes=held, read_seconds=round(self._read_seconds, 3),
            write_seconds=round(self._write_seconds, 3), dtype=self._policy.dtype, computed_in=computed_in,
        )  # fmt: skip


def prompt_text(settings: GenerateSettings) -> str:
    """The text to go on from, of the settings, a file or standard input.

    Raises:
        InputError: a file that cannot be read, or that is no text.
    """
    file = settings.prompt_file
    if file is None:
        return str(settings.prompt)
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"prompt_file is {file!r}: {error.strerror or error}; give a text file") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"prompt_file is {file!r}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
