"""The same run inside TRL, in two processes: export, launch, measure.

    pip install "lengthwise[trl]"
    python examples/trl_two_processes.py

On CPUs, with gloo; on GPUs the same commands take `--devices 8 --sharding zero2 --vllm`. Expect about 73 tokens before
and 59 after six steps, at an accuracy that is not yet back where it was, in about a minute on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from lengthwise.lab import chains

LAB = ["--preset", "lab"]
LENGTHWISE = [sys.executable, "-m", "lengthwise"]


def run(*command: str, folder: Path | None = None) -> str:
    """Run a command and show it; what it prints."""
    print("$", " ".join(command).replace(sys.executable, "python"), flush=True)
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE).stdout


def measured(model: str, data: Path) -> str:
    """Accuracy and tokens of a model."""
    found = json.loads(
        run(*LENGTHWISE, "evaluate", model, "--data", str(data), *LAB, "--cap", "260", "--json", "--quiet")
    )
    return f"accuracy {found['accuracy']:.1%}, {found['mean_tokens']:.1f} tokens"


def main() -> None:
    """Write the data, export, train in two processes, measure before and after."""
    folder = Path(tempfile.mkdtemp(prefix="two-processes-"))
    for split, count in (("train", 400), ("test", 60)):
        rows = chains.problems(count, split=split, seed=0, levels=(2, 3, 4, 5, 6, 7))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row.row) + "\n" for row in rows))
    run(
        *LENGTHWISE, "export", "trl", "lab:chains", "--data", str(folder / "train.jsonl"), *LAB, "--method", "dler",
        "--cap", "60", "--devices", "2", "--prompts", "8", "--group-size", "8", "--updates", "2", "--lr", "3e-4",
        "--steps", "6", "--out", str(folder / "trl"),
    )  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate.yaml", "train.py"]
    run(*launch, folder=folder / "trl")
    print("before:", measured("lab:chains", folder / "test.jsonl"))
    print("after:", measured(str(folder / "trl" / "model"), folder / "test.jsonl"))


if __name__ == "__main__":
    main()
