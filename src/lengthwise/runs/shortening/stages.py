"""Stages around the training loop: each makes one model folder of another, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.config.commands import MergeSettings
from lengthwise.engine.method import Stage, StageInputs
from lengthwise.errors import ConfigError
from lengthwise.files import atomic_write_json, clear_partials, read_json
from lengthwise.json_types import JsonObject
from lengthwise.merging.folder_merge import merge_folders
from lengthwise.merging.merge_plan import preflight
from lengthwise.statistics.json_form import Result, plain

FOLDER = "stages"
FACTS = "facts.json"


@dataclass(frozen=True)
class FinishedStage(Result):
    """What a finished stage found, as its file has it: `seconds` of its last try, and the tokens that it drew."""

    found: JsonObject
    seconds: float
    sampled_tokens: int

    def to_dict(self) -> JsonObject:
        """As its file has it."""
        return self.found


@dataclass(frozen=True)
class OneStage(FinishedStage):
    """A stage that was run alone, in the run's `folder`."""

    stage: str
    folder: str

    def to_dict(self) -> JsonObject:
        """Its name and folder, and what it found."""
        return {"stage": self.stage, "folder": self.folder, **self.found}


def run_stages(
    stages: Sequence[Stage], start: Path, folder: Path, given: Callable[[Path, Path, Path], StageInputs]
) -> Path:
    """Run what is not finished yet of some stages, one after another; returns the folder of the last one's model.

    `given(model, out, work)` makes a stage's inputs. What each found, and its seconds, are written beside its model.
    """
    model = start
    for stage in stages:
        place = folder / FOLDER / stage.name
        out, work = place / "model", place / "work"
        clear_partials(place)
        if not (place / FACTS).is_file():
            work.mkdir(parents=True, exist_ok=True)
            began = time.perf_counter()
            found = dict(stage.run(given(model, out, work)))
            # A stage that was killed counts the time of its last, finished try.
            atomic_write_json(place / FACTS, {**found, "seconds": time.perf_counter() - began})
        model = out if out.is_dir() else model  # a stage may leave the model as it is
    return model


def finished_stages(stages: Sequence[Stage], folder: Path) -> dict[str, FinishedStage]:
    """What finished stages found, by name."""
    paths = {stage.name: folder / FOLDER / stage.name / FACTS for stage in stages}
    return {name: _finished(read_json(path)) for name, path in paths.items() if path.is_file()}


def _finished(found: JsonObject) -> FinishedStage:
    seconds, tokens = found["seconds"], found.get("sampled_tokens", 0)
    assert isinstance(seconds, float) and isinstance(tokens, int), "as they were written"
    return FinishedStage(found, seconds, tokens)


def merge_back(density: float, scale: float) -> Stage:
    """Give the untouched model only the largest part of what training changed, scaled: DLER, arXiv 2510.15110.

    `density` is the share of changed entries that is kept, `scale` the factor on them.

    Raises:
        ConfigError: a density outside (0, 1], or a scale that is not positive and finite.
    """
    if not 0 < density <= 1 or not 0 < scale < float("inf"):
        raise ConfigError(
            f"merge_back is {density:g},{scale:g}; give the share of changes that is kept, above 0 and up to 1, and a "
            "positive factor on them, for example 0.25,0.7"
        )

    def run(inputs: StageInputs) -> JsonObject:
        asked = MergeSettings.from_dict(
            {
                "method": "update-selective", "density": density, "scale": scale, "models": (str(inputs.model),),
                "base": str(inputs.base), "out": inputs.out, "overwrite": True, "mixed_dtype": True,
            }
        )  # fmt: skip
        plan = preflight(asked)
        if plan.errors:
            raise ConfigError(f"merge_back cannot merge into the untouched model: {plan.errors[0]}")
        report = merge_folders(asked, plan=plan)
        return {"density": density, "scale": scale, "changed": plain(report.total.to_dict())}

    return Stage("merge-back", run)


def check_names(stages: Sequence[Stage]) -> None:
    """Raise `ConfigError` where two stages of a method share a name, and with it a folder."""
    names = [stage.name for stage in stages]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"stages of one method need names of their own; {', '.join(twice)} comes twice")
