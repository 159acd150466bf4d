"""`lengthwise export`: the same run for TRL or verl, on more than one device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from lengthwise.cli._console import complain, out, print_json
from lengthwise.cli._flags import ContractFlags, Flag, with_groups
from lengthwise.cli._targets import run_folder
from lengthwise.errors import ConfigError

ENGINES = ("trl", "verl")


@dataclass(frozen=True)
class BatchFlags:
    """How the run is carried out; the words of `lengthwise shorten`."""

    steps: Annotated[int, Flag(help="Training steps (batches).")] = 200
    prompts: Annotated[int, Flag(help="Problems per step.")] = 128
    group_size: Annotated[int, Flag(help="Rollouts per problem.")] = 8
    updates: Annotated[int, Flag(help="Optimizer steps per batch.")] = 4
    lr: Annotated[float, Flag(help="Learning rate (AdamW).")] = 1e-6
    warmup_steps: Annotated[int, Flag(help="Steps of linear warm-up.")] = 0
    temperature: Annotated[float, Flag(help="Sampling temperature in training.")] = 1.0
    max_draws: Annotated[int, Flag(help="Draws of dynamic sampling before a smaller batch is taken (TRL).")] = 8
    checkpoint_every: Annotated[int, Flag(help="Steps between checkpoints.")] = 20
    seed: Annotated[int, Flag(help="Seed of the run.")] = 0


@dataclass(frozen=True)
class ClusterFlags:
    """What it runs on."""

    devices: Annotated[int, Flag(help="GPUs a node.")] = 1
    nodes: Annotated[int, Flag(help="Nodes.")] = 1
    micro_rows: Annotated[
        int | None, Flag(help="Responses that one device learns from at a time. Default: 8, or what divides.")
    ] = None


@with_groups
def export(
    engine: Annotated[str, typer.Argument(metavar="ENGINE", help="trl or verl.")],
    model: Annotated[str, Flag(help="Folder of a causal language model.")],
    data: Annotated[str, Flag(help="Training problems: .jsonl, .json, .parquet or a datasets name.")],
    cap: Annotated[str, Flag(help="Most response tokens in training.")],
    folder: Annotated[Path, Flag("--out", callback=run_folder, help="Folder to write.")],
    batch: BatchFlags,
    cluster: ClusterFlags,
    contract: ContractFlags,
    method: Annotated[str, Flag(help="Method; see `lengthwise methods`.")] = "dler",
    option: Annotated[
        list[str] | None, Flag("--option", help="A method's own option, name=value; repeat as needed.")
    ] = None,
    lora: Annotated[int, Flag(help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    gradient_checkpointing: Annotated[
        bool, Flag("--gradient-checkpointing", help="Recompute activations: less memory, slower.")
    ] = False,
    trust_remote_code: Annotated[bool, Flag("--trust-remote-code", help="Run Python code from the folder.")] = False,
    vllm: Annotated[bool, Flag("--vllm", help="TRL: sample with vLLM on the training devices.")] = False,
    sharding: Annotated[str, Flag(help="TRL: none, zero2, zero3 or fsdp.")] = "none",
    tensor_parallel: Annotated[int, Flag(help="verl: devices over which vLLM spreads a model.")] = 1,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace an export in the folder.")] = False,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Write a run of `lengthwise shorten` for an engine with more devices: TRL or verl. Nothing is trained."""
    if engine not in ENGINES:
        raise ConfigError(f"engine is {engine!r}; choose {' or '.join(ENGINES)}")
    from lengthwise.adapters.export_plan import Cluster, plan
    from lengthwise.config.groups.training import Training
    from lengthwise.runs.shorten.request import Request

    request = Request(
        model=model, data=data, out=folder, train=Training(**asdict(batch)), method=method, cap=cap,
        options=tuple(option or ()), contract=contract.request(), lora=lora, device="cpu",
        gradient_checkpointing=gradient_checkpointing, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    resolved = plan(engine, request, Cluster(**asdict(cluster)))
    if (reason := resolved.problems.contract.think_reason) is not None:
        complain(f"thinking: {reason}", style="dim")
    if engine == "trl":
        from lengthwise.adapters.export_trl import write_trl

        files = write_trl(resolved, folder, vllm=vllm, sharding=sharding, overwrite=overwrite)
        command, checked = f"cd {folder} && accelerate launch --config_file accelerate.yaml train.py", None
    else:
        from lengthwise.adapters.export_verl import validated, write_verl

        files = write_verl(resolved, folder, tensor_parallel=tensor_parallel, overwrite=overwrite)
        command, checked = f"bash {folder}/launch.sh", validated(folder)
    if as_json:
        print_json({"files": [str(path) for path in files], "command": command, "validated": checked})
        return
    for path in files:
        out.print(f"wrote {path}", soft_wrap=True, markup=False)
    if checked is not None:
        out.print(f"checked: {checked}", soft_wrap=True, markup=False)
    out.print(f"run: {command}", soft_wrap=True, markup=False)
