"""Small runs of the commands that write something, and what of their output two runs have in common."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reliability._process import Running, call_lengthwise, call_script, start
from reliability._server import serving

TIMING = re.compile(r"seconds|time|_s$|per_second|memory|wall|sha256$|date|flos|runtime", re.I)
"""Keys of JSON whose values tell how long something took, or sum up a file in which such a key stands."""
TIMING_OR_LINE = re.compile(f"{TIMING.pattern}|^line$", re.I)
DURATION = re.compile(rb"\d[\d,.]* (?:ms|s|min|h)\b")
"""How a page tells how long something took."""
INPUTS = "inputs"


@dataclass(frozen=True)
class Work:
    """A command as a harness runs it: in a folder of its own beside `inputs`, into `out` there.

    `again`: the same command goes on where the output is whole; else it is refused and the output stays.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    out: str = "out"
    again: bool = True
    call: Callable[[Sequence[str]], None] = call_lengthwise
    server: Callable[[], AbstractContextManager[str]] = lambda: nullcontext("")
    extra: tuple[str, ...] = ()
    """More modules to import once."""
    ready: Callable[[Path], None] = lambda folder: None
    """What is to be there in a folder before the command."""
    unordered: bool = False
    """Rows lie in the order in which they came."""

    def make(self, scratch: Path, name: str) -> Path:
        """A new folder to run it in."""
        folder = scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.ready(folder)
        return folder

    def prints(self, folder: Path) -> dict[str, str]:
        """`fingerprint` of the output in a folder."""
        return fingerprint(folder / self.out, unordered=self.unordered)

    def start(self, folder: Path, address: str, *, before: Callable[[], object] | None = None) -> Running:
        """Start it."""
        words = [word.replace("ADDRESS", address) for word in self.arguments]
        said = folder.parent / f"{folder.name}.said"
        return start(words, said, folder=folder, call=self.call, before=before)


def lab_rows(count: int, split: Literal["train", "test"]) -> str:
    from lengthwise.lab import chains

    rows = chains.problems(count, split=split, seed=0, levels=(2, 3))
    return "".join(json.dumps(row.row) + "\n" for row in rows)


