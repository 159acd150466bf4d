"""Loss by position on text, to 16 times the trained length; and a million tokens in chunks."""

from __future__ import annotations

import resource
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lengthwise.context import lambda_attention
from lengthwise.context.lambda_shaped_attention.attention_cost import Attention
from lengthwise.errors import ConfigError
from studies.lambda_attention.small import TRAINED, Batch, registered_sha, trained
from studies.running import Place
from studies.summary import Numbers

START, WORDS, ROWS = 256, 257, 32
LONGEST, WINDOWS, STREAMED, BLOCK, CHUNK = 16 * TRAINED, 64, 1_000_000, 100_000, 2048
SIDES: dict[str, dict[str, Any] | None] = {
    "full": None,
    "lambda": {"n_global": 10, "window": TRAINED},
    "no_start_tokens": {"n_global": 0, "window": TRAINED},
    "streaming": {"rule": "streaming", "n_global": 4, "window": TRAINED},
}
EDGES = (1, 32, 64, 128, 256, 320, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def measure_text(seed: int, place: Place) -> Numbers:
    """The losses by position."""
    net, training, held = reader_of_text(seed, place)
    losses = {name: by_position(net, held, side) for name, side in SIDES.items()}
    return {"seed": seed, "expected_sha256": registered_sha(), "training": training, "loss_by_position": losses}


def measure_stream(seed: int, place: Place) -> Numbers:
    """The million tokens."""
    net, training, held = reader_of_text(seed, place)
    found = streamed(net, held)
    return {"seed": seed, "expected_sha256": registered_sha(), "steps": training["steps"], **found}


def reader_of_text(seed: int, place: Place) -> tuple[Any, Numbers, Tensor]:
    """A model trained on WikiText-2's test.txt, and valid.txt to measure on."""
    folder = Path(place.options["data"])
    if not (folder / "valid.txt").is_file():
        raise ConfigError("text and stream need --set data=FOLDER with valid.txt and test.txt of WikiText-2")
    learn, held = (
        torch.frombuffer(bytearray((folder / f"{name}.txt").read_bytes()), dtype=torch.uint8).long()
        for name in ("test", "valid")
    )
    steps = place.options["text_steps"]
    net, training = trained("text", WORDS, batches(learn, ROWS), place, seed=seed, steps=steps, rows=ROWS)
    return net, training, held.to(place.device)


def batches(text: Tensor, rows: int) -> Batch:
    """Rows of a start token and 255 bytes from anywhere in the text."""

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(len(text) - TRAINED, (rows, 1), generator=generator)
        ids = text[first + torch.arange(TRAINED - 1)]
        ids = torch.cat([torch.full((rows, 1), START), ids], 1)
        return ids, ids

    return draw


def nll(logits: Tensor, ids: Tensor) -> Tensor:
    """Loss of each token [n] from the logits [n, V] before it."""
    return torch.nn.functional.cross_entropy(logits.float(), ids, reduction="none")


@torch.no_grad()
def by_position(net: Any, text: Tensor, side: dict[str, Any] | None) -> dict[str, float]:
    """Mean loss of the tokens at positions from .. to-1, over windows of 16 times the trained length."""
    total = torch.zeros(LONGEST, device=text.device)
    context = None if side is None else lambda_attention(net, **side)
    if context is not None:
        context.enable()
    for number in range(WINDOWS):
        first = number * (len(text) - LONGEST) // WINDOWS
        ids = torch.cat([text.new_tensor([START]), text[first : first + LONGEST - 1]])
        logits = net(input_ids=ids[None], use_cache=False).logits[0, :-1]
        total[1:] += nll(logits, ids[1:])
    if context is not None:
        context.disable()
    mean = total / WINDOWS
    return {f"{a}-{b - 1}": round(float(mean[a:b].mean()), 5) for a, b in pairwise(EDGES)}


@torch.no_grad()
def streamed(net: Any, text: Tensor) -> Numbers:
    """A million tokens with the evicting cache carried: loss and resident memory by hundred thousand, cache bytes."""
    ids = torch.cat([text.new_tensor([START]), text[: STREAMED - 1]])
    losses: list[float] = []
    held: list[float] = []
    with lambda_attention(net, **(SIDES["lambda"] or {})) as reader:
        cache, block, last = reader.new_cache(), [], None
        for first in range(0, STREAMED, CHUNK):
            part = ids[first : first + CHUNK]
            logits = net(input_ids=part[None], past_key_values=cache, use_cache=True).logits[0]
            before = logits[:-1] if last is None else torch.cat([last, logits[:-1]])
            block.append(nll(before, part[len(part) - len(before) :]))
            last = logits[-1:].clone()
            if first // BLOCK != (first + CHUNK) // BLOCK or first + CHUNK >= STREAMED:
                losses.append(round(float(torch.cat(block).mean()), 5))
                held.append(round(memory_mib(text.device), 2))
                block = []
        formula = Attention.of(net.config, torch.float32).cache_bytes(STREAMED, reader.rule)
        return {
            "tokens": cache.get_seq_length(), "loss_per_100k": losses, "memory_mib": held,
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 2),
            "cache_bytes": cache.nbytes, "formula_bytes": formula,
        }  # fmt: skip


def memory_mib(device: torch.device) -> float:
    """Resident memory of this process now, or what it has allocated on the accelerator."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
