"""Decode steps and wall time of T-PPO against synchronous PPO with the same critic, on real rollouts of the lab.

    python benchmarks/t_ppo_steps.py --json benchmarks/results/t_ppo_steps.json

With `--parts FOLDER` every run is kept there as soon as it is done and not run again, and `--only ppo-0,t-ppo-0` makes
just those, so that runs can go side by side; the same command without `--only` then puts all together.

Both sides train the shipped verbose reasoner on chains (train split) with the same code, critic, learning rates,
updates per step and critic warm-up; only the window differs: a third of the cap for T-PPO, the cap for PPO. A decode
step is one forward pass for the next token of every row in flight. A PPO step takes as many as its longest response
has tokens, a T-PPO step at most a window. With the same slots a T-PPO step would learn from fewer tokens, because a
row writes at most a window; so that every step of both sides learns from as many, T-PPO gets as many more slots
as an average response has windows (`--match slots` leaves the slots equal). The length histogram of the untouched
model is printed first: the ratio follows from it, and its bound is cap / window.

**To equal trained tokens**: the decode steps and seconds that the policy's first N trained tokens took, warm-up
apart. **To equal accuracy**: accuracy on held-out problems (temperature 1, the same cap) is measured every
N / `--evaluations` trained tokens; both sides' curves are averaged over the seeds, and the target is what PPO reached
after gaining `--share` of all it gained. Wall time is given as it is: finished rows leave the batch at once here,
so on a CPU a decode step costs what its rows cost, and windows also read their prefixes again. They save time
where a decode step costs the same for few rows as for many. Exit code 1 if either ratio of decode steps is below 2.5.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from _bench import facts, run_worker, spread, write_json

LEAST_RATIO, WINDOWS = 2.5, 3
PACKAGES = ("lengthwise", "torch", "transformers", "numpy")
T_PPO, PPO = "t-ppo", "ppo"
BIN = 20


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", default="1,2,3,4,5,6,7", help="levels of the problems, in turn")
    parser.add_argument("--cap", type=int, default=260, help="response cap, tokens")
    parser.add_argument("--prompts", type=int, default=16, help="problems per step of PPO")
    parser.add_argument("--group-size", type=int, default=8, help="rollouts per problem")
    parser.add_argument("--match", choices=("tokens", "slots"), default="tokens", help="what is equal in a step")
    parser.add_argument("--updates", type=int, default=2, help="optimizer steps per step")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--critic-lr", type=float, default=2.5, help="the critic's rate in units of the policy's")
    parser.add_argument("--critic-warmup", type=int, default=10, help="steps of the critic alone")
    parser.add_argument("--tokens", type=int, default=400_000, help="trained tokens per run")
    parser.add_argument("--evaluations", type=int, default=10, help="measurements of accuracy per run")
    parser.add_argument("--problems", type=int, default=1000, help="held-out problems per measurement")
    parser.add_argument("--share", type=float, default=0.8, help="of PPO's gain in accuracy that is the target")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the numbers here, without single steps")
    parser.add_argument("--parts", type=Path, help="keep every run here and do not run it again")
    parser.add_argument("--only", help="runs to make, SIDE-SEED with commas, or base; nothing is put together")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.cap, options.prompts, options.tokens, options.evaluations, options.problems, options.threads) < 1:
        parser.error("--cap, --prompts, --tokens, --evaluations, --problems and --threads must be at least 1")
    return options


# ---------------------------------------------------------------------------------------------- the parent


def main() -> int:
    options = parse()
    if options.worker:
        work(json.loads(options.worker))
        return 0
    head = facts(*PACKAGES)
    names = (
        "threads",
        "cap",
        "prompts",
        "group_size",
        "updates",
        "lr",
        "critic_lr",
        "critic_warmup",
        "tokens",
        "evaluations",
        "problems",
    )
    common = {name: getattr(options, name) for name in names}
    common["levels"] = [int(level) for level in options.levels.split(",")]
    common["window"] = -(-options.cap // WINDOWS)
    only = options.only.split(",") if options.only else None
    base = one_run({**common, "side": "base", "seed": 0}, options)
    show_lengths(base, common)
    wider = base["mean_rounds"] if options.match == "tokens" else 1.0
    slots = {PPO: options.prompts, T_PPO: round(options.prompts * wider)}
    runs = []
    print("seed  side    steps  decode steps   seconds  trained tokens  tokens/step  accuracy  mean tokens")
    for seed in (int(text) for text in options.seeds.split(",")):
        for side, prompts in slots.items():
            if only is not None and f"{side}-{seed}" not in only:
                continue
            run = one_run({**common, "prompts": prompts, "side": side, "seed": seed}, options)
            runs.append(run | {"side": side, "seed": seed, "slots": prompts * options.group_size})
            learning = [row for row in run["steps"] if row["updates"]]
            print(
                f"{seed:>4}  {side:<6}  {len(learning):>5}  {sum(row['decode_steps'] for row in learning):>12}  "
                f"{run['evaluations'][-1]['seconds']:>8.1f}  {run['evaluations'][-1]['trained_tokens']:>14.0f}  "
                f"{statistics.fmean(row['trained_tokens'] for row in learning):>11.0f}  "
                f"{run['evaluations'][-1]['accuracy']:>8.3f}  {run['evaluations'][-1]['mean_tokens']:>11.1f}",
                flush=True,
            )
    if only is not None:
        return 0
    summary = summarise(runs, base, options)
    if options.json:
        settings = vars(options) | {"json": None, "worker": None, "parts": None}
        kept = [without(run, "steps") for run in runs]
        found = {"settings": settings, "base": without(base, "lengths"), "summary": summary, "runs": kept}
        write_json(options.json, {**head, "threads": options.threads, **found})
    return 0 if summary["passed"] else 1


def without(run: dict[str, Any], name: str) -> dict[str, Any]:
    """A run without its step-by-step part, which `--parts` keeps."""
    return {key: value for key, value in run.items() if key != name}


def one_run(spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What a worker finds, read back where it is kept already; a run of other settings is not taken."""
    path = None if options.parts is None else options.parts / f"{spec['side']}-{spec['seed']}.json"
    if path is not None and path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["spec"] != spec:
            raise SystemExit(f"{path} was made with other settings: {kept['spec']}; name another --parts folder")
        return dict(kept["run"])
    run = run_worker(__file__, spec, threads=options.threads)
    if path is not None:
        write_json(path, {**facts(*PACKAGES), "spec": spec, "run": run})
    return run


