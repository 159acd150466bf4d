"""What a file system may hold after a power cut: bytes and names as they were when they were last synced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


@dataclass(frozen=True)
class Journal:
    """Copies of what a process syncs below `root`, kept in `folder` by inode."""

    folder: Path
    root: Path

    def keep(self) -> None:
        """In the process: from now on every sync leaves a copy here."""
        self.folder.mkdir()
        real, held, device = os.fsync, list[int](), self.root.stat().st_dev

        def fsync(fd: FileDescriptorLike) -> None:
            number = fd if isinstance(fd, int) else fd.fileno()
            real(number)
            facts = os.fstat(number)
            if facts.st_dev != device:
                return
            held.append(os.dup(number))  # so that no other file gets the inode
            place = Path(f"/proc/self/fd/{number}").readlink()
            if stat.S_ISDIR(facts.st_mode):
                entries = {entry.name: entry.inode() for entry in os.scandir(place)}
                for name in entries:
                    with contextlib.suppress(OSError):
                        held.append(os.open(place / name, os.O_RDONLY))
                self._put(f"{facts.st_ino}.names", json.dumps(entries).encode())
            else:
                with open(f"/proc/self/fd/{number}", "rb") as file:  # noqa: PTH123  # the file, whatever its name is now
                    self._put(f"{facts.st_ino}.bytes", file.read())

        os.fsync = fsync

    def _put(self, name: str, content: bytes) -> None:
        partial = self.folder / f"{name}.new"
        partial.write_bytes(content)
        partial.replace(self.folder / name)

    def cut(self, *, names_too: bool) -> None:
        """Give `root` what a cut leaves: the synced bytes, under the names of now or those that were synced."""
        after = self.folder / "after"
        after.mkdir()
        self._fill(after, self.root, {entry.name: entry.inode() for entry in os.scandir(self.root)}, names_too)
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in after.iterdir():
            path.replace(self.root / path.name)

    def _fill(self, target: Path, source: Path, now: dict[str, int], names_too: bool) -> None:
        names = now
        if names_too:
            synced = self.folder / f"{source.stat().st_ino}.names"
            names = json.loads(synced.read_text()) if synced.is_file() else {}
        places = {inode: source / name for name, inode in now.items()}
        for name, inode in names.items():
            content = self.folder / f"{inode}.bytes"
            place = places.get(inode)
            if place is not None and place.is_dir():
                (target / name).mkdir()
                self._fill(target / name, place, {entry.name: entry.inode() for entry in os.scandir(place)}, names_too)
            elif content.is_file():
                shutil.copyfile(content, target / name)
            elif place is not None:
                (target / name).touch()
