"""DPO on pairs by TRL's trainer, on tokens that we make, and continued from its own checkpoints after a kill."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import AdaptationHere, Training
from lengthwise.engine.model_folders import Policy, load_policy, resolve_device, save_policy
from lengthwise.engine.rotary_switch import check_shared
from lengthwise.errors import ConfigError, InputError, TrainingError
from lengthwise.files import replacing
from lengthwise.grading.problems import Problems
from lengthwise.optional_imports import importing
from lengthwise.statistics.json_form import Result

if TYPE_CHECKING:
    from lengthwise.methods.papers.ada_r1 import BiLevel

CHECKPOINTS, LOG = "checkpoints", "dpo.jsonl"
_COMPLETE = "trainer_state.json"  # the last file that transformers writes into a checkpoint


@dataclass(frozen=True, kw_only=True)
class Trained(Result):
    """What DPO says of itself: its pairs and steps, the first loss and the last step's numbers."""

    pairs: int
    steps: int
    loss_first: float
    loss_last: float
    pair_accuracy_last: float | None
    margin_last: float | None


def check_trl(device: str) -> None:
    """See before any long work that TRL is there and can use the device.

    Raises:
        MissingExtraError: no TRL.
        ConfigError: a device that its trainer would not take.
    """
    import_trl()
    import torch

    where = resolve_device(device)
    if where.type == "cuda" and (where.index not in (None, 0) or torch.cuda.device_count() > 1):
        raise ConfigError(
            f"device is {device!r}, but TRL's trainer takes the first device that it sees and wants only one; "
            "set CUDA_VISIBLE_DEVICES to one device and leave --device out"
        )


def import_trl() -> Any:
    """TRL's DPO: its config and trainer, and the data set they take.

    Raises:
        MissingExtraError: one of them is missing, or fails to import.
    """
    with importing("ada-r1", "trl", "trl"):
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

    return DPOConfig, DPOTrainer, Dataset


def pair_tokens(pairs: Iterable[Mapping[str, Any]], problems: Problems) -> tuple[list[dict[str, list[int]]], int]:
    """Pairs as token ids, ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``, and how many responses changed length.

    A response is tokenised by itself behind its prompt's own tokens, and ends on EOS only if it was finished: a cut
    one is not taught to end. Some tokenizers split a text unlike the model wrote it, which the count shows.
    """
    prompts = dict(zip(problems.ids, problems.prompts, strict=True))
    rows, changed = [], 0
    for pair in pairs:
        row = {"prompt_ids": list(prompts[pair["problem_id"]])}
        for side in ("chosen", "rejected"):
            tokens = list(problems.tokenizer(pair[side], add_special_tokens=False)["input_ids"])
            if pair[f"{side}_finished"]:
                tokens.append(problems.contract.eos_ids[0])
            changed += len(tokens) != pair[f"{side}_tokens"]
            row[f"{side}_ids"] = tokens
        rows.append(row)
    return rows, changed


