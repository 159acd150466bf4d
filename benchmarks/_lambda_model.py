"""The model that `patching.py` measures, its caches' columns, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER, WORDS = 4, 16, 4, 64, 1024, 2816, 1024
N_GLOBAL, WINDOW, PREFILL_WINDOW = 10, 4096, 512
Clock = Callable[[Callable[[], Any]], float]
"""Seconds that an action takes, with everything done on the device."""


def build(device: Any, dtype: Any, *, window: int | None = None, attention: str = "sdpa") -> Any:
    """The benchmark's model; with `window` the same sizes with a native sliding window."""
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    kinds = (LlamaConfig, LlamaForCausalLM) if window is None else (MistralConfig, MistralForCausalLM)
    native = {} if window is None else {"sliding_window": window}
    config = kinds[0](
        vocab_size=WORDS, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, head_dim=HEAD_DIM,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=WINDOW,
        attn_implementation=attention, **native,
    )  # fmt: skip
    return kinds[1](config).to(device, dtype).eval()


def clock_of(device: Any) -> Clock:
    import torch

    def seconds(action: Callable[[], Any]) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begun = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    return seconds


def sizes_of(dtype: Any) -> Any:
    from lengthwise.context.lambda_shaped_attention.attention_cost import Attention

    return Attention(LAYERS, HEADS, KV_HEADS, HEAD_DIM, dtype.itemsize)


def columns(tokens: int, device: Any, dtype: Any, rows: int = 1) -> Any:
    import torch

    return torch.randn(rows, KV_HEADS, tokens, HEAD_DIM, device=device, dtype=dtype)
