"""The study's small rotary models: how they are built and trained, in pieces that may be killed and continued."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from studies.running import Place, say
from studies.summary import Numbers, plan_of

TRAINED = 256
Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]
"""Draws ids [B, n] and labels [B, n] (-100: no loss) of one step, on the CPU."""


def registered_sha() -> str:
    """What was expected when a run was made."""
    return hashlib.sha256(plan_of("lambda_attention").read_bytes()).hexdigest()


def build(words: int, seed: int) -> Any:
    """4 layers, 4 heads of dimension 32; about 0.85 million parameters beside the embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=words, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=TRAINED, tie_word_embeddings=True, rope_theta=10_000.0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


class Training:
    """A model, its optimizer and its dice, which go on from the last piece that was kept."""

    def __init__(self, path: Path, words: int, seed: int, device: str, lr: float) -> None:
        self.path, self.lr, self.device = path, lr, torch.device(device)
        self.net, self.generator = build(words, seed).to(self.device), torch.Generator().manual_seed(1000 + seed)
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
        self.losses: list[float] = []
        self.spent = 0.0
        if path.is_file():
            kept = torch.load(path, weights_only=True, map_location="cpu")
            self.net.load_state_dict(kept["net"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.generator.set_state(kept["generator"])
            self.losses, self.spent = kept["losses"], kept["spent"]

    def step(self, draw: Batch, steps: int) -> None:
        """One step of AdamW: warm-up, then a cosine down to a tenth."""
        number = len(self.losses)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (number + 1) / 100) * (0.55 + 0.45 * math.cos(math.pi * number / steps))
        ids, labels = (x.to(self.device) for x in draw(self.generator))
        logits = self.net(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(round(loss.item(), 4))

    def keep(self, spent: float) -> None:
        """Write everything that the next piece needs, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        now = {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}
        now |= {"generator": self.generator.get_state(), "losses": self.losses, "spent": spent}
        torch.save(now, self.path.with_suffix(".partial"))
        self.path.with_suffix(".partial").replace(self.path)


def trained(
    name: str, words: int, draw: Batch, place: Place, *, seed: int, steps: int, rows: int, lr: float = 1e-3
) -> tuple[Any, Numbers]:
    """The model after its steps, in evaluation mode, and how it was trained; continues from its last piece."""
    run = Training(place.scratch(f"{name}-{seed}.pt"), words, seed, place.device, lr)
    begun, before = time.perf_counter(), run.spent
    run.net.train()
    while len(run.losses) < steps:
        run.step(draw, steps)
        if len(run.losses) % 100 == 0 or len(run.losses) == steps:
            last = run.losses[-100:]
            say(f"{name}-{seed} step {len(run.losses)} loss {sum(last) / len(last):.4f}")
            run.spent = before + time.perf_counter() - begun
            run.keep(run.spent)
    curve = [round(sum(part) / len(part), 4) for i in range(0, steps, 100) if (part := run.losses[i : i + 100])]
    facts = {"steps": steps, "rows": rows, "lr": lr, "loss_per_100_steps": curve, "seconds": round(run.spent, 1)}
    return run.net.eval(), facts
