"""Lambda attention against what it replaces: time and memory per token, prefill, and the limits of the cost model.

    python benchmarks/lambda_attention.py --threads 1,2                         # on this machine's CPU
    python benchmarks/lambda_attention.py --parts decode --threads 1            # one part; the others' numbers stay
    python benchmarks/lambda_attention.py --device cuda --dtype bfloat16        # on an accelerator
    python benchmarks/lambda_attention.py --device cuda --rows 32 --parts decode
    python benchmarks/lambda_attention.py --quick                               # a trial of a few minutes

One model: 4 layers, 16 query and 4 key heads of dimension 64 (hidden size 1024, feed-forward 2816, 1024 words), random
weights, float32. Raw numbers go to `results/lambda_attention_DEVICE.json`, where a part replaces its older self of the
same threads, dtype and rows, and says by which command and commit it was measured; one process per number of threads.

**Decoding.** Caches are filled with random keys and values, which skips the prefill: an evicting cache (10 start
tokens, window 4096), the library's growing cache (`DynamicCache`), its preallocated one (`StaticCache`) and a
native sliding window of 4096 (a Mistral of the same sizes). Rounds are interleaved, one token per side and round;
medians are compared. `--rows` sequences decode side by side: an accelerator needs many to be bound by bytes. Wanted at
a context of 32k: 2.72 times faster per token than the growing cache, 1.5 times than the preallocated one, 7.5 times
less cache memory; and time per token at 64k within 15 % of that at 8k. Beside it stands the byte limit: all parameters
and the columns that a token reads, over the bandwidth of a matrix-vector product.

**Prefill.** The whole model reads 64k tokens in chunks under a window of 512; wanted is (t64k - t32k) / (t32k - t16k)
within 15 % of 2. The attention function alone reads 16k tokens under a window of 4096; wanted is at most 1.5 times the
page's operation count (blocks of W queries, head-dimension concatenation) at the speed of plain causal attention.
Beside it: one pass over up to 16k tokens with the window's mask alone (`sdpa` with a mask of n x n), the native sliding
window, and flex attention with the same overlay. What does not fit or does not run is listed with its reason.

**Check.** The device's logits beside those of the CPU in float32.

Exit code 1 if a wanted number is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from _bench import RESULTS, machine, provenance, run_worker, write_json
from _lambda_model import LAYERS, N_GLOBAL, WINDOW, build, clock_of, columns, sizes_of
from _lambda_prefill import agreement, others, prefill

WANTED = {
    "growing_over_lambda": 2.72, "preallocated_over_lambda": 1.5, "cache_bytes_ratio": 7.5,
    "late_over_early": 1.15, "prefill_slope_low": 1.7, "prefill_slope_high": 2.3, "prefill_over_count": 1.5,
}  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", default="1,2", help="numbers of CPU threads to measure with")
    parser.add_argument("--parts", default="check,decode,prefill,others", help="which parts to run")
    parser.add_argument("--rows", type=int, default=1, help="sequences that decode side by side")
    parser.add_argument("--lengths", default="4096,8192,16384", help="tokens of the one-pass comparison (others)")
    parser.add_argument("--rounds", type=int, default=31, help="interleaved rounds of decoding")
    parser.add_argument(
        "--passes", type=int, default=3, help="passes of each prefill after one to warm up; 0 (others): that one counts"
    )
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
    spec = {name: getattr(options, name) for name in ("device", "dtype", "rows", "rounds", "passes", "quick")}
    spec |= {"parts": options.parts.split(","), "lengths": [int(n) for n in options.lengths.split(",")]}
    if options.device == "cpu":
        threads = [int(n) for n in options.threads.split(",")]
        runs = (run_worker(__file__, {**spec, "threads": n}, threads=n) for n in threads)
    else:
        runs = iter([work({**spec, "threads": None})])
    passed = [keep(run, options.json) for run in runs]
    return 0 if all(passed) else 1


def keep(run: dict[str, Any], path: Path | None) -> bool:
    """Show a run, and put its parts into the device's file beside those that are there; whether all is as wanted."""
    show(run)
    name = "".join(c if c.isalnum() else "_" for c in run["device"].lower())
    path = path or RESULTS / f"lambda_attention_{name}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"runs": []}
    same = ("device", "threads", "dtype", "rows")
    old = next((r for r in found["runs"] if all(r[name] == run[name] for name in same)), None)
    if old is None:
        found["runs"].append(old := {name: run[name] for name in same} | {"ratios": {}})
    for part in ("check", "decode", "prefill"):
        if part in run:
            old[part] = {"measured": provenance() | machine(), **run[part]}
    if "others" in run:
        old["others"] = old.get("others", {}) | {"measured": provenance() | machine(), **run["others"]}
    old["ratios"] |= run["ratios"]
    old["passed"] = _passed(old["ratios"])
    write_json(path, {"wanted": WANTED, "runs": found["runs"]})
    return bool(old["passed"])


