"""A saved mask put on a folder: what one repair took out is taken out of another model, without a forward pass."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from lengthwise.config.commands import RepairSettings
from lengthwise.errors import CheckpointError, ConfigError, InputError, ShapeError
from lengthwise.files import sha256_file
from lengthwise.folder_lock import writes
from lengthwise.repair.input_folders import Locate, open_folders, read_tensor
from lengthwise.repair.output_folder import DETAILS, MASK, finish, write_weights
from lengthwise.repair.report import RepairedLayer, RepairReport, report_of
from lengthwise.safetensors_io.reader import FolderSource, Place, read_header
from lengthwise.safetensors_io.writer import ShardWriter, write_whole_folder


@dataclass(frozen=True)
class SavedMask:
    """A file of masks by full parameter name, and how they were chosen (fraction, rule, scope, score, seed)."""

    source: FolderSource
    about: Mapping[str, str]

    def __call__(self, name: str) -> Tensor:
        """One weight's mask, True where it goes.

        Raises:
            InputError: a value that is neither 0 nor 1.
        """
        stored = read_tensor(self.source, name)
        if (stored > 1).any():
            raise InputError(
                f"{name} in the mask {self.source.label} holds {int(stored.max())}; a mask is 1 where a weight goes, "
                "else 0"
            )
        return stored.bool()


@writes("settings.out")
def apply_mask(
    settings: RepairSettings, *, locate: Locate = Path, note: Callable[[str], None] = lambda _: None
) -> RepairReport:
    """Take out the weights that a saved mask names, write the repaired folder. No rows, no forward pass.

    W' = 0 (or R, the reference) where M = 1, else W, bit for bit. On the model that the mask was made for this gives
    the weights of the run that saved it. Antidote, arXiv 2408.09600. One tensor at a time.

    Args:
        settings: of which ``mask`` names the file, safetensors of uint8 by full parameter name.
        locate: says where a model that is named lies.
        note: told what is being done.

    Returns:
        The report, also in the folder's ``repair.json``: mode, the mask's file with its checksum and metadata, counts
        per layer. The mask itself is copied into the subfolder ``antidote``.

    Raises:
        ConfigError: no mask, or an option out of range.
        InputError: a file that is no mask, names that the model or the reference lacks, values other than 0 and 1,
            and what `open_folder` raises.
        ShapeError: a mask or a reference of other shapes.
        CheckpointError: a damaged model, or a full disk. Whatever is raised, the output is as it was before.
    """
    file = settings.mask
    if file is None:
        raise ConfigError("mask is not given; name a mask that a repair saved")
    folders = open_folders(settings, locate=locate)
    masks = open_mask(file)
    check_mask(masks, folders.source)
    folders.check_reference(masks.source.infos)
    made: list[RepairReport] = []

    def fill(folder: Path) -> None:
        note(f"applying the mask of {len(masks.source.infos)} weights")
        (folder / DETAILS).mkdir()
        with ShardWriter(folder, folders.source.infos, stem=folders.stem) as writer:
            written = write_weights(writer, folders, masks.source.infos, masks)
            layers = {name: RepairedLayer.of(mask) for name, mask in written}
        shutil.copyfile(file, folder / DETAILS / f"{MASK}.safetensors")
        saved = {"file": file.name, "sha256": sha256_file(file), "metadata": dict(masks.about)}
        made.append(report_of(folders, {"mask": saved}, layers))
        finish(
            folder, settings, folders.source.path, writer, made[0],
            title="Repaired by a saved mask of Antidote",
            notes=["The mask was made by another run, and nothing was scored here; see the mask's metadata."],
        )  # fmt: skip

    write_whole_folder(settings.out, fill, needed=folders.source.nbytes)
    return made[0]


def open_mask(file: Path) -> SavedMask:
    """Open a mask file; reads its header only.

    Raises:
        InputError: no such file, or a file that is no mask.
    """
    if not file.is_file():
        raise InputError(f"no mask file at {str(file)!r}; give the {DETAILS}/{MASK}.safetensors of a repaired folder")
    try:
        found = read_header(file)
    except CheckpointError as error:
        raise InputError(
            f"{str(file)!r} is no mask: no whole safetensors file; give the {DETAILS}/{MASK}.safetensors of a repaired "
            "folder"
        ) from error
    except InputError as error:
        raise InputError(f"{str(file)!r} is no mask: {error}") from error
    wrong = [f"{name} is {info.dtype.code}" for name, (info, _) in found.items() if info.dtype.code != "U8"]
    if wrong or not found:
        why = wrong[0] if wrong else "it has no tensor"
        raise InputError(f"{str(file)!r} is no mask: {why}; a mask holds U8, 1 where a weight goes")
    with safe_open(file, "pt") as opened:
        about = {name: value for name, value in (opened.metadata() or {}).items() if name != "format"}
    infos = {name: info for name, (info, _) in found.items()}
    places = {name: Place(file, offset) for name, (_, offset) in found.items()}
    return SavedMask(FolderSource(file.parent, str(file), infos, places), about)


def check_mask(masks: SavedMask, source: FolderSource) -> None:
    """Compare a mask with a model before anything is written.

    Raises:
        InputError: names that the model lacks, a quantised weight, or values other than 0 and 1.
        ShapeError: with both shapes.
    """
    infos, label = masks.source.infos, masks.source.label
    lost = [name for name in infos if name not in source.infos]
    if lost:
        raise InputError(
            f"{len(lost)} of {len(infos)} weights of the mask {label} are not in {source.label}, first {lost[0]}; give "
            "the model that the mask was made for, or one with its names"
        )
    for name, info in infos.items():
        if info.shape != source.infos[name].shape:
            raise ShapeError(
                f"{name} has shape {info.shape} in the mask {label} but {source.infos[name].shape} in {source.label}; "
                "give a mask that was made for a model of this architecture"
            )
        if not source.infos[name].dtype.floating:
            raise InputError(f"{name} is quantised in {source.label}; its values cannot be set exactly")
    for name in infos:
        masks(name)
