"""Position schemes on the lab's reader: fine-tuned at twice its trained context, then read up to eight times it."""

from __future__ import annotations

import hashlib
import random
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch

from lengthwise.context import extend, lambda_attention
from lengthwise.context.tasks import lines_rows, loss_by_position, passkey_rows, perplexity
from lengthwise.lab import reader, reader_lesson
from studies.running import Place, Run, say
from studies.summary import Numbers, plan_of

SEEDS = (0, 1, 2)
TRAINED = reader.TRAINED_CONTEXT
LENGTHS = (128, 256, 384, 512, 768, 1024, 1536, 2048)
LINES, KEYS, STORIES = 100, 50, 32
ROWS, RATE, WARMUP = 16, 1e-3, 30
OPTIONS = {"steps": 300, "share": 1.0}
"""Steps of fine-tuning, and the share of the base's lesson."""
LAMBDA = "lambda"
Way = tuple[str, float, Numbers] | str | None
"""How a model is read: a scheme with its factor and options, Lambda attention, or None: as it was trained."""


@dataclass(frozen=True)
class Arm:
    """The scheme to train under (None: none), whether it is trained, and other ways to read the result by label."""

    scheme: tuple[str, float, Numbers] | None
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


def runs() -> list[Run]:
    """Every arm and seed, a seed at a time: its arms share the base model."""
    return [Run(f"{arm}-{seed}", partial(carry_out, arm, seed)) for seed in SEEDS for arm in ARMS]


def carry_out(name: str, seed: int, place: Place) -> Numbers:
    """Train an arm where it is trained, then measure it in each of its ways."""
    net, facts = base_model(seed, place)
    arm, asked = ARMS[name], Asked.made(seed)
    if arm.scheme is not None:
        extend(net, arm.scheme[0], factor=arm.scheme[1], **arm.scheme[2])
    losses = []
    if arm.trained:
        stage = reader_lesson.Stage(2 * TRAINED, place.options["steps"], reader_lesson.FURTHER)
        losses = reader_lesson.teach(
            net, [stage], seed=1000 + seed, tokens=ROWS * 2 * TRAINED, peak_lr=RATE, warmup=WARMUP,
            report=partial(told, f"{name}-{seed}"),
        )  # fmt: skip
    curve = [round(sum(part) / len(part), 4) for i in range(0, len(losses), 50) if (part := losses[i : i + 50])]
    ways = {}
    for label, way in arm.ways.items():
        if isinstance(way, tuple):
            extend(net, way[0], factor=way[1], **way[2])
        with lambda_attention(net) if way == LAMBDA else nullcontext():
            ways[label] = asked.measured(net)
    sha = hashlib.sha256(plan_of("giraffe").read_bytes()).hexdigest()
    head = {"arm": name, "seed": seed, "expected_sha256": sha, "base": facts, "scheme": arm.scheme}
    return {**head, "steps": len(losses), "loss_per_50_steps": curve, "ways": ways}


def base_model(seed: int, place: Place) -> tuple[Any, Numbers]:
    """The reader of a seed, taught here or loaded, with how it was taught."""
    net, path = reader_lesson.build_model(seed=seed).to(place.device), place.scratch(f"base-{seed}.pt")
    if path.is_file():
        kept = torch.load(path, weights_only=True, map_location=place.device)
        net.load_state_dict(kept["net"])
        return net.eval(), kept["facts"]
    begun, share = time.perf_counter(), place.options["share"]
    losses = reader_lesson.teach(net, reader_lesson.shortened(share), seed=seed, report=partial(told, f"base-{seed}"))
    facts = {
        "steps": len(losses), "share": share, "seconds": round(time.perf_counter() - begun, 1),
        "lines_inside": reader_lesson.retrieves(net, length=TRAINED, rows=200, seed=1),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"net": net.state_dict(), "facts": facts}, path)
    return net, facts


def told(name: str, step: int, loss: float) -> None:
    if step % 100 == 0:
        say(f"{name} step {step} loss {loss:.4f}")


@dataclass(frozen=True)
class Asked:
    """The prompts and stories of a seed, by length; every arm is asked the same."""

    tokenizer: Any
    prompts: dict[str, dict[int, list[tuple[str, str]]]]
    stories: torch.Tensor

    @classmethod
    @cache
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
    def measured(self, net: Any) -> Numbers:
        """Accuracy of both tasks and perplexity, by length; the loss by position of the longest stories."""
        net.eval()
        found: Numbers = {
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
        found: list[torch.Tensor] = []
        for part in self.stories[:, :length].to(next(net.parameters()).device).split(8):
            logits = net(input_ids=part, use_cache=False).logits[:, :-1].float()
            found += torch.nn.functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none").cpu()
        return found
