"""DLER on the lab's chains by our engine and by TRL with the adapter: do they come to the same tokens and accuracy?

All take the demo's settings. Arms: `engine`, `trl`, `trl-2` in two processes, and `base`, the untouched model. What was
expected stands in `registered.json`. Needs the extra trl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine import load_policy
from lengthwise.engine.model_folders import save_policy
from lengthwise.engine.trainer import Trainer
from lengthwise.generation.sampling import ROWS_AT_ONCE, evaluate
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import dler
from lengthwise.pretrained import copy_tokenizer
from lengthwise.runs.chains_demo import (
    CAP,
    EVAL_CAP,
    TRAIN_PROBLEMS,
    chain_problems,
    demo_training,
    held_out,
    oracle_mean,
)
from lengthwise.statistics.records import Record
from studies.running import Place, Run
from studies.summary import Numbers
from studies.trl_chains.condense import means

OPTIONS = {"steps": 60, "problems": 1000}
"""Training steps, and held-out problems."""
RUNS = {"engine": (0, 1, 2), "trl": (0, 1, 2), "trl-2": (0,)}
"""Seeds of every arm."""


def runs() -> list[Run]:
    """Every arm and seed."""
    found = [Run(f"{arm}-{seed}", partial(carry_out, arm, seed)) for arm, seeds in RUNS.items() for seed in seeds]
    return [Run("base-0", untouched), *found]


def practice(seed: int) -> Any:
    return chain_problems(chains.problems(TRAIN_PROBLEMS, split="train", seed=seed), shipped_reasoner())


def train_engine(seed: int, folder: Path, steps: int) -> Numbers:
    policy, reference = load_policy(shipped_reasoner()), load_policy(shipped_reasoner()).model
    problems, config = practice(seed), demo_training(seed=seed, steps=steps)
    Trainer(
        policy.model, method=dler(cap=CAP), task=problems.task(), config=config, folder=folder / "run",
        eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id, reference=reference,
    ).train()  # fmt: skip
    save_policy(policy, folder / "model")
    return {}


def train_trl(seed: int, folder: Path, steps: int, processes: int) -> Numbers:
    """The demo's settings in TRL's words; runs under ``accelerate launch`` where there are several processes."""
    from trl import GRPOConfig

    from lengthwise.adapters.trl import LengthwiseGRPOTrainer

    config = demo_training(seed=seed, steps=steps)
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


def train_in_two(seed: int, folder: Path, steps: int) -> Numbers:
    # --multi_gpu is how accelerate starts several processes at all; on a CPU they find gloo by themselves.
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        "--module", __name__, str(folder), str(seed), str(steps),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return {"log": json.loads((folder / "log.json").read_text(encoding="utf-8"))}


def carry_out(arm: str, seed: int, place: Place) -> Numbers:
    steps = place.options["steps"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arm == "engine":
            found = train_engine(seed, folder, steps)
        elif arm == "trl":
            found = train_trl(seed, folder, steps, 1)
        else:
            found = train_in_two(seed, folder, steps)
        record = measured(folder / "model", f"{arm} {seed}", seed, place)
        record.save(folder / "record.json")
        kept = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    kept["context"]["model"] = f"{arm} {seed}"  # not the temporary folder
    return {"arm": arm, "seed": seed, "steps": steps, **found, "record": kept}


def measured(model: Path, name: str, seed: int, place: Place) -> Record:
    test, _ = held_out(place.options["problems"], shipped_reasoner())
    record, _ = evaluate(
        load_policy(model),
        test,
        Sampling(cap=EVAL_CAP, temperature=1.0, seed=seed, sample_rows=ROWS_AT_ONCE),
        name=name,
        data="chains",
    )
    return record


def untouched(place: Place) -> Numbers:
    """The model that all start from, and the tokens of one pass."""
    test, _ = held_out(place.options["problems"], shipped_reasoner())
    return {
        "record_summary": means(measured(shipped_reasoner(), "base", 0, place)), "oracle_tokens": oracle_mean(test),
    }  # fmt: skip


def main() -> None:
    """One of two processes under ``accelerate launch``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int)
    asked = parser.parse_args()
    train_trl(asked.seed, asked.folder, asked.steps, 2)


if __name__ == "__main__":
    main()
