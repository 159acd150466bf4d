"""Settings of the commands about long texts: generate, extend, evaluate-context."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from lengthwise.config.command import Command, Need
from lengthwise.config.commands.evaluation import SERVER_NEEDS, draws
from lengthwise.config.commands.training import ShortenSettings, read_options
from lengthwise.config.definition import again, group, setting
from lengthwise.config.groups.common import Common
from lengthwise.config.groups.context import AS_IS, FineTuning, PositionScheme, ReadingTasks
from lengthwise.config.groups.model import EndpointOptions, LambdaWindow, Runtime
from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.config.groups.sampling import Sampling
from lengthwise.errors import ConfigError

WAY_OF_RUNNING = (
    "cannot be written into a folder: it is a way of running any model, with its weights and config as they are. Give "
    "it to lengthwise generate or evaluate, or as --scheme lambda to evaluate-context"
)


def read_json_options(given: object) -> object:
    """``NAME=JSON`` texts; a file may give a mapping of names to values in their place."""
    if isinstance(given, Mapping):
        return tuple(f"{name}={json.dumps(value)}" for name, value in given.items())
    return read_options(given)


def _has_data(given: Mapping[str, object]) -> bool:
    return given["data"] is not None


def _any_task(*tasks: str) -> Callable[[Mapping[str, object]], bool]:
    def asked(given: Mapping[str, object]) -> bool:
        named = given["tasks"]
        return isinstance(named, tuple) and not set(tasks).isdisjoint(named)

    return asked


class GenerateSettings(Command):
    """Write on from a text. With --lambda MODEL reads and writes without end, in memory and time that stay flat."""

    command = "generate"
    needs = (Need(("top_p", "seed"), draws, "at --temperature 0, the default, which takes the likeliest token"),)
    examples = (
        'lengthwise generate Qwen3-1.7B --prompt "Once upon a time" --cap 200',
        "lengthwise generate Qwen3-1.7B --lambda --prompt-file book.txt --cap 0 --stream",
    )

    model: str = again(Common, "model")
    runtime: Runtime = group(Runtime)
    endless: LambdaWindow = group(LambdaWindow)
    prompt: str | None = setting(None, help="Text to go on from.", panel="Data and prompt", metavar="text")
    prompt_file: str | None = setting(
        None, help="File with the text; - is standard input.", panel="Data and prompt", metavar="file"
    )
    chat_template: bool = again(PromptOptions, "chat_template", False, help="Ask through the chat template.")
    prefill_chunk: int = setting(2048, ge=1, help="Tokens of the prompt read at once.")
    cap: int = again(
        Sampling, "cap", 256, ge=0, help="Most response tokens; 0: until the model ends, or Ctrl-C.", panel="Method",
        refusal="give the most tokens to write, or 0 for no bound",
    )  # fmt: skip
    temperature: float = again(Sampling, "temperature", 0.0, help="0 takes the likeliest token.", panel="Method")
    top_p: float = again(Sampling, "top_p", help="Sample from the likeliest tokens of this mass.", panel="Method")
    seed: int = again(Common, "seed", help="Seed of sampling.")
    stream: bool = setting(False, help="Print the text as it comes.", panel="Output", transient=True)
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """One text to go on from, and one way to show what is written."""
        super().check()
        if self.stream and self.json_:
            raise ConfigError("--stream prints text and --json one object; give one of them")
        if (self.prompt is None) == (self.prompt_file is None):
            raise ConfigError("give the text with --prompt or with --prompt-file, one of them")


class ExtendSettings(Command):
    """Write MODEL with a position scheme for longer texts, fine-tuned under it first where --data is given."""

    command = "extend"
    examples = (
        "lengthwise extend Llama-3.2-1B --scheme yarn --factor 4 --out longer",
        "lengthwise extend Llama-3.2-1B --scheme linear --factor 4 --data books.jsonl --steps 400 --out longer",
    )
    refused = MappingProxyType({"--lambda": WAY_OF_RUNNING})
    needs = (
        Need((*FineTuning.entries(), "threads"), _has_data, "without --data, which fine-tunes the model"),
        Need(("epochs",), lambda given: given["steps"] == 0, "beside --steps, which are taken in place of epochs"),
    )

    model: str = again(Common, "model", help="Folder of a causal language model, or lab:reader.")
    trust_remote_code: bool = again(Runtime, "trust_remote_code")
    threads: int | None = again(Runtime, "threads")
    data: str | None = again(
        Common, "data", None, help="Fine-tune on these documents first: .jsonl, .json, .parquet, a datasets name."
    )
    position: PositionScheme = group(PositionScheme)
    option: tuple[str, ...] = again(
        ShortenSettings, "option", help="Another option of the scheme, NAME=JSON.", metavar="name=json",
        wanted="NAME=JSON, as a list or a table", read=read_json_options,
    )  # fmt: skip
    training: FineTuning = group(FineTuning)
    link: bool = setting(False, help="Hard links to the weights in place of copies.", panel="Output")
    out: Path = again(Common, "out", writes="whole folder")
    overwrite: bool = again(Common, "overwrite", help="Replace the output folder.")
    json_: bool = again(Common, "json_")


class EvaluateContextSettings(Command):
    """Measure retrieval and perplexity by length and by the place of what is asked for."""

    command = "evaluate-context"
    examples = (
        "lengthwise evaluate-context lab:reader --lengths 64,128,256",
        "lengthwise evaluate-context Llama-3.2-1B --scheme as-is --scheme yarn:4 --lengths 8k,32k --out runs/reach",
    )
    needs = (
        *SERVER_NEEDS,
        Need(("data",), _any_task("freeform-qa", "altered-qa"), "without freeform-qa or altered-qa in --tasks"),
        Need(("lines",), _any_task("lines"), "without lines in --tasks"),
        Need(("text",), _any_task("perplexity"), "without perplexity in --tasks"),
        Need(
            ("chat_template",),
            _any_task("lines", "passkey", "freeform-qa", "altered-qa"),
            "on perplexity alone, where nothing is asked",
        ),
    )

    models: tuple[str, ...] = again(
        Common, "models", help="Folders, lab:reader, or NAME=FOLDER; behind --endpoint the model's name there."
    )
    runtime: Runtime = group(Runtime)
    server: EndpointOptions = group(EndpointOptions)
    reading: ReadingTasks = group(ReadingTasks)
    chat_template: bool = again(PromptOptions, "chat_template", False, help="Ask through the chat template.")
    scheme: tuple[str, ...] = again(
        PositionScheme, "scheme", (AS_IS,), help="as-is, lambda, or NAME:FACTOR as in extend; repeat to compare."
    )
    limit: int = again(Common, "limit", 50, help="Most rows of a task and length.")
    seed: int = again(Common, "seed", help="Seed of the tasks and of the bootstrap.", panel="Evaluation")
    out: Path | None = again(Common, "out", None, help="Folder to write.", default_text="a new one")
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """What only a server has, and what only weights that are here."""
        super().check()
        if not self.models:
            raise ConfigError("give one or more MODEL folders, or a model's name with --endpoint URL and --tokenizer")
        if self.server.endpoint is None:
            return
        if self.server.tokenizer is None:
            raise ConfigError(
                "--endpoint needs the model's own tokenizer to build prompts of a length; give --tokenizer FOLDER"
            )
        if len(self.models) > 1:
            raise ConfigError(f"models is {list(self.models)}; an endpoint is asked for one model at a time")
        if "perplexity" in self.reading.tasks or self.scheme != (AS_IS,):
            raise ConfigError("perplexity and schemes need the model's weights; give a MODEL folder for them")
