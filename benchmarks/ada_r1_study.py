"""Ada-R1 on chains: the verbose reasoner as the long model, the terse one as the short, three seeds.

A seed draws the training problems, both models' samples, the pairs and DPO's order. Arms: ``long`` and ``short`` (as
shipped), ``merged`` (0.8 of long), ``dpo-only`` (DPO of both levels on the long model, no merge), ``group`` (merge, then
group-level pairs), ``ada-r1`` (merge, then both levels), and ``merged-half`` (0.5 of each, nothing trained). All are
measured on the same 2,000 held-out problems of levels 2 to 7 at temperature 0.6 and top-p 0.95, the paper's, and
greedily. Effects are registered in ``ada_r1_registered.json``.

One JSON file an arm and seed under ``benchmarks/results/ada_r1_study``; what is there is not run again, and a run that
was killed goes on from its stages. Arms may run side by side: those that train share a seed's samples, which ``--sample``
draws first and others wait for:

    python benchmarks/ada_r1_study.py --sample --seeds 0
    python benchmarks/ada_r1_study.py --arms ada-r1 --seeds 0 --wait 600
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from _bench import RESULTS, provenance, versions
from lengthwise.engine.method import StageInputs
from lengthwise.engine.models import load_policy
from lengthwise.engine.trainer import TrainConfig
from lengthwise.evaluation.evaluate import Sampling, evaluate
from lengthwise.evaluation.problems import Problems
from lengthwise.files import atomic_write_json, write_folder
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods.ada_r1 import AdaR1, ada_r1
from lengthwise.study.ada_r1 import PAIRS, SAMPLE, with_stages
from lengthwise.study.ada_r1_dpo import Machine
from lengthwise.study.demo import COMMON_LEVELS, EVAL_CAP, chain_problems, held_out, oracle_mean
from lengthwise.study.stages import FACTS, FOLDER, run_stages, stage_facts

OUT = RESULTS / "ada_r1_study"
PROBLEMS, TRAIN_PROBLEMS = 2000, 600
SHORT = "lab:terse"
ARMS: dict[str, dict[str, Any]] = {
    "long": {},
    "short": {},
    "merged": {"alpha": 0.8},
    "merged-half": {"alpha": 0.5},
    "dpo-only": {"alpha": 1.0},
    "group": {"alpha": 0.8, "pairs": "group"},
    "ada-r1": {"alpha": 0.8},
}
TRAINED = ("dpo-only", "group", "ada-r1")
LEARNING = {"lr": 1e-4, "batch": 32, "epochs": 2}
SAMPLINGS = {"": (0.6, 0.95), "_greedy": (0.0, 1.0)}


def method_of(arm: str) -> AdaR1:
    return ada_r1(cap=EVAL_CAP, short_model=SHORT, **LEARNING, **ARMS[arm])


def train_problems(seed: int, count: int) -> Problems:
    rows = chains.problems(count, split="train", seed=seed, levels=COMMON_LEVELS)
    return chain_problems(rows, shipped_reasoner())


def run_arm(arm: str, seed: int, count: int, folder: Path, samples: Path | None) -> Path:
    """Run an arm's stages; the folder of its model. `samples` are those of the stage that other arms share."""
    if arm in ("long", "short"):
        return shipped_reasoner("chains" if arm == "long" else "terse")
    method = with_stages(method_of(arm), shipped_reasoner(), Machine(), train_here=arm in TRAINED)
    if samples is not None and not (folder / FOLDER / SAMPLE).is_dir():
        write_folder(folder / FOLDER / SAMPLE, lambda new: shutil.copytree(samples, new, dirs_exist_ok=True))
    stages = (*method.prepare, *(method.finish if arm in TRAINED else ()))
    problems = train_problems(seed, count)
    train = TrainConfig(steps=1, seed=seed, micro_tokens=16_384, checkpoint_every=50, sample_rows=1024)

    def given(model: Path, out: Path, work: Path) -> StageInputs:
        return StageInputs(
            base=shipped_reasoner(), model=model, out=out, work=work, problems=problems, cap=EVAL_CAP, train=train,
            device="cpu", dtype="float32", tell=lambda text: print(f"{arm} {seed}: {text}", flush=True),
        )  # fmt: skip

    return run_stages(stages, shipped_reasoner(), folder, given)


