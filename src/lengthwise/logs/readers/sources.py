"""Where a log lies: a file, a folder, a pattern, several of them, or standard input, plain or compressed."""

from __future__ import annotations

import glob
import gzip
import io
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from lengthwise.errors import InputError
from lengthwise.optional_imports import importing

STDIN = "-"
KINDS = (".jsonl", ".json", ".parquet", ".eval", ".csv", ".tsv", ".ndjson")
"""What a folder is searched for, each also with ``.gz`` or ``.zst``."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
CHUNK = 1 << 18
PACKED_CHUNK = 1 << 12
"""Bytes that zstandard is given at a time: a few of them may stand for a hundred thousand."""
LONGEST_NAME = 255
LONGEST = 200
"""Characters of what a library says of a damaged file; pyarrow says paragraphs."""


class DamagedError(Exception):
    """A file that cannot be read on; the text says where it breaks, in one line."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split())[:LONGEST])


@dataclass(frozen=True)
class Source:
    """A file to read. ``name``: as the user gave it. ``spooled``: keeps standard input on the disk while it is read."""

    path: Path
    name: str
    spooled: IO[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """The ending that tells what the file holds, in lower case, without that of compression."""
        return Path(re.sub(r"\.(gz|zst)$", "", self.path.name.casefold())).suffix

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file's bytes, decompressed; what its first bytes say counts, not its name.

        Raises `DamagedError` where compressed data breaks off.
        """
        with self.path.open("rb") as raw:
            start = raw.read(4)
            raw.seek(0)
            try:
                yield _decompressed(raw, start, self.name)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DamagedError(f"damaged compression: {error}") from error


class _Frames(Protocol):
    """What zstandard's object gives that decompresses one frame."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes) -> bytes: ...


def _decompressed(raw: BinaryIO, start: bytes, name: str) -> BinaryIO:
    if start.startswith(GZIP):
        return gzip.open(raw)  # type: ignore[return-value]  # typeshed has its own class for it
    return io.BufferedReader(_ZstdFile(raw, name), CHUNK) if start.startswith(ZSTD) else raw


class _ZstdFile(io.RawIOBase):
    """Frames of zstandard, one after the other. An unfinished one is an error: the package's own reader just ends."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        with importing(f"reading {name} (zstd)", "zstandard", "zstd"):
            import zstandard
        self._new, self._error = zstandard.ZstdDecompressor, zstandard.ZstdError
        self._raw = raw
        self._frame: _Frames | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._ready and (data := self._next_bytes()):
            self._ready = memoryview(self._decompress(data))
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def _next_bytes(self) -> bytes:
        if self._frame is not None and self._frame.eof:
            rest, self._frame = self._frame.unused_data, None
            if rest:
                return rest
        data = self._raw.read(PACKED_CHUNK)
        if not data and self._frame is not None:
            raise EOFError("it ends inside a frame")
        return data

    def _decompress(self, data: bytes) -> bytes:
        frame = self._frame = self._frame or self._new().decompressobj()
        try:
            return frame.decompress(data)
        except self._error as error:
            raise EOFError(str(error)) from error


def unzstd(data: bytes, name: str, longest: int) -> bytes:
    """The bytes of one whole frame, at most ``longest``; `DamagedError` where it is none or has more."""
    try:
        found = io.BufferedReader(_ZstdFile(io.BytesIO(data), name), CHUNK).read(longest + 1)
        if len(found) > longest:
            raise DamagedError(f"over {longest >> 20} MiB, more than its archive says")
        return found
    except EOFError as error:
        raise DamagedError(f"damaged compression: {error}") from error


def find_sources(given: str | Path | Iterable[str | Path]) -> list[Source]:
    """The files that are meant, in their natural order (2 before 10).

    ``given``: a file, a folder (searched through, see `KINDS`), a pattern as in ``runs/*.jsonl``, ``-`` for standard
    input, or several of them. A file that is named twice is read once.

    Raises:
        InputError: nothing is there, or a folder that holds no log's file.
    """
    several = [given] if isinstance(given, str | Path) else list(given)
    if not several:
        raise InputError("no log is named; give a file, a folder, a pattern, or - for standard input")
    found = [source for one in several for source in _sources(one)]
    return list({source.path: source for source in found}.values())


def _sources(given: str | Path) -> list[Source]:
    name = str(given)
    if name == STDIN:
        return [_standard_input()]
    path = Path(given).expanduser()
    if len(path.name.encode()) > LONGEST_NAME:  # asking the system whether there is one would raise
        raise InputError(f"no such file: {name}; check the path")
    if path.is_dir():
        inside = [one for one in path.rglob("*") if _is_log(one.relative_to(path)) and one.is_file()]
        if not inside:
            raise InputError(f"{name} is a folder without a log in it; the files read end in {', '.join(KINDS)}")
        return _in_order(inside)
    if path.exists():
        return [Source(path, name)]
    if glob.has_magic(name):
        matches = [Path(one) for one in glob.glob(str(path), recursive=True)]  # noqa: PTH207  # absolute ones, too
        if not (files := [one for one in matches if one.is_file()]):
            raise InputError(f"no file matches {name}; check the pattern (the working folder is {Path.cwd()})")
        return _in_order(files)
    raise InputError(f"no such file: {name}; check the path (the working folder is {Path.cwd()})")


def _is_log(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and Source(path, path.name).kind in KINDS


def _in_order(paths: Iterable[Path]) -> list[Source]:
    return [Source(path, str(path)) for path in sorted(paths, key=_natural)]


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


def _standard_input() -> Source:
    """Standard input as a file on the disk, for some formats are read twice, or from their end."""
    spooled = tempfile.NamedTemporaryFile(prefix="lengthwise-")  # noqa: SIM115  # it lives as long as its Source
    shutil.copyfileobj(sys.stdin.buffer, spooled)
    spooled.flush()
    return Source(Path(spooled.name), "standard input", spooled)
