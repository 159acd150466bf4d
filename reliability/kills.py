"""Commands that are killed at random moments, and stopped by SIGTERM and Ctrl-C."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lengthwise.errors import LengthwiseError
from lengthwise.files import PARTIAL
from lengthwise.folder_lock import is_lock
from lengthwise.safetensors_io.reader import open_folder
from reliability._harness import Ask, Tally, harness
from reliability._process import Meter, Running, warm
from reliability._works import TRL, WORKS, Work, addressed, differences, make_inputs

AGAIN = 0.25
"""Share of runs whose continuation is killed, too."""
END_SECONDS = 10.0


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: seconds of computing, and hashes of what it wrote."""

    computed: float
    prints: dict[str, str]


@dataclass(frozen=True)
class Bench:
    """A work, where it runs, and what it has to come to."""

    work: Work
    scratch: Path
    address: str
    whole: Whole


def uninterrupted(work: Work, scratch: Path, address: str) -> Whole:
    """Two runs to the end, which must agree: what differs between them would be no sign of a kill."""
    seen = []
    for name in ("whole-1", "whole-2"):
        folder = work.make(scratch, name)
        running = work.start(folder, address)
        meter = Meter(running.pid)
        while running.wait(0.02) is None:
            meter.read()
        if running.code != 0:
            raise RuntimeError(f"{work.name} fails without a kill: {running.text()[-2000:]}")
        seen.append(Whole(meter.total(), work.prints(folder)))
    if other := differences(seen[0].prints, seen[1].prints):
        raise RuntimeError(f"two whole runs of {work.name} differ in {other}")
    return seen[1]


def case(bench: Bench, number: int, dice: random.Random, which: signal.Signals) -> str | None:
    """One run that is stopped once or twice and then let go on; what is wrong, or None."""
    work = bench.work
    folder = work.make(bench.scratch, f"case-{number}")
    for _ in range(2 if dice.random() < AGAIN else 1):
        moment, everyone = dice.uniform(0, bench.whole.computed), dice.random() < 0.5
        running = work.start(folder, bench.address)
        if not running.at(moment):
            if running.code != 0:
                return f"exit code {running.code} without a kill: {last_line(running)}"
            continue
        stop(running, which, everyone=everyone)
        if wrong := ended_well(running, which, time.monotonic()) or half_written(folder, work):
            return f"{which.name} after {moment:.2f} of {bench.whole.computed:.2f} s: {wrong}"
    return goes_on(bench, folder)


def stop(running: Running, which: signal.Signals, *, everyone: bool) -> None:
    """Send the signal to the process, or as a terminal or a machine that goes down does, to all of them."""
    if everyone and which is not signal.SIGTERM:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, which)
    else:
        running.send(which)


def ended_well(running: Running, which: signal.Signals, begin: float) -> str | None:
    if running.wait(3 * END_SECONDS) is None:
        running.send(signal.SIGKILL)
        running.wait()
        return "did not end"
    if (took := time.monotonic() - begin) > END_SECONDS:
        return f"took {took:.0f} s to end"
    if left := running.left_behind(END_SECONDS):
        return f"{len(left)} of its processes live on"
    if which is signal.SIGINT and running.code not in (0, 130):
        return f"exit code {running.code} after Ctrl-C: {last_line(running)}"
    return "a traceback" if "Traceback" in running.text() else None


def half_written(folder: Path, work: Work) -> str | None:
    """Files under their last name are whole; what is unfinished is refused by whoever reads models."""
    for place in folder.rglob("*"):
        unfinished = place.name.startswith(PARTIAL)
        if not place.is_dir() or not (unfinished or place.name in ("model", work.out)):
            continue
        if not unfinished and not any(place.glob("*.safetensors")):
            continue
        try:
            open_folder(place)
        except LengthwiseError as error:
            if not unfinished:
                return f"{place.name} is there and not whole: {error}"
        else:
            if unfinished and place.parent == folder:
                return f"{place.name} is unfinished and is read as a model"
    return None


def goes_on(bench: Bench, folder: Path) -> str | None:
    """The same command gives the output of an uninterrupted run, and clears up what the kill left."""
    work, before = bench.work, bench.work.prints(folder)
    running = work.start(folder, bench.address)
    code = running.wait()
    if code != 0 and (work.again or before != bench.whole.prints or code != 2):
        return f"the same command then ends with exit code {code}: {last_line(running)}"
    if other := differences(work.prints(folder), bench.whole.prints):
        return f"after going on: {other}"
    stray = [path.name for path in folder.iterdir() if path.name != work.out and not (code and is_lock(path))]
    return f"left beside the output: {', '.join(stray)}" if stray else None


def last_line(running: Running) -> str:
    return next((line for line in reversed(running.text().splitlines()) if line.strip()), "(nothing said)")[:300]


def tried(bench: Bench, ask: Ask, which: signal.Signals, numbers: list[int] | None = None) -> Tally:
    failures, count = [], 0
    for number in ask.numbers() if numbers is None else numbers:
        wrong = case(bench, number, ask.dice(number), which)
        count += 1
        if wrong is None:
            bench.work.make(bench.scratch, f"case-{number}").rmdir()
        else:
            failures.append(f"{bench.work.name}, case {number} of seed {ask.seed}: {wrong}")
    return Tally(count, tuple(failures))


def kills(work: Work, ask: Ask) -> Tally:
    """Kill a work at moments drawn evenly over the time that it computes."""
    warm(work.extra)
    make_inputs(ask.scratch)
    with addressed(work) as address:
        bench = Bench(work, ask.scratch, address, uninterrupted(work, ask.scratch, address))
        return tried(bench, ask, signal.SIGKILL)


for _work in WORKS.values():
    harness(f"kills-{_work.name}", "Kills", f"`kill -9` of {_work.title}", cases=50)(functools.partial(kills, _work))
if importlib.util.find_spec("trl") is not None:
    harness(f"kills-{TRL.name}", "Kills", f"`kill -9` of {TRL.title}", cases=50)(functools.partial(kills, TRL))


@harness("stops", "Kills", "SIGTERM and Ctrl-C, the commands above in turn: ends within 10 s", cases=64)
def stops(ask: Ask) -> Tally:
    """Every command gets the same number of cases, half of them SIGTERM and half SIGINT."""
    warm()
    make_inputs(ask.scratch)
    numbers, tallies = list(range(ask.cases)), []
    begin = time.monotonic()
    for place, work in enumerate(WORKS.values()):
        own = numbers[place :: len(WORKS)]
        if not own or time.monotonic() - begin > ask.seconds:
            continue
        with addressed(work) as address:
            bench = Bench(work, ask.scratch, address, uninterrupted(work, ask.scratch, address))
            for which, part in ((signal.SIGTERM, own[::2]), (signal.SIGINT, own[1::2])):
                tallies.append(tried(bench, ask, which, part))
    return Tally(sum(one.cases for one in tallies), tuple(line for one in tallies for line in one.failures))
