"""What the tests of Lambda attention share: tiny models of every family, and attention as an explicit loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 60
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
HALF_ROTATED = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, GROUPED),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, GROUPED),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {**GROUPED, "head_dim": 8}),
    "mistral": (MistralConfig, MistralForCausalLM, {**GROUPED, "sliding_window": None}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {**GROUPED, "head_dim": 8}),
    "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM, {}),
    "phi3": (Phi3Config, Phi3ForCausalLM, {**GROUPED, **HALF_ROTATED}),
    "cohere": (CohereConfig, CohereForCausalLM, GROUPED),
}


def model(family: str = "llama", **options: Any) -> Any:
    """A tiny random model whose attention is far from uniform, so that a wrong distance shows in its logits."""
    config_class, model_class, extra = FAMILIES[family]
    torch.manual_seed(0)
    return spread(model_class(config_class(**{**SIZE, **extra, **options})))


def spread(made: Any) -> Any:
    """The model with weights that are large enough for sharp attention, in evaluation mode."""
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return made.eval()


def tokens(count: int, rows: int = 2, seed: int = 1) -> Tensor:
    """Random ids [rows, count] that avoid the special ones."""
    return torch.randint(3, VOCABULARY, (rows, count), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(net: Any, ids: Tensor, **options: Any) -> Tensor:
    """Logits [B, n, V] of one plain pass without a cache."""
    return net(input_ids=ids, use_cache=False, **options).logits


@torch.no_grad()
def chunked(net: Any, ids: Tensor, sizes: list[int], cache: Any) -> Tensor:
    """Logits [B, n, V] of the same ids in pieces of the given sizes."""
    parts = [net(input_ids=part, past_key_values=cache, use_cache=True).logits for part in ids.split(sizes, 1)]
    return torch.cat(parts, 1)


Place = Callable[[int, int], tuple[int, int] | None]
"""(p, s) -> the positions (a, b) of a pair's score, or None where the query does not see the key."""


def lambda_place(n_global: int, window: int, ceiling: int | None = None) -> Place:
    """Section 1 of lm-infinite.md, in its own words."""

    def place(p: int, s: int) -> tuple[int, int] | None:
        delta = p - s
        if 0 <= delta <= window - 1:
            return p, s
        if s < n_global and delta >= window:
            return (window if ceiling is None else ceiling), 0
        return None

    return place


def streaming_place(n_global: int, recent: int) -> Place:
    """StreamingLLM, told by its cache: the kept tokens renumbered by their place in it."""

    def place(p: int, s: int) -> tuple[int, int] | None:
        kept = [t for t in range(p + 1) if t < n_global or t > p - recent]
        return (len(kept) - 1, kept.index(s)) if s in kept else None

    return place


def naive_attention(place: Place, rotate: Callable[[Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """Attention [B, H, n, d] -> [B, H, n, d] as one loop over rows, heads, queries and keys.

    A vector is rotated by itself, to one position; where the loop needs the same again, it is not done twice.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        groups, out = query.shape[1] // key.shape[1], torch.zeros_like(query)

        @cache
        def asked(b: int, h: int, p: int, at: int) -> Tensor:
            return rotate(query[b, h, p], at)

        @cache
        def kept(b: int, h: int, s: int, at: int) -> Tensor:
            return rotate(key[b, h, s], at)

        for b in range(query.shape[0]):
            for h in range(query.shape[1]):
                for p in range(query.shape[2]):
                    pairs = [(s, place(p, s)) for s in range(p + 1)]
                    seen = [(s, at) for s, at in pairs if at is not None]
                    scores = [asked(b, h, p, a) @ kept(b, h // groups, s, at) for s, (a, at) in seen]
                    weights = torch.softmax(scale * torch.stack(scores), 0)
                    out[b, h, p] = sum(w * value[b, h // groups, s] for w, (s, _) in zip(weights, seen, strict=True))
        return out

    return attend


def rotate_of(net: Any) -> Callable[[Tensor, int], Tensor]:
    """The model's own rotation of one vector [d] at one absolute position, from its own two parts."""
    rotary = next(module for name, module in net.named_modules() if name.endswith("rotary_emb"))
    apply = sys.modules[type(rotary).__module__].apply_rotary_pos_emb
    forward = type(rotary).forward.__get__(rotary)

    def rotate(x: Tensor, position: int) -> Tensor:
        cos, sin = forward(x[None, None], torch.tensor([[position]]))
        row = x[None, None, None]
        return apply(row, row, cos, sin)[0][0, 0, 0]

    return rotate
