"""Antidote on a folder: a full model or a LoRA adapter in, the same with its most harmful weights taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.files import atomic_write_json, sha256_file
from lengthwise.weights.activity import Activity, activation_scores
from lengthwise.weights.antidote import Selection, choose, repair, weight_scores
from lengthwise.weights.calibration import Calibration, batches, encode, harmful_rows
from lengthwise.weights.card import copy_settings, write_card
from lengthwise.weights.dtypes import BY_CODE
from lengthwise.weights.loading import DTYPES, load_calibrated
from lengthwise.weights.options import check_choice
from lengthwise.weights.reading import CHECKSUMS, FolderSource, open_folder, verify_checksums
from lengthwise.weights.sources import TensorInfo
from lengthwise.weights.writing import ShardWriter, check_target, write_whole_folder

REPORT = "repair.json"
DETAILS = "antidote"
"""Subfolder of statistics and mask: loaders that read every safetensors file beside the weights must not see them."""
CONTROLS = ("random", "magnitude")
SCORES = ("weight", "difference")


@dataclass(frozen=True, kw_only=True)
class RepairJob:
    """What to repair and how.

    ``model`` is a full model or a LoRA adapter (``base`` in place of the base model that it names). ``reference`` is
    the aligned model or adapter, for ``mode`` reset (the default where it is given) and ``score`` difference.
    ``control`` replaces the score: ``random`` numbers or ``magnitude`` \\|W\\|, with the same counts in every group.
    """

    model: Path
    out: Path
    calibration: Calibration
    selection: Selection = field(default_factory=Selection)
    reference: Path | None = None
    base: Path | None = None
    mode: str | None = None
    score: str = "weight"
    control: str | None = None
    seed: int = 0
    targets: tuple[str, ...] = ("*",)
    device: str = "cpu"
    dtype: str = "auto"
    overwrite: bool = False

    @property
    def adapter(self) -> bool:
        """Whether the model is a LoRA adapter."""
        return (self.model / "adapter_config.json").is_file()

    @property
    def stem(self) -> str:
        """The name of its weight files."""
        return "adapter_model" if self.adapter else "model"

    @property
    def way(self) -> str:
        """The mode, with its default settled."""
        return self.mode or ("zero" if self.reference is None else "reset")


def repair_folder(job: RepairJob, *, note: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Score the weights on harmful rows, take out the largest scores, write the repaired folder.

    One forward pass over the rows; then tensor by tensor. Weights that are not chosen keep their bits; a base model
    under an adapter is never touched. Statistics and mask are written as safetensors under ``antidote``.

    Args:
        job: see `RepairJob`.
        note: told what is being done.

    Returns:
        The report, also in the folder's ``repair.json``: options, counts per layer, and for a control the overlap of
        its mask with the scored one.

    Raises:
        ConfigError: an option out of range, or two that exclude each other.
        InputError: what `activation_scores`, `harmful_rows` and `open_folder` raise; a target that the files lack.
        ShapeError: a reference of other shapes.
        CheckpointError: a damaged file, or a full disk. Whatever is raised, the output is as it was before.
    """
    _check(job)
    source = _opened(job.model, job.stem)
    reference = None if job.reference is None else _opened(job.reference, job.stem)
    check_target(job.out, overwrite=job.overwrite, inputs=[job.model, *([job.reference] if job.reference else [])])
    pairs = harmful_rows(job.calibration.rows)
    note(f"scoring on {len(pairs)} harmful rows")
    activity = _activity(job, pairs)
    shapes = _shapes(source, reference, activity)
    job.selection.warn(shapes.values())
    weights = _Weights(source, reference)
    score = _scorer(job, weights, activity)
    mask_of = choose(shapes, score, job.selection)
    scored = choose(shapes, _scorer(job, weights, activity, control=False), job.selection) if job.control else None
    report: dict[str, Any] = {}

    def fill(folder: Path) -> None:
        note("writing")
        (folder / DETAILS).mkdir()
        layers = {}
        with (
            ShardWriter(folder, source.infos, stem=job.stem) as writer,
            _mask_writer(folder, job, [name for name in writer.outputs if name in shapes], shapes) as masks,
        ):
            for name in writer.outputs:
                tensor = weights.read(name)
                if name in shapes:
                    mask = mask_of(name)
                    layers[name] = _layer(name, mask, score(name), activity[name], scored)
                    aligned = weights.aligned(name) if job.way == "reset" else None
                    tensor = repair(tensor, mask, mode=job.way, reference=aligned)
                    masks.write(name, mask.reshape(-1).view(torch.uint8).numpy())
                if tensor.numel():
                    writer.write(name, tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
            writer.close()
            masks.close()
        masks.publish()
        _write_statistics(folder, job, activity)
        report.update(_report(job, source, layers))
        copy_settings(job.model, folder, {})
        atomic_write_json(folder / CHECKSUMS, writer.sums)
        _write_card(folder, job, report)
        atomic_write_json(folder / REPORT, report)
        writer.publish()

    write_whole_folder(job.out, fill, needed=source.nbytes)
    return report


def _check(job: RepairJob) -> None:
    job.selection.check()
    job.calibration.check()
    check_choice("mode", job.way, ("zero", "reset"))
    check_choice("score", job.score, SCORES)
    check_choice("dtype", job.dtype, DTYPES)
    if job.control is not None:
        check_choice("control", job.control, CONTROLS)
    needs = job.way == "reset" or job.score == "difference"
    if needs and job.reference is None:
        raise ConfigError(f"mode {job.way} with score {job.score} needs a reference; give the aligned model")
    if job.reference is not None and not needs:
        raise ConfigError("reference is given, but mode zero with score weight does not use it; leave it out")
    if job.base is not None and not job.adapter:
        raise ConfigError(f"base is given, but {job.model} is no adapter; leave it out")


def _opened(folder: Path, stem: str) -> FolderSource:
    source = open_folder(folder, stem=stem, label=str(folder))
    verify_checksums(source)
    return source


def _activity(job: RepairJob, pairs: list[tuple[str, str]]) -> dict[str, Activity]:
    """The statistics by the names that the weights have in the files."""
    loaded = load_calibrated(job.model, adapter=job.adapter, base=job.base, device=job.device, dtype=job.dtype)
    encoded = encode(loaded.tokenizer, pairs, job.calibration)
    fed = batches(encoded, job.calibration, pad_id=loaded.pad_id, device=torch.device(job.device))
    targets = list(job.targets)
    if job.adapter:
        # Factors only: the base model's own layers are never a target.
        patterns = [target if "*" in target else f"*.{target}" for target in targets]
        targets = [f"{pattern}.lora_{factor}.*" for pattern in patterns for factor in "AB"]
    found = activation_scores(loaded.model, fed, targets=targets)
    return {loaded.file_name(name): activity for name, activity in found.items()}


def _shapes(
    source: FolderSource, reference: FolderSource | None, activity: dict[str, Activity]
) -> dict[str, tuple[int, ...]]:
    lost = [name for name in activity if name not in source.infos]
    if lost:
        raise InputError(
            f"{len(lost)} target weights are not in the files of {source.label}, first {lost[0]}; save the model with "
            "save_pretrained, or name other targets"
        )
    for name in activity if reference is not None else ():
        theirs = reference.infos.get(name) if reference is not None else None
        if theirs is None:
            raise InputError(f"{name} is not in the reference {reference and reference.label}; give the aligned model")
        if theirs.shape != source.infos[name].shape:
            raise ShapeError(
                f"{name} has shape {source.infos[name].shape} in {source.label} but {theirs.shape} in the reference; "
                "give the aligned model of the same architecture"
            )
    return {name: source.infos[name].shape for name in activity}


class _Weights:
    """Tensors of the model and of the reference, read one at a time."""

    def __init__(self, source: FolderSource, reference: FolderSource | None) -> None:
        self.source, self.reference = source, reference

    def read(self, name: str) -> Tensor:
        return _tensor(self.source, name)

    def aligned(self, name: str) -> Tensor:
        assert self.reference is not None
        return _tensor(self.reference, name)


def _tensor(source: FolderSource, name: str) -> Tensor:
    with safe_open(source.places[name].file, "pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


def _scorer(
    job: RepairJob, weights: _Weights, activity: dict[str, Activity], *, control: bool = True
) -> Callable[[str], Tensor]:
    def score(name: str) -> Tensor:
        weight = weights.read(name)
        if control and job.control == "random":
            seed = int.from_bytes(hashlib.sha256(f"{job.seed}/{name}".encode()).digest()[:7], "little")
            return torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed))
        if control and job.control == "magnitude":
            return weight_scores(weight, None)
        aligned = weights.aligned(name) if job.score == "difference" else None
        return weight_scores(weight, activity[name].mean.cpu(), reference=aligned)

    return score


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
