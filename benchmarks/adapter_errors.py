"""How far TRL with the adapter is from our engine on the same rollouts: the numbers of docs/engines.md.

The tests hold the bounds; this writes what was measured, worst over the methods, into
``benchmarks/results/adapter_errors.json``. Needs the extra trl.

    python benchmarks/adapter_errors.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from _bench import RESULTS, ROOT, provenance, versions, write_json

sys.path.insert(0, str(ROOT / "tests" / "helpers"))


def main() -> None:
    import trl_comparison as held
    import trl_driver as driver
    from transformers import AutoModelForCausalLM

    from lengthwise.lab.reasoner import shipped_reasoner

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(shipped_reasoner()).eval()
    rollouts = driver.sampled(model, driver.practice())
    given = held.responses(rollouts)
    found: dict[str, dict[str, dict[str, float]]] = {"one process": {}, "two processes": {}}
    for name in held.METHODS:
        one = driver.one_batch(name, given, accumulate=2)
        found["one process"][name] = errors(held, name, rollouts, one, one["trainer"])
    for name in held.IN_TWO:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "given.json").write_text(json.dumps(given), encoding="utf-8")
            two = held.launched(Path(folder), name, Path(folder) / "given.json")
        found["two processes"][name] = errors(held, name, rollouts, two, None)
    worst = {
        path: {key: max(entry[key] for entry in rows.values()) for key in ("advantages", "gradients")}
        for path, rows in found.items()
    }
    result = {"provenance": provenance(), "versions": versions("trl", "accelerate"), "worst": worst, "methods": found}
    write_json(RESULTS / "adapter_errors.json", result)
    print(json.dumps(worst, indent=1))


def errors(held: Any, name: str, rollouts: Any, found: dict[str, Any], trainer: Any) -> dict[str, float]:
    observed = trainer is not None and trainer.method.observe is not None
    gradients, advantages, kept = held.engine(name, rollouts, state=trainer.method_state if observed else None)
    return {
        "advantages": held.same_advantages(found, kept, advantages),
        "gradients": held.furthest(gradients[0], found["gradients"][0]),
    }


if __name__ == "__main__":
    main()