def show(run: dict[str, Any]) -> None:
    print(f"\n{run['device']}, {run['threads']} thread(s), {run['dtype']}, {run['rows']} row(s)")
    for part in PARTS:
        for name, value in run.get(part, {}).items():
            print(f"  {part:<8} {name:<34} {value}", flush=True)
    print(f"  ratios   {run['ratios']}", flush=True)


# ------------------------------------------------------------------------------------------------ one process


def work(spec: dict[str, Any]) -> dict[str, Any]:
    import torch

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    torch.manual_seed(0)
    device = torch.device(spec["device"])
    run: dict[str, Any] = {name: spec[name] for name in ("threads", "dtype", "rows")} | {"ratios": {}}
    run["device"] = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    with torch.no_grad():
        for part, measure in PARTS.items():
            if part in spec["parts"]:
                run[part], ratios = measure(spec, device, getattr(torch, spec["dtype"]))
                run["ratios"] |= ratios
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


# ------------------------------------------------------------------------------------------------ decoding


def decode(spec: dict[str, Any], device: Any, dtype: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Milliseconds per token of every side at every context, in interleaved rounds."""
    import torch

    from lengthwise.context import lambda_attention

    contexts = (8192, 32768) if spec["quick"] else (8192, 16384, 32768, 65536)
    net, native, plain = build(device, dtype), build(device, dtype, window=WINDOW), build(device, dtype)
    rows = spec["rows"]
    token, seconds = torch.full((rows, 1), 5, device=device), clock_of(device)
    found: dict[str, Any] = {}
    with lambda_attention(net, n_global=N_GLOBAL, window=WINDOW) as reader:
        for context in contexts:
            sides = {
                "lambda": (net, _filled_lambda(reader.new_cache(), context, device, dtype, rows)),
                "growing": (plain, _filled_growing(context, device, dtype, rows)),
                "preallocated": (plain, _filled_static(plain.config, context, spec["rounds"] + 2, device, dtype, rows)),
                "sliding": (native, _filled_sliding(native.config, context, device, dtype, rows)),
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
            del sides, cache, step  # before the next context's caches are made
            gc.collect()
    found |= _limits(net, contexts, device, dtype, found, rows)
    last = contexts[-1]
    ratios = {
        "growing_over_lambda": found["growing_32768_ms"] / found["lambda_32768_ms"],
        "preallocated_over_lambda": found["preallocated_32768_ms"] / found["lambda_32768_ms"],
        "cache_bytes_ratio": found["growing_32768_bytes"] / found["lambda_32768_bytes"],
        "late_over_early": found[f"lambda_{last}_ms"] / found["lambda_8192_ms"],
    }
    return found, {name: round(value, 3) for name, value in ratios.items()}


def _filled_lambda(cache: Any, context: int, device: Any, dtype: Any, rows: int) -> Any:
    for layer in cache.layers:
        layer.keys, layer.values = (columns(layer.rule.capacity, device, dtype, rows) for _ in range(2))
        layer.is_initialized, layer.seen = True, context
    return cache


def _filled_growing(context: int, device: Any, dtype: Any, rows: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer in range(LAYERS):
        cache.update(columns(context, device, dtype, rows), columns(context, device, dtype, rows), layer)
    return cache


def _filled_static(config: Any, context: int, room: int, device: Any, dtype: Any, rows: int) -> Any:
    from transformers import StaticCache

    cache = StaticCache(config=config, max_cache_len=context + room)
    for layer in range(LAYERS):
        cache.update(columns(context, device, dtype, rows), columns(context, device, dtype, rows), layer)
    return cache


def _filled_sliding(config: Any, context: int, device: Any, dtype: Any, rows: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        cache.update(columns(WINDOW, device, dtype, rows), columns(WINDOW, device, dtype, rows), index)
        layer.cumulative_length = context
    return cache


def cache_bytes(cache: Any) -> int:
    """Bytes that the cache's tensors hold, views counted once with what they view."""
    held = {x.untyped_storage().data_ptr(): x for layer in cache.layers for x in (layer.keys, layer.values)}
    return sum(x.untyped_storage().nbytes() for x in held.values())


def _limits(
    net: Any, contexts: tuple[int, ...], device: Any, dtype: Any, found: dict[str, Any], rows: int
) -> dict[str, Any]:
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
            # Every row reads its own columns, and all rows the same parameters.
            least = 1e3 * (rows * sizes_of(dtype).decode_bytes(context + 1, rule, 0) + parameters) / bandwidth
            limits[f"{side}_{context}_limit_ms"] = round(least, 3)
            limits[f"{side}_{context}_over_limit"] = round(found[f"{side}_{context}_ms"] / least, 3)
    return limits


PARTS = {"check": agreement, "decode": decode, "prefill": prefill, "others": others}


if __name__ == "__main__":
    sys.exit(main())
