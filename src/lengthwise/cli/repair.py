"""`lengthwise repair`: take the weights out that matter most on harmful rows (Antidote)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lengthwise.cli._console import err, out, print_json
from lengthwise.cli._flags import THINK_HELP, Threads, think_mode, with_groups
from lengthwise.cli._progress import working
from lengthwise.cli._repair_tables import layer_table, sweep_table
from lengthwise.cli._targets import whole_folder
from lengthwise.cli.merge import model_folder
from lengthwise.errors import ConfigError
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from lengthwise.repair.job import RepairJob
    from lengthwise.runs.repair_sweep import Sweep

Flag = typer.Option
Note = Callable[[str], None]


@dataclass(frozen=True)
class ChoiceFlags:
    """Which weights go: the rows and how they are scored. What is not given keeps the jobs' own defaults."""

    harmful: Annotated[Path | None, Flag(help="Rows with prompt, response and harmful: .jsonl, .json or .parquet.")] = (
        None
    )
    rows: Annotated[
        str | None, Flag(help="START:STOP, the harmful rows to take, STOP not among them. Default: all.")
    ] = None
    fraction: Annotated[float | None, Flag(help="Share of each group of weights that is taken out. Default: 0.05.")] = (
        None
    )
    scope: Annotated[
        str | None, Flag(help="A group is a row, a tensor, or all target tensors together (global). Default: row.")
    ] = None
    score: Annotated[
        str | None, Flag(help="weight scores W, difference scores W less the reference. Default: weight.")
    ] = None
    control: Annotated[str | None, Flag(help="random, magnitude or official-random in place of the score.")] = None
    rule: Annotated[
        str | None, Flag(help="How a fraction becomes a count: nearest (default), or official (rounds up).")
    ] = None
    target: Annotated[
        list[str] | None, Flag(help="Layers by name or pattern; repeat. Default: all but the output head.")
    ] = None
    tokens: Annotated[str | None, Flag(help="Tokens that count: all (default), or those of the response.")] = None
    prompt_template: Annotated[
        str | None, Flag(help="Prompt with {prompt} in it; the response follows. Default: {prompt}.")
    ] = None
    chat_template: Annotated[bool, Flag("--chat-template", help="Ask through the chat template.")] = False
    max_length: Annotated[int | None, Flag(help="Tokens after which a row is cut. Default: 1024.")] = None
    batch_rows: Annotated[int | None, Flag(help="Rows in one forward pass. Default: 8.")] = None
    base: Annotated[str | None, Flag(help="Base model of an adapter. Default: the one that it names.")] = None
    device: Annotated[str | None, Flag(help="Device of the forward pass: cpu (default), auto, cuda ...")] = None
    dtype: Annotated[str | None, Flag(help="auto (as stored, the default), float32, bfloat16 or float16 for it.")] = (
        None
    )
    seed: Annotated[int | None, Flag(help="Seed of the random control. Default: 0.")] = None
    trust_remote_code: Annotated[bool, Flag("--trust-remote-code", help="Run Python code from the folder.")] = False

    def given(self) -> dict[str, Any]:
        """The flags that were given, by name."""
        return given_flags(self)

    def job(self, shared: Mapping[str, Any]) -> RepairJob:
        """The same words for the library.

        Raises:
            ConfigError: no rows to score on.
        """
        from lengthwise.engine.model_folders import resolve_device
        from lengthwise.repair.antidote import Selection
        from lengthwise.repair.calibration_rows import Calibration
        from lengthwise.repair.folder_repair import RepairJob

        if self.harmful is None:
            raise ConfigError("no rows to score on; give --harmful, or --mask with a mask that a repair saved")
        given = self.given()
        if self.fraction == 0:
            raise ConfigError("fraction is 0, which takes nothing out; give a share above 0")

        def named(**names: str) -> dict[str, Any]:
            return {name: given[flag] for name, flag in names.items() if flag in given}

        options = named(
            score="score", control="control", seed="seed", dtype="dtype", trust_remote_code="trust_remote_code"
        )
        if self.device is not None:
            options["device"] = str(resolve_device(self.device))
        if self.base is not None:
            options["base"] = model_folder(self.base)
        if self.target:
            options["targets"] = tuple(self.target)
        return RepairJob(
            calibration=Calibration(
                **_slice(self.rows),
                **named(rows="harmful", template="prompt_template", chat="chat_template", tokens="tokens",
                        longest="max_length", batch_rows="batch_rows"),
            ),
            selection=Selection(**named(fraction="fraction", scope="scope", rule="rule")),
            **options, **shared,
        )  # fmt: skip


def _slice(text: str | None) -> dict[str, Any]:
    """START:STOP as the fields of a calibration; either may be left out."""
    if text is None:
        return {}
    matched = re.fullmatch(r"(\d*):(\d*)", text.strip())
    if matched is None:
        raise ConfigError(f"rows is {text!r}; give START:STOP, for example 0:2000 for the first 2000 harmful rows")
    return {name: int(number) for name, number in zip(("start", "stop"), matched.groups(), strict=True) if number}


