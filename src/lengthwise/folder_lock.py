"""One process at a time writes to a folder: by a lock of the operating system, which ends with its process."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from lengthwise.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
ENDING = ".lock"
_held: dict[Path, int] = {}
"""Lock files that this process holds, and how often: a command may call another one on its own folder."""


def is_lock(path: Path) -> bool:
    """Whether a file is a lock, which a killed process may leave behind: it holds nothing and means nothing then."""
    return path.name.startswith(".") and path.name.endswith(ENDING)


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Hold a folder against all other processes; the hold ends with this one, however it ends.

    The lock is a file beside the folder, which may then come and go as a whole while it is held; where nothing can be
    written there, in the folder. It is removed at the end.

    Raises:
        ConfigError: another process holds it.
    """
    place, made = _place(Path(folder))
    lock = None if place in _held else _lock(place, folder)
    _held[place] = _held.get(place, 0) + 1
    try:
        yield
    finally:
        _held[place] -= 1
        if lock is not None:
            del _held[place]
            with suppress(OSError):  # a system that does not remove open files keeps it, which does no harm
                place.unlink(missing_ok=True)
            lock.release()
            for parent in made:
                with suppress(OSError):  # it is in use now
                    parent.rmdir()


def writes(folder: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function runs `alone_in` a folder, named as a parameter or an attribute of one (``job.out``)."""
    name, _, attribute = folder.partition(".")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(*args: P.args, **named: P.kwargs) -> R:
            given = signature.bind(*args, **named).arguments[name]
            with alone_in(getattr(given, attribute) if attribute else given):
                return function(*args, **named)

        return run

    return decorate


def _place(folder: Path) -> tuple[Path, list[Path]]:
    """Where the lock of a folder lies, and the parents that had to be made for it, the innermost first."""
    whole = folder.resolve()
    missing = [parent for parent in whole.parents if not parent.exists()]
    whole.parent.mkdir(parents=True, exist_ok=True)
    beside = whole.parent if os.access(whole.parent, os.W_OK) else whole
    return beside / f".{whole.name}{ENDING}", missing


def _lock(place: Path, folder: str | Path) -> FileLock:
    """The lock, held: on the file that is there now, not on one that was removed while we opened it."""
    lock = FileLock(place, timeout=0)
    while True:
        place.touch()
        with suppress(FileNotFoundError):
            before = place.stat().st_ino
            try:
                lock.acquire()
            except Timeout:
                raise ConfigError(
                    f"out is {str(folder)!r}: another process is writing to it; wait for it, or name another folder"
                ) from None
            if place.stat().st_ino == before:
                return lock
        lock.release()
