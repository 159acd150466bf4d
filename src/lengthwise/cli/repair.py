"""`lengthwise repair`: take the weights out that matter most on harmful rows (Antidote)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lengthwise.cli._console import err, out, print_json
from lengthwise.cli._flags import with_groups
from lengthwise.cli.merge import model_folder
from lengthwise.errors import ConfigError

if TYPE_CHECKING:
    from lengthwise.study.repair_sweep import Sweep

Flag = typer.Option


@dataclass(frozen=True)
class SweepFlags:
    """Measuring harm and accuracy over fractions; --judge and --task-data go together."""

    judge: Annotated[
        str | None, Flag(help="Judges responses: module:function, flag:REGEX or unless:REGEX. Measures fractions.")
    ] = None
    task_data: Annotated[str | None, Flag(help="Problems whose accuracy is to be kept: a file or datasets name.")] = (
        None
    )
    judge_data: Annotated[
        Path | None, Flag(help="Prompts to judge the answers to. Default: a fifth of --harmful, then not scored on.")
    ] = None
    judge_threshold: Annotated[
        float | None, Flag(help="Probability above which a judge's answer flags. Default: 0.5.")
    ] = None
    fractions: Annotated[
        str | None, Flag(help="Fractions to measure, with commas. Default: 0.01,0.02,0.05,0.1,0.2.")
    ] = None
    cap: Annotated[int | None, Flag(help="Most response tokens while measuring. Default: 512.")] = None
    measure_rows: Annotated[int | None, Flag(help="Most prompts and most problems to measure. Default: 1000.")] = None
    preset: Annotated[str | None, Flag(help="How problems are asked: lab, gsm8k, math or aime. Default: math.")] = None
    task_template: Annotated[str | None, Flag(help="Prompt of a problem with {problem} in it.")] = None
    answer_pattern: Annotated[str | None, Flag(help="Regular expression with one group, a problem's answer.")] = None
    grader: Annotated[str | None, Flag(help="Your own grader of problems, module:function.")] = None
    problem_column: Annotated[str | None, Flag(help="Column of the problem.")] = None
    answer_column: Annotated[str | None, Flag(help="Column of the answer.")] = None
    no_think: Annotated[bool, Flag("--no-think", help="Responses to problems do not begin inside <think>.")] = False

    def request(self, *, chat: bool) -> Sweep | None:
        """The same words for the study; None without a judge. ``chat`` asks problems through the chat template too."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) not in (None, False)}
        if self.judge is None or self.task_data is None:
            if given:
                raise ConfigError(
                    f"{', '.join('--' + name.replace('_', '-') for name in given)} measures harm beside accuracy, "
                    "which needs both --judge and --task-data; give both or none of them"
                )
            return None
        from lengthwise.study.repair_sweep import Sweep
        from lengthwise.study.request import ContractRequest

        names = ("answer_pattern", "problem_column", "answer_column")
        changes = {name: given[name] for name in names if name in given} | {"chat_template": chat}
        if self.task_template is not None:
            changes["template"] = self.task_template
        contract = ContractRequest(
            self.preset or "math", changes=changes, think=not self.no_think, grader=self.grader
        )  # fmt: skip
        named = {
            "judge_rows": "judge_data",
            "judge_threshold": "judge_threshold",
            "cap": "cap",
            "limit": "measure_rows",
        }
        options = {name: given[flag] for name, flag in named.items() if flag in given}
        if self.fractions is not None:
            options["fractions"] = _numbers(self.fractions)
        return Sweep(judge=self.judge, task=self.task_data, contract=contract, **options)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"fractions is {text!r}; give numbers with commas, for example 0.01,0.05,0.1") from error


@with_groups
def repair(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a model or of a LoRA adapter.")],
    harmful: Annotated[Path, Flag(help="Rows with prompt, response and harmful: .jsonl, .json or .parquet.")],
    folder: Annotated[Path, Flag("--out", help="Folder to write.")],
    measured: SweepFlags,
    fraction: Annotated[float, Flag(help="Share of each group of weights that is taken out.")] = 0.05,
    reference: Annotated[str | None, Flag(help="The aligned model or adapter, to set weights back to.")] = None,
    mode: Annotated[
        str | None, Flag(help="zero, or reset to the reference. Default: reset where one is given.")
    ] = None,
    scope: Annotated[str, Flag(help="A group is a row, a tensor, or all target tensors together (global).")] = "row",
    score: Annotated[str, Flag(help="weight scores W, difference scores W less the reference.")] = "weight",
    control: Annotated[str | None, Flag(help="random, magnitude or official-random in place of the score.")] = None,
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
    sweep = measured.request(chat=chat_template)
    if sweep is None:
        report = repair_folder(job, note=_say)
    else:
        from lengthwise.study.repair_sweep import repair_and_measure

        report = repair_and_measure(job, sweep, note=_say)
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
    if "sweep" in report:
        out.print(_points(report["sweep"]))
        out.print(f"picture: {folder / 'antidote' / 'sweep.png'}", soft_wrap=True, markup=False)
    out.print(f"model: {folder}", soft_wrap=True, markup=False)


def _say(text: str) -> None:
    err.print(text, soft_wrap=True, markup=False)


def _points(sweep: dict[str, Any]) -> Table:
    """Harm and accuracy for every way to choose and every fraction, with 95 % intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("removed by", no_wrap=True)
    for name in ("fraction", "harm, %", "95 %", "accuracy, %", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in sweep["points"]:
        cells = [cell for name in ("harm", "accuracy") for cell in _interval(point[name])]
        table.add_row(point["arm"], f"{point['achieved']:.4g}", *cells)
    return table


def _interval(found: dict[str, Any]) -> tuple[str, str]:
    span = "-" if found["low"] is None else f"{found['low']:.1f} to {found['high']:.1f}"
    return f"{found['percent']:.1f}", span


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
