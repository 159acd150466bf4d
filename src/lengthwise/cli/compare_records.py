"""`lengthwise compare-records`: records beside each other, with what may be claimed of their differences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._targets import page_target
from lengthwise.errors import ConfigError


def compare_records(
    records: Annotated[
        list[str],
        typer.Argument(metavar="RECORD...", help="FILE, NAME=FILE or NAME=FILE,FILE; the first is the reference."),
    ],
    recut: Annotated[bool, typer.Option("--recut", help="Cut all answers at the smallest cap first.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option(help="A sampling field that may differ: temperature, top_p or samples.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Weights of the accuracy-efficiency score.")] = "1,3,5",
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    file: Annotated[
        Path | None, typer.Option("--out", callback=page_target, help="HTML file to write, with a PNG beside it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare records of the same problems: table, intervals, what is noise, and a plot."""
    from lengthwise.runs import compare_records as comparing

    if seed < 0:
        raise ConfigError(f"--seed is {seed}; give a number from 0 on")
    sides = comparing.read_sides(records)
    result = comparing.compare_records(
        sides, recut=recut, allow=tuple(allow or ()), weights=_weights(weights), seed=seed
    )
    if file is not None:
        comparing.build_page(result, file)
        result["page"] = str(file)
    for text in result["warnings"]:
        complain(f"warning: {text}", style="yellow")
    if as_json:
        print_json(result)
        return
    out.print(_measured(result))
    out.print()
    out.print(_against(result))
    out.print()
    for text in [*result["findings"], *([f"page: {file}"] if file else [])]:
        out.print(Text(text), soft_wrap=True)


def _weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--weights is {text!r}; give three numbers, as in 1,3,5") from error


def _table(*columns: str) -> Table:
    # No frame: the table must fit a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(columns[0]), overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _measured(result: Mapping[str, Any]) -> Table:
    from lengthwise.reporting import plot_data as data

    table = _table("", "accuracy", "95 % interval", "tokens", "95 % interval", "cut", "front")
    for row in result["records"]:
        summary = row["summary"]
        table.add_row(
            Text(row["label"]),
            data.percent(summary["accuracy"]),
            data.span(summary["accuracy_interval"], data.percent),
            data.number(summary["mean_tokens"]),
            data.span(summary["mean_tokens_interval"], data.number),
            data.percent(summary["truncation_rate"]),
            "yes" if row["name"] in result["front"] else "",
        )
    return table


def _against(result: Mapping[str, Any]) -> Table:
    from lengthwise.runs.compare_records import claims

    table = _table(f"against {result['reference']}", "difference", "95 % interval")
    table.add_column("claim")
    last = None
    for row in claims(result):
        if row["name"] != last:
            table.add_row(Text(row["name"]))
            last = row["name"]
        table.add_row(Text(f"  {row['quantity']}"), row["value"], row["span"], row["claim"])
    return table
