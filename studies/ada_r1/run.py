"""Ada-R1 on chains: the verbose reasoner as the long model, the terse one as the short, three seeds.

A seed draws the training problems, both models' samples, the pairs and DPO's order. Arms: ``long`` and ``short`` (as
shipped), ``merged`` (0.8 of long), ``dpo-only`` (DPO of both levels on the long model, no merge), ``group`` (merge,
then group-level pairs) and ``ada-r1`` (merge, then both levels). Beside them, not registered: ``merged-half`` (0.5 of
each) and ``narrow`` (Ada-R1 with the authors' pair rule). All are measured on the same 2,000 held-out problems of
levels 2 to 7 at temperature 0.6 and top-p 0.95, the paper's, and greedily.

Learning rate, beta and epsilon are the lab's own: a pilot (seed 100, other training problems) tries a grid of them on
validation problems, and the rule in `registered.json` chooses among them before any arm is trained. Arms that begin
with ``first-`` are a first round with 600 training problems, twice the pilot's. A run that was killed goes on from its
stages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.training import AdaptationHere, Training
from lengthwise.engine.method import Stage, StageInputs
from lengthwise.engine.model_folders import load_policy
from lengthwise.files import write_folder
from lengthwise.generation.sampling import ROWS_AT_ONCE, evaluate
from lengthwise.lab import chains
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.methods.bi_level.stages import DPO, PAIRS, SAMPLE
from lengthwise.methods.papers.ada_r1 import AdaR1, ada_r1
from lengthwise.runs.chains_demo import COMMON_LEVELS, EVAL_CAP, chain_problems, held_out, oracle_mean
from lengthwise.runs.shortening.stages import FACTS, FOLDER, finished_stages, run_stages
from studies.ada_r1.condense import FIRST, REGISTERED, SEEDS, TRAINED
from studies.running import Place, Run, say
from studies.summary import Numbers

OPTIONS = {"problems": 2000}
"""Held-out problems."""
TRAIN_PROBLEMS, FIRST_PROBLEMS, PILOT_PROBLEMS = 300, 600, 300
FIRST_ARMS = ("group", "ada-r1")
PILOT_SEED = 100
SHORT = "lab:terse"
ARMS: dict[str, Numbers] = {
    "long": {},
    "short": {},
    "merged": {"alpha": 0.8},
    "ada-r1": {"alpha": 0.8},
    "group": {"alpha": 0.8, "pairs": "group"},
    "dpo-only": {"alpha": 1.0},
    "merged-half": {"alpha": 0.5},
    "narrow": {"alpha": 0.8, "narrow": True},
}
PILOTS: dict[str, Numbers] = {
    f"lr{lr:g}-beta{beta:g}-eps{'any' if epsilon is None else f'{epsilon:g}'}": {
        "lr": lr, "beta": beta, "epsilon": epsilon,
    }
    for epsilon in (0.25, None) for lr in (3e-5, 1e-5, 1e-4) for beta in (0.1, 0.5)
}  # fmt: skip
SAMPLINGS = {"": (0.6, 0.95), "_greedy": (0.0, 1.0)}


def runs() -> list[Run]:
    """The pilots, then every arm and seed, then the first round."""
    pilots = tuple(f"pilot-{name}" for name in ("long", *PILOTS))
    found = [Run(name, partial(pilot, name.removeprefix("pilot-"))) for name in pilots]
    for prefix, arms in (("", tuple(ARMS)), (FIRST, FIRST_ARMS)):
        for seed in SEEDS:
            for arm in arms:
                needs = pilots if arm in TRAINED else ()
                found.append(Run(f"{prefix}{arm}-{seed}", partial(carry_out, prefix, arm, seed), needs))
    return found


def method_of(**options: Any) -> AdaR1:
    return ada_r1(cap=EVAL_CAP, short_model=SHORT, **options)


def on(device: str) -> TrainingRuntime:
    return TrainingRuntime(device=device)


def chosen(place: Place) -> str:
    """The pilot's setting by the registered rule: fewest tokens among those that are right often enough."""
    found = {name: place.result(f"pilot-{name}") for name in ("long", *PILOTS)}
    margin = json.loads(REGISTERED.read_text(encoding="utf-8"))["pilot_margin_points"] / 100
    floor = found.pop("long")["accuracy"] - margin
    enough = [name for name, pilot in found.items() if pilot["accuracy"] >= floor]
    if not enough:
        return max(found, key=lambda name: found[name]["accuracy"])
    return min(enough, key=lambda name: found[name]["mean_tokens"])


def stage_inputs(name: str, seed: int, count: int, device: str) -> Callable[[Path, Path, Path], StageInputs]:
    rows = chains.problems(count, split="train", seed=seed, levels=COMMON_LEVELS)
    problems = chain_problems(rows, shipped_reasoner())
    train = Training(steps=1, seed=seed, micro_batch_tokens=16_384, checkpoint_every=50, sample_rows=1024)

    def given(model: Path, out: Path, work: Path) -> StageInputs:
        return StageInputs(
            base=shipped_reasoner(), model=model, out=out, work=work, problems=problems, cap=EVAL_CAP, train=train,
            runtime=on(device), tell=lambda text: say(f"{name} {seed}: {text}"),
        )  # fmt: skip

    return given


