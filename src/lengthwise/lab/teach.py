"""Make a shipped reasoner anew: ``python -m lengthwise.lab.teach --world chains --out FOLDER``.

About seven minutes on two cores for chains, one for witnesses. The same seed, thread count and versions give the same
weights.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from lengthwise.errors import ConfigError
from lengthwise.files import atomic_write_json, atomic_write_text, write_folder
from lengthwise.lab import reasoner
from lengthwise.lab.lessons import LESSONS

CARD = """---
license: apache-2.0
library_name: transformers
---
# {title}

A teaching instrument, not a language model: {parameters:,} parameters, stock Qwen2 configuration. It was taught
by next-token loss on {story}.

Made by `python -m lengthwise.lab.teach --world {world} --steps {steps} --seed {seed}`. Every word is one token.
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    world: Annotated[str, typer.Option(help=f"One of {', '.join(LESSONS)}.")] = "chains",
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: the lesson's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Teach a reasoner and write it as a Hugging Face folder."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', which this machine does not have; use cpu")
    if world not in LESSONS:
        raise ConfigError(f"world is {world!r}; choose one of {', '.join(LESSONS)}")
    lesson = LESSONS[world]()
    taught_for = steps or lesson.steps
    torch.set_num_threads(threads)
    model = reasoner.first_model(lesson, seed=seed).to(device)
    started = time.perf_counter()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == 1:
            typer.echo(f"step {step:5d}  loss {loss:.4f}  {time.perf_counter() - started:6.0f} s")

    losses = reasoner.teach(model, lesson, steps=taught_for, seed=seed, peak_lr=lesson.peak_lr, report=report)
    facts = {
        "world": world,
        "steps": taught_for,
        "seed": seed,
        "threads": threads,
        "device": str(model.device),
        "seconds": round(time.perf_counter() - started, 1),
        "torch": torch.__version__,
        "mean_loss_last_100": sum(losses[-100:]) / len(losses[-100:]),
    }

    def fill(folder: Path) -> None:
        model.cpu().generation_config.do_sample = True
        model.save_pretrained(folder)
        reasoner.build_tokenizer(lesson.vocabulary).save_pretrained(folder)
        atomic_write_json(folder / "teaching.json", facts)
        parameters = sum(p.numel() for p in model.parameters())
        card = CARD.format(parameters=parameters, title=lesson.title, story=lesson.story, **facts)
        atomic_write_text(folder / "README.md", card)

    write_folder(out, fill)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
