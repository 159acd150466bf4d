"""DLER on the lab's chains by our engine and by TRL with the adapter: do they come to the same tokens and accuracy?

Both take the demo's settings. One JSON file an arm and seed under ``runs/studies/trl_chains`` (arms `engine`,
`trl`, `trl-2` in two processes, and `base`, the untouched model); what is there is not run again. What was expected
stands in ``effects.json``, committed before the runs; ``--compare`` says of each whether it was seen. Needs the extra
trl.

    python benchmarks/trl_chains.py --arms engine,trl --seeds 0,1,2
    python benchmarks/trl_chains.py --arms base,trl-2 --seeds 0
    python benchmarks/trl_chains.py --compare
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from _bench import RAW, provenance, write_json
from lengthwise.engine import load_policy
from lengthwise.engine.models import save_policy
from lengthwise.engine.trainer import Trainer
from lengthwise.evaluation.evaluate import Sampling, evaluate
from lengthwise.evaluation.metrics import removable_share
from lengthwise.evaluation.records import Record, compare
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import dler
from lengthwise.pretrained import copy_tokenizer
from lengthwise.study.demo import CAP, EVAL_CAP, TRAIN_PROBLEMS, chain_problems, demo_config, held_out, oracle_mean

OUT = RAW / "trl_chains"
PROBLEMS, STEPS = 1000, 60
ARMS = ("engine", "trl", "trl-2")


def practice(seed: int) -> Any:
    return chain_problems(chains.problems(TRAIN_PROBLEMS, split="train", seed=seed), shipped_reasoner())


def train_engine(seed: int, folder: Path, steps: int) -> dict[str, Any]:
    policy, reference = load_policy(shipped_reasoner()), load_policy(shipped_reasoner()).model
    problems, config = practice(seed), demo_config(seed=seed, steps=steps)
    Trainer(
        policy.model, method=dler(cap=CAP), task=problems.task(), config=config, folder=folder / "run",
        eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id, reference=reference,
    ).train()  # fmt: skip
    save_policy(policy, folder / "model")
    return {}


def train_trl(seed: int, folder: Path, steps: int, processes: int) -> dict[str, Any]:
    """The demo's settings in TRL's words; runs under ``accelerate launch`` where there are several processes."""
    from trl import GRPOConfig

    from lengthwise.adapters.trl import LengthwiseGRPOTrainer

    config = demo_config(seed=seed, steps=steps)
    rows = config.prompts * config.group_size // config.updates
    args = GRPOConfig(
        output_dir=str(folder / "run"), per_device_train_batch_size=rows // processes, gradient_accumulation_steps=1,
        steps_per_generation=config.updates, num_generations=config.group_size, max_completion_length=CAP,
        temperature=config.temperature, learning_rate=config.lr, lr_scheduler_type="constant",
        weight_decay=config.weight_decay, max_grad_norm=config.grad_clip, max_steps=steps * config.updates, seed=seed,
        use_cpu=True, bf16=False, report_to=[], save_strategy="no", logging_steps=config.updates, disable_tqdm=True,
    )  # fmt: skip
    trainer = LengthwiseGRPOTrainer(
        str(shipped_reasoner()), args=args, method="dler", problems=practice(seed), max_draws=config.max_draws
    )
    trainer.train()
    trainer.save_model(str(folder / "model"))
    copy_tokenizer(shipped_reasoner(), folder / "model")
    kept = ("lengthwise/mean_tokens", "lengthwise/accuracy", "lengthwise/draws", "lengthwise/groups")
    log = [{name: entry[name] for name in kept} for entry in trainer.state.log_history if kept[0] in entry]
    if trainer.accelerator.is_main_process:
        (folder / "log.json").write_text(json.dumps(log), encoding="utf-8")
    return {"log": log}


def train_in_two(seed: int, folder: Path, steps: int) -> dict[str, Any]:
    # --multi_gpu is how accelerate starts several processes at all; on a CPU they find gloo by themselves.
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        __file__, "--worker", str(folder), "--seeds", str(seed), "--steps", str(steps),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return {"log": json.loads((folder / "log.json").read_text(encoding="utf-8"))}


def run(arm: str, seed: int, steps: int, problems: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder, started, cpu = Path(name), time.perf_counter(), time.process_time()
        if arm == "engine":
            found = train_engine(seed, folder, steps)
        elif arm == "trl":
            found = train_trl(seed, folder, steps, 1)
        else:
            found = train_in_two(seed, folder, steps)
        seconds = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
        test, _ = held_out(problems, shipped_reasoner())
        policy = load_policy(folder / "model")
        record, _ = evaluate(policy, test, Sampling(EVAL_CAP, 1.0, seed=seed), name=f"{arm} {seed}", data="chains")
        record.save(folder / "record.json")
        kept = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    kept["context"]["model"] = f"{arm} {seed}"  # not the temporary folder
    return {"arm": arm, "seed": seed, "steps": steps, "provenance": provenance(), **seconds, **found, "record": kept}


def load(arm: str) -> list[Record]:
    found = []
    for path in sorted(OUT.glob(f"{arm}-[0-9].json")):
        with tempfile.TemporaryDirectory() as name:
            record = Path(name) / "record.json"
            record.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))["record"]), encoding="utf-8")
            found.append(Record.load(record))
    return found


def comparison() -> dict[str, Any]:
    """Every registered effect, seen or not, from the runs that are there."""
    sides = {arm: load(arm) for arm in ARMS}
    test, _ = held_out(PROBLEMS, shipped_reasoner())
    base = json.loads((OUT / "base-0.json").read_text(encoding="utf-8"))["record_summary"]["mean_tokens"]
    found = compare(sides["engine"], sides["trl"], seed=0, allow=("model",))
    ratio, gain = found["tokens_ratio"], found["accuracy_difference"]
    numbers = {arm: [summary_of(record) for record in records] for arm, records in sides.items()}
    shares = {
        arm: [removable_share(base, one["mean_tokens"], oracle_mean(test)) for one in rows]
        for arm, rows in numbers.items()
    }
    seen: dict[str, Any] = {
        "tokens": ratio["low"] <= 1 <= ratio["high"],
        "accuracy": gain["low"] <= 0 <= gain["high"],
        "shortened": all(share > 0.5 for rows in shares.values() for share in rows),
    }
    if numbers["trl-2"]:
        mean = {key: sum(one[key] for one in numbers["trl"]) / len(numbers["trl"]) for key in numbers["trl"][0]}
        two = numbers["trl-2"][0]
        seen["two-processes"] = (
            abs(two["mean_tokens"] - mean["mean_tokens"]) <= 5 and abs(two["accuracy"] - mean["accuracy"]) <= 0.05
        )
    return {
        "tokens_ratio": ratio, "accuracy_difference": gain, "runs": numbers, "removable_shares": shares,
        "base_tokens": base, "seen": seen,
    }  # fmt: skip


def summary_of(record: Record) -> dict[str, float]:
    summary = record.summary(seed=0)
    return {name: summary[name] for name in ("mean_tokens", "accuracy")}


def base() -> dict[str, Any]:
    test, _ = held_out(PROBLEMS, shipped_reasoner())
    record, _ = evaluate(load_policy(shipped_reasoner()), test, Sampling(EVAL_CAP, 1.0), name="base", data="chains")
    return {"provenance": provenance(), "record_summary": summary_of(record)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", default="engine,trl")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compare", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    if asked.worker is not None:
        train_trl(seeds[0], asked.worker, asked.steps, 2)
        return
    if asked.compare:
        found = comparison()
        write_json(OUT / "comparison.json", {"provenance": provenance(), **found})
        print(json.dumps(found, indent=1))
        return
    for seed in seeds:
        for arm in asked.arms.split(","):
            path = asked.out / f"{arm}-{seed}.json"
            if not path.is_file():
                write_json(path, base() if arm == "base" else run(arm, seed, asked.steps, asked.problems))
                print(path.name, "written", flush=True)


if __name__ == "__main__":
    main()
