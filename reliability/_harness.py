"""What all harnesses share: how one is registered, what it is asked, and the small summary that it leaves."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from lengthwise.files import atomic_write_json

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PARTS = ("Kills", "Faults", "Bad input", "Load", "Security", "Same seed, same run")
"""Headings of the page, in its order."""


@dataclass(frozen=True)
class Ask:
    """What a harness is asked for: cases until their number or the seconds are used up."""

    seed: int
    scratch: Path
    cases: int
    seconds: float = float("inf")

    def numbers(self) -> Iterator[int]:
        """Numbers of the cases to try, from 0."""
        begin = time.monotonic()
        for number in range(self.cases):
            if time.monotonic() - begin >= self.seconds:
                return
            yield number

    def dice(self, number: int) -> random.Random:
        """Randomness of one case, which can so be made again by itself."""
        return random.Random(f"{self.seed}/{number}")


@dataclass(frozen=True)
class Tally:
    """What a harness found: cases tried, one line for each failure, and what a reader of the number has to know."""

    cases: int
    failures: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True)
class Outcome:
    """The committed summary of a harness; `mended` are failures that it found and that are no more."""

    what: str
    command: str
    seeds: tuple[int, ...]
    cases: int
    mended: tuple[str, ...]
    left: tuple[str, ...]
    notes: str

    def joined(self, more: Outcome) -> Outcome:
        """Both runs of one harness as one; a seed counts once, since its cases are the same."""
        if set(self.seeds) & set(more.seeds):
            raise SystemExit(f"seed {more.seeds[0]} is in the results; give another one")
        return replace(
            more,
            seeds=self.seeds + more.seeds,
            cases=self.cases + more.cases,
            mended=tuple(dict.fromkeys(self.mended + more.mended)),
            left=tuple(dict.fromkeys(self.left + more.left)),
        )


@dataclass(frozen=True)
class Harness:
    """A registered harness; `cases` are tried where nobody says how many."""

    name: str
    part: str
    what: str
    cases: int
    run: Callable[[Ask], Tally]


HARNESSES: dict[str, Harness] = {}


def harness(
    name: str, part: str, what: str, *, cases: int
) -> Callable[[Callable[[Ask], Tally]], Callable[[Ask], Tally]]:
    """Register a function as ``python -m reliability NAME``."""
    if part not in PARTS:
        raise ValueError(f"part is {part!r}; one of {', '.join(PARTS)}")

    def register(run: Callable[[Ask], Tally]) -> Callable[[Ask], Tally]:
        HARNESSES[name] = Harness(name, part, what, cases, run)
        return run

    return register


def outcome(made: Harness, ask: Ask) -> Outcome:
    """Run a harness; the command of its summary asks for the cases that there was time for."""
    found = made.run(ask)
    command = f"python -m reliability {made.name} --seed {ask.seed} --cases {found.cases}"
    return Outcome(made.what, command, (ask.seed,), found.cases, (), found.failures, found.notes)


def read(path: Path) -> Outcome:
    """A summary from its file."""
    found = cast("dict[str, object]", json.loads(path.read_text(encoding="utf-8")))
    for name in ("seeds", "mended", "left"):
        found[name] = tuple(cast("list[object]", found[name]))
    return Outcome(**found)  # type: ignore[arg-type]  # it is checked by the test of the page


def write(path: Path, found: Outcome) -> None:
    """A summary to its file."""
    atomic_write_json(path, asdict(found))
