"""`lengthwise evaluate-context`: how long a model can read."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._progress import working
from lengthwise.config.commands import EvaluateContextSettings

if TYPE_CHECKING:
    from lengthwise.runs.evaluate_context.results import ContextResult


def evaluate_context(settings: EvaluateContextSettings) -> None:
    """Measure, say what was left out, and show a table a task."""
    folder = settings.out or Path(tempfile.gettempdir(), f"lengthwise-context-{secrets.token_hex(4)}")
    with _progress() as listener:
        from lengthwise.runs.evaluate_context.conclusion import conclusion
        from lengthwise.runs.evaluate_context.measurement import evaluate_context as measure

        result = measure(settings.replace(out=folder), listener=listener)
    _say_left_out(result)
    for words in sorted({arm.facts.computed_in for arm in result.arms if arm.facts.computed_in is not None}):
        complain(f"computed in {words}", style="dim")
    if settings.json_:
        print_json(result.to_dict())
        return
    out.print(conclusion(result), soft_wrap=True, markup=False)
    out.print()
    for task in settings.reading.tasks:
        out.print(_table(result, task))
        out.print()
    out.print(f"report: {folder / 'report.html'}", soft_wrap=True, markup=False)


def _say_left_out(result: ContextResult) -> None:
    for cell in result.arms[0].cells:
        for reason, count in cell.left_out.items():
            complain(f"{cell.task}, {cell.length} tokens: {count} source rows left out, {reason}", style="yellow")
        if cell.short:
            complain(f"{cell.task}, {cell.length} tokens: {cell.short} rows are short of text", style="yellow")


def _table(result: ContextResult, task: str) -> Table:
    """An arm a row, a length a column."""
    from lengthwise.reporting import plot_data as numbers
    from lengthwise.runs.evaluate_context.conclusion import size
    from lengthwise.runs.evaluate_context.results import PerplexityCell

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(task), overflow="fold")
    for cell in result.arms[0].of(task):
        table.add_column(size(cell.length), justify="right", no_wrap=True)
    for arm in result.arms:
        shown = [
            numbers.number(cell.perplexity.estimate, 2)
            if isinstance(cell, PerplexityCell)
            else numbers.percent(cell.accuracy.estimate)
            for cell in arm.of(task)
        ]
        table.add_row(Text(arm.name), *shown)
    return table


@contextmanager
def _progress() -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """A listener for `evaluate_context`."""
    with working() as work:

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            if event == "done":
                work.at(facts["done"])
            else:
                work.phase(facts["name"], facts["steps"], words=f": {facts['steps']} rows")

        yield listen
