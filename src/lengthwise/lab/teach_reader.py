"""Make the shipped reader anew: ``python -m lengthwise.lab.teach_reader --out FOLDER``.

A few minutes on one core. The same seed, device, thread count and versions give the same weights.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from lengthwise.files import atomic_write_json, atomic_write_text, write_folder
from lengthwise.lab import reader, reader_lesson

CARD = """---
license: apache-2.0
library_name: transformers
---
# The lab's reader

A teaching instrument, not a language model: {parameters:,} parameters, stock Llama configuration, trained at {context}
words. It was taught stories, pass keys and line retrieval, all made up by the package; heads of its first layer began
by looking one, two and three words back. Inside its trained context it answers {inside:.1%} of line questions
(prompts of {context} words, 200 of them, none seen in teaching).

Made by `python -m lengthwise.lab.teach_reader --seed {seed} --threads {threads}`. Every word, and every piece of two
digits, is one token; other text is read as bytes.
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    share: Annotated[float, typer.Option(min=0.001, help="Share of the lesson's steps, for a quick look.")] = 1.0,
) -> None:
    """Teach a reader and write it as a Hugging Face folder."""
    torch.set_num_threads(threads)
    started, worked = time.perf_counter(), time.process_time()

    def report(step: int, loss: float) -> None:
        typer.echo(f"step {step:5d}  loss {loss:.4f}  {time.perf_counter() - started:6.0f} s")

    model = reader_lesson.build_model(seed=seed).to(device)
    losses = reader_lesson.teach(model, reader_lesson.shortened(share), seed=seed, report=report)
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    inside = reader_lesson.retrieves(model, length=reader.TRAINED_CONTEXT, rows=200, seed=1)
    facts = {
        "seed": seed, "threads": threads, "device": device, "steps": len(losses), "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1), "torch": torch.__version__,
        "mean_loss_last_100": sum(losses[-100:]) / len(losses[-100:]), "lines_inside": inside,
    }  # fmt: skip

    def fill(folder: Path) -> None:
        model.cpu().save_pretrained(folder)
        reader.build_tokenizer().save_pretrained(folder)
        atomic_write_json(folder / "teaching.json", facts)
        parameters = sum(p.numel() for p in model.parameters())
        card = CARD.format(parameters=parameters, context=reader.TRAINED_CONTEXT, inside=inside, **facts)
        atomic_write_text(folder / "README.md", card)

    write_folder(out, fill)
    typer.echo(f"lines inside {reader.TRAINED_CONTEXT} words: {inside:.1%}; wrote {out}")


if __name__ == "__main__":
    typer.run(main)
