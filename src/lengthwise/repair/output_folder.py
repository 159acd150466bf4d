"""The folder that a repair writes: weights tensor by tensor, settings, checksums, report and card."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lengthwise.config.commands import RepairSettings
from lengthwise.config.files import BESIDE_A_MODEL, run_config
from lengthwise.files import atomic_write_json
from lengthwise.repair.input_folders import Folders
from lengthwise.repair.report import RepairReport
from lengthwise.safetensors_io.model_card import copy_settings, write_card
from lengthwise.safetensors_io.reader import CHECKSUMS
from lengthwise.safetensors_io.writer import ShardWriter

REPORT = "repair.json"
DETAILS = "antidote"
"""Subfolder of statistics and mask: loaders that read every safetensors file beside the weights must not see them."""
MASK = "mask"
"""Stem of the mask's file."""


def write_weights(
    writer: ShardWriter, folders: Folders, masked: Container[str], mask_of: Callable[[str], Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Append all tensors of the model, repaired where they are masked; gives the name and mask of each that is."""
    for name in writer.outputs:
        mask = mask_of(name) if name in masked else None
        tensor = folders.read(name) if mask is None else folders.repaired(name, mask)
        if tensor.numel():
            writer.write(name, tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        if mask is not None:
            yield name, mask
    writer.close()


def finish(
    folder: Path,
    settings: RepairSettings,
    source: Path,
    writer: ShardWriter,
    report: RepairReport,
    *,
    title: str,
    notes: Sequence[str],
) -> None:
    """Settings, checksums, card and report; then the weights get their names."""
    copy_settings(source, folder, {})
    atomic_write_json(folder / CHECKSUMS, writer.sums)
    write_card(
        folder,
        title=title,
        tag="antidote",
        what=[
            f"Made by `lengthwise repair` (lengthwise {report.lengthwise}): {report.removed} of {report.entries} "
            f"weights of {len(report.layers)} layers ({report.fraction:.2%}) were "
            f"{'set to zero' if report.mode == 'zero' else 'set back to the reference'}. Nothing was trained or "
            "evaluated here; whether harm falls and what accuracy it costs has to be measured.",
            "",
            "Source: Antidote, arXiv 2408.09600.",
        ],
        models=[f"| {report.kind} | {report.model} |", f"| reference | {report.reference or 'none'} |"],
        options={"mode": report.mode, **report.options},
        notes=notes,
    )
    atomic_write_json(folder / REPORT, report.to_dict())
    atomic_write_json(folder / BESIDE_A_MODEL, run_config(settings))
    writer.publish()
