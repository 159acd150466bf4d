"""Lambda attention against what it replaces: time and memory per token, prefill, and the limits of the cost model.

    python benchmarks/lambda_attention.py --threads 1,2      # on this machine's CPU
    python benchmarks/lambda_attention.py --device cuda      # on an accelerator
    python benchmarks/lambda_attention.py --quick            # a trial of a few minutes

One model: 4 layers, 16 query and 4 key heads of dimension 64 (hidden size 1024, feed-forward 2816, 1024 words), random
weights, float32. Raw numbers go to `results/lambda_attention_DEVICE.json`; one process per number of threads.

**Decoding.** Caches are filled with random keys and values, which skips the prefill: an evicting cache (10 start
tokens, window 4096), the library's growing cache (`DynamicCache`), its preallocated one (`StaticCache`) and a
native sliding window of 4096 (a Mistral of the same sizes). Rounds are interleaved, one token per side and round;
medians are compared. Wanted at a context of 32k: 2.72 times faster per token than the growing cache, 1.5 times than the
preallocated one, 7.5 times less cache memory; and time per token at 64k within 15 % of that at 8k. Beside it stands
the byte limit: all parameters and the columns that a token reads, over the bandwidth of a matrix-vector product.

**Prefill.** The whole model reads 64k tokens in chunks under a window of 512; wanted is (t64k - t32k) / (t32k - t16k)
within 15 % of 2. The attention function alone reads 16k tokens under a window of 4096; wanted is at most 1.5 times the
page's operation count (blocks of W queries, head-dimension concatenation) at the speed of plain causal attention.
Beside it: one pass over up to 16k tokens with the window's mask alone (`sdpa` with a mask of n x n), the native sliding
window, and flex attention with the same overlay. What does not fit or does not run is listed with its reason.

Exit code 1 if a wanted number is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _bench import RESULTS, facts, run_worker, write_json

LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, INNER, WORDS = 4, 16, 4, 64, 1024, 2816, 1024
N_GLOBAL, WINDOW, PREFILL_WINDOW = 10, 4096, 512
WANTED = {
    "growing_over_lambda": 2.72, "preallocated_over_lambda": 1.5, "cache_bytes_ratio": 7.5,
    "late_over_early": 1.15, "prefill_slope_low": 1.7, "prefill_slope_high": 2.3, "prefill_over_count": 1.5,
}  # fmt: skip
Clock = Callable[[Callable[[], Any]], float]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", default="1,2", help="numbers of CPU threads to measure with")
    parser.add_argument("--parts", default="decode,prefill,others", help="which parts to run")
    parser.add_argument("--rounds", type=int, default=31, help="interleaved rounds of decoding")
    parser.add_argument("--passes", type=int, default=3, help="passes of each prefill")
    parser.add_argument("--quick", action="store_true", help="few rounds, short prefills: a trial")
    parser.add_argument("--json", type=Path, help="raw numbers (default: results/lambda_attention_DEVICE.json)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.passes = 5, 1
    return options


def main() -> int:
    options = parse()
    if options.worker:
        spec = json.loads(options.worker)
        Path(spec["out"]).write_text(json.dumps(work(spec)), encoding="utf-8")
        return 0
    spec = {name: getattr(options, name) for name in ("device", "dtype", "rounds", "passes", "quick")}
    spec["parts"] = options.parts.split(",")
    head, runs = facts("lengthwise", "torch", "transformers"), []
    if options.device == "cpu":
        for threads in map(int, options.threads.split(",")):
            runs.append(run_worker(__file__, {**spec, "threads": threads}, threads=threads))
            show(runs[-1])
    else:
        runs.append(work({**spec, "threads": None}))
        show(runs[-1])
    name = "".join(c if c.isalnum() else "_" for c in runs[0]["device"].lower())
    write_json(options.json or RESULTS / f"lambda_attention_{name}.json", {**head, "wanted": WANTED, "runs": runs})
    return 0 if all(run["passed"] for run in runs) else 1


def show(run: dict[str, Any]) -> None:
    print(f"\n{run['device']}, {run['threads']} thread(s), {run['dtype']}")
    for part in ("decode", "prefill", "others"):
        for name, value in run.get(part, {}).items():
            print(f"  {part:<8} {name:<34} {value}", flush=True)
    print(f"  ratios   {run['ratios']}\n  passed   {run['passed']}", flush=True)


# ------------------------------------------------------------------------------------------------ one process


def work(spec: dict[str, Any]) -> dict[str, Any]:
    import torch

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    device = torch.device(spec["device"])
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    run: dict[str, Any] = {"device": name, "threads": spec["threads"], "dtype": spec["dtype"], "ratios": {}}
    with torch.no_grad():
        for part, measure in (("decode", decode), ("prefill", prefill), ("others", others)):
            if part in spec["parts"]:
                run[part], ratios = measure(spec, device, getattr(torch, spec["dtype"]))
                run["ratios"] |= ratios
    run["passed"] = _passed(run["ratios"])
    return run


def _passed(ratios: dict[str, float]) -> bool:
    at_least = ("growing_over_lambda", "preallocated_over_lambda", "cache_bytes_ratio")
    at_most = ("late_over_early", "prefill_over_count")
    slope = ratios.get("prefill_slope", 2.0)
    return (
        all(ratios[name] >= WANTED[name] for name in at_least if name in ratios)
        and all(ratios[name] <= WANTED[name] for name in at_most if name in ratios)
        and WANTED["prefill_slope_low"] <= slope <= WANTED["prefill_slope_high"]
    )


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
    from lengthwise.context.cost import Attention

    return Attention(LAYERS, HEADS, KV_HEADS, HEAD_DIM, dtype.itemsize)


# ------------------------------------------------------------------------------------------------ decoding


def columns(tokens: int, device: Any, dtype: Any) -> Any:
    import torch

    return torch.randn(1, KV_HEADS, tokens, HEAD_DIM, device=device, dtype=dtype)


def decode(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Milliseconds per token of every side at every context, in interleaved rounds."""
    import torch

    from lengthwise.context import lambda_attention

    contexts = (8192, 32768) if spec["quick"] else (8192, 16384, 32768, 65536)
    net, native, plain = build(device, dtype), build(device, dtype, window=WINDOW), build(device, dtype)
    token, seconds = torch.tensor([[5]], device=device), clock_of(device)
    found: dict[str, Any] = {}
    with lambda_attention(net, n_global=N_GLOBAL, window=WINDOW) as reader:
        for context in contexts:
            sides = {
                "lambda": (net, _filled_lambda(reader.new_cache(), context, device, dtype)),
                "growing": (plain, _filled_growing(context, device, dtype)),
                "preallocated": (plain, _filled_static(plain.config, context, spec["rounds"] + 2, device, dtype)),
                "sliding": (native, _filled_sliding(native.config, context, device, dtype)),
            }
            times: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(spec["rounds"] + 2):
                for name, (model, cache) in sides.items():
                    step = lambda m=model, c=cache: m(input_ids=token, past_key_values=c, use_cache=True)  # noqa: E731
                    times[name].append(1e3 * seconds(step))
            for name, (_, cache) in sides.items():
                late = times[name][2:]  # two rounds of warm-up
                found[f"{name}_{context}_ms"] = round(statistics.median(late), 3)
                found[f"{name}_{context}_range_ms"] = [round(min(late), 3), round(max(late), 3)]
                found[f"{name}_{context}_bytes"] = cache_bytes(cache)
    found |= _limits(net, contexts, device, dtype, found)
    last = contexts[-1]
    ratios = {
        "growing_over_lambda": found["growing_32768_ms"] / found["lambda_32768_ms"],
        "preallocated_over_lambda": found["preallocated_32768_ms"] / found["lambda_32768_ms"],
        "cache_bytes_ratio": found["growing_32768_bytes"] / found["lambda_32768_bytes"],
        "late_over_early": found[f"lambda_{last}_ms"] / found["lambda_8192_ms"],
    }
    return found, {name: round(value, 3) for name, value in ratios.items()}


