"""`lengthwise compare`: methods beside each other under one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._flags import ContractFlags, Flag, MachineFlags, with_groups
from lengthwise.cli._progress import working
from lengthwise.cli._targets import run_folder
from lengthwise.threads import threads_for

LAB_LR, OTHER_LR = 1e-4, 1e-6


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
class SharedTrainFlags(TrainFlags):
    """Fields of `Training`, the same for all methods."""

    steps: Annotated[int, Flag(help="Batches of the untouched model's length that a run's tokens pay for.")] = 100
    lr: Annotated[float | None, Flag(help="Learning rate (AdamW). Default: 1e-6, with a lab model 1e-4.")] = None  # type: ignore[assignment]
    token_budget: Annotated[
        int | None, Flag(help="Sampled tokens that each run may spend. Default: what --steps come to.")
    ] = None
    seed: Annotated[int, Flag(help="The first seed.")] = 0


@dataclass(frozen=True)
class SplitFlags:
    """What settings are chosen on, and what is reported."""

    test_data: Annotated[
        str | None, Flag(help="Problems to report on. Default: a tenth of --data, split by a hash.")
    ] = None
    validation_problems: Annotated[int, Flag(help="At most this many problems to choose settings on.")] = 200
    test_problems: Annotated[int, Flag(help="At most this many problems to report on.")] = 500
    eval_samples: Annotated[int, Flag(help="Samples per problem.")] = 1
    eval_cap: Annotated[
        int | None,
        Flag(help="Most response tokens in evaluation. Default: 8 times a cap that is a number, or 2048."),
    ] = None
    choose: Annotated[str, Flag(help="How settings are chosen on validation: aes or shortest.")] = "aes"
    baselines: Annotated[bool, Flag("--baselines/--no-baselines", help="Measure what needs no training, too.")] = True
    margin: Annotated[float, Flag(help="Accuracy that may be lost without being inferior.")] = 0.01


@with_groups
def compare(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Folder of a causal language model, or lab:chains, lab:witnesses, lab:search."
        ),
    ],
    methods: Annotated[str, Flag(help="Methods by name, with commas; `lengthwise methods` lists them.")],
    folder: Annotated[
        Path,
        Flag(
            "--out", callback=run_folder, help="Folder; the same command continues it, with more seeds or methods too."
        ),
    ],
    train: SharedTrainFlags,
    split: SplitFlags,
    contract: ContractFlags,
    machine: MachineFlags,
    data: Annotated[
        str | None, Flag(help="Problems: .jsonl, .json, .parquet or a datasets name. A lab model has its own.")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        Flag("--sweep", help="A method's knob and its values, METHOD:KNOB=V1,V2,...; repeat as needed."),
    ] = None,
    option: Annotated[
        list[str] | None, Flag("--option", help="An option for all settings of a method, METHOD:NAME=VALUE.")
    ] = None,
    settings: Annotated[
        int | None, Flag(help="Settings of each method. Default: as many as --sweep names, or 3.")
    ] = None,
    seeds: Annotated[int, Flag(help="Seeds of every setting.")] = 3,
    cap: Annotated[str, Flag(help="Training cap of methods whose knob is another: tokens, p95, 0.8L.")] = "p95",
    controls: Annotated[
        str, Flag(help="Trained alike on a reward that says nothing, one setting each: random. Default: none.")
    ] = "",
    lora: Annotated[int, Flag(help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    gradient_checkpointing: Annotated[
        bool, Flag("--gradient-checkpointing", help="Recompute activations: less memory, slower.")
    ] = False,
    jobs: Annotated[int | None, Flag(help="Runs side by side, one thread each. Default: one per core.")] = None,
    keep_models: Annotated[bool, Flag("--keep-models", help="Keep models of settings that were not chosen.")] = False,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the comparison in the folder.")] = False,
    dry_run: Annotated[bool, Flag("--dry-run", help="Show runs, tokens and an estimate; do nothing.")] = False,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Compare methods on MODEL: same weights, problems, sampled tokens and evaluation; knobs chosen on validation."""
    from lengthwise.config.groups.training import Training
    from lengthwise.runs.compare import plan
    from lengthwise.runs.compare.arms import read_arms, read_value
    from lengthwise.runs.compare.compare_methods import compare_methods, job_count
    from lengthwise.runs.compare.request import LAB, Comparison

    given = asdict(train)
    given["lr"] = train.lr if train.lr is not None else LAB_LR if model.startswith(LAB) else OTHER_LR
    asked = Comparison(
        model=model, arms=read_arms(_names(methods), sweep or (), option or (), settings), out=folder,
        train=Training(**given), seeds=seeds, data=data, cap=read_value(cap), contract=contract.request(),
        lora=lora, gradient_checkpointing=gradient_checkpointing, controls=_names(controls),
        **asdict(split), **asdict(machine),
    )  # fmt: skip
    if dry_run:
        with threads_for(wanted=1):  # as each of its runs has
            shown = plan.dry_run(asked)
        if as_json:
            print_json(shown)
            return
        for line in plan.dry_run_lines(shown, job_count(asked, jobs)):
            out.print(Text(line), soft_wrap=True)
        return
    with _progress(folder) as listener:
        result = compare_methods(asked, jobs=jobs, overwrite=overwrite, keep_models=keep_models, listener=listener)
    if as_json:
        print_json(result)
        return
    _show(result)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show(result: Mapping[str, Any]) -> None:
    out.print(_table(result))
    out.print()
    for text in [*result["findings"], f"report: {result['report']}"]:
        out.print(Text(text), soft_wrap=True)


def _table(result: Mapping[str, Any]) -> Table:
    from lengthwise.reporting import plot_data as data

    # No frame: the table must fit a terminal of 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("accuracy", "95 % interval", "tokens", "against base", "front"):
        table.add_column(name, justify="right", no_wrap=True)
    controls = {arm["name"] for arm in result["controls"]}
    chosen = {arm["name"]: arm for arm in [*result["arms"], *result["controls"]] if arm["chosen"] is not None}
    for row in result["table"]["records"] if result["table"] else ():
        summary, arm = row["summary"], chosen.get(row["name"])
        setting = "" if arm is None else f", {arm['knob']} {arm['settings'][arm['chosen']]['value']}"
        setting += " (control)" if row["name"] in controls else ""
        against = row["against_reference"]
        table.add_row(
            Text(row["name"] + setting),
            data.percent(summary["accuracy"]),
            data.span(summary["accuracy_interval"], data.percent),
            data.number(summary["mean_tokens"]),
            data.points(against["accuracy_difference"]["estimate"]) if against else "",
            "yes" if row["name"] in result["table"]["front"] else "",
        )
    return table


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
