"""Cases of bad input in child processes with bounds of memory and time: what went wrong, and at which case.

A child does its cases one after the other and says so line by line; one that dies or hangs costs its own case, and
another child goes on behind it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TypedDict

from lengthwise.cli import main
from lengthwise.errors import LengthwiseError, LengthwiseWarning
from reliability._harness import Ask, Tally

CPU_SECONDS, WALL_SECONDS, MEMORY = 60.0, 600.0, 2 << 30
"""Bounds of one case: processor time, time by the clock, and bytes of address space above what the child began with."""
BATCH = 1000
INSIDE, OUT = "in", "out"
"""In a case's folder: what is read, and the only place that may be written to."""
Act = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One input. ``act`` runs it: through the command line (`command`), or as Python; ``check`` looks at what came."""

    what: str
    act: Act
    check: Callable[[], str | None] = lambda: None


Make = Callable[[random.Random, Path], Case]
"""Writes what is read under ``INSIDE`` of a folder, which is then the working folder."""


@dataclass(frozen=True)
class Failure:
    """What must not happen: "traceback", "hang", "memory", "outside", "message" or "died"."""

    kind: str
    case: int
    what: str
    text: str


class _Report(TypedDict):
    case: int
    failures: list[dict[str, str | int]] | None


class SlowError(BaseException):
    """A case has used up its time; no ``except Exception`` may swallow it."""


def command(*arguments: str) -> Act:
    """A command line, in this process."""
    return lambda: main([*arguments])


def run(module: str, ask: Ask) -> Tally:
    """Do the cases of a module's ``make`` and say how many there were and what failed."""
    ends = time.monotonic() + ask.seconds
    done, failures = 0, list[Failure]()
    while done < ask.cases and time.monotonic() < ends:
        for report in _child(module, ask.seed, range(done, min(done + BATCH, ask.cases)), ask.scratch, ends):
            done = report["case"] + 1
            failures += [Failure(**found) for found in report["failures"] or ()]  # type: ignore[arg-type]
    return Tally(done, tuple(_told(failures)))


def _told(failures: list[Failure]) -> Iterator[str]:
    """One line for all failures that are alike, with the first case of them."""
    alike: dict[tuple[str, str], list[Failure]] = {}
    for one_of_them in failures:
        alike.setdefault((one_of_them.kind, re.sub(r"\d+", "", one_of_them.text[-80:])), []).append(one_of_them)
    for group in alike.values():
        first = group[0]
        yield f"{first.kind}, {len(group)} times, first case {first.case} ({first.what}): {first.text}"


def _child(module: str, seed: int, cases: range, folder: Path, ends: float) -> Iterator[_Report]:
    """The reports of one child; where it dies or hangs, the last is ours."""
    ours, theirs = os.pipe()
    words = [module, str(seed), str(cases.start), str(cases.stop), str(folder), str(theirs)]
    child = subprocess.Popen(
        [sys.executable, "-m", "reliability._batches", *words],
        pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0,
        env=os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    os.close(theirs)
    last = cases.start - 1
    try:
        for line in _lines(ours):
            if line is not None:
                report: _Report = json.loads(line)
                last = report["case"]
                yield report
                if time.monotonic() < ends:
                    continue
                return
            break
        if last + 1 < cases.stop:
            yield {"case": last + 1, "failures": [asdict(Failure("died", last + 1, module, _ended(child)))]}
    finally:
        os.close(ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _ended(child: subprocess.Popen[bytes]) -> str:
    """How a child ended before its work was done; one that still runs says nothing for too long."""
    try:
        return f"the child ended with {child.wait(timeout=5.0)}"
    except subprocess.TimeoutExpired:
        return f"the child was silent for {WALL_SECONDS:.0f} s"


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """Lines of a pipe as they come; None where none comes in time, and an end where it is closed."""
    held = b""
    while True:
        if not select.select([descriptor], [], [], WALL_SECONDS)[0]:
            yield None
            return
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return
        *whole, held = (held + piece).split(b"\n")
        yield from whole


def _serve(module: str, seed: int, start: int, stop: int, folder: Path, pipe: int) -> None:
    """What a child does."""
    make: Make = importlib.import_module(f"reliability.{module}").make
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _warm(make, seed, folder)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    os.write(pipe, json.dumps({"case": start - 1, "failures": None}).encode() + b"\n")
    for number in range(start, stop):
        failures = [asdict(found) for found in one(make, seed, number, folder)]
        os.write(pipe, json.dumps({"case": number, "failures": failures or None}).encode() + b"\n")


def _warm(make: Make, seed: int, folder: Path) -> None:
    """What is imported late would count as memory of the first case."""
    list(one(make, seed, -1, folder))


def _out_of_time(_: int, __: FrameType | None) -> None:
    raise SlowError


def one(make: Make, seed: int, number: int, folder: Path) -> Iterator[Failure]:
    """Do one case in a folder of its own, and yield what is wrong with how it went."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    for name in (INSIDE, OUT, "tmp"):
        (place / name).mkdir(parents=True)
    before, tempfile.tempdir = Path.cwd(), str(place / "tmp")
    os.chdir(place)
    try:
        case = make(random.Random(f"{seed}/{number}"), place)
        there = _tree(place)
        yield from (Failure(kind, number, case.what, text) for kind, text in _outcome(case))
        if (now := _tree(place)) != there:
            moved = sorted(str(name) for name in there.items() ^ now.items())[:4]
            yield Failure("outside", number, case.what, " ".join(moved))
    finally:
        os.chdir(before)
        tempfile.tempdir = None


def _tree(place: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all files but those of the output folder."""
    found = {}
    for folder, folders, files in os.walk(place):
        if Path(folder) == place:
            folders.remove(OUT)
        for name in files:
            stat = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # a name may hold half a character
            found[f"{folder}/{name!r}"] = (stat.st_size, stat.st_mtime_ns)
    return found


def _outcome(case: Case) -> Iterator[tuple[str, str]]:
    """What is wrong with how a case ended and with what it said."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    found, code = None, 0
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            signal.signal(signal.SIGPROF, _out_of_time)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            case.act()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        except (LengthwiseError, LengthwiseWarning):
            code = 2
        except SlowError as error:
            found = "hang", _place(error)
        except MemoryError as error:
            found = "memory", _place(error)
        except BaseException as error:
            found = "traceback", f"{type(error).__name__}: {str(error)[:200]!r} {_place(error)}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    if found is not None:
        yield found
        return
    streams[1].flush()
    said = streams[1].buffer.getvalue().decode("utf-8", "replace")
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said or (code and said and len(errors) != 1):
        yield "message", f"code {code}: {said[-300:]!r}"
    if wrong := case.check():
        yield "message", wrong


def _place(error: BaseException) -> str:
    """The innermost frames of ours."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "lengthwise" in frame.filename]
    last = traceback.extract_tb(error.__traceback__)[-1]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in [last, *frames[:-4:-1]])


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]), int(sys.argv[6]))
