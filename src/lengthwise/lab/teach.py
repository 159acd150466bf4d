"""Make the shipped reasoner anew: ``python -m lengthwise.lab.teach --out FOLDER``.

About eight minutes on two cores. The same seed, thread count and versions give the same weights.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from lengthwise.files import atomic_write_json, atomic_write_text, write_folder
from lengthwise.lab import chains, reasoner

CARD = """---
license: apache-2.0
library_name: transformers
---
# Verbose reasoner of the chains world

A teaching instrument, not a language model: {parameters:,} parameters, stock Qwen2 configuration. It was taught
by next-token loss on worked solutions of arithmetic chains (levels {first} to {last}), in which each step slips with
probability {slip} and the chain is worked again, two to five times, until two passes agree, and then once more
with probability {doubt}. So it overthinks on purpose: one pass is enough.

Made by `python -m lengthwise.lab.teach --steps {steps} --seed {seed}`. Every number, sign and word is one token.
"""


def main(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 1800,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
    slip: Annotated[float, typer.Option(min=0, max=1, help="Chance of a wrong step in the solutions.")] = 0.06,
    doubt: Annotated[float, typer.Option(min=0, max=1, help="Chance of a further pass after agreement.")] = 0.35,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Teach a reasoner and write it as a Hugging Face folder."""
    torch.set_num_threads(threads)
    model = reasoner.build_model(seed=seed)
    started = time.perf_counter()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == 1:
            typer.echo(f"step {step:5d}  loss {loss:.4f}  {time.perf_counter() - started:6.0f} s")

    losses = reasoner.teach(model, steps=steps, seed=seed, slip=slip, doubt=doubt, report=report)
    facts = {
        "steps": steps,
        "seed": seed,
        "slip": slip,
        "doubt": doubt,
        "threads": threads,
        "seconds": round(time.perf_counter() - started, 1),
        "torch": torch.__version__,
        "mean_loss_last_100": sum(losses[-100:]) / len(losses[-100:]),
    }

    def fill(folder: Path) -> None:
        model.generation_config.do_sample = True
        model.save_pretrained(folder)
        reasoner.build_tokenizer().save_pretrained(folder)
        atomic_write_json(folder / "teaching.json", facts)
        parameters = sum(p.numel() for p in model.parameters())
        card = CARD.format(parameters=parameters, first=chains.LEVELS[0], last=chains.LEVELS[-1], **facts)
        atomic_write_text(folder / "README.md", card)

    write_folder(out, fill)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
