"""What a repair is asked to do, and what of it is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lengthwise.errors import ConfigError
from lengthwise.merging.option_checks import check_choice, check_seed
from lengthwise.repair.antidote import Selection
from lengthwise.repair.calibration_rows import Calibration
from lengthwise.repair.model_loading import DTYPES

CONTROLS = ("random", "magnitude", "official-random")
SCORES = ("weight", "difference")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter in peft's format."""
    return (folder / "adapter_config.json").is_file()


@dataclass(frozen=True, kw_only=True)
class FolderJob:
    """What every repair has: a folder in, a folder out, and what becomes of the weights that are taken out.

    ``model`` is a full model or a LoRA adapter; ``reference`` the aligned one, for ``mode`` reset (the default where it
    is given).
    """

    model: Path
    out: Path
    reference: Path | None = None
    mode: str | None = None
    overwrite: bool = False

    @property
    def adapter(self) -> bool:
        """Whether the model is a LoRA adapter."""
        return is_adapter(self.model)

    @property
    def stem(self) -> str:
        """The name of its weight files."""
        return "adapter_model" if self.adapter else "model"

    @property
    def way(self) -> str:
        """The mode, with its default settled."""
        if self.mode is not None:
            return self.mode
        return "zero" if self.reference is None else "reset"

    @property
    def reference_for(self) -> str | None:
        """What needs the reference, in words; None where nothing does."""
        return "mode reset" if self.way == "reset" else None

    def check(self) -> None:
        """Refuse options that are out of range, and those that exclude each other.

        Raises:
            ConfigError: naming the option, its value and its range.
        """
        check_choice("mode", self.way, ("zero", "reset"))
        if self.reference_for and self.reference is None:
            raise ConfigError(f"{self.reference_for} needs a reference; give the aligned model")
        if self.reference is not None and not self.reference_for:
            raise ConfigError(f"reference is given, but mode {self.way} does not use it; leave it out")


@dataclass(frozen=True, kw_only=True)
class MaskJob(FolderJob):
    """Apply a saved mask: ``mask`` is a file as a repair writes it, safetensors of uint8 by full parameter name."""

    mask: Path


@dataclass(frozen=True, kw_only=True)
class RepairJob(FolderJob):
    """What to repair and how.

    ``model`` is a full model or a LoRA adapter (``base`` in place of the base model that it names). ``reference`` is
    the aligned model or adapter, for ``mode`` reset (the default where it is given) and ``score`` difference.
    ``control`` replaces the score: ``random`` numbers or ``magnitude`` \\|W\\|, with the same counts in every group;
    ``official-random`` is the authors', which draws its count over each whole tensor, whatever the scope.
    """

    calibration: Calibration
    selection: Selection = field(default_factory=Selection)
    base: Path | None = None
    score: str = "weight"
    control: str | None = None
    seed: int = 0
    targets: tuple[str, ...] = ("*",)
    device: str = "cpu"
    dtype: str = "auto"
    trust_remote_code: bool = False

    @property
    def reference_for(self) -> str | None:
        """What needs the reference: a mode or a score."""
        return super().reference_for or ("score difference" if self.score == "difference" else None)

    def check(self) -> None:
        """`FolderJob.check`, and what belongs to scoring."""
        check_choice("score", self.score, SCORES)
        super().check()
        self.selection.check()
        self.calibration.check()
        check_choice("dtype", self.dtype, DTYPES)
        check_seed(self.seed)
        if self.control is not None:
            check_choice("control", self.control, CONTROLS)
        if self.base is not None and not self.adapter:
            raise ConfigError(f"base is given, but {self.model} is no adapter; leave it out")
