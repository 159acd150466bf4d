"""A real vLLM server on loopback under `lengthwise evaluate`: killed and started again in the middle, and its budgets.

    python benchmarks/real_server.py --python VENV/bin/python --model FOLDER --data test.jsonl [--limit 20] [--cap 96]

Prints one JSON object: what was lost or doubled (nothing, or it fails), and whether a native budget was obeyed with
and without the option that makes the server heed it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NAME, COMMAND = "served", "from lengthwise.cli import main; main()"
MARKS = json.dumps({"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(given: argparse.Namespace, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The server in a process group of its own, once it answers; it is gone afterwards, however it ends."""
    command = [
        given.python, "-m", "vllm.entrypoints.openai.api_server", "--model", given.model, "--served-model-name", NAME,
        "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024", "--max-num-seqs", "8", "--enforce-eager",
        *more,
    ]  # fmt: skip
    with Path(tempfile.gettempdir(), f"real-server-{port}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + given.patience
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not answer; see {log.name}")
            time.sleep(1.0)
        yield process
    finally:
        kill(process)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def evaluate(given: argparse.Namespace, port: int, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", COMMAND, "evaluate", NAME, "--endpoint", f"http://127.0.0.1:{port}",
               "--data", given.data, "--preset", "gsm8k", "--no-chat-template", "--limit", str(given.limit),
               "--cap", str(given.cap), "--concurrency", "4", "--retries", "40", "--tokenizer", given.model,
               "--out", str(out), "--json", *more]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def keys(log: Path) -> list[tuple[str, int]]:
    if not log.is_file():
        return []
    rows = map(json.loads, log.read_text().splitlines())
    return [(row["problem_id"], row["sample"]) for row in rows]


def killed_in_the_middle(given: argparse.Namespace, port: int, out: Path) -> dict[str, object]:
    log = out / "responses.jsonl"
    with server(given, port) as first:
        asked = evaluate(given, port, out, "--think", "no")
        while len(keys(log)) < given.limit // 3 and asked.poll() is None:
            time.sleep(0.2)
        kill(first)
    before = len(keys(log))
    with server(given, port):
        printed, said = asked.communicate(timeout=given.patience)
    found = keys(log)
    if asked.returncode != 0 or len(found) != given.limit or len(set(found)) != given.limit:
        raise SystemExit(f"{len(found)} responses, {len(set(found))} different, of {given.limit}: {said[-500:]}")
    summary = json.loads(printed)
    numbers = {name: summary[name] for name in ("accuracy", "mean_tokens", "truncation_rate")}
    return {"responses": len(found), "doubled": 0, "there_at_the_kill": before, **numbers}


def native(given: argparse.Namespace, port: int, out: Path, more: Sequence[str]) -> dict[str, object]:
    with server(given, port, *more):
        asked = evaluate(given, port, out, "--think", "yes", "--native-budget", "24")
        printed, said = asked.communicate(timeout=given.patience)
    if asked.returncode != 0:
        return {"refused": said.strip().splitlines()[-1]}
    summary = json.loads(printed)
    graded = [json.loads(line) for line in (out / "graded.jsonl").read_text().splitlines()]
    thinking = [row["thinking_tokens"] for row in graded]
    return {"trial": summary["native_budget"], "longest_thinking": max(thinking), "responses": len(thinking)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="of the environment that vLLM is in")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--cap", type=int, default=96)
    parser.add_argument("--patience", type=float, default=500.0)
    parser.add_argument("--only", choices=("kill", "obeyed", "ignored"))
    given = parser.parse_args()
    port, found = free_port(), dict[str, object]()
    with tempfile.TemporaryDirectory() as folder:
        if given.only in (None, "kill"):
            found["killed"] = killed_in_the_middle(given, port, Path(folder, "killed"))
        if given.only in (None, "obeyed"):
            found["with --reasoning-config"] = native(given, port, Path(folder, "kept"), ["--reasoning-config", MARKS])
        if given.only in (None, "ignored"):
            found["without it"] = native(given, port, Path(folder, "ignored"), [])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
