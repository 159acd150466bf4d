"""How models' weights are merged, and how weights are chosen that a repair takes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from lengthwise.config.definition import again, setting
from lengthwise.config.groups.common import Common
from lengthwise.config.groups.model import Runtime
from lengthwise.config.groups.prompts import PROMPT, PromptOptions
from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.training import Cluster
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError

SHARE = "pass a share from 0 to 1 (0.25 is a quarter)"
MergeName = Literal["linear", "task-arithmetic", "ties", "ties-authors", "dare", "slerp", "update-selective"]
Score = Literal["weight", "difference"]
Control = Literal["random", "magnitude", "official-random"]
MERGE_OPTIONS = ("weights", "scale", "density", "scope", "seed", "rescale", "t", "extrapolate", "normalize")


class MergeMethod(Settings):
    """The method of a merge and its options; what is left out keeps the method's own default."""

    panel = "Method"
    method: MergeName = again(Common, "method", help="How models are merged.", metavar=None)
    weights: tuple[float, ...] | None = setting(
        None, commas=True, help="One number per MODEL, with commas.", default_text="1 each",
        wanted="numbers with commas, for example 0.5,0.5",
    )  # fmt: skip
    scale: float | None = setting(
        None, help="Factor on the change that is added.", default_text="1; update-selective 0.7"
    )  # fmt: skip
    density: float | None = setting(
        None, ge=0, le=1, help="Share of each change that is kept.", default_text="update-selective 0.25", refusal=SHARE
    )
    scope: Literal["row", "tensor", "global"] | None = setting(
        None, help="update-selective ranks entries in all tensors (global) or in each.", default_text="global"
    )
    seed: int | None = again(Common, "seed", None, help="Seed of dare.", panel=None)
    rescale: Literal["inverse", "l1"] | None = setting(
        None, help="How dare scales what it keeps.", default_text="inverse"
    )  # fmt: skip
    t: float | None = setting(None, help="Share of the way of slerp, from the first model to the second.")
    extrapolate: bool = setting(False, help="Allow a t of slerp outside of 0 to 1.")
    normalize: bool = setting(True, help="Divide by the weights' sum (linear, ties).")

    def options(self) -> dict[str, object]:
        """The options that were given, as `build_merge` takes them."""
        found = self.changed()
        return {name: found[name] for name in MERGE_OPTIONS if name in found}


class MergedTensors(Settings):
    """Which tensors are merged, and how they are written."""

    panel = "Data and prompt"
    include: tuple[str, ...] = setting((), help="Merge tensors of this name pattern only.", metavar="pattern")
    exclude: tuple[str, ...] = setting((), help="Leave tensors of this name pattern as in the base.", metavar="pattern")
    mixed_dtype: bool = setting(False, help="Allow models of unlike number formats.")
    out_dtype: Literal["float64", "float32", "float16", "bfloat16"] | None = setting(
        None, help="Number format to write.", default_text="the base's"
    )
    head: Literal["untie", "drop"] | None = setting(None, help="For heads that only some models store.")
    files_from: Path | None = setting(
        None, help="Folder whose settings and tokenizer are copied.", default_text="the base", metavar="folder"
    )
    shard_mb: int = setting(5_000, ge=1, help="Most megabytes in one output file.", panel="Output")


class HarmfulRows(Settings):
    """The rows that a repair scores weights on, and how they become tokens."""

    panel = "Data and prompt"
    harmful: Path | None = setting(
        None, help="Rows with prompt, response and harmful: .jsonl, .json or .parquet.", metavar="file"
    )
    rows: str | None = setting(
        None, help="START:STOP, the harmful rows to take, STOP not among them.", default_text="all", metavar="rows"
    )
    tokens: Literal["all", "response"] = setting("all", help="Tokens that count: all, or those of the response.")
    harmful_template: str = setting(
        PROMPT, help="Prompt with {prompt} in it; the response follows.", metavar="text"
    )  # fmt: skip
    max_length: int = setting(1024, ge=1, help="Tokens after which a row is cut.")
    micro_batch_rows: int = again(Cluster, "micro_batch_rows", 8, help="Rows in one forward pass.", panel=None)

    def check(self) -> None:
        """Rows that hold at least one, and a template with a place for the prompt."""
        super().check()
        start, stop = self.span
        if stop is not None and stop <= start:
            raise ConfigError(
                f"rows is {self.words}, which holds no row; give START:STOP with 0 <= START < STOP (STOP is not taken)"
            )
        if PROMPT not in self.harmful_template:
            raise ConfigError(f"harmful_template is {self.harmful_template!r}; it must hold {PROMPT}")

    @property
    def words(self) -> str:
        """``START:STOP`` with its start."""
        start, stop = self.span
        return f"{start}:{'' if stop is None else stop}"

    @property
    def where(self) -> str:
        """What a count of rows needs beside it: nothing, where all are taken."""
        return "" if self.span == (0, None) else f" in {self.words}"

    @property
    def span(self) -> tuple[int, int | None]:
        """The first row that is taken, and the first one after them that is not."""
        if self.rows is None:
            return 0, None
        found = re.fullmatch(r"(\d*):(\d*)", self.rows.strip())
        if found is None:
            raise ConfigError(
                f"rows is {self.rows!r}; give START:STOP, for example 0:2000 for the first 2000 harmful rows"
            )
        return int(found[1] or 0), int(found[2]) if found[2] else None


