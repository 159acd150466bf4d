"""The gate study: verl-recipe #125's collapse by a fine on length, in chains, and what stops it.

A fine on length that wrong answers pay too is their whole signal in groups that are all wrong, and division by the
spread gives it full strength there. Arms either leave such groups out or keep the fine from wrong answers.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
import warnings
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.training import Training
from lengthwise.engine.batches import Task
from lengthwise.engine.gates import Gate
from lengthwise.engine.method import Method, State
from lengthwise.engine.model_folders import Policy, load_policy
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.trainer import Trainer
from lengthwise.errors import LengthwiseWarning, TrainingError
from lengthwise.generation.sampling import sample_answers
from lengthwise.grading.problems import Problems
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods.gating import FLOOR, verdict_reward
from lengthwise.methods.papers.grpo import grpo
from lengthwise.objectives import group_normalised, mixed_groups
from lengthwise.objectives._wide import wide
from studies.gates.plan import CAP, LEVELS, START_TOKENS, TRAIN, Trial, trials
from studies.lab.run import NEVER, NoCheckpoints, rounded
from studies.lab.worlds import ready
from studies.running import Place, Run
from studies.summary import Numbers

WORLD = "chains"
TEST_PROBLEMS, TEST_ANSWERS, TRAIN_PROBLEMS = 64, 16, 3_000
KEPT = ("step", "accuracy", "mean_tokens", "cut_rate", "uniform_groups", "grad_norm", "entropy", "sampled_tokens")
OWN = ("kept_share", "all_wrong", "wrong_tokens", "wrong_decile", "right_tokens")
GATES = ("right", "solved", "rate-right")


def runs() -> list[Run]:
    """The untouched reasoner, then every trial."""
    bases = [Run(f"untouched-{mix}", partial(measure_base, mix)) for mix in LEVELS]
    return bases + [Run(trial.name, partial(carry_out, trial)) for trial in trials()]


# ------------------------------------------------------------------------------------------------ the method


def fined(rollouts: Rollouts, state: State, *, fine: float, wrong: float, full: float) -> Tensor:
    """Correctness less `fine` times the share of `full` tokens, at most 1; wrong rows pay it times `wrong`."""
    share = (wide(rollouts.num_tokens) / full).clamp(max=1.0)
    sign = torch.where(rollouts.correct, 1.0, wrong).to(share)
    return verdict_reward(rollouts) - fine * sign * share


def kept_groups(arm: str, rewards: Tensor, rollouts: Rollouts) -> Tensor:
    """The rows of groups that an arm learns from, bool [B]."""
    if arm == "verdicts":
        return mixed_groups(rollouts.correct, rollouts.group_ids)
    if arm == "shaped":
        return group_normalised(rewards, rollouts.group_ids, divide_by_std=False) != 0
    return torch.ones_like(rollouts.correct)


def credited(rewards: Tensor, rollouts: Rollouts, *, arm: str) -> Tensor:
    """GRPO's advantages; 0 in groups that are left out, which stay in the divisor of the loss, as in #125."""
    own = group_normalised(rewards, rollouts.group_ids)
    return torch.where(of_group(kept_groups(arm, rewards, rollouts), rollouts), own, 0.0)


def of_group(rows: Tensor, rollouts: Rollouts) -> Tensor:
    """Rows of whose group any is marked, bool [B]."""
    return torch.isin(rollouts.group_ids, rollouts.group_ids[rows])


def method_of(arm: str, fine: float, mix: str) -> Method:
    """GRPO with division by the spread and the fined reward, behind the arm's gate or filter."""
    shaped = partial(fined, fine=fine, wrong=-1.0 if arm == "reversed" else 1.0, full=START_TOKENS[mix])
    gated = arm in GATES
    gate = Gate(
        shaped=shaped, base=verdict_reward, kind=arm if gated else "none", floor=FLOOR if gated else None
    )  # fmt: skip
    plain = grpo(cap=CAP)
    return dataclasses.replace(
        plain, name=f"fined-{arm}", reward=gate.paid, gate=gate, advantage=partial(credited, arm=arm),
        measure=partial(told, arm=arm, gate=gate),
    )  # fmt: skip


