"""How many threads compute on the CPU: one for a small model, and for others threads that wait without spinning."""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from lengthwise.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")
SMALL = 20_000_000
"""Parameters below which a model's matrices are too small for two threads to gain anything, and they may lose much."""
COUNT, WAITING = "OMP_NUM_THREADS", {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
_LONGEST_HEADER = 100_000_000
_decided = 0
"""How many `threads_for` are open: the outermost one decides."""


def wait_without_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads sleep, for a process of our own: threads that spin on shared cores hold up those that work.

    It counts only before torch is loaded. What the user has set stays as it is.
    """
    if "torch" not in sys.modules and not WAITING.keys() & environment.keys():
        environment.update(WAITING)


@contextmanager
def threads_for(*folders: Path, wanted: int | None = None) -> Iterator[None]:
    """Compute on `wanted` threads, by default on one where all models in `folders` are below `SMALL`, until the end.

    Afterwards torch has as many threads as before. By default nothing is changed where ``OMP_NUM_THREADS`` is set, for
    a larger model, and inside of another `threads_for`, which has decided.

    Raises:
        ConfigError: fewer than 1 thread.
    """
    if wanted is not None and wanted < 1:
        raise ConfigError(f"threads is {wanted}; give at least 1")
    global _decided
    count = wanted if wanted is not None else _usual(folders)
    if count is None or _decided:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    _decided += 1
    try:
        yield
    finally:
        _decided -= 1
        torch.set_num_threads(before)


def on_few_threads(models: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function runs in `threads_for` of the folders that an attribute of a parameter holds.

    ``models`` names both, as ``job.folders``.
    """
    name, _, attribute = models.partition(".")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(*args: P.args, **named: P.kwargs) -> R:
            with threads_for(*getattr(signature.bind(*args, **named).arguments[name], attribute)):
                return function(*args, **named)

        return run

    return decorate


def parameters_in(folder: Path) -> int | None:
    """Parameters in a folder's safetensors by their headers; None where there are none that can be read."""
    total = 0
    for path in folder.glob("*.safetensors"):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, _LONGEST_HEADER)))
            total += sum(math.prod(facts["shape"]) for name, facts in header.items() if name != "__metadata__")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None  # what is wrong with it is told where it is loaded
    return total or None


def _usual(folders: tuple[Path, ...]) -> int | None:
    """One thread where all models are small and the user has not set how many there are to be."""
    if COUNT in os.environ or not folders:
        return None
    counts = [parameters_in(folder) for folder in folders]
    return 1 if all(count is not None and count < SMALL for count in counts) else None