class WeightChoice(Settings):
    """Which weights a repair takes out."""

    panel = "Method"
    fraction: float = setting(
        0.05, ge=0, le=1, help="Share of each group of weights that is taken out.", refusal=SHARE
    )  # fmt: skip
    scope: Literal["row", "tensor", "global"] = again(
        MergeMethod, "scope", "row", help="A group is a row, a tensor, or all target tensors together."
    )
    score: Score = setting("weight", help="Scores W, or W less the reference (difference).")
    control: Control | None = setting(None, help="What replaces the score.")
    rounding: Literal["nearest", "official"] = setting(
        "nearest", help="How a fraction becomes a count; official rounds up."
    )
    target: tuple[str, ...] = setting(
        (), help="Layers by name or pattern.", default_text="all but the output head", metavar="pattern"
    )
    base: str | None = setting(
        None, help="Base model of an adapter.", default_text="the one that it names", panel="Model", metavar="folder"
    )
    seed: int = again(Common, "seed", help="Seed of the random control.", panel=None)

    @property
    def targets(self) -> tuple[str, ...]:
        """The patterns of layers, all where none is named."""
        return self.target or ("*",)


class RepairRuntime(Runtime):
    """What a repair's forward pass runs on."""

    device: str = again(Runtime, "device", "cpu")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = again(Runtime, "dtype")


class TaskPrompts(PromptOptions):
    """How a repair asks the problems whose accuracy is to be kept."""

    chat_template: bool = again(PromptOptions, "chat_template", False, help="Ask through the chat template.")

    def check(self) -> None:
        """A template for problems; the one for harmful rows has a name of its own."""
        if self.prompt_template is not None and PROMPT in self.prompt_template:
            raise ConfigError(
                f"prompt_template is {self.prompt_template!r}, which is how the problems of --data are asked; give a "
                "template with {prompt} in it, for the harmful rows, as --harmful-template"
            )
        super().check()


class HarmSweep(Settings):
    """Measuring harm beside accuracy over fractions: a judge and data go together."""

    panel = "Evaluation"
    judge: str | None = setting(
        None, help="Judges responses: module:function, flag:REGEX or unless:REGEX.", metavar="judge"
    )
    data: str | None = again(
        Common, "data", None, help="Problems whose accuracy is to be kept: a file or datasets name.", panel=None
    )
    judge_data: Path | None = setting(
        None, help="Prompts to judge the answers to.", default_text="a fifth of --harmful, then not scored on",
        metavar="file",
    )  # fmt: skip
    judge_threshold: float = setting(
        0.5,
        ge=0,
        le=1,
        help="Probability above which a judge's answer flags.",
        refusal="give a probability from 0 to 1",
    )
    fractions: tuple[float, ...] = setting(
        (0.01, 0.02, 0.05, 0.1, 0.2), commas=True, ge=0, le=1, help="Fractions to measure, with commas.",
        wanted="numbers with commas, for example 0.01,0.05,0.1", refusal=SHARE,
    )  # fmt: skip
    cap: int = again(Sampling, "cap", 512, help="Most response tokens while measuring.", panel=None)
    limit: int = again(Common, "limit", 1000, help="Most prompts and most problems to measure.", panel=None)
    sample_rows: int = again(Sampling, "sample_rows", 32, panel=None)

    def check(self) -> None:
        """Fractions that are there, each once."""
        super().check()
        if not self.fractions or len(set(self.fractions)) < len(self.fractions):
            raise ConfigError(f"fractions is {list(self.fractions)}; give one or more, each once")
