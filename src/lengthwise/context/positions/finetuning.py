"""Fine-tuning on long documents under a position scheme, by TRL's SFTTrainer: Giraffe's set-up."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.config.groups.context import FineTuning
from lengthwise.context.positions.schemes import chunk, xpos_base_at
from lengthwise.data import read_rows, require_columns
from lengthwise.errors import ConfigError, InputError, TrainingError
from lengthwise.optional_imports import importing
from lengthwise.pretrained import check_vocabulary, copy_tokenizer, load_model, load_tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, TrainerCallback, TrainerState
    from transformers import PreTrainedTokenizerBase as Tokenizer

LORA = {"lora_alpha": 16, "lora_dropout": 0.05, "task_type": "CAUSAL_LM"}
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Lesson:
    """What a model is trained on under its scheme, and how.

    ``data``: rows with a column of documents. ``length`` c of a chunk, even; chunks overlap by half.
    ``scheduled_base``: lower xPos' B from 8192 by 8 a step, to 128.
    """

    data: str
    length: int
    how: FineTuning
    scheduled_base: bool = False
    trust_remote_code: bool = False


def import_trainer() -> Any:
    """TRL's SFT and the data set it takes.

    Raises:
        MissingExtraError: one of them is missing, or fails to import.
    """
    with importing("fine-tuning", "trl", "trl"):
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    return SFTConfig, SFTTrainer, Dataset


def chunked_documents(asked: Lesson, tokenizer: Tokenizer) -> list[dict[str, list[int]]]:
    """Training rows of the documents: half-overlapping chunks without special tokens; padding is left to the collator.

    Raises:
        InputError: a row without text, or no token at all.
    """
    rows = require_columns(read_rows(asked.data), (asked.how.text_column,), asked.data)
    texts = [str(row[asked.how.text_column]) for row in rows]
    documents = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    chunks = [
        {"input_ids": ids[: sum(mask)]} for document in documents for ids, mask in chunk(list(document), asked.length)
    ]
    if not chunks:
        raise InputError(f"data is {asked.data!r}; its documents have no tokens")
    return chunks


def finetune(start: Path, out: Path, asked: Lesson) -> Mapping[str, float]:
    """Train the folder `start` and save weights and tokenizer into `out`; returns RoPE options that training changed.

    Raises:
        MissingExtraError: TRL is not installed.
        InputError: data that is not what is wanted.
        TrainingError: weights that are no numbers any more.
    """
    SFTConfig, SFTTrainer, Dataset = import_trainer()  # classes
    import torch

    how = asked.how
    tokenizer = load_tokenizer(start, trust_remote_code=asked.trust_remote_code)
    if tokenizer.pad_token is None:  # for the trainer alone: the files that are saved are the model's own
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    rows = chunked_documents(asked, tokenizer)
    model = load_model(start, dtype=torch.float32, trust_remote_code=asked.trust_remote_code)
    check_vocabulary(model, tokenizer, str(start))
    stored = getattr(torch, str(getattr(model.config, "dtype", None)).removeprefix("torch."), torch.float32)
    options = SFTConfig(
        output_dir=str(start / "trainer"), per_device_train_batch_size=how.micro_batch_rows,
        gradient_accumulation_steps=how.batch_rows // how.micro_batch_rows, num_train_epochs=how.epochs,
        max_steps=how.steps or -1, learning_rate=how.lr, warmup_steps=how.warmup_steps, seed=how.seed,
        bf16=how.dtype == "bfloat16", fp16=how.dtype == "float16", max_length=None, packing=False,
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, save_strategy="no",
        report_to="none", dataset_kwargs={"skip_prepare_dataset": True}, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    trainer = SFTTrainer(
        model, args=options, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=_lora(how, model), callbacks=[_lowered_base(model)] if asked.scheduled_base else None,
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):  # the trainer logs there, and stdout is for results
        trainer.train()
    trained = trainer.model.merge_and_unload() if how.lora else trainer.model
    broken = [name for name, parameter in trained.named_parameters() if not parameter.isfinite().all()]
    if broken:
        raise TrainingError(f"training left NaN or infinity in {len(broken)} weights, first {broken[0]}; lower --lr")
    trained.to(stored).save_pretrained(out)
    copy_tokenizer(start, out)
    if not asked.scheduled_base:
        return {}
    return {"xpos_scale_base": model.config.rope_parameters["xpos_scale_base"]}


def _lora(how: FineTuning, model: PreTrainedModel) -> LoraConfig | None:
    if not how.lora:
        return None
    has = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    missing = [name for name in LORA_TARGETS if name not in has]
    if missing:
        raise ConfigError(
            f"lora is {how.lora}; model_type {model.config.model_type!r} has no {missing[0]} for it to train. "
            "Leave --lora away to train all weights"
        )
    with importing("fine-tuning with --lora", "peft", "trl"):
        from peft import LoraConfig

    return LoraConfig(r=how.lora, target_modules=LORA_TARGETS, **LORA)


def _lowered_base(model: PreTrainedModel) -> TrainerCallback:
    """A callback that sets xPos' B before every optimiser step, as the authors' runs do."""
    from transformers import TrainerCallback

    class Lowered(TrainerCallback):  # type: ignore[misc]  # transformers is not read by the checker
        def on_step_begin(self, args: object, state: TrainerState, control: object, **_: object) -> None:
            model.config.rope_parameters["xpos_scale_base"] = xpos_base_at(state.global_step)

    return Lowered()
