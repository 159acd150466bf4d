"""Settings of the commands that write weights without training: merge, repair."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lengthwise.config.command import Command
from lengthwise.config.definition import again, group, setting
from lengthwise.config.groups.common import Common
from lengthwise.config.groups.weights import (
    HarmfulRows,
    HarmSweep,
    MergedTensors,
    MergeMethod,
    RepairRuntime,
    TaskPrompts,
    WeightChoice,
)
from lengthwise.errors import ConfigError

OWN = ("model", "out", "mask", "reference", "mode", "overwrite", "dry_run", "json")
"""Settings of a repair that a saved mask leaves a meaning."""


def flags(names: list[str]) -> str:
    """Settings as somebody wrote them on the command line."""
    return ", ".join("--" + name.replace("_", "-") for name in names)


class MergeSettings(Command):
    """Merge models into a new folder, tensor by tensor, with memory that does not grow with their size."""

    command = "merge"
    examples = (
        "lengthwise merge tuned --base original --method update-selective --out merged",
        "lengthwise merge long short --method linear --weights 0.4,0.6 --out merged",
    )

    models: tuple[str, ...] = again(Common, "models", help="Folders to merge, beside the base.")
    base: str | None = again(
        WeightChoice, "base", None, help="The model that the others were made from; not for linear, slerp.",
        default_text="none",
    )  # fmt: skip
    merging: MergeMethod = group(MergeMethod)
    tensors: MergedTensors = group(MergedTensors)
    out: Path = again(Common, "out", writes="whole folder")
    overwrite: bool = again(Common, "overwrite", help="Replace the output folder.")
    dry_run: bool = again(Common, "dry_run", help="Compare the models and stop; nothing is written.")
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """At least one model."""
        super().check()
        if not self.models:
            raise ConfigError("no model to merge was given; give at least one")


class RepairSettings(Command):
    """Score every weight on harmful rows, take the largest scores out, write the repaired model. No training."""

    command = "repair"
    examples = (
        "lengthwise repair tuned --harmful rows.jsonl --out repaired",
        "lengthwise repair tuned --harmful rows.jsonl --judge flag:Sure --data test.jsonl --out repaired",
    )

    model: str = again(Common, "model", help="Folder of a model or of a LoRA adapter.")
    rows_scored: HarmfulRows = group(HarmfulRows)
    choice: WeightChoice = group(WeightChoice)
    runtime: RepairRuntime = group(RepairRuntime)
    harm: HarmSweep = group(HarmSweep)
    contract: TaskPrompts = group(TaskPrompts)
    mask: Path | None = setting(
        None, help="A mask that a repair saved, in place of --harmful: nothing is scored again.", metavar="file"
    )
    reference: str | None = setting(
        None, help="The aligned model or adapter, to set weights back to.", panel="Model", metavar="folder"
    )
    mode: Literal["zero", "reset"] | None = setting(
        None, help="What becomes of weights: zero, or reset to the reference.", default_text="reset where one is given"
    )
    out: Path = again(Common, "out", writes="whole folder")
    overwrite: bool = again(Common, "overwrite", help="Replace the output folder.")
    json_: bool = again(Common, "json_")

    def check(self) -> None:
        """A mask says all, a judge and data go together, and a reference is used."""
        super().check()
        if self.mask is not None:
            if others := [name for name in self.changed() if name not in OWN]:
                raise ConfigError(
                    f"--mask says already which weights go, so {flags(others)} would change nothing; leave one of them "
                    "out"
                )
        elif self.rows_scored.harmful is None:
            raise ConfigError("no rows to score on; give --harmful, or --mask with a mask that a repair saved")
        self._check_sweep()
        self._check_reference()

    def _check_sweep(self) -> None:
        """What is measured needs both a judge and data."""
        measured = (*HarmSweep.entries(), *TaskPrompts.entries())
        changed = [name for name in self.changed() if name in measured and name != "chat_template"]
        if changed and (self.harm.judge is None or self.harm.data is None):
            raise ConfigError(
                f"{flags(changed)} measures harm beside accuracy, which needs both --judge and --data; give both or "
                "none of them"
            )
        if self.choice.seed and self.harm.judge is None and "random" not in (self.choice.control or ""):
            raise ConfigError("--seed is for random controls, and none is drawn; give one, or leave it out")

    def _check_reference(self) -> None:
        """A mode or a score that needs a reference has one, and one that is given is used."""
        way = self.mode or ("zero" if self.reference is None else "reset")
        needed = "mode reset" if way == "reset" else None
        needed = needed or ("score difference" if self.choice.score == "difference" else None)
        if needed and self.reference is None:
            raise ConfigError(f"{needed} needs a reference; give the aligned model")
        if self.reference is not None and not needed:
            raise ConfigError(f"reference is given, but mode {way} does not use it; leave it out")
