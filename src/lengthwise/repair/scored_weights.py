"""A folder's weights with their scores: one forward pass over the calibration rows, then any mask of any fraction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor

from lengthwise.errors import InputError, ShapeError
from lengthwise.output_paths import check_replacement
from lengthwise.repair.antidote import Selection, choose, repair, weight_scores
from lengthwise.repair.calibration_rows import batches, encode
from lengthwise.repair.job import FolderJob, RepairJob, is_adapter
from lengthwise.repair.layer_activity import Activity, activation_scores
from lengthwise.repair.model_loading import Loaded, load_calibrated
from lengthwise.safetensors_io.reader import FolderSource, open_folder, verify_checksums


@dataclass(frozen=True)
class Folders:
    """The files of the model, and of the reference where there is one; headers and checksums are checked."""

    source: FolderSource
    reference: FolderSource | None

    def read(self, name: str) -> Tensor:
        """One tensor of the model."""
        return read_tensor(self.source, name)

    def aligned(self, name: str) -> Tensor:
        """One tensor of the reference."""
        assert self.reference is not None, "a job that needs a reference is refused without one"
        return read_tensor(self.reference, name)

    def repaired(self, name: str, mask: Tensor, way: str) -> Tensor:
        """One tensor of the model with what the mask names taken out."""
        return repair(self.read(name), mask, mode=way, reference=self.aligned(name) if way == "reset" else None)

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


@dataclass(frozen=True)
class Scored:
    """The target weights of a job by their names in the files: statistics, shapes, scores and masks."""

    job: RepairJob
    folders: Folders
    activity: dict[str, Activity]
    shapes: dict[str, tuple[int, ...]]

    def score(self, name: str, control: str | None = None) -> Tensor:
        """One weight's scores, or what a control puts in their place."""
        weight = self.folders.read(name)
        if control in ("random", "official-random"):
            seed = int.from_bytes(hashlib.sha256(f"{self.job.seed}/{name}".encode()).digest()[:7], "little")
            return torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
        if control == "magnitude":
            return weight_scores(weight, None)
        aligned = self.folders.aligned(name) if self.job.score == "difference" else None
        return weight_scores(weight, self.activity[name].mean.cpu(), reference=aligned)

    def masks(self, selection: Selection, control: str | None = None) -> Callable[[str], Tensor]:
        """A function from a weight's name to its mask; made on the unchanged model, whatever is applied when."""
        if control == "official-random":
            return lambda name: self._drawn(name, selection.fraction)
        return choose(self.shapes, lambda name: self.score(name, control), selection)

    def _drawn(self, name: str, fraction: float) -> Tensor:
        """The authors' control: int(d · n) entries of the whole tensor, so rows lose unlike numbers."""
        scores = self.score(name, "official-random")
        chosen = torch.zeros(scores.numel(), dtype=torch.bool)
        chosen[scores.flatten().argsort()[: int(fraction * scores.numel())]] = True
        return chosen.view(scores.shape)

    def repaired(self, name: str, mask: Tensor) -> Tensor:
        """One weight with what the mask names taken out."""
        return self.folders.repaired(name, mask, self.job.way)


def open_folders(job: FolderJob) -> Folders:
    """Check a job and open what it reads, before anything is computed.

    Raises:
        ConfigError: an option out of range.
        InputError: a folder that cannot be read, or an output that is in the way.
        CheckpointError: a damaged file.
    """
    job.check()
    source = _opened(job, job.model)
    if job.reference is not None and job.reference.is_dir() and is_adapter(job.reference) != job.adapter:
        kinds = ("an adapter", "a full model") if job.adapter else ("a full model", "an adapter")
        raise InputError(
            f"{str(job.model)!r} is {kinds[0]} but the reference {str(job.reference)!r} is {kinds[1]}; give "
            f"the aligned {kinds[0].split()[-1]}"
        )
    reference = None if job.reference is None else _opened(job, job.reference)
    check_replacement(job.out, overwrite=job.overwrite, inputs=[job.model, *([job.reference] if job.reference else [])])
    return Folders(source, reference)


def load(job: RepairJob) -> Loaded:
    """The job's model, or its adapter on the base, with the tokenizer."""
    return load_calibrated(
        job.model, adapter=job.adapter, base=job.base, device=job.device, dtype=job.dtype,
        trust_remote_code=job.trust_remote_code,
    )  # fmt: skip


def score_weights(job: RepairJob, folders: Folders, pairs: Sequence[tuple[str, str]], loaded: Loaded) -> Scored:
    """One forward pass over prompts and responses.

    Raises:
        InputError: what `activation_scores` raises, or a target that the files lack.
        ShapeError: a reference of other shapes.
    """
    encoded = encode(loaded.tokenizer, pairs, job.calibration)
    fed = batches(encoded, job.calibration, pad_id=loaded.pad_id, device=torch.device(job.device))
    targets = list(job.targets)
    if job.adapter:
        # Factors only: the base model's own layers are never a target.
        patterns = [target if "*" in target else f"*.{target}" for target in targets]
        targets = [f"{pattern}.lora_{factor}.*" for pattern in patterns for factor in "AB"]
    found = activation_scores(loaded.model, fed, targets=targets)
    activity = {loaded.file_name(name): one for name, one in found.items()}
    return Scored(job, folders, activity, _shapes(folders, activity))


def _shapes(folders: Folders, activity: dict[str, Activity]) -> dict[str, tuple[int, ...]]:
    source = folders.source
    lost = [name for name in activity if name not in source.infos]
    if lost:
        raise InputError(
            f"{len(lost)} target weights are not in the files of {source.label}, first {lost[0]}; save the model with "
            "save_pretrained, or name other targets (a tied output head has no weight of its own)"
        )
    folders.check_reference(activity)
    return {name: source.infos[name].shape for name in activity}


def _opened(job: FolderJob, folder: object) -> FolderSource:
    source = open_folder(str(folder), stem=job.stem, label=str(folder))
    verify_checksums(source)
    return source


def read_tensor(source: FolderSource, name: str) -> Tensor:
    """One whole tensor."""
    with safe_open(source.places[name].file, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor
