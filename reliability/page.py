"""docs/reliability.md, from reliability/results/*.json."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from reliability._harness import HARNESSES, HERE, PARTS, RESULTS, Outcome, read

FILE = HERE.parent / "docs" / "reliability.md"
INTRODUCTION = """# Reliability

Made by `python -m reliability page` from `reliability/results/*.json`; do not edit. The harnesses are in
`reliability/`, one command each. The same seed tries the same cases; short versions run in the tests. A failure is
anything but the promise above its table."""
PROMISES = {
    "Kills": "After `kill -9` at a random moment the same command continues, and its files are those of an "
    "uninterrupted run, bit for bit (times aside); or the output is absent; or it is refused as incomplete.",
    "Faults": "One clear line, an exit code, nothing half-written; once the fault is gone the same command continues.",
    "Bad input": "No traceback, no hang, no memory beyond the bound, no file outside of the output folder.",
    "Load": "Nothing lost, nothing doubled, memory flat.",
    "Security": "What SECURITY.md promises.",
    "Same seed, same run": "The same seed gives the same files.",
}


def text() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for part in PARTS:
        if found := results(part):
            lines += ["", f"## {part}", "", PROMISES[part], "", *table(found), *remarks(found)]
    return "\n".join(lines) + "\n"


def results(part: str) -> dict[str, Outcome]:
    """Committed summaries of a part, by harness, in the order of their registration."""
    names = [made.name for made in HARNESSES.values() if made.part == part]
    return {name: read(path) for name in names if (path := RESULTS / f"{name}.json").is_file()}


def table(found: dict[str, Outcome]) -> Iterator[str]:
    yield "| what | cases | seeds | failures found and mended | left | command |"
    yield "|---|---|---|---|---|---|"
    for one in found.values():
        seeds = ", ".join(map(str, one.seeds))
        yield f"| {one.what} | {one.cases:,} | {seeds} | {len(one.mended)} | {len(one.left)} | `{one.command}` |"


def remarks(found: dict[str, Outcome]) -> Iterator[str]:
    """What was mended, what is left, and what a number does not say by itself."""
    for name, one in found.items():
        lines = [one.notes] if one.notes else []
        lines += [f"Mended: {line}" for line in one.mended] + [f"**Left:** {line}" for line in one.left]
        if lines:
            yield ""
            yield f"`{name}`:"
            yield ""
            yield from (f"- {line}" for line in lines)


def main(*, check: bool, path: Path = FILE) -> int:
    """Write the page, or say that it is stale; the exit code."""
    if not check:
        path.write_text(text(), encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != text():
        print(f"{path} is stale; run python -m reliability page", file=sys.stderr)
        return 1
    return 0
