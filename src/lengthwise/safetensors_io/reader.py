"""Reading safetensors folders, single or in shards, a stretch of a tensor at a time.

Headers are parsed and checked here, data is read with plain file reads (mapped pages would count as resident
memory), and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import numpy as np

from lengthwise.errors import CheckpointError, InputError
from lengthwise.files import PARTIAL, read_json, read_json_object, sha256_file
from lengthwise.json_types import JsonObject, JsonValue
from lengthwise.output_paths import real
from lengthwise.pretrained import stored_config
from lengthwise.safetensors_io.dtypes import BY_CODE, Array
from lengthwise.safetensors_io.tensor_sources import TensorInfo

CHECKSUMS = "checksums.json"
"""A file of SHA-256 sums by file name; where a folder has it, its shards are checked before they are used."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Place:
    """Where a tensor's data begins."""

    file: Path
    offset: int


class _Opened:
    """The file that was read last, kept open: a merge reads thousands of blocks of a file one after another."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: FileIO | None = None

    def read_into(self, view: memoryview, path: Path, offset: int) -> bool:
        """Fill a view from a place in a file; False where the file ends before."""
        if self._file is None or path != self._path:
            self.close()
            self._path, self._file = path, FileIO(path)
        done = 0
        while done < len(view) and (got := os.preadv(self._file.fileno(), [view[done:]], offset + done)):
            done += got
        return done == len(view)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    __del__ = close


@dataclass
class FolderSource:
    """The tensors of a folder. `label` is what messages call it."""

    path: Path
    label: str
    infos: dict[str, TensorInfo]
    places: dict[str, Place]
    shards: tuple[Path, ...] = ()
    config: JsonObject = field(default_factory=dict)
    _opened: _Opened = field(default_factory=lambda: _Opened(), repr=False, compare=False)

    def read(self, name: str, start: int, stop: int) -> Array:
        """Entries ``start`` to ``stop`` of a tensor.

        Raises:
            CheckpointError: the file has become shorter than its header says.
        """
        stored, place = self.infos[name].dtype.stored, self.places[name]
        block = np.empty(stop - start, stored)
        if not self._opened.read_into(block.view(np.uint8).data, place.file, place.offset + start * stored.itemsize):
            raise CheckpointError(f"{place.file} ended while {name} was read; restore it from a copy")
        return block

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.infos.values())


def open_folder(folder: str | Path, *, stem: str = "model", label: str | None = None) -> FolderSource:
    """Open ``{stem}.safetensors`` or the shards of ``{stem}.safetensors.index.json``; reads headers only.

    Raises:
        InputError: no such folder, an unfinished one, pickled weights only, or files that do not fit together.
        CheckpointError: a damaged file.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            f"no such folder: {str(folder)!r}; give a local Hugging Face folder (from the Hub: hf download NAME "
            "--local-dir FOLDER)"
        )
    check_finished(path)
    shards, promised = _shards(path, stem)
    infos: dict[str, TensorInfo] = {}
    places: dict[str, Place] = {}
    for shard in shards:
        for name, (info, offset) in read_header(shard).items():
            if name in infos:
                raise InputError(f"{name} is in {places[name].file.name} and in {shard.name}; keep one of them")
            infos[name], places[name] = info, Place(shard, offset)
    source = FolderSource(path, label or path.name, infos, places, shards)
    if promised is not None:
        _check_index(source, promised)
    if (path / "config.json").is_file():
        source.config = stored_config(path)
    return source


def check_finished(path: Path) -> None:
    """Refuse a folder that a killed process left unfinished.

    Raises:
        InputError: its name, or that of a weights file in it, says so.
    """
    marked = any(part.startswith(PARTIAL) for part in real(path).parts)
    if marked or any(path.glob(f"{PARTIAL}*.safetensors")):
        raise InputError(f"{str(path)!r} is unfinished: the command that wrote it was stopped; remove it, run it again")


def verify_checksums(source: FolderSource) -> None:
    """Compare every shard with its checksum, where the folder has a file of them.

    Raises:
        CheckpointError: a shard that does not match, or that the file does not name.
    """
    file = source.path / CHECKSUMS
    if not file.is_file():
        return
    sums = read_json_object(file)
    for shard in source.shards:
        if sums.get(shard.name) != sha256_file(shard):
            raise CheckpointError(
                f"{shard} does not match its checksum in {CHECKSUMS}; restore it from a copy, or remove {CHECKSUMS} "
                "if you changed the file on purpose"
            )


