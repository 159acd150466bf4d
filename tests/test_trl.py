"""The TRL adapter: the same numbers as the pure functions and our engine, in one process and in two."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("trl", reason="the extra trl is not installed")

import trl_driver as driver
from lengthwise.engine.batches import step_generator
from lengthwise.engine.scoring import Scorer
from lengthwise.engine.trainer import UPDATE_STAGE
from lengthwise.engine.updates import UpdatePlan, update_policy
from lengthwise.lab.reasoner import shipped_reasoner

METHODS = ["dler", "da-dler", "drpo", "siri", "grpo-lambda", "grpo", "dr-grpo", "rloo-lp", "kimi", "hapo", "laser-de"]


@pytest.fixture(scope="module")
def rollouts():
    model = AutoModelForCausalLM.from_pretrained(shipped_reasoner()).eval()
    drawn = driver.sampled(model, driver.practice())
    right = drawn.correct.float().reshape(-1, driver.SIZE).mean(1)
    assert ((right > 0) & (right < 1)).sum() >= 2, "a batch without mixed groups tests nothing"
    assert (~drawn.finished).any() and len(drawn.num_tokens.unique()) > 5
    return drawn


@pytest.fixture(scope="module")
def given(rollouts):
    problems = driver.practice()
    return {
        text: [rollouts.response(place * driver.SIZE + member) for member in range(driver.SIZE)]
        for place, text in enumerate(problems.texts)
    }


class Kept(torch.optim.SGD):
    """Plain descent that keeps the gradients of every step."""

    def __init__(self, model):
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.kept = []
        super().__init__(model.parameters(), lr=1e-2)

    def step(self, closure=None):
        rows = self.param_groups[0]["params"]
        self.kept.append({self.names[id(p)]: p.grad.clone() for p in rows if p.grad is not None})
        return super().step(closure)


def engine(name, rollouts, *, updates=1, state=None):
    """The same batch through our engine: gradients of every update, and advantages; `state` is what was observed."""
    model = AutoModelForCausalLM.from_pretrained(shipped_reasoner()).eval()
    start = AutoModelForCausalLM.from_pretrained(shipped_reasoner()).eval()
    method = driver.made(name)
    kept = rollouts if method.keep is None else rollouts.select(method.keep(rollouts))
    advantages = method.advantage(method.reward(kept, state or method.initial_state()), kept)
    optimizer = Kept(model)
    update_policy(
        Scorer(model), optimizer, list(model.parameters()), method, kept, advantages,
        UpdatePlan(updates=updates, micro_tokens=150, grad_clip=1e9),
        generator=step_generator(driver.SEED, 0, UPDATE_STAGE, torch.device("cpu")),
        reference=Scorer(start) if method.kl_coef else None,
    )  # fmt: skip
    return optimizer.kept, advantages, kept


def furthest(one, other):
    """The largest difference of two gradients, relative to the largest entry."""
    assert one.keys() == other.keys()
    scale = max(float(g.abs().max()) for g in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


def by_row(rollouts, advantages):
    """Advantages [B] or [B, T] by what was asked and answered, however the rows are dealt."""
    rows = {}
    for row in range(len(rollouts)):
        key = (tuple(rollouts.prompt(row)), tuple(rollouts.response(row)))
        credit = advantages[row] if advantages.dim() == 1 else advantages[row, 0]
        rows.setdefault(key, []).append(float(credit))
    return {key: sorted(values) for key, values in rows.items()}


def same_advantages(found, kept, advantages):
    mine = by_row(kept, advantages)
    theirs = {}
    for part, credit in zip(found["rollouts"], found["advantages"], strict=True):
        for key, values in by_row(part, credit).items():
            theirs[key] = sorted(theirs.get(key, []) + values)
    assert mine.keys() == theirs.keys()
    worst = max(abs(a - b) for key in mine for a, b in zip(mine[key], theirs[key], strict=True))
    assert worst <= 1e-6
    return worst


@pytest.mark.parametrize("name", METHODS)
def test_one_update_is_the_engines(name, rollouts, given):
    found = driver.one_batch(name, given, updates=1, accumulate=2)
    trainer = found["trainer"]
    seen = trainer.method_state if trainer.method.observe is not None else None
    gradients, advantages, kept = engine(name, rollouts, state=seen)
    same_advantages(found, kept, advantages)
    assert furthest(gradients[0], found["gradients"][0]) <= 1e-5


@pytest.mark.parametrize("name", ["dler", "drpo", "grpo-lambda"])
def test_two_updates_are_the_engines(name, rollouts, given):
    found = driver.one_batch(name, given, updates=2, accumulate=2)
    gradients, advantages, kept = engine(name, rollouts, updates=2)
    same_advantages(found, kept, advantages)
    assert len(gradients) == len(found["gradients"]) == 2
    assert furthest(gradients[0], found["gradients"][0]) <= 1e-5
    assert furthest(gradients[1], found["gradients"][1]) <= 1e-5
