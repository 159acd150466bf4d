"""`lengthwise generate`: read a text of any length and write on, in constant memory with --lambda."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lengthwise.cli._console import complain, err, out, print_json
from lengthwise.cli._flags import AnsweringFlags, Flag, LambdaFlags, Threads, with_groups
from lengthwise.cli._progress import working
from lengthwise.cli.merge import model_folder
from lengthwise.errors import ConfigError, InputError
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from lengthwise.engine.model_folders import Policy


@with_groups
def generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a causal language model, or lab:chains.")],
    endless: LambdaFlags,
    machine: AnsweringFlags,
    prompt: Annotated[str | None, Flag(help="Text to go on from.")] = None,
    prompt_file: Annotated[str | None, Flag(help="File with the text; - is standard input.")] = None,
    chunk: Annotated[int, Flag(help="Tokens of the prompt read at once.")] = 2048,
    max_tokens: Annotated[int, Flag(help="Most new tokens; 0: until the model ends, or Ctrl-C.")] = 256,
    temperature: Annotated[float, Flag(help="0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[float, Flag(help="Sample from the likeliest tokens of this mass.")] = 1.0,
    seed: Annotated[int, Flag(min=0, help="Seed of sampling.")] = 0,
    chat_template: Annotated[bool, Flag("--chat-template", help="Ask through the chat template.")] = False,
    stream: Annotated[bool, Flag("--stream", help="Print the text as it comes.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Write on from a text. With --lambda MODEL reads and writes without end, in memory and time that stay flat."""
    if stream and as_json:
        raise ConfigError("--stream prints text and --json one object; give one of them")
    options = endless.request()
    text = _prompt_text(prompt, prompt_file)
    from transformers.utils import logging

    from lengthwise.context.lambda_shaped_attention.streaming import check_sampling
    from lengthwise.engine.model_folders import dtype_words, load_policy
    from lengthwise.engine.rotary_switch import switch_of

    check_sampling(max_tokens, temperature, top_p, chunk)
    logging.disable_progress_bar()
    source = model_folder(model)
    policy = load_policy(source, **asdict(machine), frozen=True)
    eos_ids, ids = _tokens(policy, text, chat_template)
    if options is None:
        _check_room(policy.model.config, len(ids), max_tokens)
    sampling: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    sampling["eos_ids"] = eos_ids
    with ExitStack() as stack:
        stack.enter_context(threads_for(source, wanted=threads))
        cache = _cache(stack, policy.model, options)
        stack.enter_context(policy.compute())
        written = _Written(stream)
        if options is None and (switch := switch_of(policy.model.config)) is not None:
            # Factors that depend on the length of what is read must not change within it.
            chunk = max(chunk, len(ids))
            sampling |= {"prompt": ids, "anew": switch.length if switch.steady else None}
        stopped = _run(policy, ids, cache, chunk, seed, sampling, written)
        result = {**written.facts(len(ids), cache), "dtype": policy.dtype}
    if as_json:
        print_json({**result, "text": written.text, "stopped": stopped})
    else:
        out.file.write("\n" if stream else written.text + "\n")
        complain(f"{_summary(result)}; computed in {dtype_words(source, machine.dtype)}", style="dim")
    if stopped:
        complain("stopped by Ctrl-C", style="yellow")
        raise typer.Exit(130)


def _prompt_text(prompt: str | None, file: str | None) -> str:
    if (prompt is None) == (file is None):
        raise ConfigError("give the text with --prompt or with --prompt-file, one of them")
    if file is None:
        return str(prompt)
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"prompt_file is {file!r}: {error.strerror or error}; give a text file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompt_file is {file!r}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def _tokens(policy: Policy, text: str, chat: bool) -> tuple[tuple[int, ...], list[int]]:
    """Every id that ends a text, and the prompt's ids."""
    from lengthwise.grading.prompt_contract import PromptContract, render, resolve
    from lengthwise.grading.think_auto import as_rendered

    contract = as_rendered(PromptContract("generate", chat_template=chat), policy.tokenizer)
    contract = resolve(contract, policy.tokenizer, policy.model.generation_config)
    # A longer text than the model was trained on is what this command is for: no warning of the tokenizer's.
    policy.tokenizer.model_max_length = sys.maxsize
    return contract.eos_ids, render(contract, policy.tokenizer, {"problem": text})[1]


