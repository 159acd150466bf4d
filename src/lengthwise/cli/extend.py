"""`lengthwise extend`: a model folder that reads further, by a position scheme in its config."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._flags import Flag, Threads, refuse_lambda, with_groups
from lengthwise.cli._targets import whole_folder
from lengthwise.data import read_rows, require_columns
from lengthwise.errors import ConfigError
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from lengthwise.context.positions.scheme_config import Scheme


@dataclass(frozen=True)
class TrainingFlags:
    """Fine-tuning first; needs the extra trl."""

    data: Annotated[
        str | None, Flag(help="Fine-tune on these documents first: .jsonl, .json, .parquet, a datasets name.")
    ] = None
    column: Annotated[str, Flag("--text-column", help="Column of the documents.")] = "text"
    length: Annotated[int | None, Flag("--chunk", help="Tokens of a training chunk. Default: the new context.")] = None
    lr: Annotated[float, Flag(help="Learning rate.")] = 2e-5
    epochs: Annotated[float, Flag(help="Passes over the data.")] = 1.0
    steps: Annotated[int, Flag(help="Optimiser steps in place of epochs; 0: epochs.")] = 0
    batch: Annotated[int, Flag(help="Chunks a step.")] = 32
    micro_batch: Annotated[int, Flag(help="Chunks held at once.")] = 4
    warmup_steps: Annotated[int, Flag(help="Steps over which the learning rate rises.")] = 300
    lora: Annotated[int, Flag(help="Rank of LoRA; 0 trains all weights.")] = 0
    dtype: Annotated[str, Flag(help="float32, bfloat16 or float16 for computing.")] = "float32"
    seed: Annotated[int, Flag(help="Seed of training.")] = 0
    trust_remote_code: Annotated[bool, Flag("--trust-remote-code", help="Run Python code from the folder.")] = False


@with_groups
def extend(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a causal language model, or lab:reader.")],
    scheme: Annotated[
        str, Flag(help="linear, power, truncated, xpos, randomised, ntk, dynamic, yarn, longrope or llama3.")
    ],
    folder: Annotated[Path, Flag("--out", callback=whole_folder, help="Folder to write.")],
    training: TrainingFlags,
    factor: Annotated[
        float, Flag(help="Times the trained context; composed before power, truncated, xpos, randomised.")
    ] = 1.0,
    eval_factor: Annotated[float | None, Flag(help="Factor to write, where it differs from that of training.")] = None,
    power: Annotated[float | None, Flag(help="Exponent of the power scheme. Default there: 0.5.")] = None,
    truncate_length: Annotated[
        float | None,
        Flag(help="Tokens within which a pair must turn once. Default for truncated: the trained context."),
    ] = None,
    xpos_scale_base: Annotated[float | None, Flag(help="Tokens over which xPos decays by zeta. Default: 512.")] = None,
    option: Annotated[list[str] | None, Flag(help="Another option of the scheme, NAME=JSON; repeat.")] = None,
    link: Annotated[bool, Flag("--link", help="Hard links to the weights in place of copies.")] = False,
    use_lambda: Annotated[
        bool, Flag("--lambda", help="Refused: a way of running a model, not of writing one.")
    ] = False,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the output folder.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Write MODEL with a position scheme for longer texts, fine-tuned under it first where --data is given."""
    refuse_lambda(
        use_lambda,
        "cannot be written into a folder: it is a way of running any model, with its weights and config as they are. "
        "Give it to lengthwise generate or evaluate, or as --scheme lambda to evaluate-context",
    )
    from transformers.utils import logging

    from lengthwise.cli.merge import model_folder
    from lengthwise.context.positions.extend_folder import extend_folder
    from lengthwise.context.positions.scheme_config import Scheme

    source = model_folder(model)
    logging.disable_progress_bar()
    named = {"power": power, "truncate_length": truncate_length, "xpos_scale_base": xpos_scale_base}
    options = {name: value for name, value in named.items() if value is not None} | _options(option or [])
    chosen = Scheme(scheme, factor, tuple(options.items()))
    with threads_for(source, wanted=threads):
        report = extend_folder(
            source, folder, chosen, eval_factor=eval_factor, link=link, overwrite=overwrite,
            train=_train(source, chosen, training), trust_remote_code=training.trust_remote_code,
        )  # fmt: skip
    if as_json:
        print_json({**report, "out": str(folder)})
        return
    if report["trained_factor"] is None and eval_factor is None and scheme not in ("yarn", "ntk", "dynamic"):
        complain(
            "the model was not trained under this scheme; measure it with lengthwise evaluate-context", style="yellow"
        )
    out.print(f"scheme: {report['scheme']}, factor {report['factor']:g}; loads {report['loads']}", markup=False)
    out.print(f"model: {folder}", soft_wrap=True, markup=False)


def _options(given: list[str]) -> dict[str, Any]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name in found:
            raise ConfigError(f"option names {name} twice; give it once")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"option is {text!r}; write NAME=JSON, for example beta_fast=64") from error
        if not equals:
            raise ConfigError(f"option is {text!r}; write NAME=JSON, for example beta_fast=64")
    return found


def _train(model: Path, scheme: Scheme, flags: TrainingFlags) -> Any:
    """What trains, or None without data."""
    if flags.data is None:
        return None
    from lengthwise.context.positions.extend_folder import checked_config
    from lengthwise.context.positions.finetuning import FineTuning, finetune, import_trainer
    from lengthwise.context.positions.scheme_config import trained_context

    config = checked_config(model, scheme, trust_remote_code=flags.trust_remote_code)
    wanted = int(trained_context(config) * scheme.factor)
    scheduled = scheme.name == "xpos" and "xpos_scale_base" not in dict(scheme.options)
    asked = FineTuning(
        **{**asdict(flags), "length": wanted // 2 * 2 if flags.length is None else flags.length},
        scheduled_base=scheduled,
    )
    require_columns(read_rows(asked.data), [asked.column], asked.data)  # before the model is copied and loaded
    import_trainer()
    return functools.partial(finetune, asked=asked)
