"""A folder's weights with their scores: one forward pass over the calibration rows, then any mask of any fraction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.config.commands import RepairSettings
from lengthwise.config.groups.weights import WeightChoice
from lengthwise.errors import InputError
from lengthwise.repair.antidote import Selection, choose, weight_scores
from lengthwise.repair.calibration_rows import batches, encode
from lengthwise.repair.input_folders import Folders
from lengthwise.repair.layer_activity import Activity, activation_scores
from lengthwise.repair.model_loading import Loaded, load_calibrated


@dataclass(frozen=True)
class Scored:
    """The target weights by their names in the files: statistics, shapes, scores and masks."""

    choice: WeightChoice
    folders: Folders
    activity: dict[str, Activity]
    shapes: dict[str, tuple[int, ...]]

    def score(self, name: str, control: str | None = None) -> Tensor:
        """One weight's scores, or what a control puts in their place."""
        weight = self.folders.read(name)
        if control in ("random", "official-random"):
            seed = int.from_bytes(hashlib.sha256(f"{self.choice.seed}/{name}".encode()).digest()[:7], "little")
            return torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
        if control == "magnitude":
            return weight_scores(weight, None)
        aligned = self.folders.aligned(name) if self.choice.score == "difference" else None
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
        return self.folders.repaired(name, mask)


def selection_of(choice: WeightChoice) -> Selection:
    """How many weights are taken out of which groups."""
    return Selection(fraction=choice.fraction, scope=choice.scope, rule=choice.rounding)


def load(settings: RepairSettings, folders: Folders) -> Loaded:
    """The model, or the adapter on its base, with the tokenizer."""
    return load_calibrated(
        folders.source.path, adapter=folders.adapter, base=folders.base, device=folders.device,
        dtype=settings.runtime.dtype, trust_remote_code=settings.runtime.trust_remote_code,
    )  # fmt: skip


def score_weights(
    settings: RepairSettings, folders: Folders, pairs: Sequence[tuple[str, str]], loaded: Loaded
) -> Scored:
    """One forward pass over prompts and responses.

    Raises:
        InputError: what `activation_scores` raises, or a target that the files lack.
        ShapeError: a reference of other shapes.
    """
    encoded = encode(loaded.tokenizer, pairs, settings.rows_scored, chat=settings.contract.chat_template)
    fed = batches(encoded, settings.rows_scored, pad_id=loaded.pad_id, device=folders.device)
    targets = list(settings.choice.targets)
    if folders.adapter:
        # Factors only: the base model's own layers are never a target.
        patterns = [target if "*" in target else f"*.{target}" for target in targets]
        targets = [f"{pattern}.lora_{factor}.*" for pattern in patterns for factor in "AB"]
    found = activation_scores(loaded.model, fed, targets=targets)
    activity = {loaded.file_name(name): one for name, one in found.items()}
    return Scored(settings.choice, folders, activity, _shapes(folders, activity))


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
