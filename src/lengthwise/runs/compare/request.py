"""What a comparison is asked to do, and what all its runs share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.config.groups.training import Training
from lengthwise.engine.model_folders import DTYPES, resolve_device
from lengthwise.errors import ConfigError
from lengthwise.lab.shipped_models import LAB
from lengthwise.runs.compare.arms import Arm, Value, check_length
from lengthwise.runs.compare.random_control import control_arms

MARGIN = 0.01
STEPS_AT_MOST = 4
RULES = ("aes", "shortest")


@dataclass(frozen=True)
class Comparison:
    """The command line's words, unresolved; see `lengthwise compare --help` for each.

    ``arms``: what is compared; ``seeds``: so many, from ``train.seed`` on. ``train`` is shared by all runs, except for
    its seed: ``steps`` batches of the untouched model's length are what the run's sampled tokens pay for, unless
    ``token_budget`` gives them; a method that shortens takes more steps for the same tokens, at most four times as
    many. ``cap`` is the training cap of methods whose knob is not the cap. ``margin``: how much accuracy a method may
    lose and still count as not inferior. ``choose``: how a setting is chosen on validation, aes or shortest (see
    `result.choose`). ``baselines``: whether what needs no training is measured too. ``controls``: names of
    `random_control.CONTROLS`, each trained alike on a reward that says nothing, with one setting.

    Without ``data`` a lab model practises in its own world. A tenth of ``data`` is held out for the choice of settings,
    and without ``test_data`` another for the report, by a hash of the problem.

    Raises:
        ConfigError: no arm, two of one name, an unknown control, sweeps of unequal sizes, fewer than one seed, or a
            value out of range.
    """

    model: str
    arms: Sequence[Arm]
    out: Path
    train: Training = field(default_factory=lambda: Training(steps=100, lr=1e-6))
    seeds: int = 3
    data: str | None = None
    test_data: str | None = None
    validation_problems: int = 200
    test_problems: int = 500
    eval_samples: int = 1
    eval_cap: int | None = None
    cap: Value = "p95"
    margin: float = MARGIN
    choose: str = "aes"
    baselines: bool = True
    controls: Sequence[str] = ()
    contract: PromptOptions = field(default_factory=PromptOptions)
    device: str = "auto"
    dtype: str = "float32"
    lora: int = 0
    gradient_checkpointing: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "arms", tuple(self.arms))
        object.__setattr__(self, "controls", tuple(self.controls))
        if not self.arms:
            raise ConfigError("methods is empty; name at least one")
        check_length(self.cap, "cap")
        names = [arm.name for arm in self.all_arms]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"two arms are called {name!r}; call each differently")
        sizes = {arm.name: len(arm.values) for arm in self.arms}
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ConfigError(f"sweeps have unequal sizes ({said}); give every method equally many settings")
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}; give at least 1 (3 say more)")
        for name in ("validation_problems", "test_problems", "eval_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.margin < 1:
            raise ConfigError(f"margin is {self.margin}; give a share of accuracy from 0 to below 1, as 0.01")
        if self.choose not in RULES:
            raise ConfigError(f"choose is {self.choose!r}; choose {' or '.join(RULES)}")
        if self.eval_cap is not None and self.eval_cap < 1:
            raise ConfigError(f"eval_cap is {self.eval_cap}; a response has at least 1 token")
        if self.lora < 0:
            raise ConfigError(f"lora is {self.lora}; give 0 (all weights) or a rank of at least 1")
        if self.data is None and not self.model.startswith(LAB):
            raise ConfigError("data is not given; name the training problems with --data")
        if files := [path for path in (self.out, *self.out.parents) if path.is_file()]:
            raise ConfigError(f"out is {str(self.out)!r}, but {files[0]} is a file; name an empty or new folder")
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype is {self.dtype!r}; choose one of {', '.join(DTYPES)}")
        resolve_device(self.device)

    @property
    def source(self) -> str:
        """Where the problems come from: a file, a data set, or a world of the lab."""
        return self.data if self.data is not None else self.model

    @property
    def longest_cap(self) -> int | None:
        """The longest training cap that is given as a number; None where all follow from the untouched model."""
        swept = (value for arm in self.arms if arm.knob == "cap" for value in arm.values)
        fixed = (arm.options["cap"] for arm in self.arms if "cap" in arm.options)
        return max((value for value in (self.cap, *swept, *fixed) if isinstance(value, int)), default=None)

    @property
    def control_arms(self) -> tuple[Arm, ...]:
        """The controls, one arm each."""
        return control_arms(self.controls, self.cap)

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        """All that is trained: the methods, then the controls."""
        return (*self.arms, *self.control_arms)

    def arm(self, name: str) -> Arm:
        """One of `all_arms` by its name."""
        return next(arm for arm in self.all_arms if arm.name == name)

    @property
    def seed_numbers(self) -> list[int]:
        """The seeds, from that of ``train`` on."""
        return [self.train.seed + place for place in range(self.seeds)]

    def shared(self) -> dict[str, Any]:
        """What may not change when a folder is continued: everything but the arms, controls and the number of seeds."""
        fields = self.to_dict()
        for name in ("arms", "seeds", "out", "margin", "choose", "baselines", "controls", "device"):
            del fields[name]
        return fields

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` reads it back."""
        arms = [dataclasses.asdict(arm) for arm in self.arms]
        groups = {"contract": self.contract.to_dict(), "train": self.train.to_dict()}
        return dataclasses.asdict(self) | {"out": str(self.out), "arms": arms, **groups}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Comparison:
        """What `to_dict` wrote."""
        nested = {
            "train": Training(**fields["train"]),
            "contract": PromptOptions.from_dict(fields["contract"]),
            "arms": [Arm(**{**arm, "values": tuple(arm["values"])}) for arm in fields["arms"]],
        }
        return cls(**{**fields, **nested})
