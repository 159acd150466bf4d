"""The same seed gives the same run: in a second process, with other workers and threads, under another Python."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from reliability._harness import HERE, Ask, Tally, harness
from reliability._process import PATIENCE, warm
from reliability._works import WORKS, Work, addressed, differences, make_inputs

OTHER = "RELIABILITY_PYTHON"
"""The interpreter of an environment with another Python, for `same-python`."""
THREADS = "OMP_NUM_THREADS"
ASIDE = ("logs/", "request.json", "report.html")
"""Of `compare`: what names the jobs, and seconds in places of their own."""
PAIRS: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "grade": ("--workers", (("1",), ("2",), ("4",))),
    "merge": (THREADS, (("1",), ("2",))),
    "compare": ("--jobs", (("1",), ("2",))),
}
"""Work -> what may be another number, and the numbers: those for which the documents promise the same result."""


def run(work: Work, folder: Path, address: str, *more: str) -> dict[str, str]:
    """Hashes of what a work writes, run to its end."""
    changed = Work(**{**vars(work), "arguments": (*work.arguments, *more)})
    running = changed.start(folder, address)
    if running.wait(PATIENCE) != 0:
        raise RuntimeError(f"{work.name} {' '.join(more)}: {running.text()[-1000:]}")
    return {name: print_ for name, print_ in changed.prints(folder).items() if not name.startswith(ASIDE)}


@harness("same-seed", "Same seed, same run", "every command above, run twice in processes of its own", cases=16)
def same_seed(ask: Ask) -> Tally:
    """Two runs of a command write the same bytes, times aside."""
    warm()
    make_inputs(ask.scratch)
    failures, done = [], 0
    for number in ask.numbers():
        work = list(WORKS.values())[number % len(WORKS)]
        with addressed(work) as address:
            first, second = (run(work, work.make(ask.scratch, f"{number}-{half}"), address) for half in (1, 2))
        done += 1
        if other := differences(second, first):
            failures.append(f"{work.name}: {other}")
    return Tally(done, tuple(failures))


@harness("same-workers", "Same seed, same run", "`grade` with 1, 2 and 4 workers, `compare` with 1 and 2 jobs, `merge` "
         "with 1 and 2 threads", cases=4)  # fmt: skip
def same_workers(ask: Ask) -> Tally:
    """Numbers that concern the machine change no byte; a case is another number than the first."""
    warm()
    make_inputs(ask.scratch)
    failures, done = [], 0
    for name, (flag, numbers) in PAIRS.items():
        work = WORKS[name]
        with addressed(work) as address:
            seen = [_with(work, work.make(ask.scratch, f"{name}-{one}"), address, flag, one) for (one,) in numbers]
        for (number,), found in zip(numbers[1:], seen[1:], strict=True):
            done += 1
            if other := differences(found, seen[0]):
                failures.append(f"{name} {flag} {number}: {other}")
    return Tally(done, tuple(failures))


def _with(work: Work, folder: Path, address: str, flag: str, number: str) -> dict[str, str]:
    if flag != THREADS:
        kept = tuple(word for word in _without(work.arguments, flag))
        return run(Work(**{**vars(work), "arguments": kept}), folder, address, flag, number)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(int(number))  # a forked process has its parent's
    try:
        return run(work, folder, address)
    finally:
        torch.set_num_threads(before)


def _without(words: tuple[str, ...], flag: str) -> Iterator[str]:
    """The words of a command without a flag and its value."""
    skip = False
    for word in words:
        if word == flag or skip:
            skip = word == flag
            continue
        yield word


@harness("same-python", "Same seed, same run", "logs graded under this Python and another (3.11 and 3.13)", cases=20)
def same_python(ask: Ask) -> Tally:
    """`grade --out` writes the same bytes under both, for random answers; RELIABILITY_PYTHON names the other."""
    other = os.environ.get(OTHER)
    if other is None:
        raise SystemExit(f"set {OTHER} to the interpreter of an environment with another Python and what grade needs")
    failures, done = [], 0
    for number in ask.numbers():
        log = ask.scratch / f"log-{number}.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" for row in _rows(ask.dice(number))))
        one, two = (_graded(python, log, ask.scratch / f"out-{number}-{place}.jsonl")
                    for place, python in enumerate((sys.executable, other)))  # fmt: skip
        done += 1
        if one != two:
            failures.append(f"case {number} of seed {ask.seed}: {one} and {two}")
    versions = [subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()
                for python in (sys.executable, other)]  # fmt: skip
    return Tally(done, tuple(failures), f"{' and '.join(versions)}; 200 rows a case")


def _rows(dice: random.Random) -> list[dict[str, object]]:
    """Responses with answers of many kinds, right and wrong."""
    found: list[dict[str, object]] = []
    for number in range(200):
        a, b = dice.randint(-50, 50), dice.randint(1, 9)
        gold = dice.choice([str(a), rf"\frac{{{a}}}{{{b}}}", f"{a}, {b}", rf"\sqrt{{{abs(a)}}}", f"{a / b:.3f}"])
        said = gold if dice.random() < 0.6 else str(dice.randint(-50, 50))
        text = f"<think>{'so ' * dice.randint(1, 40)}{said}</think> The answer is \\boxed{{{said}}}."
        found.append({"problem_id": f"p{number // 4}", "response": text, "answer": gold})
    return found


def _graded(python: str, log: Path, out: Path) -> str:
    words = [python, "-m", "lengthwise", "grade", str(log), "--out", str(out), "--preset", "math", "--json"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{python}: {done.stderr[-500:]}")
    return hashlib.sha256(out.read_bytes()).hexdigest()[:16]
