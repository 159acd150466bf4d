"""The stage before `adaptive`: fine-tuning on long and short answers, with and without the instruction, by TRL."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.data import read_rows, require_columns
from lengthwise.engine.method import StageInputs
from lengthwise.engine.model_folders import load_policy, save_policy
from lengthwise.engine.rotary_switch import check_shared
from lengthwise.errors import ConfigError, InputError
from lengthwise.grading.prompt_contract import render
from lengthwise.json_types import JsonObject
from lengthwise.optional_imports import importing
from lengthwise.statistics.json_form import Result

IGNORED = -100


@dataclass(frozen=True)
class ModeSft:
    """What is taught: rows of `data` with a problem, a `long` and a `short` response, each begun by its opener."""

    data: str
    ask_long: str
    ask_short: str
    long_opener: str
    short_opener: str
    epochs: float
    lr: float
    batch: int

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "batch"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"sft_{name} is {getattr(self, name)}; give a positive number")


@dataclass(frozen=True)
class Tuned(Result):
    """What the stage found: answers taught, steps, and the mean loss."""

    answers: int
    steps: int
    loss: float


def check_trl() -> Any:
    """TRL's SFT and the data set it takes.

    Raises:
        MissingExtraError: they are not installed.
    """
    with importing("sft_data", "trl", "trl"):
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    return SFTConfig, SFTTrainer, Dataset


def four_kinds(rows: Sequence[Mapping[str, Any]], problems: Any, asked: ModeSft) -> list[dict[str, list[int]]]:
    """Each row four times, long and short, asked for and bare: token ids, and labels on the response alone.

    Raises:
        InputError: a response that its mode's opener does not begin; the row is named.
    """
    contract, tokenizer = problems.contract, problems.tokenizer
    found = []
    for number, row in enumerate(rows, 1):
        for column, opener, words in (
            ("long", asked.long_opener, asked.ask_long), ("short", asked.short_opener, asked.ask_short),
        ):  # fmt: skip
            if not row[column].startswith(opener):
                raise InputError(
                    f"{asked.data}, row {number}: the {column} response begins {row[column][:40]!r}; begin it with its "
                    f"opener {opener!r}, or name another as --option {column}_opener=..."
                )
            answer = [*tokenizer(row[column], add_special_tokens=False)["input_ids"], contract.eos_ids[0]]
            for said in (words, ""):
                asking = {contract.problem_column: said + row[contract.problem_column]}
                prompt = render(contract, tokenizer, asking)[1]
                found.append({"input_ids": [*prompt, *answer], "labels": [IGNORED] * len(prompt) + answer})
    return found


def fine_tune(inputs: StageInputs, *, asked: ModeSft) -> JsonObject:
    """The stage: read, teach, save; a stage that was killed begins anew."""
    config, trainer_class, dataset = check_trl()
    columns = (inputs.problems.contract.problem_column, "long", "short")
    rows = four_kinds(require_columns(read_rows(asked.data), columns, asked.data), inputs.problems, asked)
    inputs.tell(f"fine-tuning on {len(rows)} answers in both modes")
    runtime = inputs.runtime
    policy = load_policy(inputs.model, device=runtime.device, trust_remote_code=runtime.trust_remote_code)
    check_shared(policy.model.config, max(len(row["input_ids"]) for row in rows), "TRL", ours=False)
    trainer = trainer_class(
        policy.model,
        args=_settings(config, asked, inputs, [len(row["input_ids"]) for row in rows]),
        train_dataset=dataset.from_list(rows),
        processing_class=copy.deepcopy(policy.tokenizer),  # the trainer may set its padding
    )
    with contextlib.redirect_stdout(sys.stderr):  # the trainer logs there, and stdout is for results
        found = trainer.train()
    policy.model.eval()
    save_policy(policy, Path(inputs.out))
    return Tuned(len(rows), trainer.state.global_step, found.training_loss).to_dict()


def _settings(config: Any, asked: ModeSft, inputs: StageInputs, lengths: Sequence[int]) -> Any:
    steps = max(1, round(asked.epochs * len(lengths) / asked.batch))
    # As many rows at a time as the run's micro-batches hold tokens, in equal parts of a batch.
    most = max(1, inputs.train.micro_batch_tokens // max(lengths))
    micro = max(size for size in range(1, asked.batch + 1) if asked.batch % size == 0 and size <= most)
    return config(
        output_dir=str(inputs.work), per_device_train_batch_size=micro, max_steps=steps, learning_rate=asked.lr,
        gradient_accumulation_steps=asked.batch // micro, warmup_steps=steps // 20, lr_scheduler_type="cosine",
        weight_decay=inputs.train.weight_decay, seed=inputs.train.seed, max_length=None, packing=False,
        save_strategy="no", report_to="none",
        bf16=inputs.runtime.dtype == "bfloat16", fp16=inputs.runtime.dtype == "float16", gradient_checkpointing=False,
        dataset_kwargs={"skip_prepare_dataset": True}, use_cpu=inputs.runtime.device == "cpu" or _no_cuda(),
        disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip


def _no_cuda() -> bool:
    import torch

    return not torch.cuda.is_available()
