"""Load: many requests at once, many rows, a long training, and two commands that want one folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lengthwise.cli import main
from lengthwise.lab import chains
from reliability._harness import Ask, Tally, harness

CONCURRENCY, FAULTY, SAMPLES = 256, 0.05, 25
SAMPLED_EVERY = 0.5
"""Seconds between two looks at a process's memory."""
START = "from lengthwise.cli import main; main()"
MIB = 1 << 20


@dataclass
class Watched:
    """A command in a process of its own, and its memory and open files over time."""

    code: int
    said: str
    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def growth(self) -> float:
        """By how much the last fifth of the samples lies above the second one, of the medians."""
        fifth = max(1, len(self.memory) // 5)
        early, late = np.median(self.memory[fifth : 2 * fifth]), np.median(self.memory[-fifth:])
        return float(late / early - 1)


def watch(words: Sequence[str], scratch: Path, *, seconds: float = float("inf")) -> Watched:
    """Run a command and look at its memory; ended as by Ctrl-C after so many seconds."""
    found, begin = Watched(0, ""), time.monotonic()
    with (scratch / "said.txt").open("w+") as said:
        process = subprocess.Popen([sys.executable, "-c", START, *words], stdout=said, stderr=said, cwd=scratch)
        while process.poll() is None:
            with contextlib.suppress(OSError):
                proc = Path(f"/proc/{process.pid}")
                found.memory.append(int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
                found.files.append(len(list((proc / "fd").iterdir())))
            if time.monotonic() - begin > seconds:
                process.terminate()
            time.sleep(SAMPLED_EVERY)
        said.seek(0)
        found.code, found.said = process.returncode, said.read()
    return found


# ---- a server under many requests ------------------------------------------------------------------------------


@dataclass
class Server:
    """A server of the OpenAI protocol that answers late and fails at times; what it answered is counted by prompt."""

    rng: random.Random
    port: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    now: int = 0
    most: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, request after request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                body = await reader.readexactly(length)
                self.now += 1
                self.most = max(self.most, self.now)
                try:
                    whole = await self._respond(line, body, writer)
                finally:
                    self.now -= 1
                if not whole:
                    break
        writer.close()

    async def _respond(self, line: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if line.startswith(b"GET"):
            return await _send(writer, 404, b'{"error": {"message": "no such page"}}')
        await asyncio.sleep(self.rng.random() * 0.2)
        if self.rng.random() < FAULTY:
            self.failed += 1
            return await self._fail(writer)
        asked = json.loads(body)
        text = asked["prompt"] if "prompt" in asked else asked["messages"][-1]["content"]
        self.answered[text] += 1
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "text": "A:1",
            "message": {"role": "assistant", "content": "A:1"},
        }
        usage = {"completion_tokens": 3, "prompt_tokens": 4, "total_tokens": 7}
        return await _send(writer, 200, json.dumps({"choices": [choice], "usage": usage}).encode())

    async def _fail(self, writer: asyncio.StreamWriter) -> bool:
        kind = self.rng.randrange(4)
        if kind == 0:
            return await _send(writer, 500, b"{}")
        if kind == 1:
            return await _send(writer, 429, b"{}", b"Retry-After: 0\r\n")
        if kind == 2:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"choices": [')
            await writer.drain()
        return False


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, more: bytes = b"") -> bool:
    head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n" % (
        status,
        more,
        len(body),
    )
    writer.write(head + body)
    await writer.drain()
    return True


@contextmanager
def serving(rng: random.Random) -> Iterator[Server]:
    """The server on a port of loopback, in a thread."""
    found, loop = Server(rng), asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(found, "127.0.0.1", 0, backlog=1024))
    found.port = listening.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@harness(
    "load-endpoint",
    "Load",
    "requests of `evaluate --endpoint` at concurrency 256, late answers, 5 % failures",
    cases=10_000,
)
def load_endpoint(ask: Ask) -> Tally:
    """Each (problem, sample) comes once, and memory stays."""
    problems = max(1, ask.cases // SAMPLES)
    rows = [chain.row for chain in chains.problems(problems, split="test", seed=ask.seed, levels=(4, 5, 6))]
    (ask.scratch / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving(ask.dice(0)) as server:
        words = [
            "evaluate",
            "m",
            "--endpoint",
            f"http://127.0.0.1:{server.port}/v1",
            "--data",
            "rows.jsonl",
            "--preset",
            "lab",
        ]
        words += ["--cap", "40", "--samples", str(SAMPLES), "--concurrency", str(CONCURRENCY), "--retries", "20"]
        found = watch([*words, "--temperature", "1", "--out", "run"], ask.scratch)
    wanted = len(rows) * SAMPLES
    failures = [] if found.code == 0 else [f"exit code {found.code}: {found.said[-300:]}"]
    logs = [
        path
        for path in (ask.scratch / "run").rglob("*.jsonl")
        if "response" in path.name or path.parent.name == "responses"
    ]
    pairs = [(row["problem_id"], row["sample"]) for path in logs for row in map(json.loads, path.open())]
    if len(set(pairs)) != wanted or len(pairs) != wanted:
        failures.append(f"{wanted} responses wanted, {len(pairs)} kept, {len(set(pairs))} different")
    if (excess := server.answered.total() - wanted) > 0:
        failures.append(f"{excess} requests were answered twice")
    failures += _grown(found, 0.10)
    return Tally(
        wanted, tuple(failures),
        f"{server.failed:,} requests failed and were sent again; most at a time {server.most}; {_memory(found)}",
    )  # fmt: skip


def _grown(found: Watched, most: float) -> list[str]:
    return [] if found.growth() <= most else [f"memory grew by {found.growth():.1%}: {_memory(found)}"]


def _memory(found: Watched) -> str:
    fifth = max(1, len(found.memory) // 5)
    early, late = np.median(found.memory[fifth : 2 * fifth]), np.median(found.memory[-fifth:])
    return f"memory {early / MIB:.0f} MiB in its second fifth, {late / MIB:.0f} in its last ({found.growth():+.1%})"


# ---- many rows, a long run -------------------------------------------------------------------------------------


@harness("load-grade", "Load", "short rows of one log through `grade`", cases=1_000_000)
def load_grade(ask: Ask) -> Tally:
    """Memory stays, and no row is lost."""
    log = ask.scratch / "log.jsonl"
    with log.open("w") as file:
        for number in range(ask.cases):
            row = {"problem_id": f"p{number // 4}", "response": f"A:{number % 7}", "answer": "3", "num_tokens": 3}
            file.write(json.dumps(row) + "\n")
    found = watch(["grade", "log.jsonl", "--preset", "lab", "--json"], ask.scratch)
    failures = [] if found.code == 0 else [f"exit code {found.code}: {found.said[-300:]}"]
    if f'"responses": {ask.cases}' not in found.said and f'"samples": {ask.cases}' not in found.said:
        failures.append(f"not all rows are in the summary: {found.said[:300]}")
    return Tally(ask.cases, tuple(failures + _grown(found, 0.05)), _memory(found))


@harness("load-shorten", "Load", "seconds of `shorten` on the lab", cases=3600)
def load_shorten(ask: Ask) -> Tally:
    """Memory stays within 2 %, and no file stays open; a case is a second."""
    rows = [chain.row for chain in chains.problems(400, split="train", seed=ask.seed, levels=(2, 3))]
    (ask.scratch / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["shorten", "lab:chains", "--data", "rows.jsonl", "--preset", "lab", "--cap", "120", "--steps", "100000"]
    seconds = min(float(ask.cases), ask.seconds)
    found = watch([*words, "--eval-limit", "40", "--out", "run"], ask.scratch, seconds=seconds)
    failures = _grown(found, 0.02)
    if found.code not in (0, 130, 143, -15):
        failures.append(f"exit code {found.code}: {found.said[-300:]}")
    half = found.files[len(found.files) // 2 :]
    if max(half) > min(half) + 8:  # a checkpoint has a few open while it is written
        failures.append(f"open files went from {min(half)} to {max(half)}")
    metrics = ask.scratch / "run" / "metrics.jsonl"
    steps = len(metrics.read_text().splitlines()) if metrics.is_file() else 0
    return Tally(
        int(seconds), tuple(failures), f"{steps:,} steps; {_memory(found)}; open files {min(half)} to {max(half)}"
    )


# ---- two at once -----------------------------------------------------------------------------------------------


@harness("load-two", "Load", "two commands into one folder at the same moment", cases=100)
def load_two(ask: Ask) -> Tally:
    """Exactly one runs; the other one says so in a line, and what is there is whole."""
    for name, scale in (("base", 1.0), ("tuned", 2.0)):
        _model(ask.scratch / name, scale)
    os.chdir(ask.scratch)
    failures, done, waited = [], 0, 0
    for number in ask.numbers():
        words = ["merge", "tuned", "--base", "base", "--method", "task-arithmetic", "--out", f"out{number}"]
        codes, texts = zip(*_both(lambda words=words: main(words), ask.dice(number)), strict=True)  # type: ignore[misc]
        done += 1
        waited += any("another process" in text for text in texts)
        if sorted(codes) != [0, 2]:
            failures.append(f"case {number}: exit codes {codes}: {texts}"[:400])
        elif not (ask.scratch / f"out{number}" / "model.safetensors").is_file():
            failures.append(f"case {number}: no model in the folder")
    return Tally(done, tuple(failures), f"{waited} were refused by the lock, the others by the folder that was there")


def _model(folder: Path, scale: float) -> None:
    folder.mkdir()
    tensors = {f"model.layers.{n}.w.weight": np.full((64, 64), scale * n, np.float32) for n in range(20)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "qwen2"}')


def _both(work: Callable[[], None], rng: random.Random) -> list[tuple[int, str]]:
    """Exit codes and messages of two processes that begin at one moment."""
    gate, opened = os.pipe()
    children = []
    for _ in range(2):
        said, says = os.pipe()
        delay = rng.random() * 0.002
        child = os.fork()
        if child == 0:
            os.close(opened)
            os.dup2(says, 1)
            os.dup2(says, 2)
            os.read(gate, 1)
            time.sleep(delay)
            try:
                work()
            except SystemExit as left:
                sys.stderr.flush()
                os._exit(left.code if isinstance(left.code, int) else 0)
            os._exit(99)
        os.close(says)
        children.append((child, said))
    os.close(gate)
    os.close(opened)
    found = []
    for child, said in children:
        with os.fdopen(said) as file:
            text = file.read()
        found.append((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text))
    return found