def shared_samples(seed: int, count: int, folder: Path, device: str) -> Path:
    """Draw the samples that a seed's arms share, unless they are there; the folder of that stage.

    Processes side by side wait for the one that draws.
    """
    method = method_of().staged(shipped_reasoner(), on(device), AdaptationHere(), trains=lambda stage: False)
    stages = [stage for stage in method.finish if stage.name == SAMPLE]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        run_stages(stages, shipped_reasoner(), folder, stage_inputs("samples", seed, count, device))
    return folder / FOLDER / SAMPLE


def trained(method: AdaR1, seed: int, count: int, folder: Path, samples: Path, device: str) -> Path:
    """Run all stages on shared samples; the folder of the model."""
    method = method.staged(shipped_reasoner(), on(device), AdaptationHere(), trains=lambda stage: True)
    if not (folder / FOLDER / SAMPLE / FACTS).is_file():
        write_folder(folder / FOLDER / SAMPLE, partial(copied, samples))
    given = stage_inputs(folder.name, seed, count, device)
    return run_stages((*method.prepare, *method.finish), shipped_reasoner(), folder, given)


def copied(samples: Path, new: Path) -> None:
    shutil.copytree(samples, new, dirs_exist_ok=True)


def facts_of(folder: Path) -> Numbers:
    found = finished_stages([Stage(name, lambda _: {}) for name in (SAMPLE, PAIRS, DPO)], folder)
    return {name: stage.found for name, stage in found.items()}


def pilot(name: str, place: Place) -> Numbers:
    """Accuracy and tokens of one setting on validation problems."""
    rows = chains.problems(PILOT_PROBLEMS, split="validation", seed=0, levels=COMMON_LEVELS)
    folder, model = place.scratch(f"pilot-{name}"), shipped_reasoner()
    if name != "long":
        samples = shared_samples(PILOT_SEED, PILOT_PROBLEMS, place.scratch(f"samples-{PILOT_SEED}"), place.device)
        model = trained(method_of(**PILOTS[name]), PILOT_SEED, PILOT_PROBLEMS, folder, samples, place.device)
    temperature, top_p = SAMPLINGS[""]
    record, _ = evaluate(
        load_policy(model, device=place.device), chain_problems(rows, shipped_reasoner()),
        Sampling(cap=EVAL_CAP, temperature=temperature, top_p=top_p, samples=2, sample_rows=ROWS_AT_ONCE),
        name=name, data="lab:chains",
    )  # fmt: skip
    numbers = {"accuracy": float(record.accuracies.mean()), "mean_tokens": float(record.tokens.mean())}
    return {"pilot": name, **PILOTS.get(name, {}), **numbers}


def carry_out(prefix: str, arm: str, seed: int, place: Place) -> Numbers:
    """An arm of a round: its model, made if it must be, what its stages found, and its answers."""
    count = FIRST_PROBLEMS if prefix else TRAIN_PROBLEMS
    model, facts = model_of(prefix, arm, seed, count, place)
    head = {"arm": arm, "seed": seed, "train_problems": count}
    return {**head, **facts, **measured(model, seed, place.options["problems"], place.device)}


def model_of(prefix: str, arm: str, seed: int, count: int, place: Place) -> tuple[Path, Numbers]:
    folder, device = place.scratch(f"{prefix}{arm}-{seed}"), place.device
    if arm in ("long", "short"):
        return shipped_reasoner("chains" if arm == "long" else "terse"), {}
    if arm not in TRAINED:
        method = method_of(**ARMS[arm]).staged(
            shipped_reasoner(), on(device), AdaptationHere(), trains=lambda stage: False
        )
        given = stage_inputs(arm, seed, 1, device)
        return run_stages(method.prepare, shipped_reasoner(), folder, given), {"options": dict(method.options)}
    setting = chosen(place)
    method = method_of(**PILOTS[setting], **ARMS[arm])
    samples = shared_samples(seed, count, place.scratch(f"{prefix}samples-{seed}"), device)
    model = trained(method, seed, count, folder, samples, device)
    return model, {"chosen": setting, "options": dict(method.options), "stages": facts_of(folder)}


def measured(folder: Path, seed: int, problems: int, device: str) -> Numbers:
    """Accuracy and tokens of every response, its level, and whether it is one pass (the short style)."""
    policy, (test, _) = load_policy(folder, device=device), held_out(problems, shipped_reasoner())
    found: Numbers = {"oracle_tokens": oracle_mean(test), "levels": [int(n) for n in test.categories or ()]}
    for suffix, (temperature, top_p) in SAMPLINGS.items():
        sampling = Sampling(cap=EVAL_CAP, temperature=temperature, top_p=top_p, seed=seed, sample_rows=ROWS_AT_ONCE)
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
