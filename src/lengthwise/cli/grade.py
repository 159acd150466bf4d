"""`lengthwise grade`: where the tokens of responses that already exist go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lengthwise.cli._console import complain, err, out, print_json
from lengthwise.cli._flags import think_mode
from lengthwise.cli._targets import file_target
from lengthwise.errors import ConfigError
from lengthwise.output_paths import real

Flag = typer.Option
SAID_EVERY = 10.0
"""Seconds between lines where stderr is no terminal."""


def grade(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Responses: .jsonl, .jsonl.gz, .json or .parquet.")],
    preset: Annotated[str, Flag(help="How answers are written: auto, gsm8k, math, aime or lab.")] = "auto",
    think: Annotated[
        str | None,
        Flag(metavar="auto|yes|no", help="Responses begin in their thinking, or have none; auto: their marks tell."),
    ] = None,
    no_think: Annotated[bool, Flag("--no-think", help="The same as --think no.")] = False,
    answer_pattern: Annotated[
        str | None, Flag(help="Regular expression with one group, the answer; its last match counts.")
    ] = None,
    answers: Annotated[
        str, Flag(help="A list as the right answer holds: all, parts of one answer, or any, alternatives.")
    ] = "all",
    grader: Annotated[str | None, Flag(help="Your own grader, module:function.")] = None,
    tokenizer: Annotated[
        str | None, Flag(help="Folder of the model's tokenizer: to count tokens, and to tell where they go.")
    ] = None,
    trust_remote_code: Annotated[bool, Flag("--trust-remote-code", help="Run Python code from that folder.")] = False,
    cap: Annotated[int | None, Flag(help="Most tokens a response could have. Default: the longest one.")] = None,
    price: Annotated[float | None, Flag(help="Price of a million output tokens.")] = None,
    response_column: Annotated[str | None, Flag(help="Column of the response. Default: response.")] = None,
    answer_column: Annotated[str | None, Flag(help="Column of the right answer. Default: answer.")] = None,
    reasoning_column: Annotated[
        str | None,
        Flag(help="Column of thinking given apart, or none. Default: reasoning and its like."),
    ] = None,
    tokens_column: Annotated[
        str | None, Flag(help="Column of the response tokens, as usage.completion_tokens. Default: num_tokens.")
    ] = None,
    finished_column: Annotated[
        str | None, Flag(help="Column that tells how the response ended. Default: finished, finish_reason.")
    ] = None,
    problem_column: Annotated[str | None, Flag(help="Column of the problem's text. Default: problem.")] = None,
    category_column: Annotated[str, Flag(help="Column of the category.")] = "category",
    graded: Annotated[
        Path | None, Flag("--out", callback=file_target, help="JSONL file for the verdict on every row.")
    ] = None,
    record: Annotated[Path | None, Flag(callback=file_target, help="Record for `lengthwise compare-records`.")] = None,
    report: Annotated[Path | None, Flag(callback=file_target, help="HTML report to write.")] = None,
    strict: Annotated[bool, Flag("--strict", help="The first row that cannot be used is an error.")] = False,
    workers: Annotated[int, Flag(min=1, help="Worker processes.")] = 2,
    seconds: Annotated[float, Flag(help="Time limit of one grading; over it a response is wrong, and counted.")] = 5.0,
    seed: Annotated[int, Flag(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Grade responses that already exist and say where their tokens go. No GPU, no model."""
    from lengthwise.logs.log_grading import GradeOptions, check_target, grade_log

    targets = {"--out": graded, "--record": record, "--report": report}
    for name, target in targets.items():
        check_target(name, target, log)
    _check_apart(targets)
    mode = None if think is None and not no_think else think_mode(think, no_think)
    contract = _contract(preset, mode, answer_pattern, answers)
    options = GradeOptions(
        contract=contract, grader=grader, tokenizer=_folder(tokenizer),
        cap=cap, price=price, response_column=response_column, answer_column=answer_column,
        reasoning_column=reasoning_column, tokens_column=tokens_column, finished_column=finished_column,
        problem_column=problem_column, category_column=category_column, seconds=seconds, workers=workers,
        strict=strict, seed=seed, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    with _progress() as listener:
        summary = grade_log(log, options, out=graded, record=record, listener=listener)
    _show(summary, report, as_json)


def _check_apart(targets: Mapping[str, Path | None]) -> None:
    places: dict[Path, str] = {}
    for name, target in targets.items():
        if target is not None and (other := places.setdefault(real(target), name)) != name:
            raise ConfigError(f"{name} and {other} are the same file ({target}); name two")


def _contract(preset: str, think: str | None, answer_pattern: str | None, answers: str) -> Any:
    """How responses are read: the marks of any kind tell, unless there is to be no thinking or none can be."""
    from lengthwise.grading.prompt_contract import PRESETS, unknown_name
    from lengthwise.grading.prompt_contract import preset as named
    from lengthwise.grading.think_auto import AUTO as MARKS
    from lengthwise.grading.think_auto import NO, YES, check_mode
    from lengthwise.grading.thinking_marks import THINK_CLOSE
    from lengthwise.logs.token_breakdown import AUTO

    if preset != "auto" and preset not in PRESETS:
        raise ConfigError(unknown_name("preset", preset, ("auto", *PRESETS)))
    changes: dict[str, Any] = {"answers": answers}
    if answer_pattern is not None:
        changes["answer_pattern"] = answer_pattern
    changes["think_marks"] = check_mode(think or MARKS) != NO and (preset != "lab" or think is not None)
    if think == YES:
        changes["think_close"] = THINK_CLOSE
    elif think is not None:
        changes |= {"think_prefix": "", "think_close": None}
    if preset != "auto":
        return named(preset, **changes)
    from dataclasses import replace

    return replace(AUTO, **changes)


def _folder(tokenizer: str | None) -> str | None:
    if tokenizer is None:
        return None
    from lengthwise.lab.reasoner import SHIPPED, shipped_reasoner

    return str(shipped_reasoner()) if tokenizer == SHIPPED else tokenizer


def _show(summary: Mapping[str, Any], report: Path | None, as_json: bool) -> None:
    from lengthwise.reporting.grade_report import build_report, left_out_lines, text_page

    if report is not None:
        build_report(summary, report)
    for line in left_out_lines(summary):
        complain(line, style="yellow")
    if as_json:
        print_json(summary)
        return
    for line in text_page(summary):
        out.print(line, markup=False, soft_wrap=True)
    if report is not None:
        out.print(f"report: {report}", markup=False, soft_wrap=True)


@contextmanager
def _progress() -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
    """A listener for `grade_log`: a line on a terminal that leaves nothing behind, else one now and then."""
    if err.is_terminal:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        ) as bar:
            task = bar.add_task("grading", total=None)
            yield lambda event, facts: bar.update(task, description=_said(facts))
        return
    last = time.monotonic()

    def listen(event: str, facts: Mapping[str, Any]) -> None:
        nonlocal last
        if time.monotonic() - last >= SAID_EVERY:
            last = time.monotonic()
            err.print(_said(facts), soft_wrap=True)

    yield listen


def _said(facts: Mapping[str, Any]) -> str:
    rows = facts["rows"]
    return f"{rows:,} rows: {facts['right'] / rows:.1%} right, {facts['tokens'] / rows:,.0f} tokens each"
