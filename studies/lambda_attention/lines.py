"""What is forgotten: answers to a line read `distance` tokens ago, beside full attention, StreamingLLM and top-k."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lengthwise.context import TopK, lambda_attention
from studies.lambda_attention.small import TRAINED, registered_sha, trained
from studies.running import Place
from studies.summary import Numbers

START, LINE, ASK, FILLER, KEYS, VALUES = 0, 1, 2, 3, 35, 99
"""Ids: three marks, 32 fillers, 64 keys, 64 values."""
WORDS, ROWS = 163, 64
DISTANCES = (16, 64, 128, 192, 224, 288, 512, 1024, 2048, 3840)
LONG, QUESTIONS, AT_ONCE, OTHERS = 4096, 128, 16, 12
SIDES: dict[str, dict[str, Any] | None] = {
    "full": None,
    "lambda": {"n_global": 10, "window": TRAINED},
    "lambda_top_k": {"n_global": 10, "window": TRAINED, "top_k": TopK(5, first_layer=1, distance=TRAINED // 2)},
    "streaming": {"rule": "streaming", "n_global": 4, "window": TRAINED},
}


def measure_lines(seed: int, place: Place) -> Numbers:
    """Shares answered within and beyond the trained length."""
    steps = place.options["lines_steps"]
    net, training = trained("lines", WORDS, lambda dice: batch(dice, ROWS), place, seed=seed, steps=steps, rows=ROWS)
    found: Numbers = {"short_context": {}, "long_context": {}}
    for name, side in SIDES.items():
        found["short_context"][name] = answered(net, side, TRAINED, [d for d in DISTANCES if d < TRAINED - 16])
        found["long_context"][name] = answered(net, side, LONG, DISTANCES)
    head = {"seed": seed, "expected_sha256": registered_sha()}
    return {**head, "training": training, "questions": QUESTIONS, "answered": found}


def batch(generator: torch.Generator, rows: int) -> tuple[Tensor, Tensor]:
    """Rows of 256 tokens with their labels: every second one holds lines and questions, the others are rehearsal."""
    drawn = [(repeated if row % 2 else lines)(generator) for row in range(rows)]
    ids, labels = zip(*drawn, strict=True)
    return torch.stack(ids), torch.stack(labels)


def repeated(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random stretch of 8 to 99 tokens over and over; loss from its second time on. It teaches looking back early."""
    period = int(torch.randint(8, 100, (1,), generator=generator))
    stretch = FILLER + torch.randint(WORDS - FILLER, (period,), generator=generator)
    ids = torch.cat([torch.tensor([START]), stretch.repeat(TRAINED // period + 1)])[:TRAINED]
    labels = ids.clone()
    labels[: period + 1] = -100
    return ids, labels


def lines(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Filler, lines with new keys, and questions about lines that were read; loss on the answers alone."""
    # Some rows are mostly filler and some mostly lines: near and far answers, few and many lines.
    filler = 0.1 + 0.85 * float(torch.rand(1, generator=generator))
    dice = torch.rand(TRAINED, 2, generator=generator).tolist()
    keys = torch.randperm(64, generator=generator).tolist()
    values = torch.randint(64, (64,), generator=generator).tolist()
    fill = torch.randint(32, (TRAINED,), generator=generator).tolist()
    tokens, known, answers = [START], 0, []
    while len(tokens) < TRAINED:
        kind, choice = dice[len(tokens)]
        if kind < filler:
            tokens.append(FILLER + fill[len(tokens)])
        elif known < 64 and (known == 0 or kind < filler + 0.4 * (1 - filler)):
            tokens += [LINE, KEYS + keys[known], VALUES + values[known]]
            known += 1
        else:
            asked = int(choice * known)
            answers.append(len(tokens) + 2)
            tokens += [ASK, KEYS + keys[asked], VALUES + values[asked]]
    ids, labels = torch.tensor(tokens[:TRAINED]), torch.full((TRAINED,), -100)
    at = [place for place in answers if place < TRAINED]
    labels[at] = ids[at]
    return ids, labels


def question(context: int, distance: int, generator: torch.Generator) -> tuple[Tensor, int]:
    """`context` tokens that end in a question; the answer stood `distance` tokens before the key that asks for it."""
    ids = FILLER + torch.randint(32, (context,), generator=generator)
    ids[0] = START
    keys = torch.randperm(64, generator=generator)[: OTHERS + 1]
    values = torch.randint(64, (OTHERS + 1,), generator=generator)
    place = context - 1 - distance
    free = torch.ones(context, dtype=torch.bool)
    free[[0, 1, context - 4, context - 3, context - 2, context - 1]] = False
    free[max(0, place - 4) : place + 3] = False
    taken: list[int] = []
    for start in (torch.randperm(context - 8, generator=generator) + 2).tolist():
        if len(taken) < OTHERS and bool(free[start : start + 3].all()) and all(abs(start - t) > 2 for t in taken):
            taken.append(start)
    for start, key, value in zip([place - 2, *taken], keys.tolist(), values.tolist(), strict=False):
        ids[start : start + 3] = torch.tensor([LINE, KEYS + key, VALUES + value])
    ids[-2:] = torch.tensor([ASK, KEYS + int(keys[0])])
    return ids, VALUES + int(values[0])


@torch.no_grad()
def answered(net: Any, side: dict[str, Any] | None, context: int, distances: Any) -> dict[str, float]:
    """Share of questions answered right, by distance; chance is 1/64."""
    with nullcontext() if side is None else lambda_attention(net, **side) as reader:
        return {str(distance): share(net, reader, context, distance) for distance in distances}


def share(net: Any, reader: Any, context: int, distance: int) -> float:
    dice, right = torch.Generator().manual_seed(distance * 10_000 + context), 0
    for _ in range(QUESTIONS // AT_ONCE):
        drawn = [question(context, distance, dice) for _ in range(AT_ONCE)]
        ids = torch.stack([ids for ids, _ in drawn]).to(net.device)
        wanted = torch.tensor([answer for _, answer in drawn], device=net.device)
        # The question comes token by token, as in decoding: top-k serves the last query of a call.
        cache = reader.new_cache() if reader else None
        for part in ids.split([context - 2, 1, 1], 1):
            out = net(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
        right += int((out.logits[:, -1].argmax(-1) == wanted).sum())
    return right / QUESTIONS
