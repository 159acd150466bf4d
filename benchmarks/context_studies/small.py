"""The studies' small rotary models: how they are built and trained, in pieces that may be killed and continued."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _bench import RESULTS, ROOT, provenance, write_json

HERE = Path(__file__).resolve().parent
EXPECTED = HERE / "expected.json"
TRAINED, SEEDS = 256, (0, 1, 2)
RUNS = ROOT / "runs" / "context_studies"
Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]
"""Draws ids [B, n] and labels [B, n] (-100: no loss) of one step."""


def build(words: int, seed: int) -> Any:
    """4 layers, 4 heads of dimension 32; about 0.85 million parameters beside the embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=words, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=TRAINED, tie_word_embeddings=True, rope_theta=10_000.0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def trained(
    name: str, words: int, seed: int, draw: Batch, *, steps: int, lr: float = 1e-3
) -> tuple[Any, dict[str, Any]]:
    """The model after `steps` steps of AdamW (warm-up, then cosine); continues from its last piece."""
    net, generator = build(words, seed), torch.Generator().manual_seed(1000 + seed)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
    path, step, losses, spent = RUNS / f"{name}-{seed}.pt", 0, [], 0.0
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        net.load_state_dict(kept["net"])
        optimizer.load_state_dict(kept["optimizer"])
        generator.set_state(kept["generator"])
        step, losses, spent = kept["step"], kept["losses"], kept["spent"]
    begun = time.perf_counter()
    net.train()
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        ids, labels = draw(generator)
        logits = net(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(round(loss.item(), 4))
        step += 1
        if step % 100 == 0 or step == steps:
            print(f"{name}-{seed} step {step} loss {sum(losses[-100:]) / len(losses[-100:]):.4f}", flush=True)
            RUNS.mkdir(parents=True, exist_ok=True)
            now = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
            now |= {"step": step, "losses": losses, "spent": spent + time.perf_counter() - begun}
            torch.save(now, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
    curve = [round(sum(losses[i : i + 100]) / len(losses[i : i + 100]), 4) for i in range(0, steps, 100)]
    return net.eval(), {"steps": steps, "lr": lr, "loss_per_100_steps": curve, "seconds": round(spent, 1)}


def save(name: str, seed: int, result: dict[str, Any]) -> None:
    """Write one seed's raw numbers beside the hash of what was registered."""
    sha = hashlib.sha256(EXPECTED.read_bytes()).hexdigest()
    head = {**provenance(), "seed": seed, "threads": torch.get_num_threads(), "expected_sha256": sha}
    write_json(RESULTS / "context_studies" / f"{name}-{seed}.json", {**head, **result})


def done(name: str, seed: int) -> bool:
    """Whether this seed's result is there."""
    return (RESULTS / "context_studies" / f"{name}-{seed}.json").is_file()