def micro_batch(rows: Sequence[Mapping[str, Sequence[int]]], *, batch: int, max_length: int, tokens: int) -> int:
    """Pairs of one forward and backward: the largest divisor of ``batch`` with padded tokens up to ``tokens``."""
    longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows)
    most = max(1, tokens // (2 * min(longest, max_length)))
    return max(size for size in range(1, batch + 1) if batch % size == 0 and size <= most)


def train_on_pairs(
    model: Path,
    out: Path,
    work: Path,
    rows: Sequence[Mapping[str, Sequence[int]]],
    settings: BiLevel,
    train: Training,
    runtime: TrainingRuntime,
    adaptation: AdaptationHere,
) -> Trained:
    """Train a model on pairs against itself and save it to `out`; returns what training says.

    The reference is the model as it was, loaded anew, also after a kill. `work` keeps TRL's checkpoints until the
    model is saved, and the log of all steps.

    Raises:
        InputError: no pair.
        TrainingError: a loss that is not finite.
        UnsupportedModelError: rotary factors that would switch within a batch.
    """
    if not rows:
        raise InputError(
            "there is no pair to train on: no problem has a right response, or all responses to each are equal; draw "
            "more samples, raise --cap, or take easier problems"
        )
    policy, reference = (_load(model, runtime, adaptation) for _ in range(2))
    reference.model.requires_grad_(False)
    longest = max(len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows)
    check_shared(policy.model.config, min(longest, settings.max_length), "TRL", ours=False)
    trainer = _trainer(policy, reference, rows, settings, train, runtime, adaptation, work / CHECKPOINTS)
    trainer.train(resume_from_checkpoint=_newest(work / CHECKPOINTS))
    history = [row for row in trainer.state.log_history if "loss" in row]
    if not all(math.isfinite(row["loss"]) for row in history):
        raise TrainingError("the loss of DPO is not finite; lower the option lr, or check the pairs")
    with replacing(work / LOG) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    save_policy(policy, out)
    shutil.rmtree(work / CHECKPOINTS)
    last = history[-1]
    return Trained(
        pairs=len(rows),
        steps=trainer.state.global_step,
        loss_first=history[0]["loss"],
        loss_last=last["loss"],
        pair_accuracy_last=last.get("rewards/accuracies"),
        margin_last=last.get("rewards/margins"),
    )


def _load(model: Path, runtime: TrainingRuntime, adaptation: AdaptationHere) -> Policy:
    return load_policy(
        model, device=runtime.device, dtype=runtime.dtype, trust_remote_code=runtime.trust_remote_code,
        liger=adaptation.liger,
    )  # fmt: skip


def _trainer(
    policy: Policy,
    reference: Policy,
    rows: Sequence[Mapping[str, Sequence[int]]],
    settings: BiLevel,
    train: Training,
    runtime: TrainingRuntime,
    adaptation: AdaptationHere,
    folder: Path,
) -> Any:
    config, base, data_set = import_trl()

    class OnTokens(base):  # type: ignore[misc, valid-type, unused-ignore]
        """TRL tokenises texts and ends each on EOS, also those that were cut; ours are tokens already."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    size = micro_batch(rows, batch=settings.batch, max_length=settings.max_length, tokens=train.micro_batch_tokens)
    arguments = config(
        output_dir=str(folder),
        beta=settings.beta,
        learning_rate=settings.lr,
        weight_decay=0.0,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=settings.batch // size,
        num_train_epochs=settings.epochs,
        max_length=settings.max_length,
        lr_scheduler_type={"constant": "constant_with_warmup", "cosine": "cosine"}[settings.schedule],
        warmup_steps=settings.warmup if settings.warmup < 1 else 0.999,
        max_grad_norm=settings.grad_clip,
        gradient_checkpointing=adaptation.gradient_checkpointing,
        bf16=runtime.dtype == "bfloat16",
        fp16=runtime.dtype == "float16",
        use_cpu=policy.device.type == "cpu",
        seed=train.seed,
        data_seed=train.seed,
        save_strategy="steps",
        save_steps=train.checkpoint_every,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # which would write a NaN down as the mean of the losses before it
        report_to="none",
        disable_tqdm=True,
    )
    data = data_set.from_list([dict(row) for row in rows])
    trainer = OnTokens(
        model=policy.model, ref_model=reference.model, args=arguments, train_dataset=data,
        processing_class=copy.deepcopy(policy.tokenizer),  # the trainer may set its padding
    )  # fmt: skip
    _quiet(trainer)
    return trainer


def _quiet(trainer: Any) -> None:
    """Without a progress bar the trainer prints every step; the log has them."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _newest(folder: Path) -> str | None:
    """The newest whole checkpoint; those that a kill left half-written are removed."""
    found = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    for step in [step for step, path in found.items() if not (path / _COMPLETE).is_file()]:
        shutil.rmtree(found.pop(step))
    return str(found[max(found)]) if found else None
