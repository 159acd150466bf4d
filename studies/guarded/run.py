"""The guarded model: ability, alignment, attack, repair. Harm and accuracy of every way to repair, over fractions."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from lengthwise.config.commands import RepairSettings
from lengthwise.data import read_rows
from lengthwise.lab import guarded, teach_guarded
from lengthwise.repair.antidote import Selection
from lengthwise.repair.calibration_rows import calibration_rows, prompts_of
from lengthwise.repair.input_folders import open_folders
from lengthwise.repair.layer_activity import target_layers
from lengthwise.repair.model_loading import Loaded
from lengthwise.repair.scored_weights import Scored, load, score_weights
from lengthwise.runs.repair_sweep import Measure, build_measure, jaccard, repaired
from lengthwise.statistics.harm import load_judge
from studies.guarded.peers import projected, reset_by_tasks
from studies.running import Place, Run, say
from studies.summary import Numbers

KINDS, SEEDS = ("full", "lora"), (0, 1, 2)
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
RANDOM_DRAWS = 3
THRESHOLDS = (-1.0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 1.0)
GAMMAS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
RANK = 16
ARMS: dict[str, list[tuple[str, Numbers]]] = {
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


class Attack:
    """One attack of one seed: its folders, the loaded model, and what it is asked."""

    def __init__(self, root: Path, kind: str, seed: int, device: str) -> None:
        self.root, self.kind, self.seed, self.device = root, kind, seed, device
        teach_guarded.make(root, seed=seed, lora=RANK if kind == "lora" else 0, note=say)
        rows = guarded.task_rows(teach_guarded.CALIBRATED, task=guarded.NEXT, test=False, seed=seed)
        benign = [{"prompt": row["problem"], "response": row["answer"], "harmful": True} for row in rows]
        (root / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in benign))
        settings = self.settings({})
        self.loaded = load(settings, open_folders(settings))
        self.measure = self.measured_by(self.loaded)

    def settings(self, options: dict[str, Any], seed: int = 0) -> RepairSettings:
        rows = "benign.jsonl" if options.get("benign") else "harmful.jsonl"
        return RepairSettings.from_dict(
            {
                "model": str(self.root / "attacked"), "out": self.root / "unused", "seed": seed, "device": self.device,
                "harmful": self.root / rows, "micro_batch_rows": 64, "score": options.get("score", "weight"),
                "reference": str(self.root / "aligned") if options.get("reset") else None,
                "judge": "lengthwise.lab.guarded:complied", "data": str(self.root / "task.jsonl"), "preset": "lab",
                "answer_pattern": "(.+)", "cap": 8, "sample_rows": 1024,
            }
        )  # fmt: skip

    def measured_by(self, loaded: Loaded) -> Measure:
        settings = self.settings({})
        assert settings.harm.judge is not None
        prompts, problems = prompts_of(self.root / "judge.jsonl"), read_rows(self.root / "task.jsonl")
        judge = load_judge(settings.harm.judge)
        return build_measure(settings, open_folders(settings), judge, loaded, prompts, problems)

    def scored(self, options: dict[str, Any], seed: int = 0) -> Scored:
        settings = self.settings(options, seed)
        return score_weights(settings, open_folders(settings), calibration_rows(settings.rows_scored), self.loaded)

    def stages(self) -> dict[str, Any]:
        """The two stages before the attack, measured like everything else."""
        found = {}
        for stage in ("able", "aligned"):
            model = AutoModelForCausalLM.from_pretrained(self.root / stage).to(self.device)
            plain = Loaded(model, self.loaded.tokenizer, lambda name: name, self.root / stage)
            found[stage] = self.measured_by(plain)().to_dict()
        return found

    def tensors(self, stage: str) -> dict[str, torch.Tensor]:
        return load_file(self.root / stage / "model.safetensors")


def arm_points(attack: Attack, options: dict[str, Any]) -> list[Numbers]:
    """One way to choose and to apply, over fractions; random ones as several draws."""
    control = options.get("control")
    draws = RANDOM_DRAWS if control == "random" else 1
    fractions = (*FRACTIONS, 1.0) if options.get("reset") or attack.kind == "lora" else FRACTIONS
    points = []
    for draw in range(draws):
        scored = attack.scored(options, draw)
        for fraction in fractions:
            selection = Selection(fraction=fraction)
            with repaired(scored, attack.loaded, scored.masks(selection, control)) as achieved:
                points.append({"draw": draw, "fraction": fraction, "achieved": achieved, **attack.measure().to_dict()})
    return points


def overlaps(attack: Attack, fraction: float = 0.1) -> dict[str, float]:
    """Jaccard overlap of the scored mask with the controls' and with that of the user's task (utility)."""
    scored, benign = attack.scored({}), attack.scored({"benign": True})
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


def peer_points(attack: Attack) -> dict[str, list[Numbers]]:
    """Task arithmetic on all weights, or Safe LoRA on the adapter."""
    aligned, able = attack.tensors("aligned"), attack.tensors("able")
    points = []
    if attack.kind == "full":
        attacked = attack.tensors("attacked")
        for gamma in GAMMAS:
            with exchanged(attack.loaded, reset_by_tasks(attacked, aligned, able, gamma)):
                points.append({"gamma": gamma, **attack.measure().to_dict()})
        return {"task arithmetic": points}
    factors = {name: p.detach().clone() for name, p in attack.loaded.model.named_parameters() if "lora_" in name}
    for threshold in THRESHOLDS:
        new, share = projected(factors, aligned, able, threshold)
        with exchanged(attack.loaded, new):
            points.append({"threshold": threshold, "projected": share, **attack.measure().to_dict()})
    return {"safe lora": points}


def runs() -> list[Run]:
    """Every kind of attack and seed."""
    return [Run(f"{kind}-{seed}", partial(carry_out, kind, seed)) for seed in SEEDS for kind in KINDS]


def carry_out(kind: str, seed: int, place: Place) -> Numbers:
    logging.disable_progress_bar()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="guarded-") as folder:
        attack = Attack(Path(folder), kind, seed, place.device)
        taught = time.perf_counter() - started
        stages = {**attack.stages(), "attacked": attack.measure().to_dict()}
        arms = {}
        for name, options in ARMS[kind]:
            arms[name] = arm_points(attack, options)
            say(f"{kind} {seed}: {name}, {time.perf_counter() - started:.0f} s")
        arms |= peer_points(attack)
        return {
            "kind": kind, "seed": seed, "linear_layers": len(target_layers(attack.loaded.model, ("*",))),
            "parameters": sum(p.numel() for p in attack.loaded.model.parameters()),
            "rank": RANK if kind == "lora" else None, "harmful_share": guarded.HARMFUL_SHARE,
            "stages": stages, "overlaps_at_0.1": overlaps(attack), "arms": arms, "seconds_taught": taught,
        }  # fmt: skip
