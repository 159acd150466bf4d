"""What a comparison is asked to do, and what all its runs share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.config.commands import CompareSettings
from lengthwise.config.files import COMMAND, SETTINGS
from lengthwise.config.groups.model import TrainingDevice
from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.config.groups.sampling import Splits
from lengthwise.config.groups.training import AdaptationHere, SharedTraining
from lengthwise.engine.model_folders import resolve_device
from lengthwise.errors import ConfigError
from lengthwise.methods.declaration import Value
from lengthwise.runs.compare.arms import Arm, read_arms
from lengthwise.runs.compare.random_control import control_arms

STEPS_AT_MOST = 4
GROWING = ("methods", "sweep", "option", "settings", "seeds", "controls", "margin", "choose", "baselines", "device")
"""Settings that may be others when a folder is continued: they add runs, or say how runs are told of."""


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison, and the arms that they name; see `lengthwise compare --help` for each setting.

    ``arms``: of your own, in place of those that ``methods``, ``sweep`` and ``option`` name. All runs share their
    training but for the seed: ``steps`` batches of the untouched model's length are what the run's sampled tokens pay
    for, unless ``token_budget`` gives them; a method that shortens takes more steps for the same tokens, at most four
    times as many.

    Raises:
        ConfigError: two arms of one name, an unknown control, sweeps of unequal sizes, or a device or folder that
            cannot be used.
    """

    settings: CompareSettings
    arms: Sequence[Arm] = ()

    def __post_init__(self) -> None:
        said = self.settings
        named = tuple(self.arms) or tuple(read_arms(said.methods, said.sweep, said.option, said.settings))
        object.__setattr__(self, "arms", named)
        names = [arm.name for arm in self.all_arms]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two arms are called {name!r}; call each differently")
        sizes = {arm.name: len(arm.values) for arm in self.arms}
        if len(set(sizes.values())) > 1:
            sized = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ConfigError(f"sweeps have unequal sizes ({sized}); give every method equally many settings")
        if files := [path for path in (self.out, *self.out.parents) if path.is_file()]:
            raise ConfigError(f"out is {str(self.out)!r}, but {files[0]} is a file; name an empty or new folder")
        resolve_device(said.runtime.device)

    @property
    def out(self) -> Path:
        """The comparison's folder."""
        return self.settings.out

    @property
    def training(self) -> SharedTraining:
        """How every arm is carried out."""
        return self.settings.training

    @property
    def model(self) -> str:
        """The untouched model's folder, or its name in the lab."""
        return self.settings.model

    @property
    def runtime(self) -> TrainingDevice:
        """What the runs compute on."""
        return self.settings.runtime

    @property
    def adaptation(self) -> AdaptationHere:
        """Which weights are trained."""
        return self.settings.adaptation

    @property
    def contract(self) -> PromptOptions:
        """How problems are asked and answers are read, outside of the lab's worlds."""
        return self.settings.contract

    @property
    def splits(self) -> Splits:
        """What settings are chosen on, and what is reported."""
        return self.settings.splits

    @property
    def source(self) -> str:
        """Where the problems come from: a file, a data set, or a world of the lab."""
        return self.settings.data if self.settings.data is not None else self.settings.model

    @property
    def cap(self) -> Value:
        """The training cap of methods whose knob is another."""
        return self.settings.caps.cap

    @property
    def longest_cap(self) -> int | None:
        """The longest training cap that is given as a number; None where all follow from the untouched model."""
        swept = (value for arm in self.arms if arm.knob == "cap" for value in arm.values)
        fixed = (arm.options["cap"] for arm in self.arms if "cap" in arm.options)
        return max((value for value in (self.cap, *swept, *fixed) if isinstance(value, int)), default=None)

    @property
    def control_arms(self) -> tuple[Arm, ...]:
        """The controls, one arm each."""
        return control_arms(self.settings.controls, self.cap)

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """All that is trained: the methods, then the controls."""
        return (*self.arms, *self.control_arms)

    def arm(self, name: str) -> Arm:
        """One of `all_arms` by its name."""
        return next(arm for arm in self.all_arms if arm.name == name)

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds, from that of the training on."""
        return [self.training.seed + place for place in range(self.settings.seeds)]

    def shared(self) -> dict[str, object]:
        """What may not change when a folder is continued: everything but what adds runs, or tells of them."""
        kept = {name: value for name, value in self.settings.recorded().items() if name not in GROWING}
        return {COMMAND: self.settings.command, SETTINGS: kept}

    def to_dict(self) -> dict[str, object]:
        """JSON-ready; `from_dict` reads it back."""
        return {SETTINGS: self.settings.to_dict(), "arms": [dataclasses.asdict(arm) for arm in self.arms]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Comparison:
        """What `to_dict` wrote."""
        arms = [Arm(**{**arm, "values": tuple(arm["values"])}) for arm in fields["arms"]]
        return cls(CompareSettings.from_dict(fields[SETTINGS]), arms)
