"""One batch of given responses through the TRL adapter: advantages, gradients before clipping, and what moved.

Imported by test_trl.py, and run by ``accelerate launch`` for several processes:
python tests/trl_driver.py METHOD OUT GIVEN [updates] [accumulate] [rows] [lora]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.sampler import Sampler
from lengthwise.evaluation.problems import Problems
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods import build_method

CAP, SIZE, GROUPS, SEED = 34, 4, 5, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "siri": {"cycle": 4, "shortest": 30},
    "dler": {"kl_coef": 0.1},
    "drpo": {"lam": 0.3, "kl_limit": 0.0, "kl_coef": 20.0},
    "grpo-lambda": {"fraction": 0.5},
    "grpo": {"kl_coef": 0.05},
}


def made(name: str) -> Any:
    return build_method(name, cap=CAP, **OPTIONS.get(name, {}))


def practice() -> Problems:
    from lengthwise.study.demo import chain_problems

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
    """Keeps the gradients of every update, before clipping, and the weights around it."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        found = {
            name.removeprefix("module."): p.grad.detach().clone()
            for name, p in kwargs["model"].named_parameters()
            if p.grad is not None
        }
        self.gradients.append(found)


def one_batch(
    name: str, given: dict[str, list[list[int]]], *, updates: int = 1, accumulate: int = 1, rows: int = 20,
    lora: bool = False, out: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    from trl import GRPOConfig

    from lengthwise.adapters.trl import LengthwiseGRPOTrainer

    problems, recorder = practice(), Recorder()

    def respond(prompts: list[str], trainer: Any) -> dict[str, Any]:
        first = trainer.accelerator.process_index * len(prompts)
        chosen = [given[text][(first + place) % SIZE] for place, text in enumerate(prompts)]
        ids = trainer.processing_class(text=prompts)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": chosen, "logprobs": [[0.0] * len(c) for c in chosen]}

    args = GRPOConfig(
        output_dir=out or tempfile.mkdtemp(), per_device_train_batch_size=rows // (updates * accumulate),
        gradient_accumulation_steps=accumulate, steps_per_generation=updates * accumulate, num_generations=SIZE,
        max_completion_length=CAP, learning_rate=1e-2, lr_scheduler_type="constant", max_steps=updates, optim="sgd",
        max_grad_norm=1e9, report_to=[], use_cpu=True, save_strategy="no", bf16=False, seed=SEED, disable_tqdm=True,
        logging_strategy="no", shuffle_dataset=False,
    )  # fmt: skip
    extra: dict[str, Any] = {}
    if lora:
        from peft import LoraConfig

        extra["peft_config"] = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = LengthwiseGRPOTrainer(
        str(shipped_reasoner()), args=args, method=made(name), problems=problems, rollout_func=respond, max_draws=1,
        callbacks=[recorder], **extra,
    )  # fmt: skip
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    moved = {n: float((p.detach() - before[n]).abs().max()) for n, p in trainer.model.named_parameters() if n in before}
    minis = [entry["mini"] for entry in trainer._buffered_inputs if entry["micro"] == 0]
    return {
        "gradients": recorder.gradients,
        "advantages": [mini.advantages for mini in minis],
        "rollouts": [mini.batch.rollouts for mini in minis],
        "parts": [mini.parts for mini in minis],
        "moved": moved,
        "trainer": trainer,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, out, given, *numbers = sys.argv[1:]
    updates, accumulate, rows = (int(number) for number in numbers[:3])
    found = one_batch(
        name, json.loads(Path(given).read_text()), updates=updates, accumulate=accumulate, rows=rows,
        lora=len(numbers) > 3,
    )  # fmt: skip
    trainer = found.pop("trainer")
    if trainer.accelerator.is_main_process:
        torch.save(found | {"processes": trainer.accelerator.num_processes}, out)
