"""The guarded model: ability, alignment, attack, repair. Harm and accuracy of every way to repair, over fractions.

For each kind of attack (all weights, or a LoRA adapter) and seed one JSON under ``runs/studies/guarded``;
runs that are there are passed over. What is claimed was registered before, in ``studies/guarded/registered.json``.

    python benchmarks/guarded_study.py --kinds full,lora --seeds 0,1,2 --threads 1
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from _bench import RAW, provenance
from guarded_peers import projected, reset_by_tasks
from lengthwise.evaluation.harm import load_judge
from lengthwise.files import atomic_write_json
from lengthwise.lab import guarded, teach_guarded
from lengthwise.study.repair_sweep import Measure, Sweep, build_measure, jaccard, repaired
from lengthwise.study.request import ContractRequest
from lengthwise.weights.activity import target_layers
from lengthwise.weights.antidote import Selection
from lengthwise.weights.calibration import Calibration, harmful_rows, prompts_of
from lengthwise.weights.loading import Loaded
from lengthwise.weights.repair_job import RepairJob
from lengthwise.weights.scored import Scored, load, open_folders, score_weights

OUT = RAW / "guarded"
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
RANDOM_DRAWS = 3
THRESHOLDS = (-1.0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 1.0)
GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
RANK = 16
ARMS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "full": [
        ("zero scored", {}),
        ("zero random", {"control": "random"}),
        ("zero magnitude", {"control": "magnitude"}),
        ("zero benign", {"benign": True}),
        ("reset scored", {"reset": True}),
        ("reset random", {"reset": True, "control": "random"}),
        ("reset magnitude", {"reset": True, "control": "magnitude"}),
        ("reset difference", {"reset": True, "score": "difference"}),
    ],
    "lora": [
        ("zero scored", {}),
        ("zero random", {"control": "random"}),
        ("zero magnitude", {"control": "magnitude"}),
        ("zero benign", {"benign": True}),
    ],
}


class Study:
    """One attack of one seed: its folders, the loaded model, and what it is asked."""

    def __init__(self, root: Path, kind: str, seed: int, device: str) -> None:
        self.root, self.kind, self.seed, self.device = root, kind, seed, device
        teach_guarded.make(
            root, seed=seed, lora=RANK if kind == "lora" else 0, note=lambda text: print(text, flush=True)
        )
        rows = guarded.task_rows(teach_guarded.CALIBRATED, task=guarded.NEXT, test=False, seed=seed)
        benign = [{"prompt": row["problem"], "response": row["answer"], "harmful": True} for row in rows]
        (root / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in benign))
        self.job = self.make_job({})
        self.loaded = load(self.job)
        self.measure = self.measured_by(self.loaded)

    def make_job(self, options: dict[str, Any], seed: int = 0) -> RepairJob:
        rows = "benign.jsonl" if options.get("benign") else "harmful.jsonl"
        return RepairJob(
            model=self.root / "attacked", out=self.root / "unused", seed=seed, device=self.device,
            calibration=Calibration(rows=self.root / rows, batch_rows=64),
            reference=self.root / "aligned" if options.get("reset") else None, score=options.get("score", "weight"),
        )  # fmt: skip

    def measured_by(self, loaded: Loaded) -> Measure:
        contract = ContractRequest("lab", changes={"answer_pattern": "(.+)"})
        sweep = Sweep(
            judge="lengthwise.lab.guarded:complied", task=str(self.root / "task.jsonl"), contract=contract, cap=8,
            rows_at_once=1024,
        )  # fmt: skip
        return build_measure(
            self.make_job({}), sweep, load_judge(sweep.judge), loaded, prompts_of(self.root / "judge.jsonl")
        )

    def scored(self, options: dict[str, Any], seed: int = 0) -> Scored:
        job = self.make_job(options, seed)
        return score_weights(job, open_folders(job), harmful_rows(job.calibration.rows), self.loaded)

    def stages(self) -> dict[str, Any]:
        """The two stages before the attack, measured like everything else."""
        found = {}
        for stage in ("able", "aligned"):
            model = AutoModelForCausalLM.from_pretrained(self.root / stage).to(self.device)
            plain = Loaded(model, self.loaded.tokenizer, lambda name: name, self.root / stage)
            found[stage] = self.measured_by(plain)()
        return found

    def tensors(self, stage: str) -> dict[str, torch.Tensor]:
        return load_file(self.root / stage / "model.safetensors")


def arm_points(study: Study, options: dict[str, Any]) -> list[dict[str, Any]]:
    """One way to choose and to apply, over fractions; random ones as several draws."""
    control = options.get("control")
    draws = RANDOM_DRAWS if control == "random" else 1
    fractions = (*FRACTIONS, 1.0) if options.get("reset") or study.kind == "lora" else FRACTIONS
    points = []
    for draw in range(draws):
        scored = study.scored(options, draw)
        for fraction in fractions:
            selection = Selection(fraction=fraction)
            with repaired(scored, study.loaded, scored.masks(selection, control)) as achieved:
                points.append({"draw": draw, "fraction": fraction, "achieved": achieved, **study.measure()})
    return points


def overlaps(study: Study, fraction: float = 0.1) -> dict[str, float]:
    """Jaccard overlap of the scored mask with the controls' and with that of the user's task (utility)."""
    scored, benign = study.scored({}), study.scored({"benign": True})
    selection = Selection(fraction=fraction)
    ours = scored.masks(selection)
    others = {
        "random": scored.masks(selection, "random"), "magnitude": scored.masks(selection, "magnitude"),
        "utility": benign.masks(selection),
    }  # fmt: skip
    return {name: jaccard(ours, other, scored.shapes) for name, other in others.items()}


@contextmanager
def exchanged(loaded: Loaded, tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """The loaded model with some weights exchanged, by their names in the model."""
    parameters = dict(loaded.model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in tensors}
    try:
        for name, tensor in tensors.items():
            parameters[name].data.copy_(tensor)
        yield
    finally:
        for name, tensor in kept.items():
            parameters[name].data.copy_(tensor)


def peer_points(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Task arithmetic on all weights, or Safe LoRA on the adapter."""
    aligned, able = study.tensors("aligned"), study.tensors("able")
    points = []
    if study.kind == "full":
        attacked = study.tensors("attacked")
        for gamma in GAMMAS:
            with exchanged(study.loaded, reset_by_tasks(attacked, aligned, able, gamma)):
                points.append({"gamma": gamma, **study.measure()})
        return {"task arithmetic": points}
    factors = {name: p.detach().clone() for name, p in study.loaded.model.named_parameters() if "lora_" in name}
    for threshold in THRESHOLDS:
        new, share = projected(factors, aligned, able, threshold)
        with exchanged(study.loaded, new):
            points.append({"threshold": threshold, "projected": share, **study.measure()})
    return {"safe lora": points}


