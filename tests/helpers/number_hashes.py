"""What a few small runs compute, as hashes: a change that should alter no number must leave every one as it is.

``python tests/helpers/number_hashes.py`` adds this machine's hashes to `number_hashes.json`. Floating point differs
between processors and builds of torch, so hashes are kept by a fingerprint of the arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.training import Training
from lengthwise.engine.model_folders import weights_sha
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.lab.words import OPEN_LONG, OPEN_SHORT
from lengthwise.runs.chains_demo import chain_problems, demo_training, shorten_chains
from lengthwise.runs.shortening.job import Job, load

MODES = {"long_opener": OPEN_LONG, "short_opener": OPEN_SHORT, "control": "opener", "switch_loss": "nll"}
KNOWN = Path(__file__).with_name("number_hashes.json")
TIMES = ("seconds", "seconds_sample", "seconds_update", "warnings")


def arithmetic() -> str:
    """A hash of what this processor and this torch make of some products, exponentials and gradients."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(2, 96, 160, generator=generator).requires_grad_() for _ in range(2))
    attended = torch.nn.functional.scaled_dot_product_attention(left, right, left * 0.5, is_causal=True)
    normed = torch.nn.functional.layer_norm(attended @ right.mT, (96,)).log_softmax(-1)
    normed.exp().pow(1.5).sum().backward()
    assert left.grad is not None and right.grad is not None
    values = [normed.detach(), left.grad, right.grad]
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in values)).hexdigest()[:16]


def _numbers(folder: Path) -> str:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept: list[Any] = [{name: value for name, value in row.items() if name not in TIMES} for row in rows]
    for record in sorted((folder / "records").glob("*.json")):
        found = json.loads(record.read_text())
        kept.append([record.name, *(found[name] for name in ("num_tokens", "answer_correct", "finished"))])
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _run(folder: Path, **asked: Any) -> str:
    outcome = shorten_chains(folder, **asked)
    return hashlib.sha256(f"{_numbers(folder)}{outcome.weights_sha_after}".encode()).hexdigest()


def _short(method: str, **asked: Any) -> Callable[[Path], str]:
    training = Training(steps=4, prompts=8, group_size=4, updates=2, lr=1e-4, seed=0)
    return lambda folder: _run(folder, method=method, training=training, limit=10, **asked)


def _ada_r1(folder: Path) -> str:
    """Merge, samples of both models and pairs; DPO is TRL's."""
    from lengthwise.runs.shortening.single_stage import run_one_stage

    rows = chain_problems(chains.problems(8, split="train", seed=0, levels=(2, 3)), shipped_reasoner())
    settings = ShortenSettings.from_dict(
        {
            "model": "lab:chains",
            "method": "ada-r1",
            "data": "lab",
            "out": folder,
            "checkpoint_every": 1,
            "device": "cpu",
        }
    )
    job = Job(settings, 60, 260, {"samples": 3, "batch": 4, "epochs": 1, "short_model": "lab:terse"})
    for stage in ("merge", "sample", "pairs"):
        run_one_stage(job, stage, rows, rows)
    pairs = sorted(path for path in folder.rglob("*.jsonl") if "pairs" in str(path))
    merged = weights_sha(load(job, next(path for path in folder.rglob("model") if "merge" in str(path))).model)
    return hashlib.sha256(merged.encode() + b"".join(path.read_bytes() for path in pairs)).hexdigest()


RUNS: dict[str, Callable[[Path], str]] = {
    "the demo's first 20 steps": lambda folder: _run(folder, training=demo_training(seed=0, steps=20), limit=50),
    "dler": _short("dler"),
    "drpo": _short("drpo"),
    "t-ppo": _short("t-ppo", options={"window": 24}),
    "adaptive": _short("adaptive", model=shipped_reasoner("chains-modes"), options=MODES),
    "ada-r1": _ada_r1,
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    known = json.loads(KNOWN.read_text()) if KNOWN.is_file() else {}
    found = {}
    for run, compute in RUNS.items():
        with tempfile.TemporaryDirectory() as scratch:
            found[run] = compute(Path(scratch) / "run")
        sys.stdout.write(f"{run}: {found[run]}\n")
    KNOWN.write_text(json.dumps({**known, arithmetic(): found}, indent=1) + "\n")
