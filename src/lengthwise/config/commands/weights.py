"""Settings of the commands that write weights without training: merge, repair."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lengthwise.config.command import Command, Need
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

    needs = (
        Need(
            tuple(
                key
                for group_ in (HarmfulRows, WeightChoice, RepairRuntime, HarmSweep, TaskPrompts)
                for key in group_.entries()
            ),
            lambda given: given["mask"] is None,
            "beside --mask, which says already which weights go",
        ),
        Need(
            tuple(key for key in (*HarmSweep.entries(), *TaskPrompts.entries()) if key != "chat_template"),
            lambda given: given["judge"] is not None and given["data"] is not None,
            "without both --judge and --data: it measures harm beside accuracy",
        ),
        Need(
            ("seed",),
            lambda given: given["judge"] is not None or "random" in str(given["control"]),
            "without a random control to draw",
        ),
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
        """Rows or a mask, a judge with its data, and a reference where one is used."""
        super().check()
        if self.mask is None and self.rows_scored.harmful is None:
            raise ConfigError("no rows to score on; give --harmful, or --mask with a mask that a repair saved")
        if (self.harm.judge is None) != (self.harm.data is None):
            given = "--data" if self.harm.judge is None else "--judge"
            raise ConfigError(
                f"{given} measures harm beside accuracy, which needs both --judge and --data; give both or none of them"
            )
        needed = "mode reset" if self.way == "reset" else None
        if self.mask is None and self.choice.score == "difference":
            needed = needed or "score difference"
        if needed and self.reference is None:
            raise ConfigError(f"{needed} needs a reference; give the aligned model")
        if self.reference is not None and not needed:
            raise ConfigError(f"reference is given, but mode {self.way} does not use it; leave it out")

    @property
    def way(self) -> Literal["zero", "reset"]:
        """The mode, with its default settled."""
        return self.mode or ("zero" if self.reference is None else "reset")
