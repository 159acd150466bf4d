"""Antidote on a folder: a full model or a LoRA adapter in, the same with its most harmful weights taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lengthwise.files import atomic_write_json, sha256_file
from lengthwise.weights.activity import Activity
from lengthwise.weights.calibration import harmful_rows
from lengthwise.weights.card import copy_settings, write_card
from lengthwise.weights.dtypes import BY_CODE
from lengthwise.weights.reading import CHECKSUMS, FolderSource, open_folder
from lengthwise.weights.repair_job import RepairJob as RepairJob
from lengthwise.weights.scored import Scored, load, open_folders, score_weights
from lengthwise.weights.sources import TensorInfo
from lengthwise.weights.writing import ShardWriter, write_whole_folder

REPORT = "repair.json"
DETAILS = "antidote"
"""Subfolder of statistics and mask: loaders that read every safetensors file beside the weights must not see them."""


def repair_folder(
    job: RepairJob,
    *,
    note: Callable[[str], None] = lambda _: None,
    scored: Scored | None = None,
    more: Callable[[Path], None] = lambda _: None,
) -> dict[str, Any]:
    """Score the weights on harmful rows, take out the largest scores, write the repaired folder.

    One forward pass over the rows; then tensor by tensor. Weights that are not chosen keep their bits; a base model
    under an adapter is never touched. Statistics and mask are written as safetensors under ``antidote``.

    Args:
        job: see `RepairJob`.
        note: told what is being done.
        scored: the job's own scores, where they were made already.
        more: writes further files into the subfolder of statistics and mask.

    Returns:
        The report, also in the folder's ``repair.json``: options, counts per layer, and for a control the overlap of
        its mask with the scored one.

    Raises:
        ConfigError: an option out of range, or two that exclude each other.
        InputError: what `score_weights`, `harmful_rows` and `open_folder` raise.
        ShapeError: a reference of other shapes.
        CheckpointError: a damaged file, or a full disk. Whatever is raised, the output is as it was before.
    """
    if scored is None:
        folders = open_folders(job)
        pairs = harmful_rows(job.calibration.rows)
        note(f"scoring on {len(pairs)} harmful rows")
        scored = score_weights(job, folders, pairs, load(job))
    found, report = scored, dict[str, Any]()
    job.selection.warn(found.shapes.values())

    def fill(folder: Path) -> None:
        note("writing")
        (folder / DETAILS).mkdir()
        writer, layers = _write_weights(folder, job, found)
        _write_statistics(folder, job, found.activity)
        more(folder / DETAILS)
        report.update(_report(job, found.folders.source, layers))
        copy_settings(job.model, folder, {})
        atomic_write_json(folder / CHECKSUMS, writer.sums)
        _write_card(folder, job, report)
        atomic_write_json(folder / REPORT, report)
        writer.publish()

    write_whole_folder(job.out, fill, needed=found.folders.source.nbytes)
    return report


def _write_weights(folder: Path, job: RepairJob, scored: Scored) -> tuple[ShardWriter, dict[str, dict[str, Any]]]:
    """All tensors, still under their partial names, and the masks; what was removed from each layer."""
    shapes, layers = scored.shapes, dict[str, dict[str, Any]]()
    mask_of = scored.masks(job.selection, job.control)
    beside = scored.masks(job.selection) if job.control else None
    with (
        ShardWriter(folder, scored.folders.source.infos, stem=job.stem) as writer,
        _mask_writer(folder, job, [name for name in writer.outputs if name in shapes], shapes) as masks,
    ):
        for name in writer.outputs:
            if name in shapes:
                mask = mask_of(name)
                layers[name] = _layer(name, mask, scored.score(name, job.control), scored.activity[name], beside)
                tensor = scored.repaired(name, mask)
                masks.write(name, mask.reshape(-1).view(torch.uint8).numpy())
            else:
                tensor = scored.folders.read(name)
            if tensor.numel():
                writer.write(name, tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        writer.close()
        masks.close()
    masks.publish()
    return writer, layers


def _mask_writer(folder: Path, job: RepairJob, names: list[str], shapes: dict[str, tuple[int, ...]]) -> ShardWriter:
    infos = {name: TensorInfo(shapes[name], BY_CODE["U8"]) for name in names}
    selection = job.selection
    about = {
        "fraction": selection.fraction, "rule": selection.rule, "scope": selection.scope,
        "score": job.control or job.score, "seed": job.seed,
    }  # fmt: skip
    everything = sum(info.nbytes for info in infos.values())
    return ShardWriter(
        folder / DETAILS, infos, stem="mask", shard_bytes=everything,
        metadata={name: str(value) for name, value in about.items()},
    )  # fmt: skip


def _write_statistics(folder: Path, job: RepairJob, activity: dict[str, Activity]) -> None:
    some = next(iter(activity.values()))
    digests = "".join(sha256_file(shard) for shard in open_folder(job.model, stem=job.stem).shards)
    save_file(
        {name: found.squares.cpu() for name, found in activity.items()},
        folder / DETAILS / "statistics.safetensors",
        metadata={
            "n_sequences": str(some.sequences),
            "n_tokens": str(some.tokens),
            "data_hash": sha256_file(job.calibration.rows),
            "model_hash": hashlib.sha256(digests.encode()).hexdigest(),
            "token_rule": job.calibration.tokens,
        },
    )


def _layer(
    name: str, mask: Tensor, scores: Tensor, activity: Activity, scored: Callable[[str], Tensor] | None
) -> dict[str, Any]:
    """One layer's row: a row of scores that are all 0 is uninformative, its last columns go."""
    removed = int(mask.sum())
    row: dict[str, Any] = {
        "shape": list(mask.shape),
        "removed": removed,
        "fraction": removed / max(1, mask.numel()),
        "uninformative_rows": int((scores == 0).all(1).sum()),
        "silent_inputs": int((activity.squares == 0).sum()),
        "tokens": activity.tokens,
    }
    if len(activity.modules) > 1:
        row["shared_by"] = list(activity.modules)
    if scored is not None:
        other = scored(name)
        row["both"], row["either"] = int((mask & other).sum()), int((mask | other).sum())
    return row


