"""How models are made to read further, and how it is measured how far they read."""

from __future__ import annotations

import re
from typing import Literal

from lengthwise.config.definition import again, setting
from lengthwise.config.groups.common import Common
from lengthwise.config.groups.model import ComputeDtype, Runtime
from lengthwise.config.groups.training import Adaptation, Batches, Cluster
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError

Task = Literal["lines", "freeform-qa", "altered-qa", "passkey", "perplexity"]
LENGTHS = "token counts with commas, for example 1k,2k,4096"
AS_IS = "as-is"


def read_lengths(given: object) -> object:
    """Token counts of ``1k,2k,4096``, sorted and each once; k is 1024. What is none of them comes back as it is."""
    found = []
    for part in given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]:
        matched = re.fullmatch(r"\s*([0-9]{1,9})(k?)\s*", str(part), re.IGNORECASE)
        if not matched or isinstance(part, bool):
            return given
        found.append(int(matched[1]) * (1024 if matched[2] else 1))
    return tuple(sorted(set(found)))


class PositionScheme(Settings):
    """A position scheme for longer texts, and its options."""

    panel = "Method"
    scheme: str = setting(
        help="linear, power, truncated, xpos, randomised, ntk, dynamic, yarn, longrope or llama3.", metavar="name"
    )
    factor: float | None = setting(
        None, ge=1, help="Times the trained context; composed before power, truncated, xpos, randomised."
    )
    eval_factor: float | None = setting(
        None, ge=1, help="Factor to write, where it differs from that of training.", default_text="--factor"
    )
    power: float | None = setting(None, help="Exponent of the power scheme.", default_text="0.5 there")
    truncate_length: float | None = setting(
        None, help="Tokens within which a pair must turn once.", default_text="the trained context for truncated"
    )
    xpos_scale_base: float | None = setting(
        None, help="Tokens over which xPos decays by zeta.", default_text="512 there"
    )  # fmt: skip


class FineTuning(Settings):
    """How a model is trained under its scheme first, where data is given; defaults are the paper's."""

    panel = "Training"
    text_column: str = setting("text", help="Column of the documents.", panel="Data and prompt", metavar="name")
    chunk: int | None = setting(
        None, ge=2, help="Tokens of a training chunk, an even number.", default_text="the new context"
    )  # fmt: skip
    lr: float = again(Batches, "lr", 2e-5)
    epochs: float = setting(1.0, gt=0, help="Passes over the data.")
    steps: int = again(Batches, "steps", 0, ge=0, help="Optimizer steps in place of epochs; 0: epochs.")
    batch_rows: int = setting(32, ge=1, help="Chunks a step.")
    micro_batch_rows: int = again(Cluster, "micro_batch_rows", 4, help="Chunks held at once.")
    warmup_steps: int = again(Batches, "warmup_steps", 300)
    lora: int = again(Adaptation, "lora")
    dtype: ComputeDtype = again(Runtime, "dtype", "float32", panel=None)
    seed: int = again(Common, "seed", help="Seed of training.", panel=None)

    def check(self) -> None:
        """Chunks overlap by half, and a step is whole micro-batches."""
        super().check()
        if self.chunk is not None and self.chunk % 2:
            raise ConfigError(f"chunk is {self.chunk}; chunks overlap by half, so give an even number of tokens")
        if self.batch_rows % self.micro_batch_rows:
            raise ConfigError(
                f"micro_batch_rows is {self.micro_batch_rows}; it must divide batch_rows ({self.batch_rows})"
            )


class ReadingTasks(Settings):
    """What is read, at which lengths, and from which files."""

    panel = "Data and prompt"
    tasks: tuple[Task, ...] = setting(("lines", "passkey"), commas=True, help="Tasks, with commas.", metavar="names")
    lengths: tuple[int, ...] = setting(
        commas=True, ge=2, read=read_lengths, help="Tokens of the prompts, with commas: 1k,2k,4096.", wanted=LENGTHS,
        refusal="give lengths of at least 2 tokens", metavar="tokens",
    )  # fmt: skip
    data: str | None = again(
        Common, "data", None, help="QA: rows with document, question, answer, or a released WikiQA file.", panel=None
    )
    lines: str | None = setting(None, help="lines: a LongChat file in place of made-up lines.", metavar="file")
    text: str | None = setting(None, help="perplexity: a text file.", metavar="file")

    def check(self) -> None:
        """At least one of each, and a file for the tasks that need one."""
        super().check()
        if not self.tasks or not self.lengths:
            raise ConfigError("give at least one task and lengths of at least 2 tokens, for example --lengths 1k,2k")
        for name, needs in (("data", ("altered-qa", "freeform-qa")), ("text", ("perplexity",))):
            if (found := [task for task in needs if task in self.tasks]) and getattr(self, name) is None:
                raise ConfigError(f"{' and '.join(found)} needs --{name} FILE")
