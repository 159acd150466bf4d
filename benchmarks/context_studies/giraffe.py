"""Position schemes on the lab's reader: fine-tuned at twice its trained context, then read up to eight times it.

    python benchmarks/context_studies/giraffe.py --device cuda --seeds 0      # one process a seed; needs no data

One JSON per arm and seed; killed and started again it continues with the next arm. What is expected stands in
studies/giraffe/registered.json, written before the runs.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import random
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _bench import RAW, ROOT, provenance, write_json
from lengthwise.context import extend, lambda_attention
from lengthwise.context.tasks import lines_rows, loss_by_position, passkey_rows, perplexity
from lengthwise.lab import reader, reader_lesson

EXPECTED = ROOT / "studies" / "giraffe" / "registered.json"
TRAINED = reader.TRAINED_CONTEXT
LENGTHS = (128, 256, 384, 512, 768, 1024, 1536, 2048)
LINES, KEYS, STORIES = 100, 50, 32
STEPS, ROWS, RATE, WARMUP = 300, 16, 1e-3, 30
LAMBDA = "lambda"
Way = tuple[str, float, dict[str, Any]] | str | None
"""How a model is read: a scheme with its factor and options, Lambda attention, or None: as it was trained."""


@dataclass(frozen=True)
class Arm:
    """The scheme to train under (None: none), whether it is trained, and other ways to read the result by label."""

    scheme: tuple[str, float, dict[str, Any]] | None
    trained: bool = True
    ways: dict[str, Way] = field(default_factory=lambda: {"as trained": None})


ARMS = {
    "untouched": Arm(None, trained=False, ways={
        "as trained": None, "linear 2": ("linear", 2.0, {}), "linear 4": ("linear", 4.0, {}), "ntk 2": ("ntk", 2.0, {}),
        "yarn 2": ("yarn", 2.0, {}), "dynamic 2": ("dynamic", 2.0, {}), LAMBDA: LAMBDA,
    }),
    "longer": Arm(None),
    "linear": Arm(("linear", 2.0, {}), ways={
        "as trained": None, "linear 3": ("linear", 3.0, {}), "linear 4": ("linear", 4.0, {}),
        "linear 8": ("linear", 8.0, {}),
    }),
    "power": Arm(("power", 1.0, {"power": 0.5})),
    "truncated": Arm(("truncated", 1.0, {"truncate_length": TRAINED})),
    "randomised": Arm(("randomised", 1.0, {})),
    "xpos": Arm(("xpos", 1.0, {"xpos_scale_base": 512.0})),
    "yarn": Arm(("yarn", 2.0, {}), ways={"as trained": None, "yarn 4": ("yarn", 4.0, {})}),
    "ntk": Arm(("ntk", 2.0, {}), ways={"as trained": None, "ntk 4": ("ntk", 4.0, {})}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--results", type=Path, default=RAW / "giraffe", help="folder of the raw numbers")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "giraffe", help="folder of the base models")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of fine-tuning; other numbers are no result")
    parser.add_argument("--share", type=float, default=1.0, help="share of the base's lesson; below 1 is no result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in map(int, options.seeds.split(",")):
        todo = [name for name in options.arms.split(",") if not _path(options, name, seed).is_file()]
        if not todo:
            continue
        base, facts = base_model(seed, options)
        asked = Asked.made(seed)
        for name in todo:
            begun = time.perf_counter()
            found = run(copy.deepcopy(base), ARMS[name], asked, seed, options)
            save(name, seed, {"base": facts, **found, "seconds": round(time.perf_counter() - begun, 1)}, options)
            print(f"{name}-{seed} {time.perf_counter() - begun:.0f} s", flush=True)


def _path(options: argparse.Namespace, name: str, seed: int) -> Path:
    return options.results / f"{name}-{seed}.json"


def base_model(seed: int, options: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The reader of a seed, taught here or loaded, with how it was taught."""
    net, path = reader_lesson.build_model(seed=seed).to(options.device), options.runs / f"base-{seed}.pt"
    if path.is_file():
        kept = torch.load(path, weights_only=True, map_location=options.device)
        net.load_state_dict(kept["net"])
        return net.eval(), kept["facts"]
    begun = time.perf_counter()
    lesson = reader_lesson.shortened(options.share)
    losses = reader_lesson.teach(net, lesson, seed=seed, report=lambda *told: _say(f"base-{seed}", *told))
    facts = {
        "steps": len(losses), "share": options.share, "seconds": round(time.perf_counter() - begun, 1),
        "lines_inside": reader_lesson.retrieves(net, length=TRAINED, rows=200, seed=1),
    }  # fmt: skip
    print(f"base-{seed} {facts}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"net": net.state_dict(), "facts": facts}, path)
    return net, facts


def _say(name: str, step: int, loss: float) -> None:
    if step % 100 == 0:
        print(f"{name} step {step} loss {loss:.4f}", flush=True)


def run(net: Any, arm: Arm, asked: Asked, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train an arm where it is trained, then measure it in each of its ways."""
    if arm.scheme is not None:
        extend(net, arm.scheme[0], factor=arm.scheme[1], **arm.scheme[2])
    losses = []
    if arm.trained:
        stage = reader_lesson.Stage(2 * TRAINED, options.steps, reader_lesson.FURTHER)
        losses = reader_lesson.teach(
            net, [stage], seed=1000 + seed, tokens=ROWS * 2 * TRAINED, peak_lr=RATE, warmup=WARMUP,
            report=lambda *told: _say("", *told),
        )  # fmt: skip
    curve = [round(sum(part) / len(part), 4) for i in range(0, len(losses), 50) if (part := losses[i : i + 50])]
    ways = {}
    for label, way in arm.ways.items():
        if isinstance(way, tuple):
            extend(net, way[0], factor=way[1], **way[2])
        with lambda_attention(net) if way == LAMBDA else nullcontext():
            ways[label] = asked.measured(net)
    return {"scheme": arm.scheme, "steps": len(losses), "loss_per_50_steps": curve, "ways": ways}


@dataclass(frozen=True)
class Asked:
    """The prompts and stories of a seed, by length; every arm is asked the same."""

    tokenizer: Any
    prompts: dict[str, dict[int, list[tuple[str, str]]]]
    stories: torch.Tensor

    @classmethod
    def made(cls, seed: int) -> Asked:
        """Held out: teaching draws from generators of other names."""
        tokenizer = reader.build_tokenizer()
        prompts: dict[str, dict[int, list[tuple[str, str]]]] = {"lines": {}, "passkey": {}}
        for length in LENGTHS:
            lines = lines_rows(tokenizer, length=length, rows=LINES, seed=seed)
            keys = passkey_rows(tokenizer, length=length, rows=KEYS, seed=seed)
            prompts["lines"][length] = [(row.prompt, row.answer) for row in lines]
            prompts["passkey"][length] = [(row.prompt, row.answer) for row in keys]
        words = [reader.story_words(random.Random(f"giraffe/{seed}/{n}"), max(LENGTHS)) for n in range(STORIES)]
        return cls(tokenizer, prompts, torch.tensor([tokenizer.convert_tokens_to_ids(one) for one in words]))

    @torch.no_grad()
    def measured(self, net: Any) -> dict[str, Any]:
        """Accuracy of both tasks and perplexity, by length; the loss by position of the longest stories."""
        net.eval()
        found: dict[str, Any] = {
            task: {
                str(length): sum(reader_lesson.answered(net, self.tokenizer, rows)) / len(rows)
                for length, rows in by_length.items()
            }
            for task, by_length in self.prompts.items()
        }
        losses = {length: self._losses(net, length) for length in LENGTHS}
        found["perplexity"] = {str(length): perplexity(one) for length, one in losses.items()}
        found["story_loss"] = [
            [to, round(loss, 4)] for to, loss, _ in loss_by_position(losses[max(LENGTHS)], bucket=TRAINED // 2)
        ]
        return found

    def _losses(self, net: Any, length: int) -> list[torch.Tensor]:
        """NLL of words 1 .. n-1 of the first `length` words of each story."""
        found = []
        for part in self.stories[:, :length].to(next(net.parameters()).device).split(8):
            logits = net(input_ids=part, use_cache=False).logits[:, :-1].float()
            found += torch.nn.functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none").cpu()
        return found


def save(name: str, seed: int, result: dict[str, Any], options: argparse.Namespace) -> None:
    """Write one arm's raw numbers beside the hash of what was registered."""
    device = options.device if options.device == "cpu" else torch.cuda.get_device_name(torch.device(options.device))
    head = {**provenance(), "device": device, "threads": options.threads, "arm": name, "seed": seed}
    sha = hashlib.sha256(EXPECTED.read_bytes()).hexdigest()
    write_json(_path(options, name, seed), {**head, "expected_sha256": sha, **result})


if __name__ == "__main__":
    main()
