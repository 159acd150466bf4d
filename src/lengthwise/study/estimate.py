"""What a run will take, from the model's config alone: memory by part, and time from a measured machine speed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from lengthwise.engine.scoring import CHUNK_BYTES
from lengthwise.engine.trainer import TrainConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
PROBE = 1024


@dataclass(frozen=True)
class Estimate:
    """Bytes by part and seconds per step; rough, within a factor of about two."""

    parameters: int
    weights: int
    gradients_and_optimizer: int
    kv_cache: int
    logits: int
    activations: int
    seconds_per_step: float

    @property
    def total(self) -> int:
        """The larger of sampling and updating, on top of weights and optimizer."""
        held = self.weights + self.gradients_and_optimizer
        return held + max(self.kv_cache, self.activations) + self.logits


def parameter_count(config: Any) -> int:
    """Parameters of the model a config describes; nothing is allocated."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(p.numel() for p in model.parameters())


def estimate(
    config: Any,
    train: TrainConfig,
    *,
    cap: int,
    prompt_tokens: int,
    dtype: str,
    lora: int,
    gradient_checkpointing: bool,
) -> Estimate:
    """Estimate memory and time of one step.

    Weights: 4 bytes each when all are trained, the dtype's size when frozen under LoRA. Gradients and AdamW: 12
    more per trained one. KV cache: 2 · layers · kv_heads · head_dim · bytes · rows · (prompt + cap). Activations
    per token and layer: about 18 hidden + 6 intermediate values, with checkpointing one hidden value. Time:
    2·N·tokens to decode plus 8·N·tokens to learn, at this machine's measured speed; decoding reads all weights
    once per token in a row, which bounds it from below.
    """
    text = config.get_text_config()
    layers, hidden = text.num_hidden_layers, text.hidden_size
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or hidden // heads
    inner = getattr(text, "intermediate_size", None) or 4 * hidden
    size, count = BYTES[dtype], parameter_count(config)
    trained = 4 * lora * layers * (2 * hidden + inner) if lora else count
    rows = train.prompts * train.group_size
    in_flight = min(rows, train.sample_rows or rows)
    per_token = hidden if gradient_checkpointing else 18 * hidden + 6 * inner
    one_layer = (18 * hidden + 6 * inner) if gradient_checkpointing else 0
    tokens = rows * cap
    flops, bandwidth = machine_speed()
    decode = max(2 * count * tokens / flops, cap * count * size / bandwidth)
    return Estimate(
        parameters=count,
        weights=count * (size if lora else 4),
        gradients_and_optimizer=12 * trained + (4 * trained if lora else 0),
        kv_cache=2 * layers * kv_heads * head_dim * size * in_flight * (prompt_tokens + cap),
        logits=3 * min(CHUNK_BYTES, 4 * text.vocab_size * train.micro_tokens) + 8 * text.vocab_size * in_flight,
        activations=size * train.micro_tokens * (per_token * layers + one_layer),
        seconds_per_step=decode + 8 * count * (tokens + rows * prompt_tokens) / flops,
    )


def machine_speed() -> tuple[float, float]:
    """Floating-point operations and bytes per second of this machine's CPU, from a moment's measurement."""
    a = torch.ones(PROBE, PROBE)
    a @ a
    started = time.perf_counter()
    for _ in range(4):
        a @ a
    flops = 4 * 2 * PROBE**3 / (time.perf_counter() - started)
    block = torch.ones(16 << 20)
    started = time.perf_counter()
    block.clone()
    return flops, 2 * 4 * block.numel() / (time.perf_counter() - started)
