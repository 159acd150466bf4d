"""Batches of given responses through the TRL adapter: advantages, gradients before clipping, and what moved.

Imported by test_trl.py, and run by ``accelerate launch`` for several processes:
python tests/helpers/trl_driver.py METHOD OUT GIVEN
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.rollouts import Rollouts
from lengthwise.grading.problems import Problems
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method

CAP, SIZE, GROUPS, SEED = 34, 4, 5, 3
ROWS = SIZE * GROUPS
RATE = 0.3
"""High, so that a second update is well off the first: near it, differences of float32 are mostly rounding."""
OPTIONS: dict[str, dict[str, Any]] = {
    "siri": {"cycle": 4, "shortest": 30},
    "dler": {"kl_coef": 0.1},
    "drpo": {"lam": 0.3, "kl_limit": 0.0, "kl_coef": 20.0},
    "grpo-lambda": {"fraction": 0.5},
    "grpo": {"kl_coef": 0.05},
    "alp": {"gate": "right"},  # an old method behind a gate
    "laser-de": {"every": 1, "watched": 4},
}


def made(name: str) -> Any:
    """The method, with options that make its parts differ."""
    return build_method(name, cap=CAP, **OPTIONS.get(name, {}))


def practice() -> Problems:
    """Five chains, one of each level from 1 to 5."""
    from lengthwise.runs.chains_demo import chain_problems

    rows = [chain for level in (1, 2, 3, 4, 5) for chain in chains.problems(1, split="train", seed=1, levels=[level])]
    return chain_problems(rows[:GROUPS], shipped_reasoner())


def sampled(model: Any, problems: Problems) -> Rollouts:
    """A batch of ragged responses, drawn at a temperature at which some are wrong and some are cut."""
    rows = [prompt for prompt in problems.prompts for _ in range(SIZE)]
    owners = [place for place in range(len(problems)) for _ in range(SIZE)]
    drawn = Sampler(model, eos_ids=list(problems.contract.eos_ids), pad_id=0).generate(
        rows, caps=CAP, generator=torch.Generator().manual_seed(11), temperature=1.5,
        group_ids=owners, problem_ids=owners,
    )  # fmt: skip
    verdicts = [problems.is_right(place, drawn.response(row)) for row, place in enumerate(owners)]
    return drawn.with_fields(answer_correct=torch.tensor(verdicts), logp=torch.zeros_like(drawn.logp))


class Recorder(TrainerCallback):
    """Keeps the gradients of every update, before clipping."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        named = kwargs["model"].named_parameters()
        found = {name.removeprefix("module."): p.grad.detach().clone() for name, p in named if p.grad is not None}
        self.gradients.append(found)


def responder(given: dict[str, list[list[int]]]) -> Any:
    """A rollout function that answers from a table: prompt -> the responses of its group, in turn."""

    def respond(prompts: list[str], trainer: Any) -> dict[str, Any]:
        first = trainer.accelerator.process_index * len(prompts)
        chosen = [given[text][(first + place) % SIZE] for place, text in enumerate(prompts)]
        ids = trainer.processing_class(text=prompts)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": chosen, "logprobs": [[0.0] * len(c) for c in chosen]}

    return respond


def trainer_for(method: Any, *, updates: int = 1, accumulate: int = 1, rows: int = ROWS, **changes: Any) -> Any:
    """A trainer on the five chains; `changes` are settings of GRPOConfig, or arguments of the trainer."""
    from trl import GRPOConfig

    from lengthwise.adapters.trl import LengthwiseGRPOTrainer

    ours = ("problems", "train_dataset", "eval_dataset", "reward_funcs", "rollout_func", "callbacks", "peft_config",
            "max_draws", "method_options", "processing_class", "model")  # fmt: skip
    named = {name: changes.pop(name) for name in ours if name in changes}
    if "train_dataset" not in named:
        named.setdefault("problems", practice())
    settings: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(), "per_device_train_batch_size": rows // (updates * accumulate),
        "gradient_accumulation_steps": accumulate, "steps_per_generation": updates * accumulate,
        "num_generations": SIZE, "max_completion_length": CAP, "learning_rate": RATE, "max_steps": updates,
        "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 1e9, "report_to": [], "use_cpu": True,
        "save_strategy": "no", "bf16": False, "seed": SEED, "disable_tqdm": True, "logging_strategy": "no",
        "shuffle_dataset": False,
    }  # fmt: skip
    model = named.pop("model", str(shipped_reasoner()))
    return LengthwiseGRPOTrainer(model, args=GRPOConfig(**(settings | changes)), method=method, **named)


def one_batch(name: str, given: dict[str, list[list[int]]], **changes: Any) -> dict[str, Any]:
    """Learn from one batch of given responses; what the trainer made of it."""
    recorder = Recorder()
    trainer = trainer_for(
        made(name), rollout_func=responder(given), callbacks=[recorder], **({"max_draws": 1} | changes)
    )
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    after = trainer.accelerator.unwrap_model(trainer.model).named_parameters()
    minis = [entry["mini"] for entry in trainer._buffered_inputs if entry["micro"] == 0]
    return {
        "gradients": recorder.gradients,
        "advantages": [mini.advantages for mini in minis],
        "rollouts": [mini.batch.rollouts for mini in minis],
        "parts": [mini.parts for mini in minis],
        "moved": {n: float((p.detach() - before[n]).abs().max()) for n, p in after if n in before},
        "trainer": trainer,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, out, given = sys.argv[1:]
    model = AutoModelForCausalLM.from_pretrained(shipped_reasoner(), dtype=torch.float64)
    found = one_batch(name, json.loads(Path(given).read_text()), accumulate=2, rows=ROWS // 2, model=model)
    trainer = found.pop("trainer")
    if trainer.accelerator.is_main_process:
        torch.save(found | {"processes": trainer.accelerator.num_processes}, out)
