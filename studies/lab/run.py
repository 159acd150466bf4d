"""The lab's study: every reinforcement-learning method of the papers against what is exactly known to be possible.

Worlds: witnesses (when to stop; the best rule is known) and chains (one pass is enough). What is run stands in
`plan.py`, what is measured in `worlds.py`, and what was expected, written down before, in `registered.json`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

from lengthwise.config.groups.training import Training
from lengthwise.engine.method import Method
from lengthwise.engine.model_folders import Policy, load_policy
from lengthwise.engine.trainer import Trainer
from lengthwise.engine.training_state import TrainingState
from lengthwise.errors import ConfigError, LengthwiseWarning, TrainingError
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.merging import update_selective_merge
from lengthwise.methods import build_method
from lengthwise.objectives import group_normalised
from studies.lab.plan import GROUP_NORMALISED, Trial, trials
from studies.lab.worlds import WORLDS, World, measure
from studies.running import Place, Run
from studies.summary import Numbers

KEPT = (
    "step", "cap", "accuracy", "mean_tokens", "p95_tokens", "cut_rate", "uniform_groups", "groups", "draws",
    "kept_accuracy", "kept_tokens", "sign_flips", "grad_norm", "updates", "trained_tokens", "approx_kl", "ratio_max",
    "entropy", "clip_high_share", "clip_low_share", "uniform_weights", "sampled_tokens", "decode_steps", "done",
    "explained_variance", "value_loss",
)  # fmt: skip
NEVER = 10**9


def runs() -> list[Run]:
    """The untouched models, then every trial of the plan."""
    bases = [Run(f"base-{world}", partial(measure_base, world)) for world in WORLDS]
    return bases + [Run(trial.name, partial(carry_out, trial)) for trial in trials()]


@cache
def world_of(name: str) -> World:
    """A world by its name, made once in a process."""
    return WORLDS[name]()


def method_of(trial: Trial, world: World) -> Method:
    """The trial's method with its options, changed where the trial is a variant."""
    method = build_method(trial.method, cap=trial.cap or world.longest, **trial.options).loop
    if method is None:
        raise ConfigError(f"{trial.name}: {trial.method} has no training loop")
    method = dataclasses.replace(method, prepare=(), finish=())  # the shipped bases are what a stage before would make
    if trial.variant == GROUP_NORMALISED:
        return dataclasses.replace(method, advantage=lambda rewards, r: group_normalised(rewards, r.group_ids))
    return method


class NoCheckpoints:
    """A run is over in a minute: it is made whole or made again."""

    def save(self, run: TrainingState) -> None:
        pass

    def load(self) -> None:
        return None


def train(trial: Trial, world: World, policy: Policy) -> Numbers:
    """Train the policy in place by the trial's method."""
    return train_by(method_of(trial, world), trial, world, policy)


def train_by(method: Method, trial: Trial, world: World, policy: Policy) -> Numbers:
    """Train the policy in place; a run that ends early, for want of anything to learn, says so."""
    config = Training(**{"seed": trial.seed, "checkpoint_every": NEVER, **trial.train})
    problems = world.sets["test"].problems
    frozen = load_policy(policy.folder, device=str(policy.device)) if method.kl_coef else None
    reference = None if frozen is None else frozen.model.requires_grad_(False)
    steps: list[Numbers] = []
    ended = None
    with tempfile.TemporaryDirectory(prefix="lab-study-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LengthwiseWarning)
        trainer = Trainer(
            policy.model, method=method, task=world.task(trial.seed), config=config, folder=Path(folder),
            eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id, reference=reference,
            checkpoints=NoCheckpoints(),
        )  # fmt: skip
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


def carry_out(trial: Trial, place: Place) -> Numbers:
    """Train and measure one trial."""
    spent = time.process_time()
    world = world_of(trial.world)
    policy = load_policy(shipped_reasoner(world.base), device=place.device)
    outcome = train(trial, world, policy)
    trained = time.process_time()
    outcome["measured"] = measure(policy, world, seed=trial.seed)
    if trial.merged:
        merged_back(policy)
        outcome["merged"] = measure(policy, world, seed=trial.seed)["test"]
    outcome["cpu_seconds"] = {"train": trained - spent, "measure": time.process_time() - trained}
    return {"run": dataclasses.asdict(trial), "outcome": rounded(outcome)}


def measure_base(name: str, place: Place) -> Numbers:
    """The untouched model of a world."""
    world = world_of(name)
    policy = load_policy(shipped_reasoner(world.base), device=place.device)
    found = {"measured": measure(policy, world, seed=0)}
    return {"run": {"suite": "base", "world": name}, "outcome": rounded(found)}
