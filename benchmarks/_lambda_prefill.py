"""The parts of `patching.py` that read many tokens at once: prefill, and what one pass costs beside others."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from _lambda_model import (
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    N_GLOBAL,
    PREFILL_WINDOW,
    WINDOW,
    WORDS,
    Clock,
    build,
    clock_of,
    columns,
)


def agreement(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Largest difference of the device's logits from those of the CPU in float32: one pass, and chunks with tokens."""
    import copy

    import torch

    from lengthwise.context import lambda_attention

    here = build(torch.device("cpu"), torch.float32)
    net = copy.deepcopy(here).to(device, dtype)
    ids = torch.randint(WORDS, (1, 1200), generator=torch.Generator().manual_seed(0))
    with lambda_attention(here, n_global=N_GLOBAL, window=256):
        wanted = here(input_ids=ids, use_cache=False).logits
    with lambda_attention(net, n_global=N_GLOBAL, window=256) as reader:
        cache, given = reader.new_cache(), ids.to(device)
        parts = [net(input_ids=part, past_key_values=cache).logits for part in given.split([700, *[1] * 20, 480], 1)]
        found = {"one_pass": net(input_ids=given, use_cache=False).logits, "chunks": torch.cat(parts, 1)}
    gaps = {name: round(float((x.float().cpu() - wanted).abs().max()), 6) for name, x in found.items()}
    return {**gaps, "spread": round(float(wanted.std()), 4)}, {}


