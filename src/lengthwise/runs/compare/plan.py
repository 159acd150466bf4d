"""What a comparison will do, before it does it: every setting's options, tokens a run may sample, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping

from lengthwise.engine.method import Method, Recipe
from lengthwise.engine.model_folders import resolve_device
from lengthwise.engine.trainer import check_method
from lengthwise.errors import ConfigError
from lengthwise.pretrained import read_config
from lengthwise.runs.compare.arenas import Arena, open_arena
from lengthwise.runs.compare.arms import Arm, Facts, Settled, built, resolved, settings_of
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.folder import base_folder, check_folder, load_record
from lengthwise.runs.compare.plan_values import ArmPlan, DryRun, Plan
from lengthwise.runs.resource_estimate import Estimate, estimate, measuring, parameter_counts
from lengthwise.runs.run_folder import RECORDS


def facts_of(asked: Comparison) -> Facts:
    """What the values of knobs follow from: the first seed's record of the untouched model on validation."""
    record = load_record(base_folder(asked.out, asked.training.seed), "before")
    rows = zip(record.num_tokens, record.correct, strict=True)
    pairs = [pair for lengths, rights in rows for pair in zip(lengths, rights, strict=True)]
    right = [length for length, is_right in pairs if is_right]
    return Facts(right, float(record.tokens.mean()), float(record.accuracies.mean()), asked.training.steps)


def make_plan(asked: Comparison, arena: Arena, facts: Facts) -> Plan:
    """Every setting's options and the sampled tokens that each run may spend.

    Raises:
        ConfigError: options that a method refuses, settings that come out the same, or a cap above evaluation's.
    """
    shared = resolved(asked.cap, facts)
    assert isinstance(shared, int | float), "a cap is a number, or follows from the lengths"
    cap = min(arena.eval_cap, int(shared))
    settings: dict[str, list[dict[str, Settled]]] = {
        arm.name: settings_of(arm, cap=cap, facts=facts) for arm in asked.arms
    }  # fmt: skip
    settings |= {arm.name: [{"cap": cap}] for arm in asked.control_arms}
    for arm in asked.arms:
        for options in settings[arm.name]:
            _check_cap(arm, options["cap"], arena)
    return Plan(
        cap=cap,
        mean_tokens=facts.mean_tokens,
        accuracy=facts.accuracy,
        token_budget=asked.training.token_budget or round(_rows(asked) * facts.mean_tokens),
        settings=settings,
    )


def _check_cap(arm: Arm, cap: object, arena: Arena) -> None:
    if isinstance(cap, int) and cap > arena.eval_cap:
        raise ConfigError(
            f"{arm.name}: cap is {cap}, above the evaluation cap {arena.eval_cap}, which is the same for all; lower "
            "it, or raise --eval-cap"
        )


