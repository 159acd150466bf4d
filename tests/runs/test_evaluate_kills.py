"""`lengthwise evaluate` and servers that are killed: nothing is lost, nothing is doubled."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import serving as servers
from evaluate_command import LAB, evaluated, write_rows
from serving import worked

from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.pretrained import load_tokenizer


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from lengthwise.cli import main; main()", "evaluate", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def lines(folder: Path) -> int:
    path = folder / "responses.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def await_lines(folder: Path, count: int, process: subprocess.Popen[bytes], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while lines(folder) < count:
        assert time.monotonic() < deadline, f"{lines(folder)} lines after {seconds} s"
        assert process.poll() is None, process.stderr.read().decode()[-2000:] if process.stderr else ""
        time.sleep(0.01)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said.decode()[-2000:]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "t.jsonl", 8, (4, 5, 6))
    command = ["lab:chains", "--data", data, *LAB, "--sample-rows", 2, "--seed", 7, "--out"]
    finish(start(*command, tmp_path / "whole"))
    whole = (tmp_path / "whole" / "responses.jsonl").read_bytes()
    for count in (1, 5):
        process = start(*command, tmp_path / "killed")
        await_lines(tmp_path / "killed", count, process)
        kill(process)
    with (tmp_path / "killed" / "responses.jsonl").open("ab") as file:
        file.write(b'{"problem_id": "torn')
    finish(start(*command, tmp_path / "killed"))
    assert (tmp_path / "killed" / "responses.jsonl").read_bytes() == whole
    for name in ("record.json", "graded.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def through_kills(
    folder: Path, command: list[object], serve: Callable[[], subprocess.Popen[bytes]], stages: list[int], total: int
) -> list[dict[str, Any]]:
    """Kill the server, then the client, at the named numbers of responses, and let the rest be drawn."""
    server = serve()
    try:
        client = start(*command)
        await_lines(folder, stages[0], client)
        kill(server)
        time.sleep(0.5)  # the client waits and tries again
        assert client.poll() is None
        server = serve()
        await_lines(folder, stages[1], client)
        kill(client)
        assert lines(folder) < total
        finish(start(*command))
    finally:
        kill(server)
    rows = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    keys = [(row["problem_id"], row["sample"]) for row in rows]
    assert len(set(keys)) == len(keys) == total
    return rows


@pytest.mark.slow
def test_server_and_client_are_killed_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    data, port, folder = write_rows(tmp_path / "t.jsonl", 60, (2, 3, 4)), servers.free_port(), tmp_path / "o"
    command = ["--data", data, "--out", folder, *LAB, "--endpoint", f"http://127.0.0.1:{port}", "m",
               "--samples", 2, "--concurrency", 4, "--retries", 40]  # fmt: skip
    rows = through_kills(folder, command, lambda: servers.start(port, 0.05), [20, 60], 120)
    assert all(row["response"] == worked(row["problem"], {})["text"] for row in rows)
    assert json.loads((folder / "summary.json").read_text())["responses"] == 120


@pytest.mark.slow
def test_the_labs_model_behind_a_server_is_the_labs_model(tmp_path: Path) -> None:
    data, port, folder = write_rows(tmp_path / "t.jsonl", 40), servers.free_port(), tmp_path / "o"
    command = ["--data", data, "--out", folder, *LAB, "--endpoint", f"http://127.0.0.1:{port}", "m",
               "--tokenizer", "lab:chains", "--seed", 1, "--retries", 40]  # fmt: skip
    through_kills(folder, command, lambda: servers.start(port, 0.0, "model"), [5, 20], 40)
    # Behind the server or in our own sampler, it is the same measurement of the same model.
    own = evaluated("lab:chains", "--data", data, "--out", tmp_path / "own", *LAB, "--baseline", folder / "record.json")
    against = own["comparison"]["records"][1]["against_reference"]
    for quantity, none in (("accuracy_difference", 0.0), ("tokens_ratio", 1.0)):
        assert against[quantity]["low"] <= none <= against[quantity]["high"], quantity


SERVE = all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "openai"))


@pytest.mark.slow
@pytest.mark.skipif(not SERVE, reason='needs pip install "transformers[serving]"')
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_transformers_serve_is_evaluated(tmp_path: Path, chat: bool) -> None:
    model, port, folder = tmp_path / "chains", servers.free_port(), tmp_path / "o"
    shutil.copytree(shipped_reasoner(), model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    # Without one of its own a model of this type is read as Qwen's chat, and the lab has none of its marks.
    fields = {"content": {"close": ["<eos>"], "content": "text"}}
    config["response_template"] = {"defaults": {"role": "assistant"}, "start_anchor": "?", "fields": fields}
    (model / "tokenizer_config.json").write_text(json.dumps(config))

    def serve() -> subprocess.Popen[bytes]:
        words = ["serve", str(model), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "transformers.cli.transformers", *words],
            env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        servers.await_port(port, process)
        return process

    data = write_rows(tmp_path / "t.jsonl", 24)
    command = ["--data", data, "--out", folder, *LAB, "--endpoint", f"http://127.0.0.1:{port}", model,
               "--concurrency", 4, "--retries", 60, *(["--chat-template"] if chat else [])]  # fmt: skip
    rows = through_kills(folder, command, serve, [5, 12], 24)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["accuracy"] > 0.6
    words = load_tokenizer(model)
    for row in rows:
        assert row["num_tokens"] == len(words(row["response"])["input_ids"]) + row["finished"], row
