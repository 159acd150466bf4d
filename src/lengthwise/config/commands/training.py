"""Settings of the commands that train, or write what trains elsewhere: shorten, compare, export, demo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from lengthwise.config.command import Command, Need
from lengthwise.config.definition import again, group, setting
from lengthwise.config.groups.common import LAB, Common
from lengthwise.config.groups.model import Runtime, TrainingDevice, TrainingRuntime, Writing
from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.config.groups.sampling import Measuring, Sampling, Splits
from lengthwise.config.groups.training import (
    Adaptation,
    AdaptationHere,
    CapSchedule,
    Cluster,
    ClusterBatches,
    RelativeCap,
    SharedTraining,
    Training,
)
from lengthwise.errors import ConfigError

LAB_LR = 1e-4
"""The learning rate on a lab model, or on the lab's problems, unless it is given."""
ALONE = (
    "is not taken: training samples by temperature alone, or the log-probabilities that it learns from would not be "
    "those it drew with"
)
PADDED = (
    "cannot be used to shorten: training takes rows of unlike length together, padded on the left, and under Lambda "
    "attention a row's first tokens count. Shorten within the trained length, then give --lambda to lengthwise "
    "generate or evaluate"
)


def _outside_of_the_lab(given: Mapping[str, object]) -> bool:
    return not str(given["model"] if given["data"] is None else given["data"]).startswith(LAB)


def read_options(given: object) -> object:
    """``name=value`` texts; a file may give a mapping of names to values in their place."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Mapping):
        return tuple(f"{name}={_text(value)}" for name, value in given.items())
    return tuple(given) if isinstance(given, list) else given


def _text(value: object) -> str:
    """A value as it would be written behind ``name=``."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


class ShortenSettings(Command):
    """Shorten MODEL: measure, train, measure again, report. Kill it at any time; the same command continues."""

    command = "shorten"
    examples = (
        "lengthwise shorten Qwen3-1.7B --data train.jsonl --method dler --out runs/dler",
        "lengthwise shorten --config runs/dler --lr 2e-6 --out runs/dler-lr2",
    )
    refused = MappingProxyType({"--lambda": PADDED, "--top-p": ALONE})

    model: str = again(Common, "model")
    data: str = again(
        Common, "data", help="Training problems: .jsonl, .json, .parquet, a datasets name, or lab:chains."
    )
    runtime: TrainingRuntime = group(TrainingRuntime)
    writing: Writing = group(Writing)
    contract: PromptOptions = group(PromptOptions)
    method: str = again(
        Common, "method", "dler",
        help="A method by name (`lengthwise methods`), your own my_method.py, or module:function.",
    )  # fmt: skip
    option: tuple[str, ...] = setting(
        (), help="A method's own option, name=value.", metavar="name=value", read=read_options,
        wanted="name=value, as a list or a table",
    )  # fmt: skip
    gate: Literal["none", "right", "solved", "rate", "rate-right"] | None = setting(
        None, help="Which answers the method may pay by length.", default_text="the method's own", panel="Method"
    )  # fmt: skip
    schedule: CapSchedule = group(CapSchedule)
    short_model: str | None = setting(
        None, help="ada-r1: folder of the short model; MODEL is the long one.", metavar="folder"
    )  # fmt: skip
    stage: Literal["merge", "sample", "pairs", "dpo", "evaluate"] | None = setting(
        None, help="ada-r1: one stage alone.", default_text="all", transient=True
    )
    merge_back: tuple[float, ...] | None = setting(
        None, commas=True, help="Afterwards merge so much of what changed into MODEL: density,scale.",
        wanted="density,scale, for example 0.25,0.7", metavar="density,scale",
    )  # fmt: skip
    training: Training = group(Training)
    adaptation: AdaptationHere = group(AdaptationHere)
    measuring: Measuring = group(Measuring)
    out: Path = again(Common, "out", help="Run folder; the same command continues it.")
    overwrite: bool = again(Common, "overwrite", help="Replace the run in the folder.")
    dry_run: bool = again(Common, "dry_run", help="Show a prompt, a graded sample and an estimate; train nothing.")
    json_: bool = again(Common, "json_")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """The lab's problems are asked as the lab asks, of a model that is small and learns at a higher rate."""
        return {"preset": "lab", "lr": LAB_LR} if str(given.get("data", "")).startswith(LAB) else {}

    def check(self) -> None:
        """A density and a scale that can be merged back."""
        super().check()
        if self.merge_back is None:
            return
        density, scale = self.merge_back if len(self.merge_back) == 2 else (0.0, 0.0)
        if not 0 < density <= 1 or not scale > 0:
            raise ConfigError(
                f"merge_back is {','.join(f'{part:g}' for part in self.merge_back)}; give the share of changes that is "
                "kept, above 0 and up to 1, and a positive factor on them, for example 0.25,0.7"
            )


