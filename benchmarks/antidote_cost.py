"""Antidote's statistics beside a plain forward over the same calibration rows, and the memory that they hold.

Wanted: at most 1.3 times the plain forward; memory one float32 vector per layer. Both sides run the same batches
through the same model in one process, turn about.

    python benchmarks/antidote_cost.py --json benchmarks/results/antidote_cost.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import RESULTS, facts, run_worker, spread, write_json

WANTED = 1.3
SIZES = {
    # the shipped reasoner's size, where the forward itself is cheapest
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4},
    "small": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8},
    "wide": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 2, "num_attention_heads": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--batch-rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128, help="longest row; lengths are spread over its upper half")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS / "antidote_cost.json")
    arguments = parser.parse_args()
    settings = {key: value for key, value in vars(arguments).items() if key != "json"}
    runs = {size: run_worker(__file__, {"size": size, **settings}, threads=arguments.threads) for size in SIZES}
    summary = {
        size: {
            "plain_seconds": spread(run["plain"]),
            "scored_seconds": spread(run["scored"]),
            "ratio": round(statistics.median(run["scored"]) / statistics.median(run["plain"]), 3),
            "statistics_bytes": run["statistics_bytes"],
            "passed": statistics.median(run["scored"]) <= WANTED * statistics.median(run["plain"]),
        }
        for size, run in runs.items()
    }
    write_json(
        arguments.json, {**facts("lengthwise", "torch", "transformers"), **settings, "runs": runs, "summary": summary}
    )
    print(json.dumps(summary, indent=1))


def work(spec: dict[str, Any]) -> dict[str, Any]:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from lengthwise.repair import activation_scores

    torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    sizes = SIZES[spec["size"]]
    config = Qwen2Config(**sizes, vocab_size=4096, num_key_value_heads=sizes["num_attention_heads"], use_cache=False)
    model = Qwen2ForCausalLM(config).eval()
    batches = []
    for _ in range(spec["rows"] // spec["batch_rows"]):
        ids = torch.randint(0, 4096, (spec["batch_rows"], spec["length"]))
        lengths = torch.linspace(spec["length"] // 2, spec["length"], spec["batch_rows"]).long()
        attended = (torch.arange(spec["length"])[None] < lengths[:, None]).long()
        batches.append({"input_ids": ids, "attention_mask": attended})

    def plain() -> None:
        with torch.inference_mode():
            for batch in batches:
                model(**batch)

    found = activation_scores(model, batches[:1])
    times: dict[str, list[float]] = {"plain": [], "scored": []}
    for _ in range(spec["repeats"] + 1):
        times["plain"].append(_seconds(plain))
        times["scored"].append(_seconds(lambda: activation_scores(model, batches)))
    return {
        # the first of each warms up
        **{side: seconds[1:] for side, seconds in times.items()},
        "layers": len(found),
        "statistics_bytes": sum(activity.squares.numel() * 4 for activity in found.values()),
        "inputs": sum(activity.squares.numel() for activity in found.values()),
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asked = json.loads(sys.argv[2])
        Path(asked["out"]).write_text(json.dumps(work(asked)), encoding="utf-8")
    else:
        main()
