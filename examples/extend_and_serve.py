"""Extend a model folder so that it reads twice as far, serve the folder, and measure what the server reads.

    python examples/extend_and_serve.py

The server here is fifty lines over transformers, to have one on a CPU; the folder is an ordinary one, and any server
that knows YaRN takes it:

    lengthwise extend MODEL --scheme yarn --factor 2 --out longer
    vllm serve longer
    lengthwise evaluate-context longer --endpoint http://localhost:8000 --tokenizer longer --lengths 8k,16k

The lab's reader was trained at 256 words. Expect it to find about 10 % of the lines at 512 words as it is and about
95 % extended, without training, in half a minute.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lengthwise.config.commands import EvaluateContextSettings, ExtendSettings
from lengthwise.context.positions.extend_folder import extend_folder
from lengthwise.lab.shipped_models import model_folder
from lengthwise.runs.evaluate_context.measurement import evaluate_context


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The completions of a model folder over HTTP, greedy; the server's address."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    class Completions(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            ids = tokenizer(asked["prompt"], return_tensors="pt").input_ids
            with torch.no_grad():
                written = model.generate(ids, max_new_tokens=asked["max_tokens"], do_sample=False)[0, ids.shape[1] :]
            choice = {"index": 0, "text": tokenizer.decode(written), "finish_reason": "length"}
            reply = json.dumps({"choices": [choice], "usage": {"completion_tokens": len(written)}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Completions)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found_at(folder: Path, length: int, out: Path) -> float:
    """The share of lines that the served folder finds in texts of so many tokens."""
    with served(folder) as address:
        result = evaluate_context(
            EvaluateContextSettings.from_dict(
                {"models": [folder.name], "endpoint": address, "tokenizer": str(folder), "tasks": ["lines"],
                 "lengths": [length], "limit": 20, "out": str(out)}
            )
        )  # fmt: skip
    [cell] = result.arms[0].cells
    return float(cell.measured.estimate)


def main() -> None:
    """Measure the reader as it is, extend it, measure the extended folder."""
    work = Path(tempfile.mkdtemp(prefix="extend-and-serve-"))
    torch.set_num_threads(1)
    reader, longer = model_folder("lab:reader"), work / "longer"
    written = extend_folder(
        ExtendSettings.from_dict({"model": str(reader), "scheme": "yarn", "factor": 2, "out": str(longer)})
    )
    print(f"{longer}: {written.scheme}, factor {written.factor:g}, {written.max_position_embeddings} positions")
    for name, folder in (("as it is", reader), ("extended", longer)):
        print(f"{name}: {found_at(folder, 512, work / name):.0%} of the lines found at 512 words")


if __name__ == "__main__":
    main()
