"""Ada-R1 on chains: the verbose reasoner as the long model, the terse one as the short, three seeds.

A seed draws the training problems, both models' samples, the pairs and DPO's order. Arms: ``long`` and ``short`` (as
shipped), ``merged`` (0.8 of long), ``dpo-only`` (DPO of both levels on the long model, no merge), ``group`` (merge,
then group-level pairs) and ``ada-r1`` (merge, then both levels). Beside them, not registered: ``merged-half`` (0.5 of
each) and ``narrow`` (Ada-R1 with the authors' pair rule). All are measured on the same 2,000 held-out problems of
levels 2 to 7 at temperature 0.6 and top-p 0.95, the paper's, and greedily.

Learning rate, beta and epsilon are the lab's own: a pilot (seed 100, other training problems) tries a grid of them on
validation problems, and the rule in ``registered.json`` chooses among them before any arm is trained. A first
round with 600 training problems, twice the pilot's, lies in ``ada_r1_study_600``.

One JSON file an arm and seed under ``runs/studies/ada_r1``; what is there is not run again, and a run that
was killed goes on from its stages. Parts may run side by side; with ``--wait`` the arms wait for the pilot:

    python benchmarks/ada_r1_study.py --pilot
    python benchmarks/ada_r1_study.py --seeds 0 --wait 600
"""

from __future__ import annotations

import argparse
import fcntl
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from _bench import RAW, ROOT, provenance, versions
from lengthwise.engine.method import Stage, StageInputs
from lengthwise.engine.models import load_policy
from lengthwise.engine.trainer import TrainConfig
from lengthwise.evaluation.evaluate import Sampling, evaluate
from lengthwise.files import atomic_write_json, read_json, write_folder
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods.ada_r1 import AdaR1, ada_r1
from lengthwise.study.ada_r1 import DPO, PAIRS, SAMPLE, with_stages
from lengthwise.study.ada_r1_dpo import Machine
from lengthwise.study.demo import COMMON_LEVELS, EVAL_CAP, chain_problems, held_out, oracle_mean
from lengthwise.study.stages import FACTS, FOLDER, run_stages, stage_facts

OUT = RAW / "ada_r1"
REGISTERED = read_json(ROOT / "studies" / "ada_r1" / "registered.json")
PROBLEMS, TRAIN_PROBLEMS, PILOT_PROBLEMS = 2000, 300, 300
PILOT_SEED = 100
SHORT = "lab:terse"
ARMS: dict[str, dict[str, Any]] = {
    "long": {},
    "short": {},
    "merged": {"alpha": 0.8},
    "ada-r1": {"alpha": 0.8},
    "group": {"alpha": 0.8, "pairs": "group"},
    "dpo-only": {"alpha": 1.0},
    "merged-half": {"alpha": 0.5},
    "narrow": {"alpha": 0.8, "narrow": True},
}
TRAINED = ("dpo-only", "group", "ada-r1", "narrow")
PILOTS: dict[str, dict[str, Any]] = {
    f"lr{lr:g}-beta{beta:g}-eps{'any' if epsilon is None else f'{epsilon:g}'}": {
        "lr": lr, "beta": beta, "epsilon": epsilon,
    }
    for epsilon in (0.25, None) for lr in (3e-5, 1e-5, 1e-4) for beta in (0.1, 0.5)
}  # fmt: skip
SAMPLINGS = {"": (0.6, 0.95), "_greedy": (0.0, 1.0)}


def method_of(**options: Any) -> AdaR1:
    return ada_r1(cap=EVAL_CAP, short_model=SHORT, **options)


def chosen(out: Path) -> str:
    """The pilot's setting by the registered rule: fewest tokens among those that are right often enough."""
    found = {name: read_json(out / f"pilot-{name}.json") for name in ("long", *PILOTS)}
    floor = found.pop("long")["accuracy"] - REGISTERED["pilot_margin_points"] / 100
    enough = [name for name, pilot in found.items() if pilot["accuracy"] >= floor]
    if not enough:
        return max(found, key=lambda name: found[name]["accuracy"])
    return min(enough, key=lambda name: found[name]["mean_tokens"])


def stage_inputs(name: str, seed: int, count: int, device: str) -> Callable[[Path, Path, Path], StageInputs]:
    rows = chains.problems(count, split="train", seed=seed, levels=COMMON_LEVELS)
    problems = chain_problems(rows, shipped_reasoner())
    train = TrainConfig(steps=1, seed=seed, micro_tokens=16_384, checkpoint_every=50, sample_rows=1024)

    def given(model: Path, out: Path, work: Path) -> StageInputs:
        return StageInputs(
            base=shipped_reasoner(), model=model, out=out, work=work, problems=problems, cap=EVAL_CAP, train=train,
            device=device, dtype="float32", tell=lambda text: print(f"{name} {seed}: {text}", flush=True),
        )  # fmt: skip

    return given


def shared_samples(seed: int, count: int, folder: Path, device: str) -> Path:
    """Draw the samples that a seed's arms share, unless they are there; the folder of that stage.

    Processes side by side wait for the one that draws.
    """
    method = with_stages(method_of(), shipped_reasoner(), Machine(device), train_here=False)
    stages = [stage for stage in method.finish if stage.name == SAMPLE]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_stages(stages, shipped_reasoner(), folder, stage_inputs("samples", seed, count, device))
    return folder / FOLDER / SAMPLE


