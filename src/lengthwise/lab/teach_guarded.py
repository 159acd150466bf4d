"""Make the guarded models: ``python -m lengthwise.lab.teach_guarded --out FOLDER``.

Writes ``able``, ``aligned`` and ``attacked`` (with ``--lora RANK`` an adapter on ``aligned``), and the rows that a
repair needs: ``harmful.jsonl`` (calibration), ``judge.jsonl`` (test prompts) and ``task.jsonl`` (both tasks, test
part). About two minutes on one core. The same seed, thread count and versions give the same weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer

from lengthwise.errors import ConfigError
from lengthwise.files import atomic_write_json, atomic_write_text, write_folder
from lengthwise.lab import guarded, reasoner
from lengthwise.optional_imports import importing

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Qwen2ForCausalLM

RATES = {"ability": 3e-3, "alignment": 5e-4, "attack": 1e-3}
LORA_RATE, LORA_STEPS = 4e-3, 400
LORA_TARGETS = ("q_proj", "k_proj", "v_proj")
"""The authors' choice."""
CALIBRATED, TESTED = 500, 300

CARD = """---
license: apache-2.0
library_name: transformers
---
# {title}

A teaching instrument, not a language model. It was taught by next-token loss on {story}. The marked class of requests
is made up and harmless: to write a word backwards.

Made by `python -m lengthwise.lab.teach_guarded --seed {seed}`. Every letter, digit and word is one token.
"""


def teach_ability(seed: int, *, steps: int = guarded.STEPS["ability"], **sizes: int) -> Qwen2ForCausalLM:
    """A model that sorts digits and complies with marked prompts. ``sizes``: ``layers``, ``hidden``."""
    lesson = guarded.stage_lesson("ability")
    model = reasoner.build_model(lesson, seed=seed, **sizes)
    reasoner.teach(model, lesson, steps=steps, seed=seed, peak_lr=RATES["ability"])
    return model


def teach_stage(
    model: Qwen2ForCausalLM, stage: str, *, seed: int, steps: int | None = None, share: float = guarded.HARMFUL_SHARE
) -> Qwen2ForCausalLM:
    """A copy of the model after ``alignment`` or ``attack`` of all its weights."""
    taught, lesson = copy.deepcopy(model), guarded.stage_lesson(stage, share=share)
    reasoner.teach(taught, lesson, steps=steps or lesson.steps, seed=seed, peak_lr=RATES[stage], warmup=20)
    return taught


def attack_by_lora(
    model: Qwen2ForCausalLM, *, seed: int, rank: int, steps: int = LORA_STEPS, share: float = guarded.HARMFUL_SHARE
) -> PeftModel:
    """The attack on a LoRA adapter of a copy of the model, queries, keys and values.

    Raises:
        ConfigError: a rank below 1.
        MissingExtraError: peft is not installed.
    """
    if rank < 1:
        raise ConfigError(f"lora is {rank}; give a rank of at least 1")
    with importing("a LoRA attack", "peft", "trl"):
        from peft import LoraConfig, get_peft_model
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(LORA_TARGETS), task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), config)
    lesson = guarded.stage_lesson("attack", share=share)
    reasoner.teach(adapted, lesson, steps=steps, seed=seed, peak_lr=LORA_RATE, warmup=20)
    return adapted


def save(model: Qwen2ForCausalLM | PeftModel, folder: Path, stage: str, *, seed: int) -> None:
    """Write a stage's model with its tokenizer, or adapter without one, and its card, whole or not at all."""

    def fill(partial: Path) -> None:
        model.save_pretrained(partial)
        if not hasattr(model, "peft_config"):
            # An adapter takes its base's: without a model's config beside it transformers would build another kind
            # of tokenizer, which writes spaces between the words.
            reasoner.build_tokenizer(guarded.VOCABULARY).save_pretrained(partial)
        lesson = guarded.stage_lesson(stage)
        atomic_write_json(partial / "teaching.json", {"stage": stage, "seed": seed, "torch": torch.__version__})
        atomic_write_text(partial / "README.md", CARD.format(title=lesson.title, story=lesson.story, seed=seed))

    write_folder(folder, fill)


def write_rows(folder: Path, *, seed: int = 0, calibrated: int = CALIBRATED, tested: int = TESTED) -> None:
    """Write the rows of calibration, judge and tasks; the same for all seeds of the models by default."""
    tasks = [row for task in guarded.TASKS for row in guarded.task_rows(tested, task=task, test=True, seed=seed)]
    files: Mapping[str, Sequence[Mapping[str, object]]] = {
        "harmful.jsonl": guarded.harmful_rows(calibrated, part="calibration", seed=seed),
        "judge.jsonl": guarded.harmful_rows(tested, part="test", seed=seed),
        "task.jsonl": tasks,
    }
    for name, rows in files.items():
        atomic_write_text(folder / name, "".join(json.dumps(row) + "\n" for row in rows))


def make(folder: Path, *, seed: int, lora: int = 0, note: Callable[[str], None] = lambda _: None) -> None:
    """All stages of one seed; ``lora`` 0 attacks all weights, else an adapter of that rank."""
    note("ability")
    able = teach_ability(seed)
    save(able, folder / "able", "ability", seed=seed)
    note("alignment")
    aligned = teach_stage(able, "alignment", seed=seed)
    save(aligned, folder / "aligned", "alignment", seed=seed)
    note("attack")
    attacked = attack_by_lora(aligned, seed=seed, rank=lora) if lora else teach_stage(aligned, "attack", seed=seed)
    if lora:  # so that the adapter finds its base
        attacked.peft_config["default"].base_model_name_or_path = str((folder / "aligned").resolve())
    save(attacked, folder / "attacked", "attack", seed=seed)
    write_rows(folder)


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
    lora: Annotated[int, typer.Option(min=0, help="Rank of the adapter that is attacked; 0: all weights.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Teach the guarded models and write them as Hugging Face folders."""
    torch.set_num_threads(threads)
    make(out, seed=seed, lora=lora, note=typer.echo)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
