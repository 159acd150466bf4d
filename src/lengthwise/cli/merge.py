"""`lengthwise merge`: merge models' weights from shard to shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table

from lengthwise.cli._console import complain, err, out, print_json
from lengthwise.cli._progress import working
from lengthwise.cli._targets import whole_folder
from lengthwise.errors import ConfigError, InputError

if TYPE_CHECKING:
    from lengthwise.merging.folder_merge import Listener
    from lengthwise.merging.merge_plan import MergeJob, Plan

Flag = typer.Option
CHANGES = {"change": "norm", "of base": "relative", "zero": "zeros"}
TAKEN = {"kept": "kept", "energy": "kept_energy", "undone": "lost"}
"""Columns of the tables: their titles and the facts in them."""


def merge(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders to merge, beside the base.")],
    method: Annotated[str, Flag(help="linear, task-arithmetic, ties, ties-authors, dare, slerp or update-selective.")],
    folder: Annotated[Path, Flag("--out", callback=whole_folder, help="Folder to write.")],
    base: Annotated[str | None, Flag(help="The model that the others were made from; not for linear, slerp.")] = None,
    weights: Annotated[str | None, Flag(help="One number per MODEL, with commas. Default: 1 each.")] = None,
    scale: Annotated[
        float | None, Flag(help="Factor on the change that is added. Default: 1; update-selective 0.7.")
    ] = None,
    density: Annotated[float | None, Flag(help="Share of each change that is kept. update-selective: 0.25.")] = None,
    scope: Annotated[
        str | None, Flag(help="update-selective ranks entries in all tensors (global) or each tensor.")
    ] = None,
    seed: Annotated[int | None, Flag(help="Seed of dare.")] = None,
    rescale: Annotated[str | None, Flag(help="How dare scales what it keeps: inverse or l1.")] = None,
    t: Annotated[
        float | None, Flag("--t", help="Share of the way of slerp, from the first model to the second.")
    ] = None,
    extrapolate: Annotated[bool, Flag("--extrapolate", help="Allow a t of slerp outside of 0 to 1.")] = False,
    no_normalize: Annotated[
        bool, Flag("--no-normalize", help="Do not divide by the weights' sum (linear, ties).")
    ] = False,
    include: Annotated[list[str] | None, Flag(help="Merge tensors of this name pattern only; repeat.")] = None,
    exclude: Annotated[
        list[str] | None, Flag(help="Leave tensors of this name pattern as in the base; repeat.")
    ] = None,
    mixed_dtype: Annotated[bool, Flag("--mixed-dtype", help="Allow models of unlike number formats.")] = False,
    out_dtype: Annotated[str | None, Flag(help="Number format to write. Default: the base's.")] = None,
    head: Annotated[str | None, Flag(help="For heads that only some models store: untie or drop.")] = None,
    files_from: Annotated[
        Path | None, Flag(help="Folder whose settings and tokenizer are copied. Default: the base.")
    ] = None,
    shard_mb: Annotated[int, Flag(help="Most megabytes in one output file.")] = 5_000,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the output folder.")] = False,
    dry_run: Annotated[bool, Flag("--dry-run", help="Compare the models and stop; nothing is written.")] = False,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Merge models into a new folder, tensor by tensor, with memory that does not grow with their size."""
    from lengthwise.merging.folder_merge import differences, merge_folders
    from lengthwise.merging.merge_methods import build_merge
    from lengthwise.merging.merge_plan import MergeJob, preflight

    options: dict[str, Any] = {
        "weights": None if weights is None else _numbers(weights), "scale": scale, "density": density, "scope": scope,
        "seed": seed, "rescale": rescale, "t": t, "extrapolate": extrapolate or None,
        "normalize": False if no_normalize else None,
    }  # fmt: skip
    job = MergeJob(
        method=build_merge(method, **{name: value for name, value in options.items() if value is not None}),
        models=tuple(map(model_folder, models)), base=None if base is None else model_folder(base), out=folder,
        include=tuple(include or ()), exclude=tuple(exclude or ()), allow_mixed_dtype=mixed_dtype,
        out_dtype=out_dtype, head=head, files_from=files_from, shard_bytes=shard_mb * 1_000_000, overwrite=overwrite,
    )  # fmt: skip
    plan = preflight(job)
    _show_findings(plan)
    if dry_run:
        _show_plan(plan, job, differences(job, plan), as_json=as_json)
        return
    with _progress() as listener:
        report = merge_folders(job, plan=plan, listener=listener)
    if as_json:
        print_json(report)
        return
    out.print(_layers(report, CHANGES | TAKEN))
    for line in _cosines(report):
        out.print(line, soft_wrap=True, markup=False)
    for note in report["notes"]:
        out.print(note, soft_wrap=True, markup=False)
    out.print(f"model: {folder}", soft_wrap=True, markup=False)


def model_folder(name: str) -> Path:
    """The folder of a model or adapter, not looked into; ``lab:chains`` and the like are the shipped ones."""
    if not name.startswith("lab:"):
        return Path(name)
    from lengthwise.lab import shipped_models

    return shipped_models.model_folder(name, in_its_world=True)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"weights is {text!r}; give numbers with commas, for example 0.5,0.5") from error


def _show_findings(plan: Plan) -> None:
    for text in plan.warnings:
        complain(f"warning: {text}", style="yellow")
    if not plan.errors:
        return
    if len(plan.errors) == 1:
        raise InputError(plan.errors[0])
    for text in plan.errors:
        complain(f"found: {text}", style="red")
    raise InputError(f"{len(plan.errors)} things do not fit, each named above; nothing was written")


def _show_plan(plan: Plan, job: MergeJob, found: dict[str, Any], *, as_json: bool) -> None:
    from lengthwise.merging.merge_plan import summary_lines

    if as_json:
        shown = {"fits": True, "warnings": plan.warnings, "bytes": plan.nbytes, "tensors": len(plan.outputs)}
        print_json({**shown, "changes": found})
        return
    for line in summary_lines(plan, job.out):
        out.print(line, soft_wrap=True, markup=False)
    if found["models"]:
        out.print(_layers(found, CHANGES))
    for line in _cosines(found):
        out.print(line, soft_wrap=True, markup=False)


@contextmanager
def _progress() -> Iterator[Listener]:
    if not err.is_terminal:
        with working() as work:
            work.phase("merging, MiB", 0, quiet=True)

            def listen(done: int, total: int) -> None:
                work.steps = total >> 20
                work.at(done >> 20)

            yield listen
        return
    with Progress("merging", BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task("merging")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _layers(report: dict[str, Any], columns: dict[str, str]) -> Table:
    """What the models change, and what the merge takes of it, layer by layer."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("layer", "model"):
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for layer, row in [*report["layers"].items(), ("all", report["total"])]:
        for number, model in enumerate(row["models"]):
            facts = {**model, "lost": None if number else row["lost"]}
            cells = [f"{facts[key]:.4g}" if key == "norm" else _percent(facts[key]) for key in columns.values()]
            table.add_row("" if number else layer, report["models"][number], *cells)
    return table


def _cosines(report: dict[str, Any]) -> list[str]:
    """How much the models' changes point the same way, pair by pair."""
    names, cosines = report["models"], iter(report["total"]["cosines"])
    pairs = [(first, second) for row, first in enumerate(names) for second in names[:row]]
    return [
        f"cosine of the changes of {second} and {first}: {'-' if value is None else f'{value:.3f}'}"
        for (first, second), value in zip(pairs, cosines, strict=True)
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
