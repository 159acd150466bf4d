"""What one RL step costs: this engine against TRL's `GRPOTrainer`, and long answers against short ones.

    python benchmarks/step_cost.py --json results/step_cost.json             # against TRL; needs lengthwise[trl]
    python benchmarks/step_cost.py --half --json results/step_cost_half.json # answers half as long

**Against TRL.** Same weights, same prompts in the same steps (chains, train split, 16 problems x 8 rollouts), same
cap, temperature 1 with no top-k or top-p, responses that end by their own EOS, GRPO with group-normalised 0/1
reward (right and finished) by the same grader on token ids, no KL, clip 0.2, sequence-mean loss, one AdamW step
per batch, gradient norm 1, weight decay 0.01, float32, no gradient checkpointing, no dropout. The learning rate
is tiny, so that both sides keep sampling from the same policy; that they do shows in mean tokens per response,
which must agree. Exit code 1 if the median of the paired time ratios is below 1.5, or if the tokens disagree.

TRL is run as well as it can be on a CPU: plain `generate` with its dynamic cache (vLLM needs an accelerator),
`per_device_train_batch_size` equal to the whole batch and `steps_per_generation` 1, so no micro-batches and no second
forward for old log-probabilities; `beta` 0, so no reference model; `num_iterations` 1; fused AdamW, its default;
`top_k` 0 and `top_p` 1, so no logits processor runs; no logging, no completions table, no saving, no evaluation, no
progress bar, no reporters. `--trl-rows` splits its batch into gradient accumulation, should smaller parts be faster.
This engine runs with its defaults and goes on writing its metrics and TensorBoard events in every step.

**Half as long** (`--half`). This engine alone, all answers ended by their own EOS under a roomy cap: the time of a
step on problems with long answers against one whose answers are about half as long, by other levels of the
problems or, with `--short-model`, by a shortened reasoner on the same problems. Reported are the ratio as measured and
the ratio at exactly half the tokens (a straight line through the two measured points). Exit code 1 if the
larger of the two is above 0.65. Shorter problems are also easier, and groups that are all right are left out of the
update, which saves time that has nothing to do with length: their shares, and the ratios of sampling and of
updating alone, are printed too. `--short-model` avoids most of this.

**How.** One process per measurement, sides alternating (A B A B ...), at least 5 pairs; each process warms up, then
times whole steps from the end of one to the end of the next. A last, untimed step takes what only the end of
a run does. A pair's ratio is that of its two median step times. Processor time is given beside the wall clock: where
the two tell unlike stories, other programs were running and the measurement is worth little. Memory is `ru_maxrss`,
the whole process with all its imports; what the steps add to the loaded process is given beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _bench import facts, mean_and_error, peak_mib, run_worker, spread, write_json

LEAST_RATIO, MOST_HALF = 1.5, 0.65
HALF_CAP = 260
PACKAGES = ("lengthwise", "torch", "transformers", "trl", "accelerate", "datasets", "numpy")
OURS, TRL = "lengthwise", "trl"
LONG, SHORT = "long", "short"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", action="store_true", help="long against short answers instead of TRL")
    parser.add_argument("--model", default="lab:chains", help="model folder (default: the shipped verbose reasoner)")
    parser.add_argument("--short-model", help="--half: a shortened reasoner on the same problems")
    parser.add_argument("--levels", default="1-7", help="levels of the problems, as 1-7 or 2,4")
    parser.add_argument("--long-levels", default="6,7", help="--half: levels of the long side")
    parser.add_argument("--short-levels", default="3,4", help="--half without --short-model: levels of the short side")
    parser.add_argument("--prompts", type=int, default=16, help="problems per step")
    parser.add_argument("--group-size", type=int, default=8, help="rollouts per problem")
    parser.add_argument("--cap", type=int, help=f"response cap (default: 120; --half: {HALF_CAP})")
    parser.add_argument("--lr", type=float, default=1e-7)
    parser.add_argument("--steps", type=int, default=8, help="timed steps per process")
    parser.add_argument("--warmup", type=int, default=2, help="untimed steps per process")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of processes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trl-rows", type=int, help="rows of one TRL forward and backward (default: the whole batch)")
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cap is None:
        options.cap = HALF_CAP if options.half else 120
    if min(options.steps, options.repeats, options.threads) < 1 or options.warmup < 1:
        parser.error("--steps, --warmup, --repeats and --threads must be at least 1")
    return options


def levels(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(level) for level in text.split(",")]


# ---------------------------------------------------------------------------------------------- the parent


def main() -> int:
    options = parse()
    if options.worker:
        work(json.loads(options.worker))
        return 0
    if options.repeats < 5:
        print(f"note: {options.repeats} pairs are a trial; a result takes at least 5")
    common = {
        name: getattr(options, name)
        for name in ("model", "prompts", "group_size", "cap", "lr", "steps", "warmup", "threads", "trl_rows")
    }
    common["levels"] = levels(options.levels)
    if options.half:
        sides = {LONG: {**common, "engine": OURS}, SHORT: {**common, "engine": OURS}}
        if options.short_model:
            sides[SHORT]["model"] = options.short_model
        else:
            sides[LONG]["levels"], sides[SHORT]["levels"] = levels(options.long_levels), levels(options.short_levels)
    else:
        sides = {TRL: {**common, "engine": TRL}, OURS: {**common, "engine": OURS}}
    head = facts(*PACKAGES)
    runs = measure(sides, options.repeats, options.threads)
    summary = summarise_half(runs) if options.half else summarise(runs)
    if options.json:
        settings = vars(options) | {"json": None, "worker": None}
        raw = {**head, "threads": options.threads, "settings": settings, "summary": summary, "processes": runs}
        write_json(options.json, _short_paths(raw))
    return 0 if summary["passed"] else 1


def _short_paths(value: Any) -> Any:
    """Absolute paths cut to their last part: no file of results names a folder of one machine."""
    if isinstance(value, dict):
        return {key: _short_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_short_paths(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def measure(sides: dict[str, dict[str, Any]], repeats: int, threads: int) -> list[dict[str, Any]]:
    runs = []
    print("pair  side         s/step    cpu s  tokens    cut  peak MiB   added")
    for repeat in range(repeats):
        for side, spec in sides.items():
            run = run_worker(__file__, {**spec, "seed": repeat}, threads=threads)
            run |= {"repeat": repeat, "side": side}
            run |= {f"median_{name}": statistics.median(run[name]) for name in ("seconds", "cpu_seconds")}
            runs.append(run)
            print(
                f"{repeat:>4}  {side:<10}  {run['median_seconds']:>7.3f}  {run['median_cpu_seconds']:>7.3f}  "
                f"{statistics.fmean(run['tokens']):>6.1f}  "
                f"{statistics.fmean(run['cut']):>5.1%}  {run['peak_mib']:>8.0f}  {_added(run):>6.0f}",
                flush=True,
            )
    return runs


def _added(run: dict[str, Any]) -> float:
    return run["peak_mib"] - run["loaded_mib"]


def _of(runs: list[dict[str, Any]], side: str, name: str) -> list[float]:
    return [run[name] for run in runs if run["side"] == side]


def _all_steps(runs: list[dict[str, Any]], side: str, name: str) -> list[float]:
    return [value for run in runs if run["side"] == side for value in run[name]]


def _ratios(runs: list[dict[str, Any]], above: str, below: str, name: str = "median_seconds") -> list[float]:
    return [a / b for a, b in zip(_of(runs, above, name), _of(runs, below, name), strict=True)]


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ratios, cpu_ratios = _ratios(runs, TRL, OURS), _ratios(runs, TRL, OURS, "median_cpu_seconds")
    tokens = {side: statistics.fmean(_all_steps(runs, side, "tokens")) for side in (TRL, OURS)}
    # Both sides answered the same prompts in the same step, so the noise is that of the paired differences.
    pairs = zip(_all_steps(runs, OURS, "tokens"), _all_steps(runs, TRL, "tokens"), strict=True)
    gap, error = mean_and_error([ours - trl for ours, trl in pairs])
    agree = abs(gap) <= 4 * error
    memory = {side: _of(runs, side, "peak_mib") for side in (TRL, OURS)}
    added = {side: [_added(run) for run in runs if run["side"] == side] for side in (TRL, OURS)}
    right = {side: statistics.fmean(_all_steps(runs, side, "accuracy")) for side in (TRL, OURS)}
    median = statistics.median(ratios)
    print(f"step seconds       trl {spread(_of(runs, TRL, 'median_seconds'))}")
    print(f"            lengthwise {spread(_of(runs, OURS, 'median_seconds'))}")
    print(f"trl / lengthwise       {spread(ratios)}   wanted: at least {LEAST_RATIO}")
    print(f"  in processor time    {spread(cpu_ratios)}")
    verdict = "agree" if agree else "DISAGREE: the sides did unlike work"
    print(f"tokens per response    trl {tokens[TRL]:.2f}, lengthwise {tokens[OURS]:.2f}")
    print(f"                       difference {gap:+.2f} +- {error:.2f}: {verdict}")
    print(f"accuracy               trl {right[TRL]:.3f}, lengthwise {right[OURS]:.3f}")
    for side in (TRL, OURS):
        print(f"peak memory {side:>10} {statistics.median(memory[side]):.0f} MiB, "
              f"{statistics.median(added[side]):.0f} MiB of it added by the steps")  # fmt: skip
    return {
        "ratios": ratios,
        "cpu_ratios": cpu_ratios,
        "median_ratio": median,
        "wanted_ratio": LEAST_RATIO,
        "mean_tokens": tokens,
        "token_difference": gap,
        "token_difference_error": None if error == float("inf") else error,
        "accuracy": right,
        "peak_mib": {side: statistics.median(memory[side]) for side in memory},
        "added_mib": {side: statistics.median(added[side]) for side in added},
        "passed": median >= LEAST_RATIO and agree,
    }


def summarise_half(runs: list[dict[str, Any]]) -> dict[str, Any]:
    ratios, cpu_ratios = _ratios(runs, SHORT, LONG), _ratios(runs, SHORT, LONG, "median_cpu_seconds")
    tokens = {side: statistics.fmean(_all_steps(runs, side, "tokens")) for side in (LONG, SHORT)}
    cut = {side: statistics.fmean(_all_steps(runs, side, "cut")) for side in (LONG, SHORT)}
    uniform = {side: statistics.fmean(_all_steps(runs, side, "uniform")) for side in (LONG, SHORT)}
    parts = {}
    for part in ("seconds_sample", "seconds_update"):
        medians = {side: statistics.median(_all_steps(runs, side, part)) for side in (LONG, SHORT)}
        parts[part] = medians[SHORT] / medians[LONG]
    share, median = tokens[SHORT] / tokens[LONG], statistics.median(ratios)
    if not 0.4 <= share <= 0.6:
        raise SystemExit(
            f"the short side has {share:.2f} of the long side's tokens; choose levels that give about half"
        )
    at_half = 1 - (1 - median) * 0.5 / (1 - share)
    print(f"step seconds      long {spread(_of(runs, LONG, 'median_seconds'))}")
    print(f"                 short {spread(_of(runs, SHORT, 'median_seconds'))}")
    print(f"tokens per response    long {tokens[LONG]:.1f} (cut {cut[LONG]:.1%}), short {tokens[SHORT]:.1f} "
          f"(cut {cut[SHORT]:.1%}): {share:.3f} of them")  # fmt: skip
    print(f"short / long           {spread(ratios)}   wanted: at most {MOST_HALF}")
    print(f"  in processor time    {spread(cpu_ratios)}")
    print(f"at exactly half        {at_half:.3f}   wanted: at most {MOST_HALF}")
    print(f"  of sampling alone    {parts['seconds_sample']:.3f}, of updating alone {parts['seconds_update']:.3f}")
    print(f"groups all right or all wrong (no update): long {uniform[LONG]:.1%}, short {uniform[SHORT]:.1%}")
    return {
        "ratios": ratios,
        "cpu_ratios": cpu_ratios,
        "part_ratios": parts,
        "uniform_groups": uniform,
        "median_ratio": median,
        "ratio_at_exactly_half": at_half,
        "wanted_ratio": MOST_HALF,
        "mean_tokens": tokens,
        "token_share": share,
        "cut_rate": cut,
        "passed": max(median, at_half) <= MOST_HALF,
    }


# --------------------------------------------------------------------------------------------- the workers


def work(spec: dict[str, Any]) -> None:
    """Run one side in this process and write its raw numbers."""
    import torch

    from lengthwise.engine.model_folders import load_policy, weights_sha
    from lengthwise.lab.reasoner import SHIPPED, shipped_reasoner

    torch.set_num_threads(spec["threads"])
    folder = shipped_reasoner() if spec["model"] == SHIPPED else Path(spec["model"])
    policy = load_policy(folder, device="cpu")
    result = {"weights_sha256": weights_sha(policy.model)}
    result |= (work_trl if spec["engine"] == TRL else work_ours)(spec, policy)
    result |= {"peak_mib": peak_mib(), "threads": torch.get_num_threads(), "seed": spec["seed"]}
    Path(spec["out"]).write_text(json.dumps(result), encoding="utf-8")


def _problems(spec: dict[str, Any], policy: Any) -> Any:
    from lengthwise.lab import chains
    from lengthwise.runs.chains_demo import chain_problems

    # Problems may repeat: a short level does not hold enough distinct ones for every setting.
    count = spec["prompts"] * _total_steps(spec)
    drawn = chains.problems(count, split="train", seed=spec["seed"], levels=spec["levels"], distinct=False)
    return chain_problems(drawn, policy.folder)


def _total_steps(spec: dict[str, Any]) -> int:
    # One more than is used: the last step of a run also saves, which is no part of a step.
    return spec["warmup"] + spec["steps"] + 1


def _now() -> tuple[float, float]:
    """Wall clock and processor time of this process, seconds."""
    return time.perf_counter(), time.process_time()


def _timed(spec: dict[str, Any], ends: list[tuple[float, float]], **columns: list[float]) -> dict[str, Any]:
    """Durations between step ends, and the other columns, of the timed steps alone."""
    first, last = spec["warmup"], spec["warmup"] + spec["steps"]
    seconds, cpu_seconds = (
        [ends[step][clock] - ends[step - 1][clock] for step in range(first, last)] for clock in (0, 1)
    )
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        **{name: values[first:last] for name, values in columns.items()},
    }


def work_ours(spec: dict[str, Any], policy: Any) -> dict[str, Any]:
    from lengthwise.config.groups.training import Training
    from lengthwise.engine.trainer import Trainer
    from lengthwise.methods import build_method

    problems, total = _problems(spec, policy), _total_steps(spec)
    config = Training(
        steps=total, prompts=spec["prompts"], group_size=spec["group_size"], updates=1, lr=spec["lr"],
        checkpoint_every=total + 1, seed=spec["seed"],
    )  # fmt: skip
    trainer = Trainer(
        policy.model, method=build_method("grpo", cap=spec["cap"]), task=problems.task(), config=config,
        folder=Path(spec["folder"]), eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id,
    )  # fmt: skip
    ends: list[tuple[float, float]] = []
    rows: list[dict[str, Any]] = []

    def note(metrics: dict[str, Any]) -> None:
        ends.append(_now())
        rows.append(metrics)

    loaded = peak_mib()
    trainer.train(note)
    names = {"tokens": "mean_tokens", "cut": "cut_rate", "uniform": "uniform_groups"}
    names |= {name: name for name in ("accuracy", "seconds_sample", "seconds_update")}
    columns = {column: [row[name] for row in rows] for column, name in names.items()}
    return {"loaded_mib": loaded, **_timed(spec, ends, **columns)}


def work_trl(spec: dict[str, Any], policy: Any) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from lengthwise.engine.batches import problem_at

    problems, total = _problems(spec, policy), _total_steps(spec)
    eos = set(problems.contract.eos_ids)
    # The order in which this engine reads the problems under the same seed: step n has the same prompts on both sides.
    order = [problem_at(place, len(problems), spec["seed"]) for place in range(len(problems))]
    if policy.tokenizer([problems.texts[i] for i in order])["input_ids"] != [problems.prompts[i] for i in order]:
        raise SystemExit("TRL would tokenise the prompts otherwise than this engine does")
    ends: list[tuple[float, float]] = []
    tokens: list[float] = []
    cut: list[float] = []
    accuracy: list[float] = []

    def reward(completion_ids: list[list[int]], problem: list[int], **_: Any) -> list[float]:
        finished = [ids[-1] in eos for ids in completion_ids]
        right = [
            float(end and problems.is_right(p, ids))
            for p, ids, end in zip(problem, completion_ids, finished, strict=True)
        ]
        tokens.append(statistics.fmean(len(ids) for ids in completion_ids))
        cut.append(1 - statistics.fmean(finished))
        accuracy.append(statistics.fmean(right))
        return right

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(_now())

    batch = spec["prompts"] * spec["group_size"]
    rows = spec["trl_rows"] or batch
    config = GRPOConfig(
        output_dir=spec["folder"], seed=spec["seed"], use_cpu=True, bf16=False, gradient_checkpointing=False,
        disable_dropout=True, max_steps=total, shuffle_dataset=False,
        per_device_train_batch_size=rows, gradient_accumulation_steps=batch // rows,
        steps_per_generation=batch // rows, num_generations=spec["group_size"], num_iterations=1,
        max_completion_length=spec["cap"], temperature=1.0, top_p=1.0, top_k=0,
        beta=0.0, loss_type="grpo", scale_rewards="group", epsilon=0.2,
        learning_rate=spec["lr"], lr_scheduler_type="constant", weight_decay=0.01, max_grad_norm=1.0,
        logging_strategy="no", save_strategy="no", eval_strategy="no", report_to="none", log_completions=False,
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    data = Dataset.from_dict({"prompt": [problems.texts[i] for i in order], "problem": order})
    trainer = GRPOTrainer(
        policy.model, reward_funcs=reward, args=config, train_dataset=data, processing_class=policy.tokenizer,
        callbacks=[Clock()],
    )  # fmt: skip
    loaded = peak_mib()
    trainer.train()
    return {"loaded_mib": loaded, **_timed(spec, ends, tokens=tokens, cut=cut, accuracy=accuracy)}


if __name__ == "__main__":
    sys.exit(main())
