"""Merging back after RL: accuracy and tokens of update-selective merges between the verbose reasoner and DLER.

DLER is trained by the demo's settings, once a seed. Then every merge of a grid is measured on 500 held-out chains of
levels 2 to 7, at temperature 0.6 (top-p 0.95, the paper's) and 1: densities 0.05 to 1 of the entries, scales 0.3 to 1,
the entries ranked over all tensors or in each; beside them as many entries drawn at random, as many of the smallest,
and (density 1) plain interpolation at more scales. One run a merge.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lengthwise.config.commands import DemoSettings
from lengthwise.config.groups.sampling import Sampling
from lengthwise.engine import load_policy
from lengthwise.generation.sampling import ROWS_AT_ONCE, evaluate
from lengthwise.grading.problems import Problems
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.merging import update_selective_merge
from lengthwise.runs.chains_demo import EVAL_CAP, demo, held_out
from studies.running import Place, Run
from studies.summary import Numbers, pick

SEEDS = (0, 1, 2)
OPTIONS = {"problems": 500, "steps": 120}
"""Held-out problems, and steps of DLER; the demo's 120."""
DENSITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
SCALES = (0.3, 0.5, 0.7, 1.0)
FEW = {"random": (0.7, 1.0), "bottom": (0.7, 1.0)}
"""Scales of what is there for comparison."""
INTERPOLATION = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
KINDS = ("global", "tensor", "random", "bottom")
SAMPLINGS = {"0.6": (0.6, 0.95), "1.0": (1.0, 1.0)}

Tensors = Mapping[str, torch.Tensor]


def runs() -> list[Run]:
    """DLER of every seed, then its merges."""
    found = [Run(f"dler-{seed}", partial(train, seed)) for seed in SEEDS]
    for seed in SEEDS:
        for density in DENSITIES:
            for kind, scale in grid(density):
                name = f"merge-{seed}-{density:g}-{kind}-{scale:g}"
                found.append(Run(name, partial(measure_merge, seed, density, kind, scale), (f"dler-{seed}",)))
    return found


def masked_merge(base: Tensors, tuned: Tensors, keep: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
    """Add the scaled changes of the entries that are kept, a bool over all tensors in name order."""
    merged, start = {}, 0
    for name in sorted(base):
        size = base[name].numel()
        part = keep[start : start + size].view(base[name].shape)
        merged[name] = torch.where(part, base[name] + scale * (tuned[name] - base[name]), base[name])
        start += size
    return merged


def control_mask(base: Tensors, tuned: Tensors, density: float, kind: str, seed: int) -> torch.Tensor:
    """As many entries as the global rule keeps: drawn at random, or those that changed least."""
    change = torch.cat([(tuned[name] - base[name]).abs().flatten() for name in sorted(base)])
    count = int(density * len(change) + 0.5)
    if kind == "random":
        order = torch.randperm(len(change), generator=torch.Generator().manual_seed(seed))
    else:
        order = torch.argsort(change, stable=True)
    keep = torch.zeros(len(change), dtype=torch.bool)
    keep[order[:count]] = True
    return keep


def grid(density: float) -> Iterator[tuple[str, float]]:
    """The merges of one density: (kind, scale)."""
    if density == 1:
        yield from (("interpolation", scale) for scale in INTERPOLATION)
    else:
        yield from ((kind, scale) for kind in KINDS for scale in FEW.get(kind, SCALES))


def merged(base: Tensors, tuned: Tensors, density: float, kind: str, scale: float, seed: int) -> Tensors:
    if kind in ("random", "bottom"):
        return masked_merge(base, tuned, control_mask(base, tuned, density, kind, seed), scale)
    scope = "tensor" if kind == "tensor" else "global"
    return update_selective_merge(base, tuned, density=density, scale=scale, scope=scope)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """A tied head is one tensor and counts once."""
    return {name: value.detach().clone() for name, value in load_policy(folder).model.named_parameters()}


def measured(policy: Any, problems: Problems, seed: int) -> Numbers:
    found = {}
    for name, (temperature, top_p) in SAMPLINGS.items():
        sampling = Sampling(cap=EVAL_CAP, temperature=temperature, top_p=top_p, seed=seed, sample_rows=ROWS_AT_ONCE)
        record, _ = evaluate(policy, problems, sampling, name="merge", data="lab:chains")
        found[name] = {"accuracy": float(record.accuracies.mean()), "mean_tokens": float(record.tokens.mean())}
    return found


def measure_merge(seed: int, density: float, kind: str, scale: float, place: Place) -> Numbers:
    base, tuned = weights_of(shipped_reasoner()), weights_of(model_of(seed, place))
    policy = load_policy(shipped_reasoner())
    problems, _ = held_out(place.options["problems"], shipped_reasoner())
    weights = merged(base, tuned, density, kind, scale, seed)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            parameter.copy_(weights[name])
    share = squared_distance(weights, base) / squared_distance(tuned, base)
    head = {"seed": seed, "density": density, "kind": kind, "scale": scale, "norm_share": share}
    return {**head, **measured(policy, problems, seed)}


def squared_distance(one: Tensors, other: Tensors) -> float:
    return sum(float((one[name] - other[name]).double().square().sum()) for name in other)


def model_of(seed: int, place: Place) -> Path:
    return place.scratch(f"dler-{seed}") / "model"


def train(seed: int, place: Place) -> Numbers:
    folder, steps = place.scratch(f"dler-{seed}"), place.options["steps"]
    outcome: Numbers = demo(DemoSettings(out=folder, seed=seed, limit=200, steps=steps)).to_dict()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    kept = pick(outcome, "tokens_saved", "sampled_tokens", "train_seconds", "weights_sha_after")
    summary = {when: pick(outcome[when], "accuracy", "mean_tokens") for when in ("before", "after")}
    return {"seed": seed, "steps": steps, **kept, **summary}
