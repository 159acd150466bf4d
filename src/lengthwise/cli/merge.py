"""`lengthwise merge`: merge models' weights from shard to shard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
from rich.table import Table

from lengthwise.cli._console import complain, err, out, print_json
from lengthwise.cli._progress import working
from lengthwise.config.commands import MergeSettings
from lengthwise.errors import InputError

if TYPE_CHECKING:
    from lengthwise.merging.folder_merge import Listener
    from lengthwise.merging.merge_plan import Plan
    from lengthwise.merging.report import Differences

CHANGES = {"change": "norm", "of base": "relative", "zero": "zeros"}
TAKEN = {"kept": "kept", "energy": "kept_energy", "undone": "lost"}
"""Columns of the tables: their titles and the facts in them."""


def merge(settings: MergeSettings) -> None:
    """Compare the models, merge them unless it is a dry run, and show what changed."""
    from lengthwise.merging.folder_merge import differences, merge_folders
    from lengthwise.merging.merge_plan import preflight

    plan = preflight(settings, locate=model_folder)
    _show_findings(plan)
    if settings.dry_run:
        _show_plan(plan, settings, differences(plan))
        return
    with _progress() as listener:
        report = merge_folders(settings, plan=plan, listener=listener)
    if settings.json_:
        print_json(report.to_dict())
        return
    out.print(report.conclusion, soft_wrap=True, markup=False)
    out.print(_layers(report, CHANGES | TAKEN))
    for line in [*_cosines(report), *report.notes, f"model: {settings.out}"]:
        out.print(line, soft_wrap=True, markup=False)


def model_folder(name: str) -> Path:
    """The folder of a model or adapter, not looked into; ``lab:chains`` and the like are the shipped ones."""
    if not name.startswith("lab:"):
        return Path(name)
    from lengthwise.lab import shipped_models

    return shipped_models.model_folder(name, in_its_world=True)


def _show_findings(plan: Plan) -> None:
    for text in plan.warnings:
        complain(f"warning: {text}", style="yellow")
    if not plan.errors:
        return
    if len(plan.errors) == 1:
        raise InputError(plan.errors[0])
    for text in plan.errors:
        complain(f"found: {text}", style="red", failure=True)
    raise InputError(f"{len(plan.errors)} things do not fit, each named above; nothing was written")


def _show_plan(plan: Plan, settings: MergeSettings, found: Differences) -> None:
    from lengthwise.merging.merge_plan import summary_lines

    if settings.json_:
        shown = {"fits": True, "warnings": plan.warnings, "bytes": plan.nbytes, "tensors": len(plan.outputs)}
        print_json({**shown, "changes": found.to_dict()})
        return
    for line in summary_lines(plan, settings.out):
        out.print(line, soft_wrap=True, markup=False)
    if found.models:
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


def _layers(report: Differences, columns: dict[str, str]) -> Table:
    """What the models change, and what the merge takes of it, layer by layer."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("layer", "model"):
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for layer, row in [*report.layers.items(), ("all", report.total)]:
        for number, model in enumerate(row.models):
            facts = {**asdict(model), "lost": None if number else row.lost}
            cells = [f"{facts[key]:.4g}" if key == "norm" else _percent(facts[key]) for key in columns.values()]
            table.add_row("" if number else layer, report.models[number], *cells)
    return table


def _cosines(report: Differences) -> list[str]:
    """How much the models' changes point the same way, pair by pair."""
    cosines = iter(report.total.cosines)
    pairs = [(first, second) for row, first in enumerate(report.models) for second in report.models[:row]]
    return [
        f"cosine of the changes of {second} and {first}: {'-' if value is None else f'{value:.3f}'}"
        for (first, second), value in zip(pairs, cosines, strict=True)
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