def show_lengths(base: dict[str, Any], common: dict[str, Any]) -> None:
    lengths, window = base["lengths"], common["window"]
    bins = [0] * (common["cap"] // BIN + 1)
    for length in lengths:
        bins[length // BIN] += 1
    print(f"lengths of {len(lengths)} responses of the untouched model, cap {common['cap']}, window {window}")
    for number, count in enumerate(bins):
        bar = "#" * round(120 * count / len(lengths))
        print(f"{number * BIN:>5}-{number * BIN + BIN - 1:<4} {count / len(lengths):>6.1%} {bar}")
    print(f"mean {statistics.fmean(lengths):.1f}, cut {base['cut']:.1%}, {base['mean_rounds']:.3f} windows each")
    longest = base["longest_of_a_step"]
    print(
        f"longest of {common['prompts'] * common['group_size']}: {longest:.1f} on average; so fewer decode steps by "
        f"{longest / window:.2f} at equal tokens a step, {longest / window / base['mean_rounds']:.2f} at equal slots"
    )


def at(points: list[dict[str, float]], name: str, given: str, value: float) -> float | None:
    """`name` where `given` first reaches `value`, on straight lines between the points; None if it never does."""
    for left, right in itertools.pairwise(points):
        if left[given] < value <= right[given]:
            share = (value - left[given]) / (right[given] - left[given])
            return left[name] + share * (right[name] - left[name])
    return None


def mean_curve(runs: list[dict[str, Any]], side: str) -> list[dict[str, float]]:
    """The measurements of a side, averaged over its seeds point by point."""
    curves = [run["evaluations"] for run in runs if run["side"] == side]
    return [
        {name: statistics.fmean(point[name] for point in points) for name in points[0]}
        for points in zip(*curves, strict=True)
    ]


def summarise(runs: list[dict[str, Any]], base: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    curves = {side: mean_curve(runs, side) for side in (PPO, T_PPO)}
    ratios: dict[str, Any] = {}
    for name in ("decode_steps", "seconds"):
        spent = {
            side: [
                at(run["evaluations"], name, "trained_tokens", options.tokens) for run in runs if run["side"] == side
            ]
            for side in curves
        }
        ratios[f"{name}_at_equal_tokens"] = [p / t for p, t in zip(spent[PPO], spent[T_PPO], strict=True)]
    start, end = curves[PPO][0]["accuracy"], statistics.fmean(p["accuracy"] for p in curves[PPO][-2:])
    target = start + options.share * (end - start)
    for name in ("decode_steps", "seconds"):
        spent = {side: at(curve, name, "accuracy", target) for side, curve in curves.items()}
        reached = spent[PPO] is not None and spent[T_PPO] is not None
        ratios[f"{name}_at_equal_accuracy"] = spent[PPO] / spent[T_PPO] if reached else None
    for name in ("decode_steps", "seconds"):
        print(f"{name:<12} ppo / t-ppo to {options.tokens} trained tokens  {spread(ratios[f'{name}_at_equal_tokens'])}")
        by_accuracy = ratios[f"{name}_at_equal_accuracy"]
        shown = "not reached by both" if by_accuracy is None else f"{by_accuracy:.3f}"
        print(f"{name:<12} ppo / t-ppo to accuracy {target:.3f}         {shown}")
    last = {side: curve[-1]["accuracy"] for side, curve in curves.items()}
    print(f"accuracy at the end: ppo {last[PPO]:.3f}, t-ppo {last[T_PPO]:.3f}, untouched {start:.3f}")
    median, by_accuracy = (
        statistics.median(ratios["decode_steps_at_equal_tokens"]),
        ratios["decode_steps_at_equal_accuracy"],
    )
    print(
        f"wanted: at least {LEAST_RATIO} times fewer decode steps, bound {options.cap / -(-options.cap // WINDOWS):.2f}"
    )
    return {
        **ratios,
        "target_accuracy": target,
        "mean_rounds": base["mean_rounds"],
        "curves": curves,
        "wanted_ratio": LEAST_RATIO,
        "passed": median >= LEAST_RATIO and by_accuracy is not None and by_accuracy >= LEAST_RATIO,
    }


# --------------------------------------------------------------------------------------------- the workers


class EnoughError(Exception):
    """The run has trained on as many tokens as were asked for."""


def work(spec: dict[str, Any]) -> None:
    """Measure the untouched model's lengths, or train one side; writes raw numbers."""
    import torch

    from lengthwise.engine.model_folders import load_policy
    from lengthwise.lab.reasoner import shipped_reasoner

    torch.set_num_threads(spec["threads"])
    policy = load_policy(shipped_reasoner(), device="cpu")
    result = (measure_lengths if spec["side"] == "base" else train)(spec, policy)
    Path(spec["out"]).write_text(json.dumps(result), encoding="utf-8")


def _problems(spec: dict[str, Any], policy: Any, split: str, count: int) -> Any:
    from lengthwise.lab import chains
    from lengthwise.runs.chains_demo import chain_problems

    drawn = chains.problems(count, split=split, seed=spec["seed"], levels=spec["levels"], distinct=False)
    return chain_problems(drawn, policy.folder)


def measure_lengths(spec: dict[str, Any], policy: Any) -> dict[str, Any]:
    import random

    from lengthwise.config.groups.sampling import Sampling
    from lengthwise.generation.sampling import ROWS_AT_ONCE, sample_answers

    problems = _problems(spec, policy, "train", 512)
    rollouts = sample_answers(policy, problems, Sampling(cap=spec["cap"], samples=4, sample_rows=ROWS_AT_ONCE))
    lengths = rollouts.num_tokens.tolist()
    dice, rows = random.Random(0), spec["prompts"] * spec["group_size"]
    return {
        "lengths": lengths,
        "cut": float((~rollouts.finished).float().mean()),
        "accuracy": float(rollouts.correct.float().mean()),
        "mean_rounds": statistics.fmean(-(-length // spec["window"]) for length in lengths),
        "longest_of_a_step": statistics.fmean(max(dice.choices(lengths, k=rows)) for _ in range(1000)),
    }


def train(spec: dict[str, Any], policy: Any) -> dict[str, Any]:
    from lengthwise.config.groups.sampling import Sampling
    from lengthwise.config.groups.training import Training
    from lengthwise.engine.trainer import Trainer
    from lengthwise.generation.sampling import ROWS_AT_ONCE, sample_answers
    from lengthwise.methods.papers.t_ppo import ppo, t_ppo

    problems, held_out = (_problems(spec, policy, *part) for part in (("train", 4000), ("test", spec["problems"])))
    settings = {name: spec[name] for name in ("cap", "critic_lr", "critic_warmup")}
    config = Training(
        steps=1_000_000, prompts=spec["prompts"], group_size=spec["group_size"], updates=spec["updates"],
        lr=spec["lr"], checkpoint_every=1_000_000, seed=spec["seed"],
    )  # fmt: skip
    trainer = Trainer(
        policy.model, method=ppo(**settings) if spec["side"] == PPO else t_ppo(window=spec["window"], **settings),
        task=problems.task(), config=config, folder=Path(spec["folder"]),
        eos_ids=list(problems.contract.eos_ids), pad_id=policy.pad_id,
    )  # fmt: skip
    spent = {"decode_steps": 0, "seconds": 0.0, "trained_tokens": 0.0}
    warm_up = {"decode_steps": 0, "seconds": 0.0}
    steps: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []

    def evaluate() -> None:
        sampling = Sampling(cap=spec["cap"], seed=spec["seed"], sample_rows=ROWS_AT_ONCE)
        rollouts = sample_answers(policy, held_out, sampling)
        found = {"accuracy": rollouts.correct, "mean_tokens": rollouts.num_tokens, "cut": ~rollouts.finished}
        evaluations.append(spent | {name: float(values.float().mean()) for name, values in found.items()})

    def note(row: dict[str, Any]) -> None:
        took = row["seconds_sample"] + row["seconds_update"]
        steps.append({name: row[name] for name in ("decode_steps", "updates", "trained_tokens", "done", "going_on")})
        steps[-1] |= {"seconds": took, "explained_variance": row.get("explained_variance")}
        clock = spent if row["updates"] else warm_up
        clock["decode_steps"] += row["decode_steps"]
        clock["seconds"] += took
        spent["trained_tokens"] += row["trained_tokens"]
        if spent["trained_tokens"] >= len(evaluations) * spec["tokens"] / spec["evaluations"]:
            evaluate()
        if spent["trained_tokens"] >= spec["tokens"]:
            raise EnoughError

    evaluate()
    with contextlib.suppress(EnoughError):
        trainer.train(note)
    return {"steps": steps, "evaluations": evaluations, "warm_up": warm_up}


if __name__ == "__main__":
    sys.exit(main())