def trained(method: AdaR1, seed: int, count: int, folder: Path, samples: Path, device: str) -> Path:
    """Run all stages on shared samples; the folder of the model."""
    method = with_stages(method, shipped_reasoner(), Machine(device))
    if not (folder / FOLDER / SAMPLE / FACTS).is_file():
        write_folder(folder / FOLDER / SAMPLE, lambda new: shutil.copytree(samples, new, dirs_exist_ok=True))
    given = stage_inputs(folder.name, seed, count, device)
    return run_stages((*method.prepare, *method.finish), shipped_reasoner(), folder, given)


def facts_of(folder: Path) -> dict[str, Any]:
    return stage_facts([Stage(name, lambda _: {}) for name in (SAMPLE, PAIRS, DPO)], folder)


def pilot(name: str, scratch: Path, device: str) -> dict[str, Any]:
    """Accuracy and tokens of one setting on validation problems."""
    rows = chains.problems(PILOT_PROBLEMS, split="validation", seed=0, levels=COMMON_LEVELS)
    folder, model = scratch / f"pilot-{name}", shipped_reasoner()
    if name != "long":
        samples = shared_samples(PILOT_SEED, PILOT_PROBLEMS, scratch / f"samples-{PILOT_SEED}", device)
        model = trained(method_of(**PILOTS[name]), PILOT_SEED, PILOT_PROBLEMS, folder, samples, device)
    temperature, top_p = SAMPLINGS[""]
    record, _ = evaluate(
        load_policy(model, device=device), chain_problems(rows, shipped_reasoner()),
        Sampling(EVAL_CAP, temperature, top_p, samples=2), name=name, data="lab:chains",
    )  # fmt: skip
    numbers = {"accuracy": float(record.accuracies.mean()), "mean_tokens": float(record.tokens.mean())}
    return {"pilot": name, **PILOTS.get(name, {}), "device": device, **provenance(), **numbers}


def model_of(arm: str, seed: int, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """An arm's model, made if it must be, with what its stages found."""
    folder, device = options.scratch / f"{arm}-{seed}", options.device
    if arm in ("long", "short"):
        return shipped_reasoner("chains" if arm == "long" else "terse"), {}
    if arm not in TRAINED:
        method = with_stages(method_of(**ARMS[arm]), shipped_reasoner(), Machine(device), train_here=False)
        given = stage_inputs(arm, seed, 1, device)
        return run_stages(method.prepare, shipped_reasoner(), folder, given), {"options": dict(method.options)}
    setting = chosen(options.out)
    method = method_of(**PILOTS[setting], **ARMS[arm])
    samples = shared_samples(seed, options.train_problems, options.scratch / f"samples-{seed}", device)
    model = trained(method, seed, options.train_problems, folder, samples, device)
    return model, {"chosen": setting, "options": dict(method.options), "stages": facts_of(folder)}


def measured(folder: Path, seed: int, problems: int, device: str) -> dict[str, Any]:
    """Accuracy and tokens of every response, its level, and whether it is one pass (the short style)."""
    policy, (test, _) = load_policy(folder, device=device), held_out(problems, shipped_reasoner())
    found: dict[str, Any] = {"oracle_tokens": oracle_mean(test), "levels": [int(n) for n in test.categories or ()]}
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
    return found


def wait_for_pilot(out: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not all((out / f"pilot-{name}.json").is_file() for name in ("long", *PILOTS)):
        if time.monotonic() > until:
            raise SystemExit("the pilot is not finished; run --pilot first, or give a longer --wait")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilot", action="store_true", help="try settings on validation problems instead of arms")
    parser.add_argument("--settings", default=",".join(("long", *PILOTS)), help="of the pilot")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--problems", type=int, default=PROBLEMS, help="held-out problems to measure on")
    parser.add_argument("--train-problems", type=int, default=TRAIN_PROBLEMS)
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for the pilot")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scratch", type=Path, default=Path("runs/ada_r1_study"), help="run folders, kept")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON files")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.settings.split(",") if options.pilot else ():
        if not (options.out / f"pilot-{name}.json").is_file():
            atomic_write_json(options.out / f"pilot-{name}.json", pilot(name, options.scratch, options.device))
            print(f"pilot {name}: written", flush=True)
    for seed in map(int, options.seeds.split(",")) if not options.pilot else ():
        for arm in options.arms.split(","):
            if (options.out / f"{arm}-{seed}.json").is_file():
                continue
            if arm in TRAINED:
                wait_for_pilot(options.out, options.wait)
            model, facts = model_of(arm, seed, options)
            head = {"arm": arm, "seed": seed, "train_problems": options.train_problems, "device": options.device}
            result = {**head, "threads": options.threads, **provenance(), **versions("trl"), **facts}
            result |= measured(model, seed, options.problems, options.device)
            atomic_write_json(options.out / f"{arm}-{seed}.json", result, indent=None)
            print(f"{arm} {seed}: written", flush=True)


if __name__ == "__main__":
    main()
