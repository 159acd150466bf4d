"""Logs of all formats, made wrong: what `lengthwise grade` reads, and the names and flags that it is given."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lengthwise.grading import worker_pool
from lengthwise.json_types import JsonObject, JsonValue
from lengthwise.logs import log_grading
from reliability._batches import INSIDE, OUT, Case, command, run
from reliability._harness import HERE, Ask, Tally, harness
from reliability._mutations import NAMES, changed_bytes, changed_value, dumped
from reliability.log_seeds import RICH

FILES = HERE.parent / "tests" / "logs" / "readers" / "files"
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".parquet", ".eval", "", ".txt")
WRITTEN = ("--out", "--report", "--record", "--look", "--disagreements")
FLAGS: tuple[tuple[str, ...], ...] = (
    ("--json",), ("--strict",), ("--preset", "math"), ("--preset", "gsm8k"), ("--preset", "lab"), ("--think", "yes"),
    ("--answer-column", "none"), ("--answer-column", "answer"), ("--several", "any"), ("--metrics", "all"),
    ("--cap", "64"), ("--tokenizer", "lab:chains"), ("--tokens-column", "usage.completion_tokens"),
    ("--response-column", "choices.0.message.content"), ("--verdict-column", "score"), ("--right-from", "0.5"),
    ("--answer-pattern", "A: (.+)"), ("--problem-column", "problem"), ("--sample-column", "sample"),
)  # fmt: skip


@harness(
    "bad-logs", "Bad input", "logs of every format given to `grade`, bytes and values changed, odd names", cases=2000
)
def bad_logs(ask: Ask) -> Tally:
    return run("bad_input_logs", ask)


@functools.cache
def written() -> list[tuple[str, bytes]]:
    """What tools really wrote, where the repository's samples are there."""
    found = [path for path in sorted(FILES.rglob("*")) if path.is_file()]
    return [(path.name, path.read_bytes()) for path in found]


def make(rng: random.Random, place: Path) -> Case:
    """A log, or a few in a folder, with flags."""
    _keep_workers()
    where = place / INSIDE / rng.choice(NAMES)
    several = rng.random() < 0.1
    for part in range(3 if several else 1):
        what, data, ending = _log(rng)
        file = where / f"{part}{ending}" if several else where.with_name(where.name + ending)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        where = where if several else file
    words = [os.path.relpath(where, place)]
    for given in rng.sample(FLAGS, rng.choice([0, 0, 1, 2])):
        words += given
    for flag in rng.sample(WRITTEN, rng.choice([0, 1, 1, 2])):
        words += [flag, os.path.relpath(_target(rng, place), place)]
    return Case(what, command("grade", *words, "--workers", "1"))


def _target(rng: random.Random, place: Path) -> Path:
    """A file to write in the output folder; at times by way of a link that leads out of it."""
    folder = place / OUT
    target = folder / (rng.choice(NAMES)[:60] + rng.choice([".html", ".jsonl", ".json", ""]))
    if rng.random() < 0.1:
        (place / "elsewhere").mkdir(exist_ok=True)
        (place / "elsewhere" / "kept").write_text("kept")
        target.symlink_to(place / "elsewhere" / "kept")
    return target


def _log(rng: random.Random) -> tuple[str, bytes, str]:
    """What was made wrong, the bytes of a file, and the ending of its name."""
    if written() and rng.random() < 0.35:
        name, data = rng.choice(written())
        return f"bytes of {name}", changed_bytes(data, rng), rng.choice([Path(name).suffix, rng.choice(ENDINGS)])
    name = rng.choice(list(RICH))
    rows = [cast("JsonObject", changed_value(dict(RICH[name]), rng)) for _ in range(rng.choice([1, 2, 3, 12]))]
    data = _form(rng, name, rows)
    what = f"rows of {name}"
    if rng.random() < 0.4:
        data, what = changed_bytes(data, rng), f"bytes of {name} rows"
    return what, data, rng.choice([".jsonl", ".jsonl", ".json", rng.choice(ENDINGS)])


def _form(rng: random.Random, name: str, rows: Iterable[JsonObject]) -> bytes:
    """Rows as lines, a list, an object with them under a key, numbered, or a table."""
    rows = list(rows)
    if name == "inspect":
        return dumped({"eval": {"task": "t"}, "plan": {}, "samples": cast("JsonValue", rows)}, rng)
    form = rng.randrange(8)
    if form == 0:
        return dumped(cast("JsonValue", rows), rng)
    if form == 1:
        key = rng.choice(["data", "rows", "results", "samples"])
        return dumped({"model": "m", key: cast("JsonValue", rows), "end": None}, rng)
    if form == 2:
        return dumped({str(number): row for number, row in enumerate(rows)}, rng)
    if form == 3:
        return _table(rng, rows)
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _table(rng: random.Random, rows: list[JsonObject]) -> bytes:
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    table = csv.writer(file, delimiter=rng.choice(",\t;|"))
    table.writerow(names)
    for row in rows:
        table.writerow([json.dumps(row.get(name)) if isinstance(row, dict) else "" for name in names])
    return file.getvalue().encode("utf-8", "surrogatepass")


# ---- workers that outlive a case: a process takes longer to start than a case to run ---------------------------

_pools: dict[bytes, worker_pool.IsolatedPool[Any, Any]] = {}
MOST_POOLS = 3


@contextmanager
def _kept(make: Callable[[], Any], **bounds: Any) -> Iterator[worker_pool.IsolatedPool[Any, Any]]:
    """The pool for a function, kept for the cases that ask for the same."""
    key = pickle.dumps(make)
    pool = _pools.pop(key, None) or worker_pool.IsolatedPool(make, **bounds)
    _pools[key] = pool
    while len(_pools) > MOST_POOLS:
        _pools.pop(next(iter(_pools))).close()
    yield pool


def _keep_workers() -> None:
    setattr(log_grading, "IsolatedPool", _kept)  # noqa: B010  # what the module imports is not its own