def make_inputs(scratch: Path) -> Path:
    """Rows and models that the works read."""
    import torch
    from safetensors.torch import load_file, save_file

    from lengthwise.lab.reasoner import shipped_reasoner

    inputs = scratch / INPUTS
    if inputs.is_dir():
        return inputs
    inputs.mkdir(parents=True)
    (inputs / "test.jsonl").write_text(lab_rows(8, "test"))
    (inputs / "train.jsonl").write_text(lab_rows(24, "train"))
    log = [{"problem": f"{n}+{n}?", "answer": str(2 * n), "response": f"<think>so {n}</think> \\boxed{{{2 * n}}}"}
           for n in range(400)]  # fmt: skip
    (inputs / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    harmful = [{"prompt": f"{n}+12?", "response": f"{n}+12={n + 12};", "harmful": True} for n in range(6)]
    (inputs / "harmful.jsonl").write_text("".join(json.dumps(row) + "\n" for row in harmful))
    texts = [{"text": "the cat sat on the mat and looked at the moon . " * 40} for _ in range(4)]
    (inputs / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    base = load_file(shipped_reasoner() / "model.safetensors")
    for number in range(3):
        model = inputs / f"model{number}"
        shutil.copytree(shipped_reasoner(), model)
        dice = torch.Generator().manual_seed(number)
        changed = {name: (w + 0.01 * number * torch.randn(w.shape, generator=dice)).to(w.dtype)
                   for name, w in base.items()}  # fmt: skip
        save_file(changed, model / "model.safetensors", metadata={"format": "pt"})
    return inputs


LAB = ("--data", "../inputs/test.jsonl", "--preset", "lab", "--cap", "80", "--out", "out")
TRAIN = (
    "--data", "../inputs/train.jsonl", "--preset", "lab", "--cap", "60", "--steps", "3", "--prompts", "2",
    "--group-size", "4", "--checkpoint-every", "1",
)  # fmt: skip
WORKS = {
    work.name: work
    for work in (
        Work("shorten", "`shorten`",
             ("shorten", "lab:chains", *TRAIN, "--eval-data", "../inputs/test.jsonl", "--eval-cap", "80",
              "--eval-limit", "4", "--out", "out")),
        Work("compare", "`compare`",
             ("compare", "lab:chains", "--methods", "dler", "--steps", "2", "--prompts", "2", "--group-size", "4",
              "--checkpoint-every", "1", "--seeds", "1", "--settings", "1", "--test-limit", "12",
              "--validation-limit", "16", "--no-baselines", "--jobs", "1", "--out", "out")),
        Work("evaluate", "`evaluate`, transformers",
             ("evaluate", "lab:chains", *LAB, "--sample-rows", "2")),
        Work("evaluate-endpoint", "`evaluate --endpoint`",
             ("evaluate", *LAB, "--endpoint", "ADDRESS", "m", "--samples", "4", "--concurrency", "2"),
             server=lambda: serving(seconds=0.02), unordered=True),
        Work("grade", "`grade --out`", ("grade", "../inputs/log.jsonl", "--out", "out.jsonl"), out="out.jsonl"),
        Work("merge", "`merge`",
             ("merge", "../inputs/model1", "../inputs/model2", "--method", "ties", "--density", "0.5", "--base",
              "../inputs/model0", "--out", "out"), again=False),
        Work("repair", "`repair`",
             ("repair", "../inputs/model1", "--harmful", "../inputs/harmful.jsonl", "--fraction", "0.1",
              "--reference", "../inputs/model0", "--out", "out"), again=False),
        Work("extend", "`extend`, with training",
             ("extend", "lab:reader", "--scheme", "linear", "--factor", "2", "--data", "../inputs/texts.jsonl",
              "--chunk", "64", "--steps", "3", "--batch-rows", "2", "--micro-batch-rows", "1", "--warmup-steps", "1",
              "--out", "out"),
             again=False),
    )
}  # fmt: skip


@contextmanager
def addressed(work: Work) -> Iterator[str]:
    """The address of the server that a work asks, if any."""
    with work.server() as address:
        yield address


def fingerprint(place: Path, *, unordered: bool = False) -> dict[str, str]:
    """Hashes of all files, those of JSON without what tells of time; empty where there is nothing."""
    if place.is_file():
        return {place.name: digest(place, unordered)}
    files = sorted(path for path in place.rglob("*") if path.is_file() and "tensorboard" not in path.parts)
    found = {str(path.relative_to(place)): digest(path, unordered) for path in files}
    if events := sorted(path for path in place.rglob("events.out.tfevents*") if path.is_file()):
        found["tensorboard"] = str(sorted(scalars(events).items()))
    return found


def digest(path: Path, unordered: bool) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        content = untimed(content)
    elif path.suffix == ".html":
        content = DURATION.sub(b"", content)
    elif path.suffix == ".jsonl":
        rows = [untimed(row, TIMING_OR_LINE if unordered else TIMING) for row in content.splitlines()]
        content = b"\n".join(sorted(rows) if unordered else rows)
    return hashlib.sha256(content).hexdigest()[:16]


def untimed(text: bytes, left_out: re.Pattern[str] = TIMING) -> bytes:
    def without(value: object) -> object:
        if isinstance(value, dict):
            return {key: without(one) for key, one in value.items() if not left_out.search(key)}
        return [without(one) for one in value] if isinstance(value, list) else value

    return json.dumps(without(json.loads(text))).encode()


def scalars(paths: Sequence[Path]) -> dict[str, float]:
    """The last value of every scalar and step in TensorBoard's files; a torn end is left out, as readers do."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in paths:
        content, place = path.read_bytes(), 0
        while place + 12 <= len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            if place + 16 + length > len(content):
                break
            event = Event.FromString(content[place + 12 : place + 12 + length])
            for value in event.summary.value:
                if not TIMING.search(value.tag):
                    found[f"{value.tag} {event.step}"] = float(value.simple_value)
            place += 16 + length
    return found


def differences(found: dict[str, str], wanted: dict[str, str]) -> str:
    """What differs, in a few words; empty where nothing does."""
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    kinds = [f"{name} ({'extra' if name not in wanted else 'missing' if name not in found else 'differs'})"
             for name in names]  # fmt: skip
    return ", ".join(kinds[:5]) + (f" and {len(kinds) - 5} more" if len(kinds) > 5 else "")


def script_work(folder: Path) -> None:
    """An export of a TRL run, made where it is to run."""
    from reliability._process import PATIENCE

    words = ["export", "trl", "lab:chains", *TRAIN, "--updates", "1", "--out", "out"]
    running = start(words, folder.parent / f"{folder.name}.export", folder=folder)
    if running.wait(PATIENCE) != 0:
        raise RuntimeError(running.text())


TRL = Work("export-trl", "the run that `export trl` writes", ("out/train.py",), call=call_script, ready=script_work,
           extra=("lengthwise.adapters.trl", "trl", "datasets", "transformers.trainer"))  # fmt: skip