class CompareSettings(Command):
    """Compare methods on MODEL: same weights, problems, sampled tokens and evaluation; knobs chosen on validation."""

    command = "compare"
    examples = (
        "lengthwise compare lab:chains --methods grpo,dler,drpo --out runs/all",
        "lengthwise compare Qwen3-1.7B --data train.jsonl --methods dler --sweep dler:cap=2000,4000 --out runs/caps",
    )
    needs = (
        Need(
            tuple(PromptOptions.entries()), _outside_of_the_lab,
            "in a world of the lab, which asks in its own way",
        ),
    )  # fmt: skip

    model: str = again(
        Common, "model", help="Folder of a causal language model, or lab:chains, lab:witnesses, lab:search."
    )
    data: str | None = again(Common, "data", None, help="Problems: .jsonl, .json, .parquet or a datasets name.",
                             default_text="a lab model's own")  # fmt: skip
    runtime: TrainingDevice = group(TrainingDevice)
    writing: Writing = group(Writing)
    contract: PromptOptions = group(PromptOptions)
    methods: tuple[str, ...] = setting(
        commas=True, help="Methods by name, with commas; `lengthwise methods` lists them.", metavar="names"
    )
    sweep: tuple[str, ...] = setting(
        (), help="A method's knob and its values, METHOD:KNOB=V1,V2,...", metavar="method:knob=values",
        read=read_options, wanted="METHOD:KNOB=V1,V2,..., as a list or a table",
    )  # fmt: skip
    option: tuple[str, ...] = again(
        ShortenSettings, "option", help="An option for all settings of a method, METHOD:NAME=VALUE.",
        metavar="method:name=value", wanted="METHOD:NAME=VALUE, as a list or a table",
    )  # fmt: skip
    settings: int | None = setting(
        None, ge=1, help="Settings of each method.", default_text="as many as --sweep names, or 3"
    )  # fmt: skip
    seeds: int = setting(3, ge=1, help="Seeds of every setting.", refusal="give at least 1 (3 say more)")
    caps: RelativeCap = group(RelativeCap)
    controls: tuple[str, ...] = setting(
        (), commas=True, help="Trained alike on a reward that says nothing, one setting each: random.",
        default_text="none", metavar="names",
    )  # fmt: skip
    training: SharedTraining = group(SharedTraining)
    adaptation: AdaptationHere = group(AdaptationHere)
    splits: Splits = group(Splits)
    jobs: int | None = setting(
        None, ge=1, help="Runs side by side, one thread each.", default_text="one per core", panel="Model",
        transient=True,
    )  # fmt: skip
    keep_models: bool = setting(
        False, help="Keep models of settings that were not chosen.", panel="Output", transient=True
    )
    out: Path = again(Common, "out", help="Folder; the same command continues it, with more seeds or methods too.")
    overwrite: bool = again(Common, "overwrite", help="Replace the comparison in the folder.")
    dry_run: bool = again(Common, "dry_run", help="Show runs, tokens and an estimate; do nothing.")
    json_: bool = again(Common, "json_")

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """A lab model is small, and learns at a higher rate."""
        return {"lr": LAB_LR} if str(given.get("model", "")).startswith(LAB) else {}

    def check(self) -> None:
        """At least one method, and problems."""
        super().check()
        if not self.methods:
            raise ConfigError("methods is empty; name at least one")
        if self.data is None and not self.model.startswith(LAB):
            raise ConfigError("data is not given; name the training problems with --data")


class ExportSettings(Command):
    """Write a run of `lengthwise shorten` for an engine with more devices: TRL or verl. Nothing is trained."""

    command = "export"
    examples = (
        "lengthwise export trl Qwen3-1.7B --data train.jsonl --cap 4000 --devices 8 --sharding zero2 --out runs/trl",
        "lengthwise export verl Qwen3-1.7B --data train.jsonl --cap 4000 --devices 8 --nodes 2 --out runs/verl",
    )
    needs = (
        Need(("max_draws",), lambda given: given["engine"] != "verl", "in verl, which draws as its own config says"),
        Need(("vllm", "sharding"), lambda given: given["engine"] != "verl", "in verl, which has vLLM and FSDP always"),
        Need(("tensor_parallel",), lambda given: given["engine"] != "trl", "in TRL, whose vLLM is one copy a device"),
    )

    engine: Literal["trl", "verl"] = setting(help="trl or verl.", positional=True, metavar="ENGINE", panel="Model")
    model: str = again(Common, "model")
    data: str = again(Common, "data", help="Training problems: .jsonl, .json, .parquet or a datasets name.")
    trust_remote_code: bool = again(Runtime, "trust_remote_code")
    contract: PromptOptions = group(PromptOptions)
    method: str = again(ShortenSettings, "method")
    option: tuple[str, ...] = again(ShortenSettings, "option")
    gate: Literal["none", "right", "solved", "rate", "rate-right"] | None = again(ShortenSettings, "gate")
    cap: int = again(
        Sampling, "cap", ..., help="Most response tokens in training.", panel="Method",
        wanted="a whole number of tokens, for example what `lengthwise shorten --cap auto` chose",
    )  # fmt: skip
    training: ClusterBatches = group(ClusterBatches)
    adaptation: Adaptation = group(Adaptation)
    cluster: Cluster = group(Cluster)
    out: Path = again(Common, "out")
    overwrite: bool = again(Common, "overwrite", help="Replace an export in the folder.")
    json_: bool = again(Common, "json_")


class DemoSettings(Command):
    """Shorten the shipped verbose reasoner with DLER on this machine's CPU, and report what changed."""

    command = "demo"
    examples = ("lengthwise demo", "lengthwise demo --steps 40 --limit 100 --seed 3 --out runs/demo")
    needs = (Need(("overwrite",), lambda given: given["out"] is not None, "without --out: the folder is a new one"),)

    steps: int = again(Training, "steps", 120)
    seed: int = again(Training, "seed", help="Seed of training and sampling.")
    limit: int = again(Common, "limit", 500, ge=2, help="Held-out problems to measure on.")
    threads: int | None = again(Runtime, "threads")
    out: Path | None = again(
        Common, "out", None, help="Run folder; the same command continues it.", default_text="a new one"
    )
    overwrite: bool = again(Common, "overwrite", help="Replace the run in that folder.")
    json_: bool = again(Common, "json_")
