"""`lengthwise repair`: take the weights out that matter most on harmful rows (Antidote)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lengthwise.cli._console import err, out, print_json
from lengthwise.cli.merge import model_folder

Flag = typer.Option


def repair(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a model or of a LoRA adapter.")],
    harmful: Annotated[Path, Flag(help="Rows with prompt, response and harmful: .jsonl, .json or .parquet.")],
    folder: Annotated[Path, Flag("--out", help="Folder to write.")],
    fraction: Annotated[float, Flag(help="Share of each group of weights that is taken out.")] = 0.05,
    reference: Annotated[str | None, Flag(help="The aligned model or adapter, to set weights back to.")] = None,
    mode: Annotated[
        str | None, Flag(help="zero, or reset to the reference. Default: reset where one is given.")
    ] = None,
    scope: Annotated[str, Flag(help="A group is a row, a tensor, or all target tensors together (global).")] = "row",
    score: Annotated[str, Flag(help="weight scores W, difference scores W less the reference.")] = "weight",
    control: Annotated[str | None, Flag(help="random or magnitude in place of the score; the same counts.")] = None,
    rule: Annotated[str, Flag(help="How a fraction becomes a count: nearest, or official (rounds up).")] = "nearest",
    target: Annotated[
        list[str] | None, Flag(help="Layers by name or pattern; repeat. Default: all but the output head.")
    ] = None,
    tokens: Annotated[str, Flag(help="Tokens that count: all, or those of the response.")] = "all",
    prompt_template: Annotated[str, Flag(help="Prompt with {prompt} in it; the response follows.")] = "{prompt}",
    chat_template: Annotated[bool, Flag("--chat-template", help="Ask through the chat template.")] = False,
    max_length: Annotated[int, Flag(help="Tokens after which a row is cut.")] = 1024,
    batch_rows: Annotated[int, Flag(help="Rows in one forward pass.")] = 8,
    base: Annotated[str | None, Flag(help="Base model of an adapter. Default: the one that it names.")] = None,
    device: Annotated[str, Flag(help="Device of the forward pass: cpu, cuda ...")] = "cpu",
    dtype: Annotated[str, Flag(help="auto (as stored), float32, bfloat16 or float16 for it.")] = "auto",
    seed: Annotated[int, Flag(help="Seed of the random control.")] = 0,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the output folder.")] = False,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Score every weight on harmful rows, take the largest scores out, write the repaired model. No training."""
    from transformers.utils import logging

    from lengthwise.weights.antidote import Selection
    from lengthwise.weights.calibration import Calibration
    from lengthwise.weights.repairing import RepairJob, repair_folder

    logging.disable_progress_bar()
    job = RepairJob(
        model=model_folder(model), out=folder,
        calibration=Calibration(
            rows=harmful, template=prompt_template, chat=chat_template, tokens=tokens, longest=max_length,
            batch_rows=batch_rows,
        ),
        selection=Selection(fraction=fraction, scope=scope, rule=rule),
        reference=None if reference is None else model_folder(reference),
        base=None if base is None else model_folder(base), mode=mode, score=score, control=control, seed=seed,
        targets=tuple(target or ("*",)), device=device, dtype=dtype, overwrite=overwrite,
    )  # fmt: skip
    report = repair_folder(job, note=lambda text: err.print(text, soft_wrap=True))
    if as_json:
        print_json(report)
        return
    out.print(_kinds(report))
    done = "set to zero" if report["mode"] == "zero" else "set back to the reference"
    out.print(
        f"{report['removed']} of {report['entries']} target weights {done}: {report['fraction']:.2%} of them, "
        f"{report['share_of_model']:.2%} of the model",
        soft_wrap=True,
    )
    if "overlap" in report:
        out.print(f"overlap with the scored mask (Jaccard): {report['overlap']:.3f}", soft_wrap=True)
    out.print(f"model: {folder}", soft_wrap=True, markup=False)


def _kinds(report: dict[str, Any]) -> Table:
    """Counts by the last part of the layers' names: all query projections in one line, and so on."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("layers", no_wrap=True)
    for name in ("number", "weights", "removed", "share", "rows without score"):
        table.add_column(name, justify="right", no_wrap=True)
    sums: dict[str, list[int]] = {}
    for name, row in report["layers"].items():
        kind = sums.setdefault(name.removesuffix(".weight").rsplit(".", 1)[-1], [0, 0, 0, 0])
        weights = row["shape"][0] * row["shape"][1]
        for place, value in enumerate((1, weights, row["removed"], row["uninformative_rows"])):
            kind[place] += value
    for name, (number, weights, removed, empty) in sums.items():
        table.add_row(name, str(number), str(weights), str(removed), f"{removed / max(1, weights):.2%}", str(empty))
    return table