def _filled_lambda(cache: Any, context: int, device: Any, dtype: Any) -> Any:
    for layer in cache.layers:
        layer.keys, layer.values = (columns(layer.rule.capacity, device, dtype) for _ in range(2))
        layer.is_initialized, layer.seen = True, context
    return cache


def _filled_growing(context: int, device: Any, dtype: Any) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer in range(LAYERS):
        cache.update(columns(context, device, dtype), columns(context, device, dtype), layer)
    return cache


def _filled_static(config: Any, context: int, room: int, device: Any, dtype: Any) -> Any:
    from transformers import StaticCache

    cache = StaticCache(config=config, max_cache_len=context + room)
    for layer in range(LAYERS):
        cache.update(columns(context, device, dtype), columns(context, device, dtype), layer)
    return cache


def _filled_sliding(config: Any, context: int, device: Any, dtype: Any) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        cache.update(columns(WINDOW, device, dtype), columns(WINDOW, device, dtype), index)
        layer.cumulative_length = context
    return cache


def cache_bytes(cache: Any) -> int:
    """Bytes that the cache's tensors hold, views counted once with what they view."""
    held = {x.untyped_storage().data_ptr(): x for layer in cache.layers for x in (layer.keys, layer.values)}
    return sum(x.untyped_storage().nbytes() for x in held.values())


