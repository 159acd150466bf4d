"""What `shorten --dry-run` says a run takes, against what it takes.

    python benchmarks/peak_memory.py --model lab:chains
    python benchmarks/peak_memory.py --model models/smollm2 --data gsm8k.jsonl --json out.json

Each case runs two processes: a dry run, and the same command for two steps, whose peak (`ru_maxrss`) holds
everything: the interpreter, loading and saving too. Cases are all weights and LoRA 16, each in float32 and bfloat16.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _bench import facts, peak_mib, run_worker, write_json

LAB = "lab:chains"
CASES = [(lora, dtype) for lora in (0, 16) for dtype in ("float32", "bfloat16")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=LAB, help="model folder, or a lab model")
    parser.add_argument("--data", default=LAB, help="a JSONL file with questions and answers, or the lab's")
    parser.add_argument("--cap", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--group-size", type=int, default=4)
    parser.add_argument("--method", default="grpo")
    parser.add_argument("--case", type=int, action="append", help="only these of the four; may be given again")
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse()
    if options.worker:
        work(json.loads(options.worker))
        return 0
    common = {name: getattr(options, name) for name in ("model", "data", "cap", "prompts", "group_size", "method")}
    print("weights  dtype     estimate MiB  peak MiB  ratio", flush=True)
    found = []
    for number in options.case or range(len(CASES)):
        lora, dtype = CASES[number]
        spec = common | {"lora": lora, "dtype": dtype}
        said, took = (run_worker(__file__, spec | {"kind": kind}, threads=1) for kind in ("dry-run", "run"))
        row = {"lora": lora, "dtype": dtype, "estimate": said, "peak_mib": took["peak_mib"],
               "ratio": said["total"] / took["peak_mib"]}  # fmt: skip
        found.append(row)
        name = f"LoRA {lora}" if lora else "all"
        print(f"{name:<7}  {dtype:<8}  {said['total']:>12.0f}  {row['peak_mib']:>8.0f}  {row['ratio']:.2f}", flush=True)
    if options.json:
        settings = common | {"model": Path(options.model).name, "data": Path(options.data).name}
        write_json(
            options.json, {**facts("lengthwise", "torch", "transformers", "peft"), "settings": settings, "cases": found}
        )
    return 0


def work(spec: dict[str, Any]) -> None:
    from lengthwise.config.commands.training import ShortenSettings
    from lengthwise.lab import chains
    from lengthwise.runs.shortening.dry_run import dry_run
    from lengthwise.runs.shortening.resolve import shorten_by

    data = Path(spec["data"])
    if spec["data"] == LAB:
        data = Path(spec["folder"]) / "data.jsonl"
        data.write_text(
            "".join(json.dumps(problem.row) + "\n" for problem in chains.problems(40, split="train", seed=0))
        )
    given = {
        "model": spec["model"], "data": str(data), "eval_data": str(data), "method": spec["method"], "cap": spec["cap"],
        "eval_cap": spec["cap"], "steps": 2, "prompts": spec["prompts"], "group_size": spec["group_size"], "updates": 1,
        "lora": spec["lora"], "dtype": spec["dtype"], "eval_limit": spec["prompts"], "eval_samples": 1,
        "backend": "transformers", "threads": 1, "out": str(Path(spec["folder"]) / "run"), "lr": 1e-4,
    }  # fmt: skip
    # Half of all responses are called right, so that there is something to learn whatever the model can do.
    (Path(spec["folder"]) / "coin_grader.py").write_text(
        "def judge(response, answer):\n    return len(response) % 2 == 0\n"
    )
    sys.path.insert(0, spec["folder"])
    given["grader"] = "coin_grader:judge"
    more = {"preset": "lab"} if spec["data"] == LAB else {"problem_column": "question"}
    settings = ShortenSettings.from_dict(given | more)
    if spec["kind"] == "dry-run":
        step = dry_run(settings).estimate
        parts = {name: value / 2**20 for name, value in step.step.to_dict().items() if isinstance(value, int)}
        write_json(Path(spec["out"]), {"total": step.total / 2**20, "parts_mib": parts})
        return
    shorten_by(settings)
    write_json(Path(spec["out"]), {"peak_mib": peak_mib()})


if __name__ == "__main__":
    sys.exit(main())