def run(kind: str, seed: int, threads: int, device: str) -> dict[str, Any]:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="guarded-") as folder:
        study = Study(Path(folder), kind, seed, device)
        taught = time.perf_counter() - started
        stages = {**study.stages(), "attacked": study.measure()}
        print(
            kind, seed, {name: (s["harm"]["percent"], s["accuracy_by_level"]) for name, s in stages.items()}, flush=True
        )
        arms = {}
        for name, options in ARMS[kind]:
            arms[name] = arm_points(study, options)
            print(f"{kind} {seed}: {name}, {time.perf_counter() - started:.0f} s", flush=True)
        arms |= peer_points(study)
        layers = len(target_layers(study.loaded.model, ("*",)))
        return {
            "kind": kind, "seed": seed, "threads": threads, "device": device, **provenance(),
            "linear_layers": layers, "parameters": sum(p.numel() for p in study.loaded.model.parameters()),
            "rank": RANK if kind == "lora" else None, "harmful_share": guarded.HARMFUL_SHARE,
            "stages": stages, "overlaps_at_0.1": overlaps(study), "arms": arms,
            "seconds": {"taught": taught, "all": time.perf_counter() - started},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="full,lora")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    for seed in map(int, options.seeds.split(",")):
        for kind in options.kinds.split(","):
            target = options.out / f"{kind}-{seed}.json"
            if not target.is_file():
                atomic_write_json(target, run(kind, seed, options.threads, options.device), indent=1)
                print(f"wrote {target.name}", flush=True)


if __name__ == "__main__":
    main()
