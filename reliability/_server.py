"""A server of the OpenAI protocol on loopback, in a process of its own, that answers as badly as it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WRONG = ("429", "500", "half", "garbage", "redirect", "nothing", "twice", "empty", "late")
"""Ways to answer beside the right one. `late`: after later requests; `twice`: the same reply two times."""
LATE = 0.3


def worked(problem: str) -> str:
    """Two right passes over a chain and its answer, as the lab's model writes them."""
    start, *steps = problem.removesuffix("?").replace("+", " +").replace("-", " -").split()
    value, words = int(start), []
    for step in steps:
        words.append(f"{value}{step}={value + int(step)};")
        value += int(step)
    return f"{''.join(words)}check:{''.join(words)}A:{value}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.plain(404, b'{"error": {"message": "no such page"}}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        way = self.server.next_way()
        time.sleep(self.server.seconds + (LATE if way == "late" else 0))
        if way in ("429", "500"):
            self.plain(int(way), b'{"error": {"message": "out of luck"}}')
        elif way == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif way == "nothing":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif way == "garbage":
            self.plain(200, b"<html>a proxy's page</html>")
        elif way == "empty":
            self.plain(200, b'{"choices": []}')
        elif way == "redirect":
            self.plain(302, b"", {"Location": "http://127.0.0.1:9/elsewhere"})
        else:
            text = worked(asked["prompt"] if "prompt" in asked else asked["messages"][-1]["content"])
            said = {"text": text} if "prompt" in asked else {"message": {"role": "assistant", "content": text}}
            reply = {"choices": [{"index": 0, "finish_reason": "stop", **said}], "usage": {"completion_tokens": 28}}
            for _ in range(2 if way == "twice" else 1):
                self.plain(200, json.dumps(reply).encode())

    def plain(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        """A whole reply."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Answers right, but for a share of the requests; share and way are read from the file `mode` every time."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, *, mode: Path | None = None, seed: int = 0, seconds: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode, self.seconds = mode, seconds
        self.dice, self.turn = random.Random(seed), threading.Lock()

    def next_way(self) -> str:
        """How the next request is answered."""
        if self.mode is None:
            return "right"
        share, _, way = self.mode.read_text().partition(" ")
        with self.turn:
            return way if self.dice.random() < float(share or 0) else "right"

    def handle_error(self, *_: object) -> None:
        """Clients that are killed leave broken pipes."""


def serving(*, seconds: float = 0.0) -> AbstractContextManager[str]:
    """The address of a server that answers right."""
    return forked(Server(seconds=seconds))


@contextmanager
def forked(server: Server) -> Iterator[str]:
    """The server's address; its process ends with the block."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            server.serve_forever(0.5)
        os._exit(0)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    server.server_close()
    try:
        yield address
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
