"""A small server of the OpenAI protocol on loopback, with faults: canned answers, or the lab's model.

`Serving` runs in this process and keeps every request it got. As a script it can be killed and started again:
``python serving.py PORT SECONDS [model]``.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[[str, dict[str, Any]], dict[str, Any]]
"""(what was asked, request body) -> text, tokens (None: not said), finish, and reasoning where it is given apart."""


def worked(asked: str, body: dict[str, Any]) -> dict[str, Any]:
    """Two right passes over a chain and its answer, as the lab's model writes them; tokens as its tokenizer counts."""
    start, *steps = asked.removesuffix("?").replace("+", " +").replace("-", " -").split()
    value, words = int(start), []
    for step in steps:
        result = value + int(step)
        words.append(f"{value}{step}={result};")
        value = result
    text = f"{''.join(words)}check:{''.join(words)}A:{value}"
    return {"text": text, "tokens": 12 * len(steps) + 4, "finish": "stop"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Serving

    def do_GET(self) -> None:
        """The list of models, by which servers tell what they are."""
        if self.server.owner is None or not self.path.endswith("/models"):
            self._send(404, b'{"error": {"message": "no such page"}}')
            return
        self._send(200, json.dumps({"data": [{"id": "m", "owned_by": self.server.owner}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append({"path": self.path, "body": body, "headers": dict(self.headers)})
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            fault = self.server.faults[number] if number < len(self.server.faults) else None
            self._respond(body, fault)
        finally:
            with self.server.lock:
                self.server.now -= 1

    def _respond(self, body: dict[str, Any], fault: str | None) -> None:
        time.sleep(self.server.seconds + (1.0 if fault == "slow" else 0.0))
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == "half":  # a connection that breaks in the middle of a reply
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif fault is not None and fault.partition(" ")[0].isdigit():
            status, _, wait = fault.partition(" ")
            self._send(int(status), b'{"error": {"message": "out of luck"}}', {"Retry-After": wait} if wait else {})
        elif fault == "garbage":
            self._send(200, b"<html>a proxy's page</html>")
        elif fault == "empty":
            self._send(200, b'{"choices": []}')
        else:
            for _ in range(2 if fault == "twice" else 1):
                self._send(200, json.dumps(self._completion(body, fault)).encode())

    def _completion(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        chat = self.path.endswith("/chat/completions")
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        found = self.server.answer(asked, body)
        said: dict[str, Any] = {"text": found["text"]}
        if chat:
            said = {"message": {"role": "assistant", "content": found["text"]}}
            if "reasoning" in found:
                said["message"]["reasoning_content"] = found["reasoning"]
        completion = {"choices": [{"index": 0, "finish_reason": found["finish"], **said}]}
        if found["tokens"] is not None and fault != "no usage":
            completion["usage"] = {"completion_tokens": found["tokens"]}
            if "reasoning_tokens" in found:
                completion["usage"]["completion_tokens_details"] = {"reasoning_tokens": found["reasoning_tokens"]}
        return completion

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Serving(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer, *, faults: Sequence[str | None] = (), seconds: float = 0.0, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.answer, self.faults, self.seconds = answer, list(faults), seconds
        self.requests: list[dict[str, Any]] = []
        self.owner: str | None = None
        self.lock = threading.Lock()
        self.now = self.most = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        pass  # clients that are killed leave broken pipes


@contextmanager
def serving(answer: Answer = worked, **options: Any) -> Iterator[Serving]:
    with Serving(answer, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:  # a thread that goes on serving a closed socket never sleeps, and slows all tests behind it
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(port: int, seconds: float, *more: str) -> subprocess.Popen[bytes]:
    """The server as a process of its own, once it listens."""
    process = subprocess.Popen([sys.executable, __file__, str(port), str(seconds), *more])
    await_port(port, process)
    return process


def await_port(port: int, process: subprocess.Popen[bytes], *, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended before it listened"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


def lab_model() -> Answer:
    """Answers drawn from the shipped reasoner by our own sampler, one at a time."""
    import torch

    from lengthwise.engine import Sampler, load_policy
    from lengthwise.lab.reasoner import shipped_reasoner

    torch.set_num_threads(1)
    policy = load_policy(shipped_reasoner(), device="cpu")
    eos = policy.tokenizer.eos_token_id
    sampler, turn = Sampler(policy.model, eos_ids=[eos], pad_id=policy.pad_id), threading.Lock()

    def answer(asked: str, body: dict[str, Any]) -> dict[str, Any]:
        with turn:
            drawn = sampler.generate(
                [policy.tokenizer(asked)["input_ids"]],
                caps=body["max_tokens"],
                temperature=body["temperature"],
                top_p=body["top_p"],
                generator=torch.Generator().manual_seed(body.get("seed", 0)),
            )
        tokens = drawn.response(0)
        text = policy.tokenizer.decode([token for token in tokens if token != eos])
        return {"text": text, "tokens": len(tokens), "finish": "stop" if bool(drawn.finished[0]) else "length"}

    return answer


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    made = lab_model() if "model" in sys.argv[3:] else worked
    Serving(made, seconds=float(sys.argv[2]), port=int(sys.argv[1])).serve_forever()
