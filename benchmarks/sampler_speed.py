"""What a token costs that this engine's own sampler writes, against the sampler of an earlier commit.

    python benchmarks/sampler_speed.py --model models/qwen --prompts gsm8k.jsonl --against 24ba158 --json out.json
    python benchmarks/sampler_speed.py --model lab:chains --prompts lab --dtype float32 --rows 128 --against 24ba158

Both sides draw `--rows` responses of at most `--cap` tokens to the same prompts at temperature 1, groups of `--group`,
with the weights held as training holds them (float32 under autocast, or with `--lora` a frozen base), or with
`--frozen` as evaluation does. One process per measurement, sides alternating; each draws a few tokens first, then is
timed `--draws` times. A ratio is that of processor seconds a token: on a machine that others use too it is the steadier
one; the wall clock's is given beside it. Peak memory is `ru_maxrss` of the whole process, imports and all.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _bench import ROOT, facts, peak_mib, run_worker, spread, write_json

NOW, BEFORE = "now", "before"
LAB = "lab"
PACKAGES = ("lengthwise", "torch", "transformers", "peft")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lab:chains", help="model folder, or a lab model")
    parser.add_argument("--prompts", default=LAB, help="a JSONL file with questions, or lab: its chains")
    parser.add_argument("--against", help="commit whose sampler is the other side; without it this one is timed alone")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--group", type=int, default=8, help="responses to one prompt")
    parser.add_argument("--in-flight", type=int, default=0, help="rows at a time, the others wait; 0: all")
    parser.add_argument("--cap", type=int, default=300)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--frozen", action="store_true", help="weights as evaluation holds them")
    parser.add_argument("--draws", type=int, default=1, help="timed draws in a process")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse()
    if options.worker:
        work(json.loads(options.worker))
        return 0
    names = ("model", "prompts", "rows", "group", "in_flight", "cap", "dtype", "lora", "frozen", "draws")
    common = {name: getattr(options, name) for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        sides = {NOW: str(ROOT / "src")}
        if options.against:
            sides = {BEFORE: earlier_source(options.against, Path(scratch)), **sides}
        runs = measure(sides, common, options.repeats, options.threads)
    summary = summarize(runs, list(sides))
    if options.json:
        write_json(options.json, {**facts(*PACKAGES), "settings": {**common, "model": Path(options.model).name,
            "prompts": Path(options.prompts).name, "against": options.against, "threads": options.threads},
            "summary": summary, "processes": runs})  # fmt: skip
    return 0


def earlier_source(commit: str, scratch: Path) -> str:
    """The package's source as a commit has it."""
    archive = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(scratch, filter="data")
    return str(scratch / "src")


def measure(sides: dict[str, str], common: dict[str, Any], repeats: int, threads: int) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    print("pair  side      tokens/s  ms cpu/token  tokens  peak MiB", flush=True)
    for repeat in range(repeats):
        for side, source in sides.items():
            os.environ["PYTHONPATH"] = source
            run = run_worker(__file__, {**common, "seed": repeat}, threads=threads) | {"side": side, "repeat": repeat}
            runs.append(run)
            print(
                f"{repeat:>4}  {side:<8}  {run['tokens_per_second']:>8.1f}  {run['cpu_ms_per_token']:>12.2f}  "
                f"{run['tokens']:>6}  {run['peak_mib']:>8.0f}",
                flush=True,
            )
    return runs


def summarize(runs: Sequence[dict[str, Any]], sides: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        side: {
            name: statistics.median(run[name] for run in runs if run["side"] == side)
            for name in ("tokens_per_second", "cpu_ms_per_token", "peak_mib")
        }
        for side in sides
    }
    if BEFORE in sides:
        before, now = ([run for run in runs if run["side"] == side] for side in (BEFORE, NOW))
        pairs = list(zip(before, now, strict=True))
        found["cpu_ratios"] = [round(a["cpu_ms_per_token"] / b["cpu_ms_per_token"], 3) for a, b in pairs]
        found["wall_ratios"] = [round(b["tokens_per_second"] / a["tokens_per_second"], 3) for a, b in pairs]
        print(f"as fast as before: by processor time {spread(found['cpu_ratios'])}, "
              f"by the clock {spread(found['wall_ratios'])}")  # fmt: skip
    return found


def work(spec: dict[str, Any]) -> None:
    import torch

    from lengthwise.engine.backends.transformers_sampler import Sampler
    from lengthwise.engine.model_folders import load_policy
    from lengthwise.lab.shipped_models import model_folder

    policy = load_policy(
        model_folder(spec["model"], in_its_world=True), device="cpu", dtype=spec["dtype"], lora_rank=spec["lora"],
        frozen=spec["frozen"],
    )  # fmt: skip
    prompts, eos_ids = asked(spec, policy)
    sampler = Sampler(policy.model, eos_ids=eos_ids, pad_id=policy.pad_id, max_rows=spec["in_flight"])

    def draw(cap: int, seed: int) -> int:
        generator = torch.Generator().manual_seed(seed)
        with policy.compute():
            return int(sampler.generate(prompts, caps=cap, generator=generator).num_tokens.sum())

    draw(3, 0)
    tokens, clock, cpu = 0, time.perf_counter(), time.process_time()
    for number in range(spec["draws"]):
        tokens += draw(spec["cap"], 1_000 * spec["seed"] + number)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    found = {"tokens": tokens, "tokens_per_second": tokens / clock, "cpu_ms_per_token": 1e3 * cpu / tokens,
             "seconds": clock, "peak_mib": peak_mib()}  # fmt: skip
    write_json(Path(spec["out"]), found)


def asked(spec: dict[str, Any], policy: Any) -> tuple[list[list[int]], tuple[int, ...]]:
    """Prompts as token ids, each as often as a group has responses, and what ends a response."""
    count = -(-spec["rows"] // spec["group"])
    prompts, eos_ids = (_lab if spec["prompts"] == LAB else _questions)(spec["prompts"], count, policy)
    return [prompt for prompt in prompts for _ in range(spec["group"])][: spec["rows"]], eos_ids


def _lab(_: str, count: int, policy: Any) -> tuple[list[list[int]], tuple[int, ...]]:
    from lengthwise.lab import chains
    from lengthwise.runs.chains_demo import chain_problems

    drawn = chains.problems(count, split="train", seed=0, levels=list(range(1, 8)), distinct=False)
    problems = chain_problems(drawn, policy.folder)
    return list(problems.prompts), tuple(problems.contract.eos_ids)


def _questions(file: str, count: int, policy: Any) -> tuple[list[list[int]], tuple[int, ...]]:
    lines = Path(file).read_text(encoding="utf-8").splitlines()[:count]
    ids = policy.model.generation_config.eos_token_id
    return [_prompt(json.loads(line)["question"], policy) for line in lines], tuple(
        ids if isinstance(ids, list) else [ids]
    )


def _prompt(question: str, policy: Any) -> list[int]:
    said = [{"role": "user", "content": f"{question}\nReason step by step and put the answer in \\boxed{{}}."}]
    words = policy.tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    return list(policy.tokenizer(words, add_special_tokens=False)["input_ids"])


if __name__ == "__main__":
    sys.exit(main())
