"""Antidote on a folder: a full model or a LoRA adapter in, the same with its most harmful weights taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lengthwise.files import sha256_file
from lengthwise.folder_lock import writes
from lengthwise.repair.calibration_rows import calibration_rows
from lengthwise.repair.job import RepairJob as RepairJob
from lengthwise.repair.layer_activity import Activity
from lengthwise.repair.output_folder import DETAILS, MASK, finish, layer_counts, report_of, write_weights
from lengthwise.repair.scored_weights import Scored, load, open_folders, score_weights
from lengthwise.safetensors_io.dtypes import BY_CODE
from lengthwise.safetensors_io.reader import open_folder
from lengthwise.safetensors_io.tensor_sources import TensorInfo
from lengthwise.safetensors_io.writer import ShardWriter, write_whole_folder


@writes("job.out")
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
        InputError: what `score_weights`, `calibration_rows` and `open_folder` raise.
        ShapeError: a reference of other shapes.
        CheckpointError: a damaged file, or a full disk. Whatever is raised, the output is as it was before.
    """
    if scored is None:
        folders = open_folders(job)
        pairs = calibration_rows(job.calibration)
        note(f"scoring on {len(pairs)} harmful rows{job.calibration.where}")
        scored = score_weights(job, folders, pairs, load(job))
    found, report = scored, dict[str, Any]()
    job.selection.warn(found.shapes.values())

    def fill(folder: Path) -> None:
        note("writing")
        (folder / DETAILS).mkdir()
        writer, layers = _write_weights(folder, job, found)
        _write_statistics(folder, job, found.activity)
        more(folder / DETAILS)
        report.update(_report(job, found, layers))
        finish(
            folder, job, writer, report,
            title="Repaired by Antidote" if job.control is None else f"Antidote's control: {job.control}",
            notes=["The score's worth is the accuracy that it keeps at equal harm; compare `--control random`."],
        )  # fmt: skip

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
        for name, mask in write_weights(writer, scored.folders, job.way, shapes, mask_of):
            layers[name] = _layer(mask, scored.score(name, job.control), scored.activity[name])
            if beside is not None:
                other = beside(name)
                layers[name] |= {"both": int((mask & other).sum()), "either": int((mask | other).sum())}
            masks.write(name, mask.reshape(-1).view(torch.uint8).numpy())
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
        folder / DETAILS, infos, stem=MASK, shard_bytes=everything,
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
            "rows": job.calibration.span,
            "model_hash": hashlib.sha256(digests.encode()).hexdigest(),
            "token_rule": job.calibration.tokens,
        },
    )


def _layer(mask: Tensor, scores: Tensor, activity: Activity) -> dict[str, Any]:
    """One layer's row: a row of scores that are all 0 is uninformative, its last columns go."""
    row = {
        **layer_counts(mask),
        "uninformative_rows": int((scores == 0).all(1).sum()),
        "silent_inputs": int((activity.squares == 0).sum()),
        "tokens": activity.tokens,
    }
    if len(activity.modules) > 1:
        row["shared_by"] = list(activity.modules)
    return row


def _report(job: RepairJob, scored: Scored, layers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    some = next(iter(scored.activity.values()))
    options = {
        "score": job.score,
        "control": job.control,
        "seed": job.seed,
        "targets": list(job.targets),
        "selection": asdict(job.selection),
        "calibration": {
            **asdict(job.calibration),
            "rows": job.calibration.rows.name,
            "scored_rows": some.sequences,
        },
    }
    report = report_of(job, scored.folders, options, layers)
    if job.control is not None:
        either = sum(row["either"] for row in layers.values())
        report["overlap"] = sum(row["both"] for row in layers.values()) / either if either else 1.0
    return report