def told(rollouts: Rollouts, state: State, advantages: Tensor, *, arm: str, gate: Gate) -> Mapping[str, float]:
    """Shares of groups kept and of groups all wrong; lengths of wrong and right answers and of the shortest wrong."""
    kept = of_group(kept_groups(arm, gate.paid(rollouts, state), rollouts), rollouts)
    lengths = wide(rollouts.num_tokens)
    wrong = lengths[~rollouts.correct].sort().values
    solved = of_group(rollouts.correct, rollouts)
    found = {
        "kept_share": float(wide(kept).mean()),
        "all_wrong": float(wide(~solved).mean()),
    }
    if len(wrong):
        found |= {
            "wrong_tokens": float(wrong.mean()),
            "wrong_decile": float(wrong[: max(1, len(wrong) // 10)].mean()),
        }
    if bool(rollouts.correct.any()):
        found["right_tokens"] = float(lengths[rollouts.correct].mean())
    return found


# ------------------------------------------------------------------------------------------------ a run


@cache
def task(mix: str, seed: int) -> Task:
    """What is trained on."""
    return ready(chains.problems(TRAIN_PROBLEMS, split="train", seed=seed, levels=LEVELS[mix]), WORLD, CAP).task()


@cache
def held_out(mix: str) -> Problems:
    """Other problems of the same levels."""
    return ready(chains.problems(TEST_PROBLEMS, split="test", seed=0, levels=LEVELS[mix]), WORLD, CAP)


def train(trial: Trial, policy: Policy) -> Numbers:
    """Train the policy in place; a run that ends early says so."""
    config = Training(**{"seed": trial.seed, "checkpoint_every": NEVER, **TRAIN})
    problems = held_out(trial.mix)
    steps: list[Numbers] = []
    ended = None
    with tempfile.TemporaryDirectory(prefix="gate-study-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", LengthwiseWarning)
        trainer = Trainer(
            policy.model, method=method_of(trial.arm, trial.fine, trial.mix),
            task=task(trial.mix, trial.seed), config=config,
            folder=Path(folder), eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id,
            checkpoints=NoCheckpoints(),
        )  # fmt: skip
        try:
            trainer.train(lambda metrics: steps.append({k: metrics[k] for k in (*KEPT, *OWN) if k in metrics}))
        except TrainingError as error:
            ended = str(error)
    return {"steps": steps, "ended": ended}


def measure(policy: Policy, mix: str, seed: int) -> Numbers:
    """Accuracy and lengths on held-out problems at temperature 1."""
    sampling = Sampling(cap=CAP, samples=TEST_ANSWERS, seed=seed, sample_rows=1024)
    drawn = sample_answers(policy, held_out(mix), sampling)
    lengths, correct = drawn.num_tokens.float(), drawn.correct
    found: Numbers = {
        "responses": len(drawn), "accuracy": float(correct.float().mean()), "tokens": float(lengths.mean()),
        "cut": float((~drawn.finished).float().mean()),
    }  # fmt: skip
    for name, rows in (("right_tokens", correct), ("wrong_tokens", ~correct)):
        found[name] = float(lengths[rows].mean()) if bool(rows.any()) else None
    return found


def carry_out(trial: Trial, place: Place) -> Numbers:
    """Train and measure one trial."""
    spent = time.process_time()
    policy = load_policy(shipped_reasoner(WORLD), device=place.device)
    outcome = {**train(trial, policy), "measured": measure(policy, trial.mix, trial.seed)}
    outcome["cpu_seconds"] = time.process_time() - spent
    return {"run": dataclasses.asdict(trial), "outcome": rounded(outcome)}


def measure_base(mix: str, place: Place) -> Numbers:
    """The untouched reasoner."""
    policy = load_policy(shipped_reasoner(WORLD), device=place.device)
    outcome = {"measured": measure(policy, mix, 0)}
    return {"run": {"arm": "untouched", "mix": mix, "seed": 0}, "outcome": rounded(outcome)}
