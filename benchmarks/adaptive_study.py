"""Adaptive Deep Reasoning on chains: does the bare prompt open short where short suffices and long where it does not?

The base, `lab:chains-modes`, was taught both modes on the instructions, and opens bare prompts by a coin. A short
answer says the result at once, which is right on short chains and a guess on long ones; a long one works the chain,
twice or more. Arms: `adaptive` (the method's defaults), `no-switch` (`switch_weight` 0: the choice is learnt through
instructed prompts alone) and `no-deduction` (`rho` 0: a right answer earns the same in either mode). One JSON file an
arm and seed under ``benchmarks/results/adaptive``; what is there is not run again. What is expected was written to
``adaptive_registered.json`` before the first run.

    python benchmarks/adaptive_study.py --arms adaptive,no-switch,no-deduction --seeds 0,1,2 --threads 1
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from _bench import RESULTS, provenance
from lengthwise.engine import Policy, TrainConfig, Trainer, load_policy
from lengthwise.engine.method import Method
from lengthwise.evaluation.evaluate import Sampling, sample_answers
from lengthwise.evaluation.problems import Problems
from lengthwise.files import atomic_write_json
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.lab.words import ASK_LONG, ASK_SHORT, OPEN_LONG, OPEN_SHORT
from lengthwise.methods import build_method
from lengthwise.study.demo import chain_problems

OUT = RESULTS / "adaptive"
ARMS: dict[str, dict[str, Any]] = {"adaptive": {}, "no-switch": {"switch_weight": 0.0}, "no-deduction": {"rho": 0.0}}
CAP, STEPS, MEASURED_EVERY = 260, 60, 10
TRAIN_PROBLEMS, PER_LEVEL = 4000, 150
WORDS = {"long_opener": OPEN_LONG, "short_opener": OPEN_SHORT, "instruction_sep": ""}


def by_level(policy: Policy, problems: Problems, seed: int) -> dict[str, dict[str, float]]:
    """Per level: how often an answer opens short, accuracy (right and finished) and mean tokens, at temperature 1."""
    rollouts = sample_answers(policy, problems, Sampling(CAP, seed=seed))
    short = rollouts.completion_ids[:, 0] == problems.token_id(OPEN_SHORT)
    assert problems.categories is not None, "chains always name their level"
    levels = torch.tensor([int(level) for level in problems.categories])
    found = {}
    for level in sorted(set(levels.tolist())):
        here = levels == level
        values = {"short": short, "accuracy": rollouts.correct, "tokens": rollouts.num_tokens}
        found[str(level)] = {name: float(value[here].float().mean()) for name, value in values.items()}
        found[str(level)]["problems"] = int(here.sum())
    return found


def asked_for(problems: Problems, words: str) -> Problems:
    """The same problems with a mode asked for."""
    return dataclasses.replace(problems, prompts=[problems.instructed(i, words) for i in range(len(problems))])


def run(arm: str, seed: int, base: Path, steps: int, per_level: int) -> dict[str, Any]:
    policy = load_policy(base, device="cpu")
    held_out = [chain for level in chains.LEVELS for chain in _held_out(level, per_level)]
    test = chain_problems(held_out, base)
    train = chain_problems(chains.problems(TRAIN_PROBLEMS, split="train", seed=seed), base)
    controls = {
        name: by_level(policy, problems, seed)
        for name, problems in (
            ("bare", test), ("always long", asked_for(test, ASK_LONG)), ("always short", asked_for(test, ASK_SHORT))
        )
    }  # fmt: skip
    method = build_method("adaptive", cap=CAP, **WORDS, **ARMS[arm])
    assert isinstance(method, Method)
    curve: list[dict[str, Any]] = []
    losses: list[float] = []

    def note(row: dict[str, Any]) -> None:
        losses.append(row["mode_switch"])
        if row["step"] % MEASURED_EVERY == 0:
            curve.append(
                {"step": row["step"], "sampled_tokens": row["sampled_tokens"], "levels": by_level(policy, test, seed)}
            )

    config = TrainConfig(steps=steps, prompts=16, group_size=8, updates=2, lr=5e-5, seed=seed, checkpoint_every=steps)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="adaptive-") as folder:
        Trainer(
            policy.model, method=method, task=train.task(), config=config, folder=Path(folder),
            eos_ids=list(train.contract.eos_ids), pad_id=policy.pad_id,
        ).train(note)  # fmt: skip
    return {
        "arm": arm, "seed": seed, "steps": steps, "options": dict(method.options), "train": dataclasses.asdict(config),
        "base": controls, "curve": curve, "mode_switch": losses, "seconds": time.perf_counter() - began,
        "provenance": provenance(),
    }  # fmt: skip


def _held_out(level: int, count: int) -> list[chains.Chain]:
    if chains.distinct_problems(level) < chains.FEW_PROBLEMS:  # nearly all of them are practised on; reported apart
        return chains.all_problems([level], split="test")[:count]
    return chains.problems(count, split="test", seed=0, levels=(level,))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", default="adaptive,no-switch,no-deduction")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--per-level", type=int, default=PER_LEVEL, help="held-out problems per level")
    parser.add_argument("--base", type=Path, default=shipped_reasoner("chains-modes"), help="model with two modes")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in map(int, options.seeds.split(",")):
        for arm in options.arms.split(","):
            path = options.out / f"{arm}-{seed}.json"
            if path.is_file():
                continue
            atomic_write_json(path, run(arm, seed, options.base, options.steps, options.per_level))
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