def _limits(net: Any, contexts: tuple[int, ...], device: Any, dtype: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The byte limit of the cost model: parameters and columns read, over a matrix-vector product's bandwidth."""
    import torch

    from lengthwise.context import Rule

    matrix = torch.randn(16384, 8192, device=device, dtype=dtype)
    vector, seconds = torch.randn(8192, device=device, dtype=dtype), clock_of(device)
    took = [seconds(lambda: torch.mv(matrix, vector)) for _ in range(12)]
    bandwidth = matrix.nbytes / statistics.median(took[2:])
    # A token reads one row of the embedding.
    parameters = sum(p.nbytes for p in net.parameters()) - net.get_input_embeddings().weight.nbytes
    limits: dict[str, Any] = {"bandwidth_gb_s": round(bandwidth / 1e9, 2), "parameter_bytes": parameters}
    for context in contexts:
        for side, rule in (("lambda", Rule(N_GLOBAL, WINDOW, WINDOW)), ("preallocated", None)):
            least = 1e3 * sizes_of(dtype).decode_bytes(context + 1, rule, parameters) / bandwidth
            limits[f"{side}_{context}_limit_ms"] = round(least, 3)
            limits[f"{side}_{context}_over_limit"] = round(found[f"{side}_{context}_ms"] / least, 3)
    return limits


# ------------------------------------------------------------------------------------------------ prefill


def prefill(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Seconds of the whole model under a window of 512, and of the attention function under one of 4096."""
    import torch

    from lengthwise.context import lambda_attention

    unit = 2048 if spec["quick"] else 16384
    net, seconds = build(device, dtype), clock_of(device)
    ids = torch.randint(WORDS, (1, 4 * unit), generator=torch.Generator().manual_seed(0)).to(device)
    slopes, marks = [], {f"lambda_{unit * k}_s": [] for k in (1, 2, 4)}
    with lambda_attention(net, n_global=N_GLOBAL, window=PREFILL_WINDOW) as reader:
        for _ in range(spec["passes"] + 1):
            cache, spent, at = reader.new_cache(), 0.0, {}
            for number, part in enumerate(ids.split(1024, 1), 1):
                spent += seconds(
                    lambda p=part, c=cache: net(input_ids=p, past_key_values=c, use_cache=True, logits_to_keep=1)
                )
                at[1024 * number] = spent
            slopes.append((at[4 * unit] - at[2 * unit]) / (at[2 * unit] - at[unit]))
            for k in (1, 2, 4):
                marks[f"lambda_{unit * k}_s"].append(round(at[unit * k], 3))
    found: dict[str, Any] = {**marks, "slopes": [round(slope, 4) for slope in slopes]}  # the first pass is a warm-up
    alone = _attention_alone(spec, device, dtype, seconds)
    ratios = {"prefill_slope": statistics.median(slopes[1:]), "prefill_over_count": alone["over_count"]}
    return {**found, **alone}, {name: round(value, 3) for name, value in ratios.items()}


def _attention_alone(spec: dict[str, Any], device: Any, dtype: Any, seconds: Clock) -> dict[str, Any]:
    """One layer's attention over 16k tokens under a window of 4096, against its operation count."""
    import torch
    import torch.nn.functional as F
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    from lengthwise.context import Rule
    from lengthwise.context.attend import STATE, lambda_attend
    from lengthwise.context.call import Call
    from lengthwise.context.columns import State
    from lengthwise.context.cost import Attention
    from lengthwise.context.rotation import Rotation

    rule, tokens = Rule(N_GLOBAL, WINDOW, WINDOW), 8192 if spec["quick"] else 16384
    config = build(torch.device("meta"), dtype).config
    module: Any = type("Attention", (), {"layer_idx": 0})()
    setattr(module, STATE, State(rule, Rotation(LlamaRotaryEmbedding(config).to(device), apply_rotary_pos_emb), None))
    q = torch.randn(1, HEADS, tokens, HEAD_DIM, device=device, dtype=dtype)
    k, v = columns(tokens, device, dtype), columns(tokens, device, dtype)
    short = slice(0, WINDOW)

    def plain() -> Any:
        return F.scaled_dot_product_attention(
            q[:, :, short], k[:, :, short], v[:, :, short], is_causal=True, enable_gqa=True
        )

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


# ------------------------------------------------------------------------------------------------ beside it


def others(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Seconds of one pass over n tokens: Lambda, the mask alone, a native window, flex attention, full attention."""
    import torch

    from lengthwise.context import lambda_attention

    lengths = (2048, 4096) if spec["quick"] else (4096, 8192, 16384)
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
            times: dict[str, list[float]] = {name: [] for name in sides}
            for name, action in list(sides.items()):
                try:
                    action()
                except Exception as error:  # a missing compiler, or too little memory: recorded, never hidden
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    found[f"{name}_{tokens}_not_run"] = f"{type(error).__name__}: {reason}"[:200]
                    del sides[name]
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


if __name__ == "__main__":
    sys.exit(main())
