"""Making a study's runs: one raw JSON file each; what is there is not made again, what another process is at is left.

Any number of processes may be started side by side, stopped, and started again.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from benchmarks._bench import git_commit, machine, versions
from lengthwise.files import atomic_write_json, read_json
from studies.summary import Numbers

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Place:
    """Where runs work and with what: the folder of raw results, the device, and a study's own options."""

    folder: Path
    device: str = "cpu"
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def path(self, run: str) -> Path:
        """The file of a run's raw result."""
        return self.folder / f"{run}.json"

    def result(self, run: str) -> Numbers:
        """The raw result of a run that this one `needs`."""
        found: Numbers = read_json(self.path(run))
        return found

    def scratch(self, name: str) -> Path:
        """A folder for models and run folders; it is kept."""
        return self.folder / "scratch" / name


@dataclass(frozen=True)
class Run:
    """One run: `make` gives its raw numbers; the results that it `needs` are there before."""

    name: str
    make: Callable[[Place], Numbers]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Which runs a process makes, and for how long."""

    only: Sequence[str] = ()
    part: tuple[int, int] = (1, 1)
    wait: float = 0.0
    stop_after: float = float("inf")
    commit: str | None = None

    def of(self, runs: Sequence[Run]) -> list[Run]:
        """The runs whose names hold one of the texts, of these every n-th, beginning with the i-th."""
        named = [run for run in runs if not self.only or any(text in run.name for text in self.only)]
        return named[self.part[0] - 1 :: self.part[1]]


def make_all(runs: Sequence[Run], place: Place, choice: Choice) -> int:
    """Make what is chosen and not there; a run that fails is told and leaves the others to go on. How many failed."""
    began, failed = time.monotonic(), 0
    place.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(place.threads)
    for run in choice.of(runs):
        if time.monotonic() - began > choice.stop_after:
            break
        if place.path(run.name).is_file() or not ready(run, place, choice.wait):
            continue
        lock = FileLock(place.folder / f".{run.name}.lock", timeout=0)
        try:
            with lock:
                if not place.path(run.name).is_file():
                    failed += not attempted(run, place, choice.commit)
        except Timeout:
            say(f"{run.name}: another process is at it")
    return failed


def ready(run: Run, place: Place, wait: float) -> bool:
    """Whether what a run needs is there, or comes within so many seconds."""
    until = time.monotonic() + wait
    while missing := [name for name in run.needs if not place.path(name).is_file()]:
        if time.monotonic() > until:
            say(f"{run.name}: needs {', '.join(missing[:3])}; make them first, or give a longer --wait")
            return False
        time.sleep(POLL_SECONDS)
    return True


def attempted(run: Run, place: Place, commit: str | None) -> bool:
    """Make one result, whole or not at all."""
    started = time.perf_counter()
    try:
        numbers = run.make(place)
    except Exception:
        say(f"{run.name} failed:\n{traceback.format_exc()}")
        return False
    seconds = round(time.perf_counter() - started, 3)
    head = {**provenance(place), "seconds": seconds} | ({"commit": commit} if commit else {})
    atomic_write_json(place.path(run.name), {**head, **numbers}, indent=None)
    say(f"{run.name}: {seconds:.0f} s")
    return True


def provenance(place: Place) -> Numbers:
    """Command, commit ("+": with changed files), versions and machine."""
    state, found = git_commit(), machine()
    shown = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return {
        "command": " ".join(["python -m studies", *shown]),
        "commit": f"{state['commit']}{'+' if state['changed_files'] else ''}",
        **versions("torch", "transformers", "trl"),
        "cores": found["usable_cpus"],
        "processor": found["processor"],
        "device": device_name(place.device),
        "threads": place.threads,
    }


def device_name(device: str) -> str:
    """The device's type, or what an accelerator calls itself."""
    kind = torch.device(device).type
    return torch.cuda.get_device_name(torch.device(device)) if kind == "cuda" else kind


def say(text: str) -> None:
    """A line at once, also into a file."""
    print(text, flush=True)
