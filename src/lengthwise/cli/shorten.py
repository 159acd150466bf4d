"""`lengthwise shorten`: train a model to think in fewer tokens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from lengthwise.cli._console import out, outcome_lines, outcome_table, print_json
from lengthwise.cli._flags import ContractFlags, Flag, MachineFlags, Threads, refuse_lambda, with_groups
from lengthwise.cli._progress import progress
from lengthwise.cli._targets import run_folder
from lengthwise.threads import threads_for


@dataclass(frozen=True)
class TrainFlags:
    """Fields of `Training`."""

    steps: Annotated[int, Flag(help="Training steps (batches).")] = 200
    prompts: Annotated[int, Flag(help="Problems per step.")] = 16
    group_size: Annotated[int, Flag(help="Rollouts per problem.")] = 8
    updates: Annotated[int, Flag(help="Optimizer steps per batch.")] = 2
    lr: Annotated[float, Flag(help="Learning rate (AdamW).")] = 1e-6
    warmup_steps: Annotated[int, Flag(help="Steps of linear warm-up.")] = 0
    temperature: Annotated[float, Flag(help="Sampling temperature in training.")] = 1.0
    truncate_importance: Annotated[
        float | None, Flag(help="Bound of importance weights between sampler and trainer. Default: off.")
    ] = None
    max_draws: Annotated[int, Flag(help="Draws of dynamic sampling before a smaller batch is taken.")] = 8
    micro_batch_tokens: Annotated[int, Flag(help="Padded tokens of one forward and backward.")] = 4_096
    sample_rows: Annotated[int, Flag(help="Rows in flight while sampling; 0: all.")] = 0
    token_budget: Annotated[
        int | None, Flag(help="End training once so many tokens were sampled. Default: no bound.")
    ] = None
    checkpoint_every: Annotated[int, Flag(help="Steps between checkpoints.")] = 20
    seed: Annotated[int, Flag(help="Seed of the run.")] = 0


@dataclass(frozen=True)
class EvalFlags:
    """What is measured before and after."""

    eval_data: Annotated[
        str | None, Flag(help="Problems to measure on. Default: a tenth of --data, split by a hash.")
    ] = None
    eval_problems: Annotated[int, Flag(help="At most this many problems to measure on.")] = 200
    eval_samples: Annotated[int, Flag(help="Samples per problem at temperature 1.")] = 1
    eval_cap: Annotated[
        int | None,
        Flag(help="Most response tokens in evaluation. Default: 8 times --cap, at least 512; 2048 under --cap auto."),
    ] = None
    stop_repeats: Annotated[
        bool,
        Flag("--stop-repeats", help="Cut a measured response once its last 256 tokens repeat a piece of at most 64."),
    ] = False


@with_groups
def shorten(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a causal language model.")],
    data: Annotated[str, Flag(help="Training problems: .jsonl, .json, .parquet or a datasets name.")],
    folder: Annotated[Path, Flag("--out", callback=run_folder, help="Run folder; the same command continues it.")],
    train: TrainFlags,
    measure: EvalFlags,
    contract: ContractFlags,
    machine: MachineFlags,
    method: Annotated[
        str, Flag(help="A method by name (`lengthwise methods`), your own my_method.py, or module:function.")
    ] = "dler",
    cap: Annotated[
        str, Flag(help="Most response tokens in training, 'auto', or a schedule: cosine, stair, stair-cosine.")
    ] = "auto",
    longest: Annotated[int | None, Flag(help="Longest cap of a schedule.")] = None,
    shortest: Annotated[int | None, Flag(help="Shortest cap of a schedule. Default: half of the longest.")] = None,
    cycle: Annotated[int | None, Flag(help="Steps of a schedule's cycle. Default: 640.")] = None,
    merge_back: Annotated[
        str | None,
        Flag(help="Afterwards merge so much of what changed into MODEL: density,scale, for example 0.25,0.7."),
    ] = None,
    top_p: Annotated[float, Flag(help="Must be 1: training samples by temperature alone.")] = 1.0,
    option: Annotated[
        list[str] | None, Flag("--option", help="A method's own option, name=value; repeat as needed.")
    ] = None,
    short_model: Annotated[str | None, Flag(help="ada-r1: folder of the short model; MODEL is the long one.")] = None,
    stage: Annotated[
        str | None, Flag(help="ada-r1: one stage alone: merge, sample, pairs, dpo or evaluate. Default: all.")
    ] = None,
    lora: Annotated[int, Flag(help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    use_lambda: Annotated[bool, Flag("--lambda", help="Refused: training pads rows on the left.")] = False,
    gradient_checkpointing: Annotated[
        bool, Flag("--gradient-checkpointing", help="Recompute activations: less memory, slower.")
    ] = False,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the run in the folder.")] = False,
    dry_run: Annotated[
        bool, Flag("--dry-run", help="Show a prompt, a graded sample and an estimate; train nothing.")
    ] = False,
    threads: Threads = None,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Shorten MODEL: measure, train, measure again, report. Kill it at any time; the same command continues."""
    refuse_lambda(
        use_lambda,
        "cannot be used to shorten: training takes rows of unlike length together, padded on the left, and under "
        "Lambda attention a row's first tokens count. Shorten within the trained length, then give --lambda to "
        "lengthwise generate or evaluate",
    )
    from lengthwise.config.groups.training import Training
    from lengthwise.runs.shorten import dry_run as estimates
    from lengthwise.runs.shorten import request

    asked = request.Request(
        model=model, data=data, out=folder, train=Training(**asdict(train)), method=method, cap=cap,
        longest=longest, shortest=shortest, cycle=cycle, merge_back=merge_back,
        options=tuple(option or ()), top_p=top_p, contract=contract.request(), lora=lora,
        short_model=short_model, stage=stage,
        gradient_checkpointing=gradient_checkpointing, **asdict(measure), **asdict(machine),
    )  # fmt: skip
    if dry_run:
        with threads_for(wanted=threads):
            shown = estimates.dry_run(asked)
        if as_json:
            print_json(shown)
        else:
            for line in estimates.dry_run_lines(shown):
                out.print(line, soft_wrap=True, markup=False)
        return
    with progress() as listener, threads_for(wanted=threads):
        outcome = request.carry_out(asked, overwrite=overwrite, listener=listener)
    if as_json:
        print_json(outcome)
        return
    if "stage" in outcome:
        for name, value in outcome.items():
            out.print(f"{name}: {value}", soft_wrap=True, markup=False)
        return
    if "cap_choice" in outcome:
        choice = outcome["cap_choice"]
        quantiles = ", ".join(f"{name} {value}" for name, value in choice["quantiles"].items())
        out.print(f"cap {choice['cap']} chosen from right answers' lengths: {quantiles}", soft_wrap=True)
    out.print(outcome_table(outcome))
    for line in outcome_lines(outcome):
        out.print(line, soft_wrap=True)
