"""`lengthwise shorten`: train a model to think in fewer tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lengthwise.cli._console import out, outcome_lines, outcome_table, print_json, progress

Flag = typer.Option


def shorten(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a causal language model.")],
    data: Annotated[str, Flag(help="Training problems: .jsonl, .json, .parquet or a datasets name.")],
    folder: Annotated[Path, Flag("--out", help="Run folder; the same command continues it.")],
    method: Annotated[str, Flag(help="dler or grpo.")] = "dler",
    cap: Annotated[str, Flag(help="Most response tokens in training, or 'auto'.")] = "auto",
    steps: Annotated[int, Flag(help="Training steps (batches).")] = 200,
    prompts: Annotated[int, Flag(help="Problems per step.")] = 16,
    group_size: Annotated[int, Flag(help="Rollouts per problem.")] = 8,
    updates: Annotated[int, Flag(help="Optimizer steps per batch.")] = 2,
    lr: Annotated[float, Flag(help="Learning rate (AdamW).")] = 1e-6,
    warmup_steps: Annotated[int, Flag(help="Steps of linear warm-up.")] = 0,
    temperature: Annotated[float, Flag(help="Sampling temperature in training.")] = 1.0,
    top_p: Annotated[float, Flag(help="Must be 1: training samples by temperature alone.")] = 1.0,
    option: Annotated[
        list[str] | None, Flag("--option", help="A method's own option, name=value; repeat as needed.")
    ] = None,
    truncate_importance: Annotated[
        float | None, Flag(help="Bound of importance weights between sampler and trainer. Default: off.")
    ] = None,
    max_draws: Annotated[int, Flag(help="Draws of dynamic sampling before a smaller batch is taken.")] = 8,
    micro_tokens: Annotated[int, Flag(help="Padded tokens of one forward and backward.")] = 4_096,
    sample_rows: Annotated[int, Flag(help="Rows in flight while sampling; 0: all.")] = 0,
    token_budget: Annotated[
        int | None, Flag(help="End training once so many tokens were sampled. Default: no bound.")
    ] = None,
    checkpoint_every: Annotated[int, Flag(help="Steps between checkpoints.")] = 20,
    seed: Annotated[int, Flag(help="Seed of the run.")] = 0,
    eval_data: Annotated[
        str | None, Flag(help="Problems to measure on. Default: a tenth of --data, split by a hash.")
    ] = None,
    eval_problems: Annotated[int, Flag(help="At most this many problems to measure on.")] = 200,
    eval_samples: Annotated[int, Flag(help="Samples per problem at temperature 1.")] = 1,
    eval_cap: Annotated[
        int | None,
        Flag(help="Most response tokens in evaluation. Default: what the model allows, up to 32768."),
    ] = None,
    preset: Annotated[str, Flag(help="Prompt contract: lab, gsm8k, math or aime.")] = "math",
    template: Annotated[str | None, Flag(help="Prompt with {problem} in it.")] = None,
    system_prompt: Annotated[str | None, Flag(help="System prompt.")] = None,
    chat_template: Annotated[
        bool | None, Flag("--chat-template/--no-chat-template", help="Render through the chat template.")
    ] = None,
    think: Annotated[bool, Flag("--think/--no-think", help="Responses begin inside <think>.")] = True,
    problem_column: Annotated[str | None, Flag(help="Column of the problem.")] = None,
    answer_column: Annotated[str | None, Flag(help="Column of the answer.")] = None,
    grader: Annotated[str | None, Flag(help="Your own grader, module:function.")] = None,
    device: Annotated[str, Flag(help="auto, cpu, cuda, cuda:1 ...; one device.")] = "auto",
    dtype: Annotated[str, Flag(help="float32, bfloat16 or float16 for computing.")] = "float32",
    lora: Annotated[int, Flag(help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    gradient_checkpointing: Annotated[
        bool, Flag("--gradient-checkpointing", help="Recompute activations: less memory, slower.")
    ] = False,
    trust_remote_code: Annotated[bool, Flag("--trust-remote-code", help="Run model code from the folder.")] = False,
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace the run in the folder.")] = False,
    dry_run: Annotated[
        bool, Flag("--dry-run", help="Show a prompt, a graded sample and an estimate; train nothing.")
    ] = False,
    as_json: Annotated[bool, Flag("--json", help="Print one JSON object on stdout instead.")] = False,
) -> None:
    """Shorten MODEL: measure, train, measure again, report. Kill it at any time; the same command continues."""
    from lengthwise.engine.trainer import TrainConfig
    from lengthwise.study import request

    train = TrainConfig(
        steps=steps, prompts=prompts, group_size=group_size, updates=updates, lr=lr, warmup_steps=warmup_steps,
        temperature=temperature, max_draws=max_draws, micro_tokens=micro_tokens, sample_rows=sample_rows,
        truncate_importance=truncate_importance, checkpoint_every=checkpoint_every,
        token_budget=token_budget, seed=seed,
    )  # fmt: skip
    changes: dict[str, Any] = {
        "template": template, "system_prompt": system_prompt, "chat_template": chat_template,
        "problem_column": problem_column, "answer_column": answer_column,
    }  # fmt: skip
    asked = request.Request(
        model=model, data=data, eval_data=eval_data, out=folder, method=method, cap=cap, train=train,
        options=tuple(option or ()), top_p=top_p, eval_problems=eval_problems, eval_samples=eval_samples,
        eval_cap=eval_cap, preset=preset, contract_changes={k: v for k, v in changes.items() if v is not None},
        think=think, grader=grader, device=device, dtype=dtype, lora=lora,
        gradient_checkpointing=gradient_checkpointing, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    if dry_run:
        shown = request.dry_run(asked)
        if as_json:
            print_json(shown)
        else:
            for line in request.dry_run_lines(shown):
                out.print(line, soft_wrap=True, markup=False)
        return
    with progress() as listener:
        outcome = request.carry_out(asked, overwrite=overwrite, listener=listener)
    if as_json:
        print_json(outcome)
        return
    if "cap_choice" in outcome:
        choice = outcome["cap_choice"]
        quantiles = ", ".join(f"{name} {value}" for name, value in choice["quantiles"].items())
        out.print(f"cap {choice['cap']} chosen from right answers' lengths: {quantiles}", soft_wrap=True)
    out.print(outcome_table(outcome))
    for line in outcome_lines(outcome):
        out.print(line, soft_wrap=True)