def prefill(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Seconds of the whole model under a window of 512, and of the attention function under one of 4096."""
    import torch

    from lengthwise.context import lambda_attention

    unit = 2048 if spec["quick"] else 16384
    net, seconds = build(device, dtype), clock_of(device)
    ids = torch.randint(WORDS, (1, 4 * unit), generator=torch.Generator().manual_seed(0)).to(device)
    slopes, marks = [], {f"lambda_{unit * k}_s": [] for k in (1, 2, 4)}
    with lambda_attention(net, n_global=N_GLOBAL, window=PREFILL_WINDOW) as reader:
        for tokens in (4 * 1024, *[4 * unit] * max(1, spec["passes"])):  # a short one to warm up
            cache, spent, at = reader.new_cache(), 0.0, {}
            for number, part in enumerate(ids[:, :tokens].split(1024, 1), 1):
                spent += seconds(
                    lambda p=part, c=cache: net(input_ids=p, past_key_values=c, use_cache=True, logits_to_keep=1)
                )
                at[1024 * number] = spent
            if tokens < 4 * unit:
                continue
            slopes.append((at[4 * unit] - at[2 * unit]) / (at[2 * unit] - at[unit]))
            for k in (1, 2, 4):
                marks[f"lambda_{unit * k}_s"].append(round(at[unit * k], 3))
    found: dict[str, Any] = {**marks, "slopes": [round(slope, 4) for slope in slopes]}
    alone = _attention_alone(spec, device, dtype, seconds)
    ratios = {"prefill_slope": statistics.median(slopes), "prefill_over_count": alone["over_count"]}
    return {**found, **alone}, {name: round(value, 3) for name, value in ratios.items()}


def _attention_alone(spec: dict[str, Any], device: Any, dtype: Any, seconds: Clock) -> dict[str, Any]:
    """One layer's attention over 16k tokens under a window of 4096, against its operation count."""
    import torch
    import torch.nn.functional as F
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    from lengthwise.context import Rule
    from lengthwise.context.lambda_shaped_attention.attention_cost import Attention
    from lengthwise.context.lambda_shaped_attention.attention_function import STATE, lambda_attend
    from lengthwise.context.lambda_shaped_attention.forward_state import Call
    from lengthwise.context.lambda_shaped_attention.frozen_rotary import Rotation
    from lengthwise.context.lambda_shaped_attention.visible_keys import State

    rule, tokens = Rule(N_GLOBAL, WINDOW, WINDOW), 8192 if spec["quick"] else 16384
    config = build(torch.device("meta"), dtype).config
    module: Any = type("Attention", (), {"layer_idx": 0})()
    setattr(module, STATE, State(rule, Rotation(LlamaRotaryEmbedding(config).to(device), apply_rotary_pos_emb), None))
    q = torch.randn(1, HEADS, tokens, HEAD_DIM, device=device, dtype=dtype)
    k, v = columns(tokens, device, dtype), columns(tokens, device, dtype)
    short = [x[:, :, :WINDOW] for x in (q, k, v)]
    grouped = device.type == "cpu" or dtype != torch.float32
    if not grouped:  # accelerators have no fused kernel for grouped heads in float32
        short[1:] = [x.repeat_interleave(HEADS // KV_HEADS, 1) for x in short[1:]]

    def plain() -> Any:
        return F.scaled_dot_product_attention(*short, is_causal=True, enable_gqa=grouped)

    ours, causal = [], []
    for _ in range(spec["passes"] + 1):
        causal.append(seconds(plain))
        ours.append(seconds(lambda: lambda_attend(module, q, k, v, Call(0, tokens, device, None))))
    sizes = Attention(1, HEADS, KV_HEADS, HEAD_DIM, dtype.itemsize)
    took, reference = statistics.median(ours[1:]), statistics.median(causal[1:])
    rate = sizes.prefill_flops(WINDOW, None) / reference
    return {
        "attention_tokens": tokens,
        "attention_s": round(took, 4),
        "causal_gflops": round(rate / 1e9, 1),
        "attention_gflops": round(sizes.prefill_flops(tokens, rule) / took / 1e9, 1),
        "over_count": round(took * rate / sizes.blocked_prefill_flops(tokens, rule), 3),
        "over_least": round(took * rate / sizes.prefill_flops(tokens, rule), 3),
    }


def others(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Seconds of one pass over n tokens: Lambda, the mask alone, a native window, flex attention, full attention."""
    import torch

    from lengthwise.context import lambda_attention

    lengths = (2048, 4096) if spec["quick"] else spec["lengths"]
    seconds, found = clock_of(device), {}
    plain, native = build(device, dtype), build(device, dtype, window=PREFILL_WINDOW)
    flex, net = build(device, dtype, attention="flex_attention"), build(device, dtype)
    with lambda_attention(net, n_global=N_GLOBAL, window=PREFILL_WINDOW):
        for tokens in lengths:
            ids = torch.randint(WORDS, (1, tokens), device=device)
            sides: dict[str, Callable[[], Any]] = {
                "lambda": lambda i=ids: net(input_ids=i, logits_to_keep=1),
                "full": lambda i=ids: plain(input_ids=i, logits_to_keep=1),
                "sliding": lambda i=ids: native(input_ids=i, logits_to_keep=1),
                "mask_only": lambda i=ids: plain(input_ids=i, attention_mask=overlay(i), logits_to_keep=1),
                "flex": lambda i=ids: flex(
                    input_ids=i, attention_mask=block_mask(i), logits_to_keep=1, use_cache=False
                ),
            }
            times: dict[str, list[float]] = {}
            for name, action in list(sides.items()):
                try:
                    first = seconds(action)
                except Exception as error:  # a missing compiler, or too little memory: recorded, never hidden
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    found[f"{name}_{tokens}_not_run"] = f"{type(error).__name__}: {reason}"[:200]
                    del sides[name]
                else:
                    times[name] = [] if spec["passes"] else [first]
            for _ in range(spec["passes"]):
                for name, action in sides.items():
                    times[name].append(seconds(action))
            found |= {f"{name}_{tokens}_s": round(statistics.median(times[name]), 3) for name in sides}
    return found, {}


def seen(query: Any, key: Any) -> Any:
    """The Lambda mask: the window, and the start tokens."""
    return (key <= query) & ((query - key < PREFILL_WINDOW) | (key < N_GLOBAL))


def overlay(ids: Any) -> Any:
    """The mask as [1, 1, n, n], which the library hands on to `sdpa` as it is."""
    import torch

    places = torch.arange(ids.shape[1], device=ids.device)
    return seen(places[:, None], places)[None, None]


def block_mask(ids: Any) -> Any:
    """The mask for flex attention."""
    from torch.nn.attention.flex_attention import create_block_mask

    n = ids.shape[1]
    return create_block_mask(lambda b, h, q, k: seen(q, k), None, None, n, n, device=ids.device)
