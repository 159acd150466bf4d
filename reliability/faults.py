"""What gives out under a command: disk, folder, clock, handles, memory, device, workers, server, power."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from reliability._harness import Ask, Tally, harness
from reliability._power_cut import Journal
from reliability._process import Running, members, warm
from reliability._server import WRONG, Server, forked
from reliability._works import LAB, WORKS, addressed, make_inputs
from reliability.kills import Bench, goes_on, half_written, last_line, uninterrupted

CHEAP = ("grade", "merge", "repair", "evaluate-endpoint", "extend", "evaluate", "shorten")
Case = Callable[[Bench, int, random.Random], str | None]


def over_works(ask: Ask, names: tuple[str, ...], case: Case) -> Tally:
    """The cases in turn over some works."""
    warm()
    make_inputs(ask.scratch)
    failures, count, begin = [], 0, time.monotonic()
    for place, name in enumerate(names):
        numbers = range(place, ask.cases, len(names))
        if not numbers or time.monotonic() - begin > ask.seconds:
            continue
        work = WORKS[name]
        with addressed(work) as address:
            bench = Bench(work, ask.scratch, address, uninterrupted(work, ask.scratch, address))
            for number in numbers:
                if wrong := case(bench, number, ask.dice(number)):
                    failures.append(f"{name}, case {number} of seed {ask.seed}: {wrong}")
                count += 1
    return Tally(count, tuple(failures))


def told(running: Running, *, may_succeed: bool = True) -> str | None:
    """A command that a fault ended says so in one line, without a traceback."""
    code, text = running.wait(), running.text()
    lines = [line for line in text.splitlines() if line.startswith("error:")]
    if "Traceback" in text or "Exception ignored" in text:
        return f"a traceback that ends in {last_line(running)}"
    if code == 0:
        return None if may_succeed else "exit code 0 in spite of it"
    if code not in (1, 2) or len(lines) != 1:
        return f"exit code {code}, {len(lines)} lines of error: {last_line(running)}"
    return None


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at the folder, until the end of the block."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size // 4096 + 1}p", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def disk_full(bench: Bench, number: int, dice: random.Random) -> str | None:
    """A disk that is full after a share of what the output takes, then a larger one."""
    taken = sum(path.stat().st_size for path in bench.scratch.glob("whole-2/**/*") if path.is_file())
    folder = bench.work.make(bench.scratch, f"case-{number}")
    with small_disk(folder, int(dice.uniform(0.0, 1.05) * taken)):
        running = bench.work.start(folder, bench.address)
        if wrong := told(running) or half_written(folder, bench.work):
            return f"disk full: {wrong}"
        remount(folder, "size=200m")
        return goes_on(bench, folder)


@harness("faults-disk-full", "Faults", "disk full at a random byte of the output, then a larger disk", cases=70)
def disk_full_everywhere(ask: Ask) -> Tally:
    return over_works(ask, CHEAP, disk_full)


def read_only(bench: Bench, number: int, dice: random.Random) -> str | None:
    """A folder that can only be read, from the beginning or from a moment on."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    with small_disk(folder, 200 << 20):
        late = dice.random() < 0.5
        if not late:
            remount(folder, "ro")
        running = bench.work.start(folder, bench.address)
        if late and running.at(dice.uniform(0, bench.whole.computed)):
            with contextlib.suppress(subprocess.CalledProcessError):  # a file is open for writing: it stays as it is
                remount(folder, "ro")
        if wrong := told(running, may_succeed=late):
            return f"read-only {'later' if late else 'from the start'}: {wrong}"
        remount(folder, "rw")
        return goes_on(bench, folder)


def deleted(bench: Bench, number: int, dice: random.Random) -> str | None:
    """The output is removed at a moment of the run."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    running = bench.work.start(folder, bench.address)
    if running.at(dice.uniform(0, bench.whole.computed)):
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if wrong := told(running):
        return f"folder deleted: {wrong}"
    if running.code == 0 and bench.work.prints(folder) != bench.whole.prints:
        shutil.rmtree(folder / bench.work.out, ignore_errors=True)  # it was done when it was removed
    return goes_on(bench, folder)


def clock_back(bench: Bench, number: int, dice: random.Random) -> str | None:
    """A clock that jumps back by up to a year, once, as Python reads it."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    jump, calls = dice.uniform(1, 3e7), dice.randrange(50)

    def before() -> None:
        real, seen = time.time, [0]

        def shifted() -> float:
            seen[0] += 1
            return real() - (jump if seen[0] > calls else 0)

        time.time = shifted

    running = bench.work.start(folder, bench.address, before=before)
    return told(running, may_succeed=True) or goes_on(bench, folder)


def few_handles(bench: Bench, number: int, dice: random.Random) -> str | None:
    """No more than a few open files beside those that the process begins with."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    most = dice.randrange(1, 14)

    def before() -> None:
        taken = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + most, taken + most))

    running = bench.work.start(folder, bench.address, before=before)
    wrong = told(running) or half_written(folder, bench.work)
    return f"{most} handles: {wrong}" if wrong else goes_on(bench, folder)


def little_memory(bench: Bench, number: int, dice: random.Random) -> str | None:
    """A few MiB of address space beside what the process begins with."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    more = int(dice.uniform(1, 60) * 2**20)

    def before() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    running = bench.work.start(folder, bench.address, before=before)
    wrong = told(running) or half_written(folder, bench.work)
    return f"{more >> 20} MiB more: {wrong}" if wrong else goes_on(bench, folder)


