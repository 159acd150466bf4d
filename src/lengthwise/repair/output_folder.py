"""The folder that a repair writes: weights tensor by tensor, settings, checksums, report and card."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lengthwise.files import atomic_write_json
from lengthwise.repair.job import FolderJob
from lengthwise.repair.scored_weights import Folders
from lengthwise.safetensors_io.model_card import copy_settings, write_card
from lengthwise.safetensors_io.reader import CHECKSUMS
from lengthwise.safetensors_io.writer import ShardWriter

REPORT = "repair.json"
DETAILS = "antidote"
"""Subfolder of statistics and mask: loaders that read every safetensors file beside the weights must not see them."""
MASK = "mask"
"""Stem of the mask's file."""
OPTIONS = ("mode", "mask", "score", "control", "seed", "targets", "selection", "calibration")
"""Entries of the report that the card shows as options."""


def write_weights(
    writer: ShardWriter, folders: Folders, way: str, masked: Container[str], mask_of: Callable[[str], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Append all tensors of the model, repaired where they are masked; gives the name and mask of each that is."""
    for name in writer.outputs:
        mask = mask_of(name) if name in masked else None
        tensor = folders.read(name) if mask is None else folders.repaired(name, mask, way)
        if tensor.numel():
            writer.write(name, tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        if mask is not None:
            yield name, mask
    writer.close()


def layer_counts(mask: Tensor) -> dict[str, Any]:
    """How much of one layer was taken out."""
    removed = int(mask.sum())
    return {"shape": list(mask.shape), "removed": removed, "fraction": removed / max(1, mask.numel())}


def finish(
    folder: Path, job: FolderJob, writer: ShardWriter, report: Mapping[str, Any], *, title: str, notes: Sequence[str]
) -> None:
    """Settings, checksums, card and report; then the weights get their names."""
    copy_settings(job.model, folder, {})
    atomic_write_json(folder / CHECKSUMS, writer.sums)
    write_card(
        folder,
        title=title,
        tag="antidote",
        what=[
            f"Made by `lengthwise repair` (lengthwise {report['lengthwise']}): {report['removed']} of "
            f"{report['entries']} weights of {len(report['layers'])} layers ({report['fraction']:.2%}) were "
            f"{'set to zero' if job.way == 'zero' else 'set back to the reference'}. Nothing was trained or evaluated "
            "here; whether harm falls and what accuracy it costs has to be measured.",
            "",
            "Source: Antidote, arXiv 2408.09600.",
        ],
        models=[f"| {report['kind']} | {report['model']} |", f"| reference | {report['reference'] or 'none'} |"],
        options={name: report[name] for name in OPTIONS if name in report},
        notes=notes,
    )
    atomic_write_json(folder / REPORT, report)
    writer.publish()


def report_of(
    job: FolderJob, folders: Folders, options: Mapping[str, Any], layers: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What was done: by which options, and how much of each layer and of the model was taken out."""
    removed = sum(row["removed"] for row in layers.values())
    entries = sum(int(torch.Size(row["shape"]).numel()) for row in layers.values())
    return {
        "lengthwise": metadata.version("lengthwise"),
        "model": job.model.resolve().name,
        "kind": "adapter" if job.adapter else "model",
        "reference": job.reference.resolve().name if job.reference else None,
        "mode": job.way,
        **options,
        "entries": entries,
        "removed": removed,
        "fraction": removed / max(1, entries),
        "share_of_model": removed / max(1, sum(info.size for info in folders.source.infos.values())),
        "layers": dict(layers),
    }