def _check_room(config: Any, tokens: int, max_tokens: int) -> None:
    """Without --lambda a model goes as far as its config says, and no further."""
    from lengthwise.context_length import reach

    room = reach(config)
    if room is not None and (not max_tokens or tokens + max_tokens > room):
        wanted = "no bound on new tokens" if not max_tokens else f"up to {max_tokens} new ones"
        raise InputError(
            f"the prompt has {tokens} tokens and there may be {wanted}, but the model reads {room} in all; "
            "give --lambda, which reads and writes without end, or less text and a lower --max-tokens"
        )


def _cache(stack: ExitStack, model: Any, options: dict[str, Any] | None) -> Any:
    """The cache to write with, and with --lambda the model under its rule until the stack closes."""
    if options is None:
        from transformers import DynamicCache

        return DynamicCache()
    from lengthwise.context import lambda_attention

    return stack.enter_context(lambda_attention(model, **options)).new_cache()


class _Written:
    """The text so far, and what it took. Streamed text goes straight to stdout and is not kept."""

    def __init__(self, stream: bool) -> None:
        self.text, self.count, self.ended, self._stream = "", 0, False, stream
        self.read_seconds, self.write_seconds = 0.0, 0.0

    def add(self, text: str) -> None:
        if self._stream:
            out.file.write(text)
            out.file.flush()
        else:
            self.text += text

    def facts(self, prompt_tokens: int, cache: Any) -> dict[str, Any]:
        held = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values) if x is not None)
        return {
            "prompt_tokens": prompt_tokens,
            "new_tokens": self.count,
            "finished": self.ended,
            "cache_bytes": held,
            "read_seconds": round(self.read_seconds, 3),
            "write_seconds": round(self.write_seconds, 3),
        }


def _run(
    policy: Policy, ids: list[int], cache: Any, chunk: int, seed: int, sampling: dict[str, Any], written: _Written
) -> bool:
    """Read, then write into `written`; True if Ctrl-C stopped it."""
    import torch

    from lengthwise.context.lambda_shaped_attention.streaming import TextStream, read, write

    begun, text = time.perf_counter(), TextStream(policy.tokenizer)
    try:
        with _reading(len(ids)) as on_read:
            logits = read(policy.model, ids, cache=cache, chunk=chunk, on_read=on_read)
        written.read_seconds, begun = time.perf_counter() - begun, time.perf_counter()
        generator = torch.Generator(policy.device).manual_seed(seed)
        with _writing(sampling["max_tokens"]) as on_token:
            for token in write(policy.model, logits, cache=cache, generator=generator, **sampling):
                written.count += 1
                written.ended = token in sampling["eos_ids"]
                written.add(text.push(token))
                on_token()
    except KeyboardInterrupt:
        return True
    finally:
        written.add(text.finish())
        written.write_seconds = time.perf_counter() - begun
    return False


@contextmanager
def _reading(tokens: int) -> Iterator[Callable[[int], None]]:
    """What is shown while the prompt is read; to be told of every part."""
    with working() as work:
        work.phase("reading", tokens, quiet=True)
        yield lambda count: work.at(work.done + count)


@contextmanager
def _writing(most: int) -> Iterator[Callable[[], None]]:
    """What is shown while tokens are written, to be told of each: on a terminal the text itself."""
    if err.is_terminal:
        yield lambda: None
        return
    with working() as work:
        work.phase("writing", most or None, quiet=True)
        yield lambda: work.at(work.done + 1)


def _summary(facts: dict[str, Any]) -> str:
    rate = facts["new_tokens"] / facts["write_seconds"] if facts["write_seconds"] else 0.0
    return (
        f"read {facts['prompt_tokens']} tokens in {facts['read_seconds']:.1f} s, wrote {facts['new_tokens']} "
        f"({rate:.1f} a second); the cache holds {facts['cache_bytes'] / 2**20:.1f} MiB"
    )
