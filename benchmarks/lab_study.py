"""The lab's study: every reinforcement-learning method of the papers against what is exactly known to be possible.

    python benchmarks/lab_study.py --list
    python benchmarks/lab_study.py --part 1/16 --threads 1

Worlds: witnesses (when to stop; the best rule is known) and chains (one pass is enough). What is run stands in
`_lab_plan.py`, what is measured in `_lab_worlds.py`, and what was expected, written down before, in
``studies/lab/registered.json``. One JSON file a run under ``runs/studies/lab``; what is there is
not made again and what another process is at is left to it, so any number of processes can be started side by side,
stopped, and started again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from _bench import RAW, provenance
from _lab_plan import GROUP_NORMALISED, SUITES, Run, runs
from _lab_worlds import WORLDS, World, measure
from lengthwise.engine.method import Method
from lengthwise.engine.models import Policy, load_policy
from lengthwise.engine.trainer import TrainConfig, Trainer
from lengthwise.engine.windowed import Windowed, WindowedTrainer
from lengthwise.errors import LengthwiseWarning, TrainingError
from lengthwise.files import atomic_write_json
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives import group_normalised
from lengthwise.weights import update_selective_merge

OUT = RAW / "lab"
KEPT = (
    "step", "cap", "accuracy", "mean_tokens", "p95_tokens", "cut_rate", "uniform_groups", "groups", "draws",
    "kept_accuracy", "kept_tokens", "sign_flips", "grad_norm", "updates", "trained_tokens", "approx_kl", "ratio_max",
    "entropy", "clip_high_share", "clip_low_share", "uniform_weights", "sampled_tokens", "decode_steps", "done",
    "explained_variance", "value_loss",
)  # fmt: skip
NEVER = 10**9
STALE_SECONDS = 600


@cache
def world_of(name: str) -> World:
    """A world by its name, made once in a process."""
    return WORLDS[name]()


def method_of(run: Run, world: World) -> Method:
    """The run's method with its options, changed where the run is a variant."""
    method = build_method(run.method, cap=run.cap or world.longest, **run.options)
    if not isinstance(method, Method):
        raise SystemExit(f"{run.name}: {run.method} has no training loop")
    method = dataclasses.replace(method, prepare=(), finish=())  # the shipped bases are what a stage before would make
    if run.variant == GROUP_NORMALISED:
        return dataclasses.replace(method, advantage=lambda rewards, r: group_normalised(rewards, r.group_ids))
    return method


