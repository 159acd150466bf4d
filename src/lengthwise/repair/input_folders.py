"""The folders that a repair reads: a model or a LoRA adapter, and the aligned one; opened and checked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from lengthwise.config.commands import RepairSettings
from lengthwise.engine.model_folders import resolve_device
from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.output_paths import check_replacement
from lengthwise.repair.antidote import repair
from lengthwise.safetensors_io.reader import FolderSource, open_folder, verify_checksums

Locate = Callable[[str], Path]
"""From the name of a model to its folder."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a LoRA adapter in peft's format."""
    return (folder / "adapter_config.json").is_file()


@dataclass(frozen=True)
class Folders:
    """The files of the model, and of the reference where there is one; headers and checksums are checked.

    ``base`` is put under an adapter in place of the model that it names; ``device`` is where it computes.
    """

    source: FolderSource
    reference: FolderSource | None
    way: Literal["zero", "reset"]
    adapter: bool
    base: Path | None
    device: torch.device

    @property
    def stem(self) -> str:
        """The name of the weight files."""
        return _stem(self.adapter)

    def read(self, name: str) -> Tensor:
        """One tensor of the model."""
        return read_tensor(self.source, name)

    def aligned(self, name: str) -> Tensor:
        """One tensor of the reference."""
        assert self.reference is not None, "settings that need a reference are refused without one"
        return read_tensor(self.reference, name)

    def repaired(self, name: str, mask: Tensor) -> Tensor:
        """One tensor of the model with what the mask names taken out."""
        aligned = self.aligned(name) if self.way == "reset" else None
        return repair(self.read(name), mask, mode=self.way, reference=aligned)

    def check_reference(self, names: Iterable[str]) -> None:
        """Refuse a reference that lacks one of these tensors of the model, or has it in another shape.

        Raises:
            InputError: naming the tensor.
            ShapeError: with both shapes.
        """
        if self.reference is None:
            return
        for name in names:
            ours, theirs = self.source.infos[name].shape, self.reference.infos.get(name)
            if theirs is None:
                raise InputError(f"{name} is not in the reference {self.reference.label}; give the aligned model")
            if theirs.shape != ours:
                raise ShapeError(
                    f"{name} has shape {ours} in {self.source.label} but {theirs.shape} in the reference; give the "
                    "aligned model of the same architecture"
                )


def open_folders(settings: RepairSettings, *, locate: Locate = Path) -> Folders:
    """Open what a repair reads, before anything is computed; ``locate`` says where a model that is named lies.

    Raises:
        ConfigError: a device that is not there, or a base of what is no adapter.
        InputError: a folder that cannot be read, or an output that is in the way.
        CheckpointError: a damaged file.
    """
    device = resolve_device(settings.runtime.device)
    model = locate(settings.model)
    reference = None if settings.reference is None else locate(settings.reference)
    base = None if settings.choice.base is None else locate(settings.choice.base)
    adapter = is_adapter(model)
    if base is not None and not adapter:
        raise ConfigError(f"base is given, but {model} is no adapter; leave it out")
    source = _opened(model, adapter)
    if reference is not None and reference.is_dir() and is_adapter(reference) != adapter:
        kinds = ("an adapter", "a full model") if adapter else ("a full model", "an adapter")
        raise InputError(
            f"{str(model)!r} is {kinds[0]} but the reference {str(reference)!r} is {kinds[1]}; give the aligned "
            f"{kinds[0].split()[-1]}"
        )
    aligned = None if reference is None else _opened(reference, adapter)
    inputs = [model, *([] if reference is None else [reference])]
    check_replacement(settings.out, overwrite=settings.overwrite, inputs=inputs)
    return Folders(source, aligned, settings.way, adapter, base, device)


def read_tensor(source: FolderSource, name: str) -> Tensor:
    """One whole tensor."""
    with safe_open(source.places[name].file, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


def _opened(folder: Path, adapter: bool) -> FolderSource:
    source = open_folder(folder, stem=_stem(adapter), label=str(folder))
    verify_checksums(source)
    return source


def _stem(adapter: bool) -> str:
    return "adapter_model" if adapter else "model"