def device_lost(bench: Bench, number: int, dice: random.Random) -> str | None:
    """A stand-in for a GPU that vanishes: a matrix product raises what torch raises then."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    calls = dice.randrange(2000)

    def before() -> None:
        import torch

        real, seen = torch.nn.functional.linear, [0]

        def lost(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:  # noqa: A002
            seen[0] += 1
            if seen[0] > calls:
                raise torch.AcceleratorError("CUDA error: device lost (a stand-in)")
            return real(input, weight, bias)

        torch.nn.functional.linear = lost

    running = bench.work.start(folder, bench.address, before=before)
    wrong = told(running) or half_written(folder, bench.work)
    return f"device lost after {calls} products: {wrong}" if wrong else goes_on(bench, folder)


def worker_killed(bench: Bench, number: int, dice: random.Random) -> str | None:
    """The system takes a worker process (as when memory is out): its work is done again."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    running = bench.work.start(folder, bench.address)
    if running.at(dice.uniform(0, bench.whole.computed)):
        for pid in members(running.pid):
            if pid != running.pid and dice.random() < 0.7:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    return told(running) or goes_on(bench, folder)


SINGLE: tuple[tuple[str, str, tuple[str, ...], Case, int], ...] = (
    ("read-only", "a folder that can only be read, from the start or later", CHEAP, read_only, 28),
    ("deleted", "the output is deleted at a random moment", CHEAP, deleted, 28),
    ("clock", "the clock is set back by up to a year", CHEAP, clock_back, 14),
    ("handles", "1 to 13 open files more than at the start", CHEAP, few_handles, 28),
    ("memory", "1 to 60 MiB of memory more than at the start", CHEAP, little_memory, 28),
    ("device", "a device that is lost, by a stand-in", ("repair", "extend", "evaluate", "shorten"), device_lost, 20),
    ("worker", "worker processes that are killed", ("grade",), worker_killed, 20),
)


def _single(names: tuple[str, ...], case: Case, ask: Ask) -> Tally:
    return over_works(ask, names, case)


for _name, _what, _works, _case, _cases in SINGLE:
    harness(f"faults-{_name}", "Faults", _what, cases=_cases)(functools.partial(_single, _works, _case))


@harness("faults-server", "Faults", f"a server that answers {', '.join(WRONG)}, now and then or always", cases=36)
def server(ask: Ask) -> Tally:
    """Every way to answer wrongly: for a third of the requests, and for all; then a server that is well."""
    warm()
    make_inputs(ask.scratch)
    words = ("evaluate", *LAB, "--endpoint", "ADDRESS", "m", "--samples", "2", "--concurrency", "3", "--retries", "1")
    work = replace(WORKS["evaluate-endpoint"], arguments=words)
    mode = ask.scratch / "mode"
    mode.write_text("0 right")
    failures, count = [], 0
    with forked(Server(mode=mode)) as address:
        bench = Bench(work, ask.scratch, address, uninterrupted(work, ask.scratch, address))
        for number in ask.numbers():
            count += 1
            way, share = WRONG[number % len(WRONG)], (0.3, 1.0)[number // len(WRONG) % 2]
            folder = work.make(ask.scratch, f"case-{number}")
            mode.write_text(f"{share} {way}")
            running = work.start(folder, address)
            wrong = told(running) or half_written(folder, work)
            mode.write_text("0 right")
            if wrong := wrong or goes_on(bench, folder):
                failures.append(f"{way} for {share:.0%} of the requests, case {number}: {wrong}")
    return Tally(count, tuple(failures))


def power_cut(bench: Bench, number: int, dice: random.Random) -> str | None:
    """A cut at a random moment: what was not synced is gone."""
    folder = bench.work.make(bench.scratch, f"case-{number}")
    journal = Journal(bench.scratch / f"journal-{number}", folder)
    running = bench.work.start(folder, bench.address, before=journal.keep)
    if running.at(dice.uniform(0, 1.3 * bench.whole.computed)):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    renames_last = dice.random() < 0.5
    journal.cut(names_too=renames_last)
    shutil.rmtree(journal.folder)
    wrong = half_written(folder, bench.work) or goes_on(bench, folder)
    return f"power cut, names {'lost, too' if renames_last else 'kept'}: {wrong}" if wrong else None


@harness("faults-power", "Faults", "power cut at a random moment: what was not synced is gone", cases=42)
def power(ask: Ask) -> Tally:
    found = over_works(ask, ("merge", "grade", "evaluate-endpoint", "repair", "extend", "shorten"), power_cut)
    return replace(
        found,
        notes="A layer around `os.fsync` in the process keeps what was synced. After the cut half of the cases have "
        "the names of the moment and the bytes of the last sync (a rename that overtakes its data), the others also "
        "the names of the last sync of each folder. Blocks that arrive out of order within a file are not modeled.",
    )  # fmt: skip