def _shards(path: Path, stem: str) -> tuple[tuple[Path, ...], JsonObject | None]:
    """The weight files of a folder, and its index where it has one."""
    single, index = path / f"{stem}.safetensors", path / f"{stem}.safetensors.index.json"
    parts = sorted(path.glob(f"{stem}-*-of-*.safetensors"))
    if index.is_file():
        promised: JsonValue = read_json(index)
        weight_map = promised.get("weight_map") if isinstance(promised, dict) else None
        if not isinstance(promised, dict) or not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index} is damaged: it has no weight_map; restore it from a copy")
        if strange := [name for name in weight_map.values() if not isinstance(name, str) or Path(name).name != name]:
            raise CheckpointError(f"{index} is damaged: {strange[0]!r} is no name of a file in the folder; restore it")
        if single.is_file():
            raise InputError(f"{str(path)!r} has both {single.name} and {index.name}; remove the one that is stale")
        named = [path / str(name) for name in dict.fromkeys(map(str, weight_map.values()))]
        lost = [file.name for file in named if not file.is_file()]
        if lost:
            raise CheckpointError(f"{index} names {', '.join(lost)}, which is missing; restore the whole folder")
        stray = [file.name for file in parts if file not in named]
        if stray:
            raise InputError(f"{', '.join(stray)} in {str(path)!r} is not in {index.name}; remove what is stale")
        return tuple(sorted(named)), promised
    if single.is_file():
        return (single,), None
    if parts:
        raise InputError(f"{str(path)!r} has shards but no {index.name}: it is unfinished; restore the whole folder")
    if stem != "adapter_model" and (path / "adapter_config.json").is_file():
        raise InputError(
            f"{str(path)!r} is a LoRA adapter; a full model is wanted here: put it into its base first (peft's "
            "merge_and_unload), then save that"
        )
    pickled = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickled:
        raise InputError(
            f"{str(path)!r} holds pickled weights ({pickled[0]}), which are never loaded. Convert them: python -c "
            "\"from transformers import AutoModelForCausalLM as M; M.from_pretrained('OLD').save_pretrained('NEW')\""
        )
    raise InputError(f"no {single.name} in {str(path)!r}; give a folder with safetensors weights")


def _check_index(source: FolderSource, promised: JsonObject) -> None:
    weight_map = promised["weight_map"]
    assert isinstance(weight_map, dict), "an index without one is refused"
    here = {name: place.file.name for name, place in source.places.items()}
    wrong = sorted(name for name in weight_map.keys() | here.keys() if weight_map.get(name) != here.get(name))
    if wrong:
        raise CheckpointError(
            f"the index of {str(source.path)!r} and its shards disagree on {len(wrong)} tensors, first {wrong[0]}: "
            f"{weight_map.get(wrong[0])} there, {here.get(wrong[0])} in fact; restore the whole folder"
        )
    metadata = promised.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if total is not None and str(total).removesuffix(".0") != str(source.nbytes):
        raise CheckpointError(
            f"the index of {str(source.path)!r} says total_size {total}, its shards hold {source.nbytes} bytes; "
            "restore the whole folder"
        )


def read_header(file: Path) -> dict[str, tuple[TensorInfo, int]]:
    """Every tensor of a safetensors file, in the order of its data, with the place where its data begins.

    Raises:
        CheckpointError: not a whole safetensors file.
        InputError: a number format that has no plain arithmetic (8 bit floats and the like).
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise _damaged(file, "its header is longer than the file")
        try:
            header = json.loads(opened.read(length))
        except (ValueError, RecursionError) as error:
            raise _damaged(file, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(file, "its header is no object")
    header.pop("__metadata__", None)
    found, end = {}, 0
    for name, (info, begin, stop) in sorted(
        ((name, _entry(file, name, entry)) for name, entry in header.items()), key=lambda item: item[1][1:]
    ):
        if begin != end or stop - begin != info.nbytes:
            raise _damaged(file, f"the data of {name} is not where its header says")
        found[name], end = (info, 8 + length + begin), stop
    if 8 + length + end != size:
        raise _damaged(file, f"it has {size} bytes, its header describes {8 + length + end}")
    return found


def _entry(file: Path, name: str, entry: JsonValue) -> tuple[TensorInfo, int, int]:
    found = entry if isinstance(entry, dict) else {}
    code, shape, offsets = found.get("dtype"), found.get("shape"), found.get("data_offsets")
    if not isinstance(code, str) or shape is None or not isinstance(offsets, list) or len(offsets) != 2:
        raise _damaged(file, f"the header entry of {name} is not whole")
    numbers = [*shape, *offsets] if isinstance(shape, list) else [None]
    whole = [number for number in numbers if isinstance(number, int) and number >= 0]
    if len(whole) < len(numbers) or math.prod(whole[:-2]) > 1 << 62:
        raise _damaged(file, f"the header entry of {name} has impossible numbers")
    if code not in BY_CODE:
        raise InputError(
            f"{name} in {file} is stored as {code}; convert the model to a plain float dtype first (8 bit formats "
            "and quantised weights have no exact sums)"
        )
    return TensorInfo(tuple(whole[:-2]), BY_CODE[code]), whole[-2], whole[-1]


def _damaged(file: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{file} is damaged: {why}; restore it from a copy")
