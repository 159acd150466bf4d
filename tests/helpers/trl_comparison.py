"""One batch through our engine and through TRL with the adapter: what comes of both, and how far apart it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
import trl_driver as driver
from transformers import AutoModelForCausalLM

from lengthwise.engine.batches import step_generator
from lengthwise.engine.groups import UPDATE_STAGE
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.updates import UpdatePlan, update_policy
from lengthwise.lab.reasoner import shipped_reasoner

METHODS = ["dler", "da-dler", "drpo", "siri", "grpo-lambda", "grpo", "dr-grpo", "rloo-lp", "kimi", "hapo", "laser-de",
           "gr3", "linear-penalty", "gdpo", "on-policy-sft", "laconic", "alp"]  # fmt: skip
IN_TWO = ["dler", "drpo", "grpo-lambda"]


def responses(rollouts):
    """The table of given responses: prompt text -> those of its group."""
    size = driver.SIZE
    return {
        text: [rollouts.response(place * size + member) for member in range(size)]
        for place, text in enumerate(driver.practice().texts)
    }


class Kept(torch.optim.SGD):
    """Plain descent that keeps the gradients of every step."""

    def __init__(self, model):
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.kept = []
        super().__init__(model.parameters(), lr=driver.RATE)

    def step(self, closure=None):
        rows = self.param_groups[0]["params"]
        self.kept.append({self.names[id(p)]: p.grad.clone() for p in rows if p.grad is not None})
        return super().step(closure)


def engine(name, rollouts, *, updates=1, state=None, dtype=torch.float32):
    """The same batch through our engine: gradients of every update, and advantages; `state` is what was observed."""
    model = AutoModelForCausalLM.from_pretrained(shipped_reasoner(), dtype=dtype).eval()
    start = AutoModelForCausalLM.from_pretrained(shipped_reasoner()).eval()
    method = driver.made(name)
    kept = rollouts if method.keep is None else rollouts.select(method.keep(rollouts))
    advantages = method.advantage(method.reward(kept, state or method.initial_state()), kept)
    optimizer = Kept(model)
    update_policy(
        Scorer(model), optimizer, list(model.parameters()), method, kept, advantages,
        UpdatePlan(updates=updates, micro_batch_tokens=150, grad_clip=1e9),
        generator=step_generator(driver.SEED, 0, UPDATE_STAGE, torch.device("cpu")),
        reference=Scorer(start) if method.kl_coef else None,
    )  # fmt: skip
    return optimizer.kept, advantages, kept


def furthest(one, other):
    """The largest difference of two gradients, relative to the largest entry; one that is not there is 0."""
    known = one.keys() | other.keys()
    pairs = [(one.get(n, other.get(n, 0) * 0), other.get(n, one.get(n, 0) * 0)) for n in known]
    scale = max(float(a.abs().max()) for a, _ in pairs)
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    return worst / scale if scale else worst


def by_row(rollouts, advantages):
    """Advantages [B] or [B, T] by what was asked and answered, however the rows are dealt."""
    rows = {}
    for row in range(len(rollouts)):
        key = (tuple(rollouts.prompt(row)), tuple(rollouts.response(row)))
        credit = advantages[row] if advantages.dim() == 1 else advantages[row, 0]
        rows.setdefault(key, []).append(float(credit))
    return {key: sorted(values) for key, values in rows.items()}


def same_advantages(found, kept, advantages):
    """Hold the bound and return the largest difference."""
    mine = by_row(kept, advantages)
    theirs = {}
    for part, credit in zip(found["rollouts"], found["advantages"], strict=True):
        for key, values in by_row(part, credit).items():
            theirs[key] = sorted(theirs.get(key, []) + values)
    assert mine.keys() == theirs.keys()
    worst = max(abs(a - b) for key in mine for a, b in zip(mine[key], theirs[key], strict=True))
    assert worst <= 1e-6
    return worst


def launched(folder, name, given):
    """The driver in two processes under `accelerate launch`, on gloo."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        str(Path(driver.__file__)), name, str(folder / f"{name}.pt"), str(given),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / f"{name}.pt", weights_only=False)