def measured(folder: Path, seed: int, problems: int) -> dict[str, Any]:
    """Accuracy and tokens of every response, by level, and which responses are one pass (the short style)."""
    policy, (test, _) = load_policy(folder), held_out(problems, shipped_reasoner())
    found: dict[str, Any] = {"oracle_tokens": oracle_mean(test)}
    for suffix, (temperature, top_p) in SAMPLINGS.items():
        sampling = Sampling(EVAL_CAP, temperature, top_p, seed=seed)
        record, rollouts = evaluate(policy, test, sampling, name="arm", data="lab:chains")
        texts = [test.response_text(rollouts.response(row)) for row in range(len(rollouts))]
        found[f"measured{suffix}"] = {
            "accuracy": float(record.accuracies.mean()),
            "mean_tokens": float(record.tokens.mean()),
            "cut": float(1 - rollouts.finished.float().mean()),
            "right": "".join("01"[int(row[0])] for row in record.correct),
            "one_pass": "".join("01"[chains.CHECK not in text] for text in texts),
            "tokens": [row[0] for row in record.num_tokens],
        }
    found["levels"] = [int(level) for level in test.categories or ()]
    return found


def sample(seed: int, count: int, folder: Path) -> None:
    """Draw the samples and pairs that a seed's arms share."""
    method = with_stages(method_of("ada-r1"), shipped_reasoner(), Machine(), train_here=False)
    problems = train_problems(seed, count)
    train = TrainConfig(steps=1, seed=seed, sample_rows=1024)

    def given(model: Path, out: Path, work: Path) -> StageInputs:
        return StageInputs(
            base=shipped_reasoner(), model=model, out=out, work=work, problems=problems, cap=EVAL_CAP, train=train,
            device="cpu", dtype="float32", tell=lambda text: print(f"sample {seed}: {text}", flush=True),
        )  # fmt: skip

    run_stages([stage for stage in method.finish if stage.name in (SAMPLE, PAIRS)], shipped_reasoner(), folder, given)


def wait_for(path: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not path.is_file():
        if time.monotonic() > until:
            raise SystemExit("the seed's samples are not there; draw them first (--sample), or give a longer --wait")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true", help="draw the samples that arms share, and stop")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--problems", type=int, default=PROBLEMS, help="held-out problems to measure on")
    parser.add_argument("--train-problems", type=int, default=TRAIN_PROBLEMS)
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for a seed's samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scratch", type=Path, default=Path("runs/ada_r1_study"), help="run folders, kept")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON files")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in map(int, options.seeds.split(",")):
        shared = options.scratch / f"samples-{seed}"
        if options.sample:
            sample(seed, options.train_problems, shared)
            continue
        for arm in options.arms.split(","):
            target = options.out / f"{arm}-{seed}.json"
            if target.is_file():
                continue
            samples = shared / FOLDER / SAMPLE if arm in TRAINED else None
            if samples is not None:
                wait_for(samples / FACTS, options.wait)
            folder = options.scratch / f"{arm}-{seed}"
            model = run_arm(arm, seed, options.train_problems, folder, samples)
            stages = stage_facts(
                with_stages(method_of(arm), shipped_reasoner(), Machine(), train_here=False).finish, folder
            )
            result = {
                "arm": arm, "seed": seed, "options": dict(method_of(arm).options),
                "train_problems": options.train_problems, "threads": options.threads, **provenance(),
                **versions("trl"), "stages": stages, **measured(model, seed, options.problems),
            }  # fmt: skip
            atomic_write_json(target, result, indent=None)
            print(f"{arm} {seed}: wrote {target.name}", flush=True)


if __name__ == "__main__":
    main()
