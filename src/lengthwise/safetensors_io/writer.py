"""Writing safetensors files block by block, with headers planned before the first byte of data.

A folder is whole or absent: everything is written into a partial folder beside the target, the shards in it under
partial names, and the last thing to get its name is the index (or, where there is a single shard, that file).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np

from lengthwise.errors import CheckpointError
from lengthwise.files import PARTIAL, atomic_write_json, disk_full, sync, write_folder
from lengthwise.safetensors_io.dtypes import Array
from lengthwise.safetensors_io.tensor_sources import TensorInfo

SHARD_BYTES = 5_000_000_000
"""Most bytes of data in a shard, unless a single tensor is larger."""
SYNC_BYTES = 32_000_000
"""Bytes after which the disk is told to begin, so that it writes while the next blocks are merged."""


class ShardWriter:
    """Writes the tensors of ``infos`` to one safetensors file or several, and sums them up.

    The order of ``infos`` decides which shard a tensor goes to; within a shard wider formats come first, which
    keeps every tensor aligned. Blocks are taken in the order of `outputs`.
    """

    def __init__(
        self,
        folder: Path,
        infos: Mapping[str, TensorInfo],
        *,
        stem: str = "model",
        shard_bytes: int = SHARD_BYTES,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.stem = folder, stem
        self.metadata = {"format": "pt", **(metadata or {})}
        self.shards = _plan(infos, shard_bytes)
        self.outputs = {name: info for shard in self.shards for name, info in shard.items()}
        self.sums: dict[str, str] = {}
        self._shard_of = {name: number for number, shard in enumerate(self.shards) for name in shard}
        self._file: IO[bytes] | None = None
        self._thread = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None
        self._disk = ThreadPoolExecutor(1)
        self._synced: Future[None] | None = None
        self._unsynced = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._disk.shutdown()
        if self._file is not None:
            self._file.close()

    def write(self, name: str, block: Array) -> None:
        """Append the next stored bits of a tensor."""
        while len(self.sums) <= self._shard_of[name]:
            self._next_shard()
        self._append(block.view(np.uint8).data)

    def close(self) -> None:
        """End the data: every shard is on the disk, still under its partial name, and its checksum in `sums`."""
        while len(self.sums) < len(self.shards):
            self._next_shard()
        self._end_shard()

    def publish(self) -> None:
        """Give the shards their names, the index last."""
        for name in self.sums:
            (self.folder / f"{PARTIAL}{name}").replace(self.folder / name)
        if len(self.shards) > 1:
            files = list(self.sums)
            index = {
                "metadata": {"total_size": sum(info.nbytes for info in self.outputs.values())},
                "weight_map": {name: files[number] for name, number in self._shard_of.items()},
            }
            atomic_write_json(self.folder / f"{self.stem}.safetensors.index.json", index)

    def _next_shard(self) -> None:
        self._end_shard()
        number, count = len(self.sums) + 1, len(self.shards)
        name = f"{self.stem}.safetensors" if count == 1 else f"{self.stem}-{number:05d}-of-{count:05d}.safetensors"
        self._file = (self.folder / f"{PARTIAL}{name}").open("wb")
        self._digest = hashlib.sha256()
        self.sums[name] = ""
        self._append(memoryview(_header(self.shards[number - 1], self.metadata)))

    def _end_shard(self) -> None:
        if self._file is None:
            return
        self._settle()
        self._settle_disk()
        self._file.close()
        sync(Path(self._file.name))
        self.sums[next(reversed(self.sums))] = self._digest.hexdigest()

    def _append(self, data: memoryview) -> None:
        # Summing and writing one block go on while the next is merged; both leave Python's lock.
        self._settle()
        self._written = self._thread.submit(self._write_and_sum, data)

    def _write_and_sum(self, data: memoryview) -> None:
        assert self._file is not None
        self._file.write(data)
        self._digest.update(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES and (self._synced is None or self._synced.done()):
            self._settle_disk()
            self._unsynced = 0
            self._synced = self._disk.submit(os.fsync, self._file.fileno())

    def _settle_disk(self) -> None:
        if self._synced is not None:
            self._synced.result()
            self._synced = None

    def _settle(self) -> None:
        if self._written is not None:
            self._written.result()
            self._written = None


def _plan(infos: Mapping[str, TensorInfo], shard_bytes: int) -> list[dict[str, TensorInfo]]:
    shards: list[dict[str, TensorInfo]] = [{}]
    filled = 0
    for name, info in infos.items():
        if shards[-1] and filled + info.nbytes > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = info
        filled += info.nbytes
    return [dict(sorted(shard.items(), key=lambda item: -item[1].dtype.itemsize)) for shard in shards]


def _header(shard: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, info in shard.items():
        end = begin + info.nbytes
        header[name] = {"dtype": info.dtype.code, "shape": list(info.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_whole_folder(path: Path, fill: Callable[[Path], None], *, needed: int) -> None:
    """`files.write_folder` of a folder whose size is known.

    Raises:
        CheckpointError: the disk is full; nothing is left behind. ``needed`` bytes are named in the message.
    """
    try:
        write_folder(path, fill)
    except OSError as error:
        if not disk_full(error):
            raise
        raise CheckpointError(
            f"no space left while writing {path}, which needs {needed / 2**20:.0f} MiB; free some and run the command "
            "again (nothing was left behind)"
        ) from error