def _report(job: RepairJob, source: FolderSource, layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    removed, entries = (sum(row["removed"] for row in layers.values()), sum(_size(row) for row in layers.values()))
    report: dict[str, Any] = {
        "lengthwise": metadata.version("lengthwise"),
        "model": job.model.resolve().name,
        "kind": "adapter" if job.adapter else "model",
        "reference": job.reference.resolve().name if job.reference else None,
        "mode": job.way,
        "score": job.score,
        "control": job.control,
        "seed": job.seed,
        "targets": list(job.targets),
        "selection": asdict(job.selection),
        "calibration": {**asdict(job.calibration), "rows": job.calibration.rows.name},
        "entries": entries,
        "removed": removed,
        "fraction": removed / max(1, entries),
        "share_of_model": removed / max(1, sum(info.size for info in source.infos.values())),
        "layers": layers,
    }
    if job.control is not None:
        either = sum(row["either"] for row in layers.values())
        report["overlap"] = sum(row["both"] for row in layers.values()) / either if either else 1.0
    return report


def _size(row: dict[str, Any]) -> int:
    return int(torch.Size(row["shape"]).numel())


def _write_card(folder: Path, job: RepairJob, report: dict[str, Any]) -> None:
    write_card(
        folder,
        title="Repaired by Antidote" if job.control is None else f"Antidote's control: {job.control}",
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
        options={name: report[name] for name in ("mode", "score", "control", "seed", "selection", "calibration")},
        notes=["The score's worth is the accuracy that it keeps at equal harm; compare it with `--control random`."],
    )