def check_arms(asked: Comparison, arena: Arena) -> dict[str, Method]:
    """Refuse what can be refused before anything is measured: see `make_plan`, and methods that cannot be compared.

    Returns one method of each arm by name: what a run of it holds and computes does not depend on its knob.
    Values that depend on the untouched model stand in as if half of what evaluation allows were its mean length.
    """
    longest = arena.eval_cap
    facts = Facts(range(1, longest + 1, max(1, longest // 1000)), longest / 2, 0.5, asked.training.steps)
    found = {}
    for arm in asked.arms:
        for value in arm.values:
            given = {"cap": asked.cap if isinstance(asked.cap, int) else longest, **arm.options, arm.knob: value}
            _check_cap(arm, given["cap"], arena)
            method = _comparable(arm, built(arm, {name: resolved(one, facts) for name, one in given.items()}))
            check_method(method, asked.training)
            found[arm.name] = method
    return found


def _comparable(arm: Arm, method: Recipe) -> Method:
    """The training loop of a method that has nothing else.

    Raises:
        ConfigError: it has stages before it, or no loop.
    """
    stages = [stage.name for stage in method.prepare]
    if method.loop is None or stages:
        what = f"stages before its training ({', '.join(stages)})" if stages else "no training loop"
        raise ConfigError(
            f"method {arm.method!r} has {what}, so a budget of sampled tokens does not hold it to what the others "
            "spend; run `lengthwise shorten` with it, and set its record beside theirs with `lengthwise "
            "compare-records`"
        )
    return method.loop


def _rows(asked: Comparison) -> int:
    return asked.training.steps * asked.training.prompts * asked.training.group_size


def dry_run(asked: Comparison) -> DryRun:
    """What a comparison will take; no weights are read and nothing is written.

    Where the untouched model was measured in the folder already, values and tokens are those that will be used; else
    values that follow from it stand as they were given, and tokens are an upper bound, answers as long as evaluation
    allows.

    Raises:
        ConfigError: what `compare_methods` would refuse: options, or a folder that holds something else.
    """
    check_folder(asked.out)
    arena = open_arena(asked)
    methods = check_arms(asked, arena)
    known = (base_folder(asked.out, asked.training.seed) / RECORDS / "before.json").is_file()
    plan = make_plan(asked, arena, facts_of(asked)) if known else None
    budget = asked.training.token_budget or _rows(asked) * arena.eval_cap
    tokens, mean = (budget, arena.eval_cap) if plan is None else (plan.token_budget, plan.mean_tokens)
    problems = arena.train(asked.training.seed)
    costs, settings = _costs(asked, arena, methods, round(mean)), [len(arm.values) for arm in asked.all_arms]
    runs = sum(settings) * asked.settings.seeds
    seconds = [tokens * cost.seconds_per_step / cost.tokens_per_step for cost in costs]
    sampled = (len(arena.validation) + len(arena.test)) * asked.splits.eval_samples
    measured = measuring(
        read_config(arena.folder, trust_remote_code=asked.runtime.trust_remote_code), [sampled, len(arena.validation)],
        cap=arena.eval_cap, prompt_tokens=0, dtype=asked.runtime.dtype, device=resolve_device(asked.runtime.device),
        counts=(costs[0].parameters, 0),
    )  # fmt: skip
    return DryRun(
        model=asked.model,
        problems={"train": len(problems), "validation": len(arena.validation), "test": len(arena.test)},
        eval_cap=arena.eval_cap,
        thinking=arena.test.contract.think_reason,
        arms=[
            ArmPlan(
                name=arm.name, knob=arm.knob, values=arm.values, options=arm.options,
                settings=None if plan is None else plan.settings[arm.name],
            )
            for arm in asked.arms
        ],
        seeds=asked.seed_numbers,
        baselines=list(arena.baselines),
        controls=[arm.name for arm in asked.control_arms],
        runs=runs,
        token_budget=tokens,
        token_budget_is_bound=not known and asked.training.token_budget is None,
        tokens=runs * tokens,
        seconds_per_run=measured.seconds
        + sum(n * each for n, each in zip(settings, seconds, strict=True)) / sum(settings),
        seconds_of_base=measured.seconds * asked.settings.seeds,
        memory_bytes_per_run=max(cost.total for cost in costs),
    )  # fmt: skip


def _costs(asked: Comparison, arena: Arena, methods: Mapping[str, Method], tokens: int) -> list[Estimate]:
    """What a step of each arm takes, with responses of so many tokens."""
    config = read_config(arena.folder, trust_remote_code=asked.runtime.trust_remote_code)
    problems = arena.train(asked.training.seed)
    counts = parameter_counts(config, trust_remote_code=asked.runtime.trust_remote_code)
    return [
        estimate(
            config, asked.training, cap=tokens, prompt_tokens=max(map(len, problems.prompts)),
            dtype=asked.runtime.dtype, lora=asked.adaptation.lora,
            gradient_checkpointing=asked.adaptation.gradient_checkpointing, method=methods.get(arm.name),
            device=resolve_device(asked.runtime.device), counts=counts,
        )
        for arm in asked.all_arms
    ]  # fmt: skip


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def dry_run_lines(shown: DryRun, jobs: int) -> list[str]:
    """What `--dry-run` prints."""
    counts = ", ".join(f"{count:,} {name}" for name, count in shown.problems.items())
    lines = [f"{shown.model}: {counts} problems, evaluated at up to {shown.eval_cap:,} tokens"]
    lines += [f"thinking: {shown.thinking}"] if shown.thinking else []
    for arm in shown.arms:
        fixed = "".join(f", {name} {value}" for name, value in arm.options.items())
        lines.append(f"{arm.name}: {arm.knob} {', '.join(map(str, arm.values))}{fixed}")
        if arm.settings is not None:
            values = [one[arm.knob] for one in arm.settings]
            lines.append(
                f"    comes out as {', '.join(f'{v:.4g}' if isinstance(v, float) else str(v) for v in values)}"
            )
    bound = "at most " if shown.token_budget_is_bound else ""
    minutes = (shown.seconds_per_run * shown.runs + shown.seconds_of_base) / jobs / 60
    controls, free = (", ".join(names) or "none" for names in (shown.controls, shown.baselines))
    runs, seeds = _counted(shown.runs, "run"), _counted(len(shown.seeds), "seed")
    return [
        *lines,
        f"controls: {controls}; free baselines: {free}",
        f"{runs} ({seeds}) of {bound}{shown.token_budget:,} sampled tokens, {bound}{shown.tokens:,} in all",
        f"{bound or 'about '}{shown.seconds_per_run / 60:,.1f} min a run, {minutes:,.1f} min with {jobs} at a time, "
        f"and {shown.memory_bytes_per_run / 2**20:,.0f} MiB each (rough; with evaluation, without the baselines)",
    ]
