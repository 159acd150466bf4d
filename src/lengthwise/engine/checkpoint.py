"""Checkpoints that are whole, verified or skipped.

A checkpoint is a folder ``step-000120`` with ``weights.safetensors``, ``optimizer.safetensors``, ``state.json``
and, written last, ``manifest.json`` with the SHA-256 of the other three. The folder is filled under a temporary
name and renamed, so a killed process leaves either a whole checkpoint or a partial name that nobody reads.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lengthwise.engine.training_state import Parts, SavedState, TrainingState
from lengthwise.errors import CheckpointError, LengthwiseWarning
from lengthwise.files import PARTIAL, atomic_write_json, clear_partials, read_json, sha256_file, write_folder

WEIGHTS, OPTIMIZER, STATE, MANIFEST = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)

KEPT = 2


class Checkpoints:
    """The checkpoints of a run: where it stands, and what its parts learn and hold."""

    def __init__(self, folder: Path, parts: Parts[Any]) -> None:
        self.folder, self.parts = folder, parts

    def save(self, run: TrainingState) -> Path:
        """Write the checkpoint of a finished step."""
        held = self.parts.collector.state
        state = run.to_dict() | ({} if held is None else {"collector": held})
        learner = self.parts.learner
        return save_checkpoint(
            self.folder, step=run.step, model=learner.model, optimizer=learner.optimizer, state=state
        )

    def load(self) -> TrainingState | None:
        """Put the newest sound checkpoint into the parts and say where the run stands; None where there is none.

        Raises:
            CheckpointError: it belongs to another model, or to a method that holds something else between steps.
        """
        found = newest_checkpoint(self.folder)
        if found is None:
            return None
        collector, learner = self.parts.collector, self.parts.learner
        restore(found, learner.model, learner.optimizer)
        state = found.state if collector.state is None else _with_collector(found.state)
        if missing := sorted(_KEPT_AS.keys() - state.keys()):
            raise CheckpointError(
                f"the checkpoint of step {found.step} in {self.folder} has no {missing[0]}; name another output folder"
            )
        held = state.get("collector")
        if (held is None) != (collector.state is None):
            raise CheckpointError(
                f"the checkpoint of step {found.step} in {self.folder} was written by a method of another kind; name "
                "that method, or another output folder"
            )
        if held is not None:
            collector.load_state(held)
        return TrainingState.from_dict(state)


def _with_collector(state: SavedState) -> SavedState:
    """A state as it is written now: before, the windows that wait stood beside the method's memory."""
    method = state["method"]
    if "collector" in state or method.keys() != {"method", "pool"}:
        return state
    return {**state, "method": method["method"], "collector": method["pool"]}


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: trained tensors by name, optimizer tensors, and the trainer's JSON state."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: SavedState


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, object],
    keep: int = KEPT,
) -> Path:
    """Write the checkpoint of a finished step, then drop all but the newest `keep`."""
    target = folder / f"step-{step:06d}"

    def fill(partial: Path) -> None:
        save_file(trained_tensors(model), partial / WEIGHTS)
        save_file(_optimizer_tensors(model, optimizer), partial / OPTIMIZER)
        atomic_write_json(partial / STATE, {"step": step, **state})
        sums = {name: sha256_file(partial / name) for name in (WEIGHTS, OPTIMIZER, STATE)}
        atomic_write_json(partial / MANIFEST, {"step": step, "sha256": sums})

    write_folder(target, fill)
    _prune(folder, keep)
    return target


def _prune(folder: Path, keep: int) -> None:
    for old in checkpoint_folders(folder)[:-keep]:
        # Renamed first: a kill during the removal must not leave half a checkpoint under a checkpoint's name.
        shutil.rmtree(old.rename(folder / f"{PARTIAL}{old.name}"))


def checkpoint_folders(folder: Path) -> list[Path]:
    """All checkpoint folders, oldest first; what else is called so is none."""
    numbered = {path: path.name.removeprefix("step-") for path in folder.glob("step-*")}
    return sorted((path for path in numbered if numbered[path].isdecimal()), key=lambda path: int(numbered[path]))


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that passes its checksums; damaged ones are warned about and removed.

    Returns None where there is none at all. Half-written leftovers are cleared.
    """
    if not folder.is_dir():
        return None
    clear_partials(folder)
    for path in reversed(checkpoint_folders(folder)):
        try:
            found = _load(path)
        except CheckpointError as error:
            warnings.warn(f"{error}; falling back to the one before", LengthwiseWarning, stacklevel=2)
            shutil.rmtree(path)
            continue
        # A kill between a rename and its pruning leaves one too many.
        _prune(folder, KEPT)
        return found
    return None


def _load(path: Path) -> Checkpoint:
    if not (path / MANIFEST).is_file():
        raise CheckpointError(f"checkpoint {path} has no {MANIFEST}")
    manifest = read_json(path / MANIFEST)
    sums = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(sums, dict) or sums.keys() != {WEIGHTS, OPTIMIZER, STATE}:
        raise CheckpointError(f"checkpoint {path} is damaged: its {MANIFEST} does not name the three files")
    for name, expected in sums.items():
        if not (path / name).is_file() or sha256_file(path / name) != expected:
            raise CheckpointError(f"checkpoint {path} is damaged: {name} does not match its checksum")
    state: SavedState = read_json(path / STATE)
    if wrong := _wrong(state):
        raise CheckpointError(f"checkpoint {path} is damaged: {wrong} in its {STATE} is not what a run writes there")
    try:
        weights, optimizer = load_file(path / WEIGHTS), load_file(path / OPTIMIZER)
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    return Checkpoint(state["step"], weights, optimizer, state)


_KEPT_AS: Mapping[str, type | tuple[type, ...]] = {
    "step": int, "cursor": int, "sampled_tokens": int, "seconds": (int, float), "method": dict, "watch": dict,
}  # fmt: skip


def _wrong(state: object) -> str | None:
    """The first part of a state that is not of its kind; None for a sound one."""
    found = state if isinstance(state, dict) else {}
    there = {"step": None, **found}
    return next((name for name, kind in _KEPT_AS.items() if name in there and not isinstance(there[name], kind)), None)


def trained_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors that learn, by name; tied weights appear once."""
    return {n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}


def restore(checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors into the model and the optimizer.

    Raises:
        CheckpointError: it belongs to another model (names or shapes differ).
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if named.keys() != checkpoint.weights.keys() or any(
        p.shape != checkpoint.weights[n].shape for n, p in named.items()
    ):
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} belongs to another model (tensor names or shapes differ); "
            "use the model it was made from or another output folder"
        )
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(checkpoint.weights[name])
    saved: dict[str, dict[str, Tensor]] = {}
    for key, value in checkpoint.optimizer.items():
        kind, _, name = key.partition("|")
        if name in named:
            if kind != "step" and value.shape != named[name].shape:
                raise CheckpointError(
                    f"the checkpoint of step {checkpoint.step} is damaged: its optimizer's {kind} of {name} has "
                    "another shape; use another output folder"
                )
            # AdamW keeps its step counter on the host and its moments beside the parameter.
            saved.setdefault(name, {})[kind] = value if kind == "step" else value.to(named[name].device)
    for name, kinds in saved.items():
        optimizer.state[named[name]] = kinds


def _optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}|{name}"] = value.detach().contiguous()
    return tensors