def given_flags(group: Any) -> dict[str, Any]:
    """Fields of a group of flags that are neither absent nor switched off; a 0 is given."""
    values = {field.name: getattr(group, field.name) for field in fields(group)}
    return {name: value for name, value in values.items() if value is not None and value is not False and value != []}


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
    answers: Annotated[
        str | None,
        Flag(help="A list as the right answer holds: all, parts of one answer, or any, alternatives. Default: all."),
    ] = None
    grader: Annotated[str | None, Flag(help="Your own grader of problems, module:function.")] = None
    problem_column: Annotated[str | None, Flag(help="Column of the problem.")] = None
    answer_column: Annotated[str | None, Flag(help="Column of the answer.")] = None
    think: Annotated[str | None, Flag(metavar="auto|yes|no|marks", help=THINK_HELP)] = None
    no_think: Annotated[bool, Flag("--no-think", help="The same as --think no.")] = False

    def given(self) -> dict[str, Any]:
        """The flags that were given, by name."""
        return given_flags(self)

    def request(self, *, chat: bool) -> Sweep | None:
        """The same words for the study; None without a judge. ``chat`` asks problems through the chat template too."""
        given = self.given()
        if self.judge is None or self.task_data is None:
            if given:
                raise ConfigError(
                    f"{_flags(given)} measures harm beside accuracy, "
                    "which needs both --judge and --task-data; give both or none of them"
                )
            return None
        from lengthwise.config.groups.prompts import PromptOptions
        from lengthwise.runs.repair_sweep import Sweep

        names = ("preset", "answer_pattern", "answers", "problem_column", "answer_column", "grader")
        asked = {name: given[name] for name in names if name in given}
        thinking = think_mode(self.think, self.no_think)
        contract = PromptOptions.from_dict(
            asked | {"prompt_template": self.task_template, "chat_template": chat, "think": thinking}
        )
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
    folder: Annotated[Path, Flag("--out", callback=whole_folder, help="Folder to write.")],
    chosen: ChoiceFlags,
    measured: SweepFlags,
    mask: Annotated[
        Path | None, Flag(help="A mask that a repair saved, in place of --harmful: nothing is scored again.")
    ] = None,
    reference: Annotated[str | None, Flag(help="The aligned model or adapter, to set weights back to.")] = None,
    mode: Annotated[
        str | None, Flag(help="zero, or reset to the reference. Default: reset where one is given.")
    ] = None,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the output folder.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Score every weight on harmful rows, take the largest scores out, write the repaired model. No training."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    shared: dict[str, Any] = {
        "model": model_folder(model), "out": folder, "mode": mode, "overwrite": overwrite,
        "reference": None if reference is None else model_folder(reference),
    }  # fmt: skip
    if mask is not None:
        with _noting() as note:
            report = _masked(mask, shared, [*chosen.given(), *measured.given()], note)
    else:
        job, sweep = chosen.job(shared), measured.request(chat=chosen.chat_template)
        if chosen.seed is not None and sweep is None and "random" not in (job.control or ""):
            raise ConfigError("--seed is for random controls, and none is drawn; give one, or leave it out")
        with _noting() as note, threads_for(shared["model"], wanted=threads):
            report = _scored(job, sweep, note)
    if as_json:
        print_json(report)
        return
    out.print(layer_table(report))
    done = "set to zero" if report["mode"] == "zero" else "set back to the reference"
    out.print(
        f"{report['removed']} of {report['entries']} target weights {done}: {report['fraction']:.2%} of them, "
        f"{report['share_of_model']:.2%} of the model",
        soft_wrap=True,
    )
    if "overlap" in report:
        out.print(f"overlap with the scored mask (Jaccard): {report['overlap']:.3f}", soft_wrap=True)
    if "sweep" in report:
        out.print(sweep_table(report["sweep"]))
        out.print(f"picture: {folder / 'antidote' / 'sweep.png'}", soft_wrap=True, markup=False)
    out.print(f"model: {folder}", soft_wrap=True, markup=False)


def _masked(mask: Path, shared: dict[str, Any], others: list[str], note: Note) -> dict[str, Any]:
    from lengthwise.repair.saved_mask import MaskJob, apply_mask

    if others:
        raise ConfigError(
            f"--mask says already which weights go, so {_flags(others)} would change nothing; leave one of them out"
        )
    return apply_mask(MaskJob(mask=mask, **shared), note=note)


def _scored(job: RepairJob, sweep: Sweep | None, note: Note) -> dict[str, Any]:
    if sweep is None:
        from lengthwise.repair.folder_repair import repair_folder

        return repair_folder(job, note=note)
    from lengthwise.runs.repair_sweep import repair_and_measure

    return repair_and_measure(job, sweep, note=note)


def _flags(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


@contextmanager
def _noting() -> Iterator[Note]:
    """Say what is being done, and how it goes where that takes long."""
    with working() as work:

        def note(text: str) -> None:
            work.phase(text, quiet=True)
            _say(text)

        yield note


def _say(text: str) -> None:
    err.print(text, soft_wrap=True, markup=False)
