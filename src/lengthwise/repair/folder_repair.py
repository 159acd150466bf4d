"""Antidote on a folder: a full model or a LoRA adapter in, the same with its most harmful weights taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from lengthwise.config.commands import RepairSettings
from lengthwise.config.groups.weights import HarmfulRows
from lengthwise.files import sha256_file
from lengthwise.folder_lock import writes
from lengthwise.repair.antidote import Selection
from lengthwise.repair.calibration_rows import calibration_rows
from lengthwise.repair.input_folders import Locate, open_folders
from lengthwise.repair.layer_activity import Activity
from lengthwise.repair.output_folder import DETAILS, MASK, finish, write_weights
from lengthwise.repair.report import RepairedLayer, RepairReport, report_of
from lengthwise.repair.scored_weights import Scored, load, score_weights, selection_of
from lengthwise.safetensors_io.dtypes import BY_CODE
from lengthwise.safetensors_io.tensor_sources import TensorInfo
from lengthwise.safetensors_io.writer import ShardWriter, write_whole_folder


@writes("settings.out")
def repair_folder(
    settings: RepairSettings,
    *,
    locate: Locate = Path,
    note: Callable[[str], None] = lambda _: None,
    scored: Scored | None = None,
    more: Callable[[Path], None] = lambda _: None,
) -> RepairReport:
    """Score the weights on harmful rows, take out the largest scores, write the repaired folder.

    One forward pass over the rows; then tensor by tensor. Weights that are not chosen keep their bits; a base model
    under an adapter is never touched. Statistics and mask are written as safetensors under ``antidote``.

    Args:
        settings: the model, the rows, and which weights go; a judge and its data are for `repair_and_measure`.
        locate: says where a model that is named lies.
        note: told what is being done.
        scored: the scores of these settings, where they were made already.
        more: writes further files into the subfolder of statistics and mask.

    Returns:
        The report, also in the folder's ``repair.json``: options, counts per layer, and for a control the overlap of
        its mask with the scored one. The settings, with the paths as they were given, stand in ``lengthwise.json``.

    Raises:
        ConfigError: an option out of range.
        InputError: what `score_weights`, `calibration_rows` and `open_folder` raise.
        ShapeError: a reference of other shapes.
        CheckpointError: a damaged file, or a full disk. Whatever is raised, the output is as it was before.
    """
    if scored is None:
        folders = open_folders(settings, locate=locate)
        pairs = calibration_rows(settings.rows_scored)
        note(f"scoring on {len(pairs)} harmful rows{settings.rows_scored.where}")
        scored = score_weights(settings, folders, pairs, load(settings, folders))
    found, control = scored, settings.choice.control
    made: list[RepairReport] = []
    selection_of(settings.choice).warn(found.shapes.values())

    def fill(folder: Path) -> None:
        note("writing")
        (folder / DETAILS).mkdir()
        writer, layers = _write_weights(folder, found)
        _write_statistics(folder, settings.rows_scored, found)
        more(folder / DETAILS)
        made.append(_report(settings, found, layers))
        finish(
            folder, settings, found.folders.source.path, writer, made[0],
            title="Repaired by Antidote" if control is None else f"Antidote's control: {control}",
            notes=["The score's worth is the accuracy that it keeps at equal harm; compare `--control random`."],
        )  # fmt: skip

    write_whole_folder(settings.out, fill, needed=found.folders.source.nbytes)
    return made[0]


def _write_weights(folder: Path, scored: Scored) -> tuple[ShardWriter, dict[str, RepairedLayer]]:
    """All tensors, still under their partial names, and the masks; what was removed from each layer."""
    shapes, layers = scored.shapes, dict[str, RepairedLayer]()
    selection, control = selection_of(scored.choice), scored.choice.control
    mask_of = scored.masks(selection, control)
    beside = scored.masks(selection) if control else None
    with (
        ShardWriter(folder, scored.folders.source.infos, stem=scored.folders.stem) as writer,
        _mask_writer(folder, scored, selection, [name for name in writer.outputs if name in shapes]) as masks,
    ):
        for name, mask in write_weights(writer, scored.folders, shapes, mask_of):
            other = None if beside is None else beside(name)
            layers[name] = _layer(mask, scored.score(name, control), scored.activity[name], other)
            masks.write(name, mask.reshape(-1).view(torch.uint8).numpy())
        masks.close()
    masks.publish()
    return writer, layers


def _mask_writer(folder: Path, scored: Scored, selection: Selection, names: list[str]) -> ShardWriter:
    infos = {name: TensorInfo(scored.shapes[name], BY_CODE["U8"]) for name in names}
    about = {
        "fraction": selection.fraction, "rule": selection.rule, "scope": selection.scope,
        "score": scored.choice.control or scored.choice.score, "seed": scored.choice.seed,
    }  # fmt: skip
    everything = sum(info.nbytes for info in infos.values())
    return ShardWriter(
        folder / DETAILS, infos, stem=MASK, shard_bytes=everything,
        metadata={name: str(value) for name, value in about.items()},
    )  # fmt: skip


def _write_statistics(folder: Path, asked: HarmfulRows, scored: Scored) -> None:
    assert asked.harmful is not None, "settings without rows are refused"
    some = next(iter(scored.activity.values()))
    digests = "".join(map(sha256_file, scored.folders.source.shards))
    save_file(
        {name: found.squares.cpu() for name, found in scored.activity.items()},
        folder / DETAILS / "statistics.safetensors",
        metadata={
            "n_sequences": str(some.sequences),
            "n_tokens": str(some.tokens),
            "data_hash": sha256_file(asked.harmful),
            "rows": asked.words,
            "model_hash": hashlib.sha256(digests.encode()).hexdigest(),
            "token_rule": asked.tokens,
        },
    )


def _layer(mask: Tensor, scores: Tensor, activity: Activity, scored_mask: Tensor | None) -> RepairedLayer:
    """One layer; ``scored_mask`` is the one beside which a control stands."""
    return RepairedLayer.of(
        mask,
        uninformative_rows=int((scores == 0).all(1).sum()),
        silent_inputs=int((activity.squares == 0).sum()),
        tokens=activity.tokens,
        shared_by=tuple(activity.modules) if len(activity.modules) > 1 else None,
        both=None if scored_mask is None else int((mask & scored_mask).sum()),
        either=None if scored_mask is None else int((mask | scored_mask).sum()),
    )


def _report(settings: RepairSettings, scored: Scored, layers: Mapping[str, RepairedLayer]) -> RepairReport:
    choice, asked = settings.choice, settings.rows_scored
    start, stop = asked.span
    options = {
        "score": choice.score,
        "control": choice.control,
        "seed": choice.seed,
        "targets": list(choice.targets),
        "selection": {"fraction": choice.fraction, "count": None, "scope": choice.scope, "rule": choice.rounding},
        "calibration": {
            "rows": None if asked.harmful is None else asked.harmful.name,
            "start": start,
            "stop": stop,
            "template": asked.harmful_template,
            "chat": settings.contract.chat_template,
            "tokens": asked.tokens,
            "longest": asked.max_length,
            "batch_rows": asked.micro_batch_rows,
            "scored_rows": next(iter(scored.activity.values())).sequences,
        },
    }
    if choice.control is None:
        return report_of(scored.folders, options, layers)
    both, either = (sum(getattr(layer, name) for layer in layers.values()) for name in ("both", "either"))
    return report_of(scored.folders, options, layers, both / either if either else 1.0)
