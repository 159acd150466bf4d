"""The benchmark page's part on Lambda attention, from its raw JSON; one file a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studies.page import Section, Table

RESULTS = Path(__file__).resolve().parent / "results"
SIDES = {
    "lambda": "Lambda",
    "growing": "growing cache",
    "preallocated": "preallocated cache",
    "sliding": "native sliding window",
}
SHOWN = "32768"
"""The context whose times are on the page; the files have all."""
PASSES = {"lambda": "Lambda", "sliding": "native window", "flex": "flex attention", "mask_only": "mask alone",
          "full": "full attention"}  # fmt: skip
WANTED = {
    "growing_over_lambda": ("time a token at 32k: growing cache over Lambda", "growing_over_lambda", None),
    "preallocated_over_lambda": ("the same: preallocated cache over Lambda", "preallocated_over_lambda", None),
    "cache_bytes_ratio": ("cache bytes at 32k: full over Lambda", "cache_bytes_ratio", None),
    "late_over_early": ("Lambda's time a token: 64k over 8k", None, "late_over_early"),
    "prefill_slope": (
        "prefill at window 512: (t64k - t32k) / (t32k - t16k)",
        "prefill_slope_low",
        "prefill_slope_high",
    ),
    "prefill_over_count": ("prefill at window 4096: over the operation count", None, "prefill_over_count"),
}
"""A ratio's name: what it is, and its lowest and highest wanted value among the file's `wanted`."""


def load() -> list[tuple[dict[str, float], dict[str, Any]]]:
    """(wanted, run) of every device, threads, dtype and rows."""
    files = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("lambda_attention_*.json"))]
    return [(file["wanted"], run) for file in files for run in file["runs"]]


def label(run: dict[str, Any]) -> str:
    threads = "" if run["threads"] is None else f", {run['threads']} thread{'s' * (run['threads'] > 1)}"
    rows = "" if run["rows"] == 1 else f", {run['rows']} rows"
    return f"{run['device'].upper() if run['device'] == 'cpu' else run['device']}{threads}, {run['dtype']}{rows}"


def against_wanted() -> list[str | Table]:
    """What was wanted on a CPU, and what every run measured; a number that misses is marked."""
    found = load()
    rows = []
    for name, (what, low, high) in WANTED.items():
        wanted = found[0][0]
        bounds = [f"{word} {wanted[key]:g}" for word, key in (("at least", low), ("at most", high)) if key is not None]
        cells = []
        for _, run in found:
            value = run["ratios"].get(name)
            inside = value is None or (
                (low is None or value >= wanted[low]) and (high is None or value <= wanted[high])
            )
            cells.append("" if value is None else f"{value:.2f}" + ("" if inside else " (missed)"))
        rows.append([what, ", ".join(bounds), *cells])
    return [
        "4 layers, 16 query and 4 key heads of dimension 64; 10 start tokens, window 4096. What is wanted is wanted on "
        "a CPU; all numbers are in [benchmarks](benchmarks.md).",
        Table(["", "wanted", *(label(run) for _, run in found)], rows),
    ]


def sections() -> list[Section]:
    """The part, with a table of all runs' decoding, and what else a run measured."""
    runs = [run for _, run in load()]
    found = [
        Section("Lambda attention", against_wanted()),
        Section("Decoding at 32,768 tokens", decoding(runs), level=3),
    ]
    for run in runs:
        parts: list[str | Table] = []
        for name, shown in (("prefill", prefill), ("others", one_pass), ("check", check)):
            if name in run:
                parts += [*shown(run[name]), made_by(run[name]["measured"])]
        if parts:
            found.append(Section(label(run), parts, level=3))
    return found


def made_by(by: dict[str, Any]) -> str:
    where = f"torch {by['torch']}, transformers {by['transformers']}, {by['processor']}"
    return f"`{by['command']}` at `{by['commit'][:12]}`, {where}."


def decoding(runs: list[dict[str, Any]]) -> list[str | Table]:
    rows = []
    for run in runs:
        part, cells = run["decode"], []
        for side in SIDES:
            low, high = part[f"{side}_{SHOWN}_range_ms"]
            cells.append(f"{part[f'{side}_{SHOWN}_ms']:.1f} ({low:.1f} to {high:.1f})")
        cells += [f"{part[f'{side}_{SHOWN}_limit_ms']:.1f}" for side in ("lambda", "preallocated")]
        rows.append([label(run), *cells, f"`{run['decode']['measured']['commit'][:12]}`"])
    return [
        "Milliseconds a token (range), and what the cache's bytes alone would take. `python "
        "benchmarks/lambda_attention.py --parts decode`; commands, machines and other lengths are in the files.",
        Table(["", *SIDES.values(), "limit, Lambda", "limit, full", "commit"], rows),
    ]


def prefill(part: dict[str, Any]) -> list[str | Table]:
    marks = {name.split("_")[1]: times[-1] for name, times in part.items() if name.startswith("lambda_")}
    read = ", ".join(f"{int(tokens):,} tokens {seconds:.2f} s" for tokens, seconds in marks.items())
    return [
        f"Prefill of the whole model at window 512: {read}. Attention alone at window 4096, "
        f"{part['attention_tokens']:,} tokens: {part['attention_s']:.3f} s, {part['over_count']:.2f} times the blocked "
        f"operation count and {part['over_least']:.2f} times the least (exact) one, at the "
        f"{part['causal_gflops']:,.0f} GFLOP/s of plain causal attention."
    ]


def one_pass(part: dict[str, Any]) -> list[str | Table]:
    measured = {int(name.split("_")[-2]) for name in part if name.endswith("_s")}
    missing = {int(name.split("_")[-3]) for name in part if name.endswith("_not_run")}
    rows = []
    for tokens in sorted(measured | missing):
        cells = [f"{part[f'{side}_{tokens}_s']:.3f}" if f"{side}_{tokens}_s" in part else "not run" for side in PASSES]
        rows.append([f"{tokens:,}", *cells])
    reasons = {name.removesuffix("_not_run"): why for name, why in part.items() if name.endswith("_not_run")}
    told = ["\n".join(f"- not run: {name}: {why}" for name, why in reasons.items())] if reasons else []
    table = Table(["tokens", *PASSES.values()], rows)
    return ["One pass of the whole model, window 512, seconds:", table, *told]


def check(part: dict[str, Any]) -> list[str | Table]:
    return [
        f"Largest difference from the CPU's float32 logits (their spread is {part['spread']:g}): "
        f"{part['one_pass']:g} in one pass, {part['chunks']:g} in chunks."
    ]
