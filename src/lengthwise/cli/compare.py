"""`lengthwise compare`: methods beside each other under one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._progress import working
from lengthwise.config.commands import CompareSettings
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from lengthwise.runs.compare.comparison import Comparison
    from lengthwise.runs.compare.comparison_result import ComparisonResult
    from lengthwise.runs.compare_records import ComparedSide, RecordsComparison


def compare(settings: CompareSettings) -> None:
    """Compare, or show what would be done, and show what came of it."""
    from lengthwise.runs.compare.compare_methods import compare_methods
    from lengthwise.runs.compare.comparison import Comparison

    asked = Comparison(settings)
    if settings.dry_run:
        _dry_run(asked)
        return
    with _progress(settings.out) as listener:
        result = compare_methods(asked, listener=listener)
    if settings.json_:
        print_json(result.to_dict())
        return
    _show(result)


def _dry_run(asked: Comparison) -> None:
    from lengthwise.runs.compare import plan
    from lengthwise.runs.compare.compare_methods import job_count

    with threads_for(wanted=1):  # as each of its runs has
        shown = plan.dry_run(asked)
    if asked.settings.json_:
        print_json(shown.to_dict())
        return
    for line in plan.dry_run_lines(shown, job_count(asked)):
        out.print(Text(line), soft_wrap=True)


def _show(result: ComparisonResult) -> None:
    if result.table is not None:
        out.print(_table(result, result.table))
    out.print()
    for text in [*result.findings, f"report: {result.report}"]:
        out.print(Text(text), soft_wrap=True)


def _table(result: ComparisonResult, compared: RecordsComparison) -> Table:
    # No frame: the table must fit a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("accuracy", "95 % interval", "tokens", "against base", "front"):
        table.add_column(name, justify="right", no_wrap=True)
    settings = {arm.name: f", {arm.knob} {arm.reported.value}" for arm in result.trained if arm.reported is not None}
    settings |= {arm.name: f"{settings[arm.name]} (control)" for arm in result.controls if arm.name in settings}
    for side in compared.sides:
        table.add_row(Text(side.name + settings.get(side.name, "")), *_cells(side, compared.front))
    return table


def _cells(side: ComparedSide, front: Sequence[str]) -> tuple[str, ...]:
    from lengthwise.reporting import plot_data as data

    summary = side.summary
    return (
        data.percent(summary.accuracy),
        data.span(summary.accuracy_interval, data.percent),
        data.number(summary.mean_tokens),
        data.points(side.against.accuracy_difference.estimate) if side.against is not None else "",
        "yes" if side.name in front else "",
    )


@contextmanager
def _progress(folder: Path) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """A listener for `compare_methods`."""
    from lengthwise.runs.compare.folder import sampled_tokens

    with working(lambda: sampled_tokens(folder)) as work:

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            if event == "phase":
                work.phase(facts["name"], facts.get("steps"), facts.get("done", 0))
            elif event == "done":
                work.at(facts["done"])
                work.say(f"{facts['name']}: {facts['done']} of {facts['of']}")
            elif event == "said":
                complain(facts["text"], style="dim")

        yield listen
