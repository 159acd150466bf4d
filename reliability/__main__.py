"""Harnesses for kills, faults, bad input, load and security.

python -m reliability list                         name them
python -m reliability NAME... --seed 0 --cases 50  try so many cases; failures are told, exit code 1
python -m reliability NAME... --seed 1 --add       the same, and add them to reliability/results/NAME.json
python -m reliability page [--check]               write docs/reliability.md from the results, or say that it is stale
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from reliability import page
from reliability._harness import HARNESSES, HERE, RESULTS, Ask, Harness, Outcome, outcome, read, write


def load_all() -> None:
    """Import every module that may register a harness."""
    for path in sorted(HERE.glob("[a-z]*.py")):
        importlib.import_module(f"reliability.{path.stem}")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m reliability", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("names", nargs="+", choices=("list", "page", *HARNESSES), metavar="NAME")
    found.add_argument("--seed", type=int, default=0, help="the same seed tries the same cases")
    found.add_argument("--cases", type=int, help="how many; by default the harness's own number")
    found.add_argument("--seconds", type=float, default=float("inf"), help="seconds after which no case is begun")
    found.add_argument("--out", type=Path, help="write the summary there, as JSON")
    found.add_argument("--add", action="store_true", help="add this run to the committed results")
    found.add_argument(
        "--mended", action="append", default=[], help="a failure that is no more, to keep in the summary"
    )
    found.add_argument("--scratch", type=Path, help="folder to work in, kept; by default one that goes away")
    found.add_argument("--check", action="store_true", help="of page: write nothing; exit code 1 if it is stale")
    return found


def main() -> int:
    load_all()
    asked = parser().parse_args()
    if asked.names == ["list"]:
        for made in HARNESSES.values():
            print(f"{made.name:24} {made.what}")
        return 0
    if asked.names == ["page"]:
        return page.main(check=asked.check)
    return max([run(HARNESSES[name], asked) for name in asked.names])


def run(made: Harness, asked: argparse.Namespace) -> int:
    scratch = asked.scratch or Path(tempfile.mkdtemp(prefix="reliability-"))
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        ask = Ask(asked.seed, scratch.resolve(), asked.cases or made.cases, asked.seconds)
        found = outcome(made, ask)
    finally:
        if asked.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    for line in found.left:
        print(f"failed: {line}", file=sys.stderr)
    print(f"{found.what}: {found.cases} cases, {len(found.left)} failures. {found.notes}".rstrip())
    keep(made, asked, replace(found, mended=tuple(asked.mended)))
    return 1 if found.left else 0


def keep(made: Harness, asked: argparse.Namespace, found: Outcome) -> None:
    """Write the summary where it was asked for."""
    if asked.out is not None:
        write(asked.out, found)
    if asked.add:
        committed = RESULTS / f"{made.name}.json"
        write(committed, read(committed).joined(found) if committed.is_file() else found)


if __name__ == "__main__":
    sys.exit(main())
