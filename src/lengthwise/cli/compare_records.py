"""`lengthwise compare-records`: records beside each other, with what may be claimed of their differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, out, print_json
from lengthwise.config.commands import CompareRecordsSettings

if TYPE_CHECKING:
    from lengthwise.runs.compare_records import RecordsComparison


def compare_records(settings: CompareRecordsSettings) -> None:
    """Compare the records, write the page, and show tables and sentences."""
    from lengthwise.runs import compare_records as comparing
    from lengthwise.runs.records_page import build_page

    sides = comparing.read_sides(settings.records)
    result = comparing.compare_records(
        sides, recut=settings.recut, allow=settings.allow, weights=settings.score_weights, seed=settings.seed
    )
    page = {} if settings.out is None else {"page": str(build_page(result, settings.out))}
    for text in result.warnings:
        complain(f"warning: {text}", style="yellow")
    if settings.json_:
        print_json({**result.to_dict(), **page})
        return
    out.print(_measured(result))
    out.print()
    out.print(_against(result))
    out.print()
    for text in [*result.findings, *(f"page: {file}" for file in page.values())]:
        out.print(Text(text), soft_wrap=True)


def _table(*columns: str) -> Table:
    # No frame: the table must fit a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(columns[0]), overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _measured(result: RecordsComparison) -> Table:
    from lengthwise.reporting import plot_data as data

    table = _table("", "accuracy", "95 % interval", "tokens", "95 % interval", "cut", "front")
    for side in result.sides:
        summary = side.summary
        table.add_row(
            Text(side.label),
            data.percent(summary.accuracy),
            data.span(summary.accuracy_interval, data.percent),
            data.number(summary.mean_tokens),
            data.span(summary.mean_tokens_interval, data.number),
            data.percent(summary.truncation_rate),
            "yes" if side.name in result.front else "",
        )
    return table


def _against(result: RecordsComparison) -> Table:
    from lengthwise.runs.compare_records import claims

    table = _table(f"against {result.reference}", "difference", "95 % interval")
    table.add_column("claim")
    last = None
    for row in claims(result):
        if row.name != last:
            table.add_row(Text(row.name))
            last = row.name
        table.add_row(Text(f"  {row.quantity}"), row.value, row.span, row.claim)
    return table
