"""Loss by position on text, to 16 times the trained length; then a million tokens in chunks.

    python benchmarks/context_studies/text.py --data ../shared/data/wikitext2                  # seeds 0, 1, 2
    python benchmarks/context_studies/text.py --data ... --device cuda                         # on an accelerator
    python benchmarks/context_studies/text.py --data ... --stream-only                         # the million, on a CPU

Killed and started again it continues. What is expected stands in registered.json, written before the runs. `text-SEED`
holds the losses, `stream-SEED` the million tokens; with `--stream-only` weights that were trained elsewhere are read
from the folder of the runs.
"""

from __future__ import annotations

import argparse
import resource
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from small import TRAINED, Batch, parser_of, save, trained
from torch import Tensor

from lengthwise.context import lambda_attention
from lengthwise.context.cost import Attention

START, WORDS = 256, 257
LONGEST, WINDOWS, STREAMED, BLOCK, CHUNK = 16 * TRAINED, 64, 1_000_000, 100_000, 2048
SIDES: dict[str, dict[str, Any] | None] = {
    "full": None,
    "lambda": {"n_global": 10, "window": TRAINED},
    "no_start_tokens": {"n_global": 0, "window": TRAINED},
    "streaming": {"rule": "streaming", "n_global": 4, "window": TRAINED},
}
EDGES = (1, 32, 64, 128, 256, 320, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


def main() -> None:
    parser = parser_of(__doc__, steps=4000, rows=32)
    parser.add_argument("--data", type=Path, required=True, help="folder with valid.txt and test.txt of WikiText-2")
    parser.add_argument("--stream-only", action="store_true", help="only the million tokens, with weights that exist")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    learn, held = (torch.frombuffer(bytearray((options.data / f"{n}.txt").read_bytes()), dtype=torch.uint8).long()
                   for n in ("test", "valid"))  # fmt: skip
    for seed in map(int, options.seeds.split(",")):
        one(seed, learn, held, options)


def one(seed: int, learn: Tensor, held: Tensor, options: argparse.Namespace) -> None:
    """What is still missing of one seed."""
    losses, stream = (options.results / f"{name}-{seed}.json" for name in ("text", "stream"))
    if losses.is_file() and stream.is_file():
        return
    if options.stream_only and not (options.runs / f"text-{seed}.pt").is_file():
        raise SystemExit(f"there are no weights text-{seed}.pt in {options.runs}; leave --stream-only out to train")
    net, training = trained("text", WORDS, seed, batches(learn, options.rows), options)
    held = held.to(options.device)
    if not losses.is_file() and not options.stream_only:
        positions = {name: by_position(net, held, side) for name, side in SIDES.items()}
        save(losses, seed, {"training": training, "loss_by_position": positions}, options)
    if not stream.is_file():
        save(stream, seed, {"steps": options.steps, **streamed(net, held)}, options)


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
def streamed(net: Any, text: Tensor) -> dict[str, Any]:
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


if __name__ == "__main__":
    main()
