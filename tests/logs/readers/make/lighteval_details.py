"""How files/lighteval-0.13.0/ was made: pip install lighteval==0.13.0, and any small model in a folder.

The | in the file's name was replaced, which some file systems do not have.

Usage, from the repository's root: HF_HUB_OFFLINE=1 python tests/logs/readers/make/lighteval_details.py MODEL_FOLDER OUT

While lighteval reads its tables of tasks it asks the hub for a judge's model, by an option that the hub's client of
today does not have, and fetches a table of tinyBenchmarks; none of it is used here. It hashes texts, which today's
xxhash wants as bytes. Several samples need a model whose generation_config.json says do_sample.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import huggingface_hub
import xxhash

TASK = "tests/logs/readers/make/lighteval_task.py"


def main(model: str, out: str) -> None:
    huggingface_hub.HfApi.list_models = lambda *_, **__: ["any"]
    of_bytes = xxhash.xxh64
    xxhash.xxh64 = lambda text=b"": of_bytes(text.encode() if isinstance(text, str) else text)
    found = find_spec("lighteval")
    assert found is not None and found.origin is not None
    (Path(found.origin).parent / "tasks/tasks/tinyBenchmarks.pkl").touch()
    from lighteval.__main__ import app

    settings = "dtype=float32,batch_size=1,generation_parameters={temperature:0.7,max_new_tokens:24}"
    where = ["--output-dir", out, "--save-details"]
    app(["accelerate", f"model_name={model},{settings}", "sums,sums_sampled", "--custom-tasks", TASK, *where])


if __name__ == "__main__":
    main(*sys.argv[1:])
