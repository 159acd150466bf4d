"""Merging back after RL: accuracy and tokens of update-selective merges between the verbose reasoner and DLER.

DLER is trained by the demo's settings, once a seed. Then every merge of a grid is measured on 500 held-out chains of
levels 2 to 7, at temperature 0.6 (top-p 0.95, the paper's) and 1: densities 0.05 to 1 of the entries, scales 0.3 to 1,
the entries ranked over all tensors or in each; beside them as many entries drawn at random, as many of the smallest,
and (density 1) plain interpolation at more scales. Effects are registered in ``registered.json``. One JSON
file a seed and density under ``runs/studies/merge_back``, written anew after every merge; what is there is
not measured again, and a grid waits for its model. Run parts side by side:

    python benchmarks/merge_back_study.py --train --seeds 0
    python benchmarks/merge_back_study.py --seeds 0 --densities 0.25,1 --wait 600
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from _bench import RAW, provenance
from lengthwise.engine import load_policy
from lengthwise.evaluation.evaluate import Sampling, evaluate
from lengthwise.evaluation.problems import Problems
from lengthwise.files import atomic_write_json, read_json
from lengthwise.lab.reasoner import shipped_reasoner
from lengthwise.study.demo import EVAL_CAP, demo, held_out
from lengthwise.weights import update_selective_merge

OUT = RAW / "merge_back"
PROBLEMS = 500
DENSITIES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
SCALES = (0.3, 0.5, 0.7, 1.0)
FEW = {"random": (0.7, 1.0), "bottom": (0.7, 1.0)}
"""Scales of what is there for comparison."""
INTERPOLATION = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
KINDS = ("global", "tensor", "random", "bottom")
SAMPLINGS = {"0.6": (0.6, 0.95), "1.0": (1.0, 1.0)}

Tensors = Mapping[str, torch.Tensor]


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


def measured(policy: Any, problems: Problems, seed: int) -> dict[str, Any]:
    found = {}
    for name, (temperature, top_p) in SAMPLINGS.items():
        sampling = Sampling(EVAL_CAP, temperature, top_p, seed=seed)
        record, _ = evaluate(policy, problems, sampling, name="merge", data="lab:chains")
        found[name] = {"accuracy": float(record.accuracies.mean()), "mean_tokens": float(record.tokens.mean())}
    return found


def run_grid(seed: int, density: float, model: Path, out: Path) -> None:
    target = out / f"grid-{seed}-{density:g}.json"
    result = read_json(target) if target.is_file() else {"seed": seed, "density": density, "points": []}
    done = {(point["kind"], point["scale"]) for point in result["points"]}
    missing = [point for point in grid(density) if point not in done]
    if not missing:
        return
    base, tuned = weights_of(shipped_reasoner()), weights_of(model)
    policy, (problems, _) = load_policy(shipped_reasoner()), held_out(PROBLEMS, shipped_reasoner())
    norm = sum(float((tuned[name] - base[name]).double().square().sum()) for name in base)
    for kind, scale in missing:
        weights = merged(base, tuned, density, kind, scale, seed)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                parameter.copy_(weights[name])
        changed = sum(float((weights[name] - base[name]).double().square().sum()) for name in base)
        point = {"kind": kind, "scale": scale, "norm_share": changed / norm, **measured(policy, problems, seed)}
        result["points"].append(point)
        atomic_write_json(target, {**result, **provenance()}, indent=None)
        print(f"seed {seed}, density {density:g}, {kind} x {scale:g}: {point['0.6']['accuracy']:.3f}", flush=True)


def train(seed: int, folder: Path, out: Path, steps: int) -> None:
    outcome = demo(folder, seed=seed, problems=200, steps=steps)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    kept = {name: outcome[name] for name in ("tokens_saved", "sampled_tokens", "train_seconds", "weights_sha_after")}
    summary = {
        when: {name: outcome[when][name] for name in ("accuracy", "mean_tokens")} for when in ("before", "after")
    }
    atomic_write_json(out / f"dler-{seed}.json", {"seed": seed, "steps": steps, **provenance(), **kept, **summary})
    print(f"seed {seed}: trained", flush=True)


def wait_for(folder: Path, seconds: float) -> None:
    """Until a model's folder is there; it appears whole."""
    until = time.monotonic() + seconds
    while not folder.is_dir():
        if time.monotonic() > until:
            raise SystemExit(f"no model in {folder.parent.name}; train it first (--train), or give a longer --wait")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train DLER instead of measuring merges")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--densities", default=",".join(f"{density:g}" for density in DENSITIES))
    parser.add_argument("--steps", type=int, default=120, help="steps of DLER; the demo's 120")
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for a model that is being trained")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scratch", type=Path, default=Path("runs/merge_back_study"), help="run folders, kept")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON files")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in map(int, options.seeds.split(",")):
        folder = options.scratch / f"dler-{seed}"
        if options.train:
            train(seed, folder, options.out, options.steps)
            continue
        wait_for(folder / "model", options.wait)
        for density in map(float, options.densities.split(",")):
            run_grid(seed, density, folder / "model", options.out)


if __name__ == "__main__":
    main()
