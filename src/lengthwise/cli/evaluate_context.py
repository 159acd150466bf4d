"""`lengthwise evaluate-context`: how long a model can read."""

from __future__ import annotations

import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._flags import AnsweringFlags, Flag, Threads, with_groups
from lengthwise.cli._progress import working
from lengthwise.cli._targets import run_folder
from lengthwise.cli.evaluate import EndpointFlags
from lengthwise.errors import ConfigError
from lengthwise.threads import threads_for


@with_groups
def evaluate_context(
    lengths: Annotated[str, Flag(help="Tokens of the prompts, with commas: 1k,2k,4096.")],
    server: EndpointFlags,
    machine: AnsweringFlags,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="Folders, lab:reader, or NAME=FOLDER.")
    ] = None,
    tasks: Annotated[
        str, Flag(help="lines, freeform-qa, altered-qa, passkey, perplexity; with commas.")
    ] = "lines,passkey",
    scheme: Annotated[
        list[str] | None, Flag(help="as-is, lambda, or NAME:FACTOR as in extend; repeat to compare. Default: as-is.")
    ] = None,
    rows: Annotated[int, Flag(help="Most rows of a task and length.")] = 50,
    seed: Annotated[int, Flag(help="Seed of the tasks and of the bootstrap.")] = 0,
    data: Annotated[
        str | None, Flag(help="QA: rows with document, question, answer, or a released WikiQA file.")
    ] = None,
    lines: Annotated[str | None, Flag(help="lines: a LongChat file in place of made-up lines.")] = None,
    text: Annotated[str | None, Flag(help="perplexity: a text file.")] = None,
    chat_template: Annotated[bool, Flag("--chat-template", help="Ask through the chat template.")] = False,
    folder: Annotated[
        Path | None, Flag("--out", callback=run_folder, help="Folder to write. Default: a new one.")
    ] = None,
    threads: Threads = None,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Measure retrieval and perplexity by length and by the place of what is asked for."""
    from lengthwise.runs.evaluate_context.measurement import AS_IS, Reading
    from lengthwise.runs.evaluate_context.measurement import evaluate_context as measure

    asked = Reading(
        tasks=tuple(part.strip() for part in tasks.split(",")), lengths=read_lengths(lengths),
        out=folder or Path(tempfile.gettempdir(), f"lengthwise-context-{secrets.token_hex(4)}"),
        models=tuple(models or ()), schemes=tuple(scheme or (AS_IS,)), rows=rows, seed=seed, data=data, lines=lines,
        text=text, chat_template=chat_template, endpoint=server.request(), tokenizer=server.tokenizer,
        **asdict(machine),
    )  # fmt: skip
    with _progress() as listener, threads_for(wanted=threads):
        result = measure(asked, listener=listener)
    _say_left_out(result)
    for words in sorted({arm["computed_in"] for arm in result["arms"] if arm["computed_in"] is not None}):
        complain(f"computed in {words}", style="dim")
    if as_json:
        print_json(result)
        return
    for task in result["tasks"]:
        out.print(_table(result, task))
        out.print()
    out.print(f"report: {asked.out / 'report.html'}", soft_wrap=True, markup=False)


def read_lengths(text: str) -> tuple[int, ...]:
    """Token counts of ``1k,2k,4096``; k is 1024."""
    found = []
    for part in text.split(","):
        matched = re.fullmatch(r"\s*([0-9]{1,9})(k?)\s*", part, re.IGNORECASE)
        if not matched:
            raise ConfigError(f"lengths is {text!r}; give token counts with commas, for example 1k,2k,4096")
        found.append(int(matched[1]) * (1024 if matched[2] else 1))
    return tuple(sorted(set(found)))


def _say_left_out(result: Mapping[str, Any]) -> None:
    for cell in result["arms"][0]["cells"]:
        for reason, count in cell["left_out"].items():
            complain(f"{cell['task']}, {cell['length']} tokens: {count} source rows left out, {reason}", style="yellow")
        if cell["short"]:
            complain(f"{cell['task']}, {cell['length']} tokens: {cell['short']} rows are short of text", style="yellow")


def _table(result: Mapping[str, Any], task: str) -> Table:
    """An arm a row, a length a column."""
    from lengthwise.reporting import plot_data as numbers
    from lengthwise.runs.evaluate_context.page import cells, size

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(Text(task), overflow="fold")
    for cell in cells(result["arms"][0], task):
        table.add_column(size(cell["length"]), justify="right", no_wrap=True)
    for arm in result["arms"]:
        found = cells(arm, task)
        if task == "perplexity":
            shown = [numbers.number(cell["perplexity"]["estimate"], 2) for cell in found]
        else:
            shown = [numbers.percent(cell["accuracy"]["estimate"]) for cell in found]
        table.add_row(Text(arm["name"]), *shown)
    return table


@contextmanager
def _progress() -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """A listener for `study.reading.evaluate_context`."""
    with working() as work:

        def listen(event: str, facts: Mapping[str, Any]) -> None:
            if event == "done":
                work.at(facts["done"])
            else:
                work.phase(facts["name"], facts["steps"], words=f": {facts['steps']} rows")

        yield listen
