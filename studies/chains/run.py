"""The demo's study: DLER on chains beside what must be beaten, three seeds, 2,000 held-out problems.

Arms: `dler` (the demo's settings); `grpo` (no length term, room for the longest answers, as many sampled tokens as
DLER drew); `sft` (next-token loss on the base's shortest right samples, at DLER's sampled tokens); `random` (DLER
with a coin for a reward: must not shorten at kept accuracy); `high-lr` (DLER at thirty times the rate: collapse);
`base` (the untouched model at temperatures 0, 0.3, 0.6 and 1).
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine import Method, load_policy
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.errors import TrainingError
from lengthwise.generation.sampling import ROWS_AT_ONCE, evaluate, sample_answers
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import dler
from lengthwise.runs.chains_demo import (
    CAP,
    EVAL_CAP,
    TRAIN_PROBLEMS,
    chain_problems,
    demo_training,
    held_out,
    oracle_mean,
    shorten_chains,
)
from lengthwise.runs.compare.random_control import coin
from lengthwise.statistics.metrics import removable_share
from lengthwise.statistics.records import compare
from studies.running import Place, Run
from studies.summary import Numbers

ARMS, SEEDS = ("dler", "grpo", "sft", "random", "high-lr", "base"), (0, 1, 2)
OPTIONS = {"steps": 120, "problems": 2000}
"""Training steps, and held-out problems."""
HIGH_LR = 3e-3
TEMPERATURES = (0.0, 0.3, 0.6, 1.0)


def runs() -> list[Run]:
    """Every arm and seed; two take as many tokens as DLER drew."""
    needs = {"grpo": ("dler-{}",), "sft": ("dler-{}", "dler-0")}
    return [
        Run(f"{arm}-{seed}", partial(carry_out, arm, seed), tuple(n.format(seed) for n in needs.get(arm, ())))
        for arm in ARMS
        for seed in SEEDS
    ]


def carry_out(arm: str, seed: int, place: Place) -> Numbers:
    if arm == "base":
        outcome = run_base(seed, place)
    elif arm == "sft":
        outcome = run_sft(seed, place)
    else:
        folder = place.scratch(f"{arm}-{seed}")
        outcome = run_or_collapse(arm, seed, place, folder)
        for name in ("model", "report"):  # paths of one machine
            outcome.pop(name, None)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {"arm": arm, "seed": seed, "outcome": outcome}


def run_or_collapse(arm: str, seed: int, place: Place, folder: Path) -> Numbers:
    """A run's outcome; one that ends for want of anything to learn gives its last step's numbers and the reason."""
    try:
        return run_rl(arm, seed, place, folder)
    except TrainingError as error:
        last = read_metrics(folder)[-1]
        shown = ("step", "accuracy", "mean_tokens", "sampled_tokens", "seconds")
        return {"collapsed": str(error), "last_step": {name: last[name] for name in shown}}


def random_method() -> Method:
    return dataclasses.replace(dler(cap=CAP), name="random-reward", reward=coin, keep=None)


def run_rl(arm: str, seed: int, place: Place, folder: Path) -> Numbers:
    problems = place.options["problems"]
    training = demo_training(seed=seed, steps=place.options["steps"])
    if arm == "dler":
        return shorten_chains(folder, training, limit=problems).to_dict()
    if arm == "random":
        return shorten_chains(folder, training, limit=problems, method=random_method()).to_dict()
    if arm == "high-lr":
        return shorten_chains(folder, training.replace(lr=HIGH_LR, steps=60), limit=problems).to_dict()
    training = training.replace(steps=1000, token_budget=dler_tokens(seed, place))
    return shorten_chains(folder, training, limit=problems, method="grpo", cap=EVAL_CAP).to_dict()


def dler_tokens(seed: int, place: Place) -> int:
    """Tokens that DLER sampled with this seed: the budget of the other arms."""
    return int(place.result(f"dler-{seed}")["outcome"]["sampled_tokens"])


def run_sft(seed: int, place: Place) -> Numbers:
    """Best-of-8 by length among the right answers, then next-token loss on the response."""
    policy = load_policy(shipped_reasoner())
    base_tokens = float(place.result("dler-0")["outcome"]["before"]["mean_tokens"])
    count = min(TRAIN_PROBLEMS, round(dler_tokens(seed, place) / (8 * base_tokens)))
    problems = chain_problems(chains.problems(count, split="train", seed=seed), shipped_reasoner())
    rollouts = sample_answers(policy, problems, Sampling(cap=EVAL_CAP, samples=8, seed=seed, sample_rows=ROWS_AT_ONCE))
    best: dict[int, int] = {}
    for row, owner in enumerate(rollouts.problem_ids.tolist()):
        if rollouts.correct[row] and (owner not in best or rollouts.num_tokens[row] < rollouts.num_tokens[best[owner]]):
            best[owner] = row
    rows = list(best.values())
    pairs = [(rollouts.prompt(row), rollouts.response(row)) for row in rows]
    started = time.perf_counter()
    finetune(policy.model, pairs, seed=seed)
    test, _ = held_out(place.options["problems"], shipped_reasoner())
    return {
        **measured(policy, test, seed),
        "examples": len(pairs),
        "sampled_tokens": int(rollouts.num_tokens.sum()),
        "train_seconds": time.perf_counter() - started,
    }


def finetune(model: Any, pairs: list[tuple[list[int], list[int]]], *, seed: int, epochs: int = 2) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(pairs), generator=generator).tolist()
        for first in range(0, len(order), 32):
            part = [pairs[i] for i in order[first : first + 32]]
            width = max(len(p) + len(r) for p, r in part)
            ids = torch.tensor([p + r + [0] * (width - len(p) - len(r)) for p, r in part])
            labels = torch.tensor([[-100] * len(p) + r + [-100] * (width - len(p) - len(r)) for p, r in part])
            logits = model(input_ids=ids).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()


def measured(policy: Any, test: Any, seed: int) -> Numbers:
    """The same fields as an outcome of `shorten`, for an arm that has no run folder."""
    base = load_policy(shipped_reasoner())
    found: Numbers = {}
    for suffix, temperature in (("", 1.0), ("_greedy", 0.0)):
        sampling = Sampling(cap=EVAL_CAP, temperature=temperature, seed=seed, sample_rows=ROWS_AT_ONCE)
        before, _ = evaluate(base, test, sampling, name="before", data="lab:chains")
        after, _ = evaluate(policy, test, sampling, name="after", data="lab:chains")
        found[f"before{suffix}"], found[f"after{suffix}"] = (r.summary(seed=seed).to_dict() for r in (before, after))
        found[f"difference{suffix}"] = compare(before, after, seed=seed).to_dict()
    before, after = (found[name]["mean_tokens"] for name in ("before", "after"))
    found["tokens_saved"] = 1 - after / before
    found["removable_share"] = removable_share(before, after, oracle_mean(test))
    return found


def run_base(seed: int, place: Place) -> Numbers:
    policy = load_policy(shipped_reasoner())
    test, _ = held_out(place.options["problems"], shipped_reasoner())
    found = {}
    for temperature in TEMPERATURES:
        record, _ = evaluate(
            policy,
            test,
            Sampling(cap=EVAL_CAP, temperature=temperature, seed=seed, sample_rows=ROWS_AT_ONCE),
            name=f"base T={temperature}",
            data="lab:chains",
        )
        found[str(temperature)] = record.summary(seed=seed).to_dict()
    return {"temperatures": found, "oracle_tokens": oracle_mean(test)}