def train(run: Run, world: World, policy: Policy) -> dict[str, Any]:
    """Train the policy in place; a run that ends early, for want of anything to learn, says so."""
    config = TrainConfig(**{"seed": run.seed, "checkpoint_every": NEVER, **run.train})
    method, problems = method_of(run, world), world.sets["test"].problems
    kind: Any = WindowedTrainer if isinstance(method, Windowed) else Trainer
    frozen = load_policy(policy.folder, device=str(policy.device)) if method.kl_coef else None
    reference = None if frozen is None else frozen.model.requires_grad_(False)
    steps: list[dict[str, Any]] = []
    ended = None
    with tempfile.TemporaryDirectory(prefix="lab-study-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LengthwiseWarning)
        trainer = kind(
            policy.model, method=method, task=world.task(run.seed), config=config, folder=Path(folder),
            eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id, reference=reference,
        )  # fmt: skip
        trainer._save = lambda: None  # a run is over in a minute: it is made whole or made again
        try:
            trainer.train(lambda metrics: steps.append(rounded({k: metrics[k] for k in KEPT if k in metrics})))
        except TrainingError as error:
            ended = str(error)
    return {"options": {**method.options}, "wanted": config.prompts, "steps": steps, "ended": ended}


def rounded(value: Any) -> Any:
    """Floats to five digits: raw results are read by people too."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def merged_back(policy: Policy) -> None:
    """Put a quarter of the changes, times 0.7, on the weights that the policy started from (DLER's merge)."""
    policy_again = load_policy(policy.folder, device="cpu").model
    base = {name: tensor.detach() for name, tensor in policy_again.named_parameters()}
    tuned = {name: tensor.detach().cpu() for name, tensor in policy.model.named_parameters()}
    policy.model.load_state_dict(update_selective_merge(base, tuned, density=0.25, scale=0.7), strict=False)


def carry_out(run: Run, device: str = "cpu") -> dict[str, Any]:
    """Train and measure one run."""
    started, spent = time.perf_counter(), time.process_time()
    world = world_of(run.world)
    policy = load_policy(shipped_reasoner(world.base), device=device)
    outcome = train(run, world, policy)
    trained = time.process_time()
    outcome["measured"] = measure(policy, world, seed=run.seed)
    if run.merged:
        merged_back(policy)
        outcome["merged"] = measure(policy, world, seed=run.seed)["test"]
    outcome["cpu_seconds"] = {"train": trained - spent, "measure": time.process_time() - trained}
    outcome["seconds"] = time.perf_counter() - started
    outcome["device"] = policy.device.type
    return {"run": dataclasses.asdict(run), **provenance(), "outcome": rounded(outcome)}


def base_result(name: str, device: str) -> dict[str, Any]:
    """The untouched model of a world."""
    world = world_of(name)
    policy = load_policy(shipped_reasoner(world.base), device=device)
    found = {"measured": measure(policy, world, seed=0)}
    return {"run": {"suite": "base", "world": name}, **provenance(), "outcome": rounded(found)}


def chosen(options: argparse.Namespace) -> list[Run]:
    """The runs of this process."""
    part, parts = (int(number) for number in options.part.split("/"))
    if not 1 <= part <= parts:
        raise SystemExit(f"--part is {options.part}; give i/n with i from 1 to n")
    suites = options.suites.split(",")
    return [
        run
        for run in runs()[part - 1 :: parts]
        if run.suite in suites
        and options.only in run.name
        and (options.worlds is None or run.world in options.worlds.split(","))
        and run.method in METHODS
        and shipped_reasoner(run.world).is_dir()
    ]


def line_of(run: Run, outcome: dict[str, Any]) -> str:
    """What is said of a finished run."""
    test, ended = outcome["measured"]["test"], outcome["ended"]
    told = f"{run.name}: {test['accuracy']:.3f} at {test['tokens']:.1f} tokens, {outcome['seconds']:.0f} s"
    return told + (f", ended: {ended}" if ended else "")


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether nobody else is making a result; the claim is given back, and is void after ten minutes."""
    claim = path.with_suffix(".running")
    claim.parent.mkdir(parents=True, exist_ok=True)
    if claim.is_file() and time.time() - claim.stat().st_mtime > STALE_SECONDS:
        claim.unlink(missing_ok=True)
    try:
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        yield False
        return
    try:
        yield True
    finally:
        claim.unlink(missing_ok=True)


def attempted(run: Run, path: Path, options: argparse.Namespace) -> bool:
    """Make one result, on the CPU if not otherwise; a run that fails is told and leaves the others to go on."""
    for device in dict.fromkeys((options.device, "cpu")):
        try:
            result = carry_out(run, device)
        except Exception:
            print(f"{run.name} failed on {device}:\n{traceback.format_exc()}", flush=True)
            continue
        atomic_write_json(path, result | commit_of(options))
        print(line_of(run, result["outcome"]), flush=True)
        return True
    return False


def commit_of(options: argparse.Namespace) -> dict[str, str]:
    """The commit that the command line names, for a tree without its history."""
    return {"commit": options.commit} if options.commit else {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", default=",".join(SUITES), help="which of methods, ablation, baselines")
    parser.add_argument("--worlds", help="only these worlds")
    parser.add_argument("--only", default="", help="only runs whose name holds this text")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th run, beginning with the i-th")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    parser.add_argument("--commit", help="the commit of this tree, where it is no git checkout")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which no run is begun")
    parser.add_argument("--base", action="store_true", help="measure the untouched models instead")
    parser.add_argument("--list", action="store_true", help="name the runs and what is there already")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began, failed = time.perf_counter(), 0
    if options.base:
        wanted = options.worlds.split(",") if options.worlds else list(WORLDS)
        for name in (world for world in wanted if shipped_reasoner(world).is_dir()):
            found = base_result(name, options.device) | commit_of(options)
            atomic_write_json(options.out / f"base-{name}.json", found)
        return 0
    for run in chosen(options):
        path = options.out / f"{run.name}.json"
        if options.list:
            print(f"{'there' if path.is_file() else 'open '} {run.name}")
            continue
        if path.is_file() or time.perf_counter() - began > options.stop_after:
            continue
        with claimed(path) as mine:
            if mine and not path.is_file():
                failed += not attempted(run, path, options)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
