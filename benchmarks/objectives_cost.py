"""Time and peak memory of every objective on 1024 rows of 4096 tokens, float32, forward and backward.

    python benchmarks/objectives_cost.py [--threads 2] [--repeats 5] [--json FILE]

Time is the median over the repeats, by the wall clock; processor time of all threads is kept beside it. Where the
wall clock is far above it, other programs were running and the measurement is worth little. Memory is the highest
sum of live allocations during one call, above what was live before it, read from the allocation events of torch's
profiler: it counts the temporaries inside torch's own kernels and the returned gradient, but not the inputs. One
buffer is one [B,T] float32 tensor, 16 MiB.
Exits 1 when a call takes more than 1 s or more than 6 buffers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from _bench import facts, write_json
from lengthwise import objectives
from lengthwise.objectives.losses import AGGREGATES, KL_KINDS

ROWS, TOKENS, GROUP = 1024, 4096, 16
BUFFER = ROWS * TOKENS * 4
MOST_SECONDS, MOST_BUFFERS = 1.0, 6.0

Call = Callable[[], object]


def gradient(loss: torch.Tensor, logp: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, logp)[0]


def calls() -> dict[str, Call]:
    """Every objective on one random batch; those with a gradient run forward and backward."""
    make = torch.Generator().manual_seed(0)
    num_tokens = torch.randint(1, TOKENS + 1, (ROWS,), generator=make)
    mask = torch.arange(TOKENS)[None, :] < num_tokens[:, None]
    group_ids = (torch.arange(ROWS) // GROUP)[torch.randperm(ROWS, generator=make)]
    correct = torch.rand(ROWS, generator=make) < 0.5
    finished = num_tokens < TOKENS
    rewards = correct.float()
    old = -torch.rand(ROWS, TOKENS, generator=make)
    logp = (old + 0.3 * torch.randn(ROWS, TOKENS, generator=make)).requires_grad_()
    by_row = objectives.group_normalised(rewards, group_ids)
    by_token = objectives.batch_normalised(rewards, group_ids, mask)

    def surrogate(credit: torch.Tensor, aggregate: str) -> torch.Tensor:
        loss, _ = objectives.clipped_surrogate(logp, old, credit, mask, aggregate=aggregate, max_tokens=TOKENS)
        return gradient(loss, logp)

    table: dict[str, Call] = {
        "truncation": lambda: objectives.truncation(correct, num_tokens, finished, limit=2048),
        "difficulty_truncation": lambda: objectives.difficulty_truncation(
            correct, num_tokens, group_ids, finished, limits=(4000, 2000), thresholds=(0.5,)
        ),
        "group_normalised": lambda: objectives.group_normalised(rewards, group_ids),
        "leave_one_out": lambda: objectives.leave_one_out(rewards, group_ids),
        "mixed_groups": lambda: objectives.mixed_groups(correct, group_ids),
        "loss_normaliser": lambda: objectives.loss_normaliser(mask),
    }
    for weights in ("tokens", "sequence"):
        table[f"batch_normalised {weights}"] = lambda weights=weights: objectives.batch_normalised(  # type: ignore[misc]
            rewards, group_ids, mask, weights=weights
        )
    for name, credit in (("A [B]", by_row), ("A [B,T]", by_token)):
        for aggregate in AGGREGATES:
            table[f"clipped_surrogate {name} {aggregate}"] = lambda credit=credit, aggregate=aggregate: surrogate(  # type: ignore[misc]
                credit, aggregate
            )
    for kind in KL_KINDS:
        table[f"kl_penalty {kind}"] = lambda kind=kind: gradient(  # type: ignore[misc]
            objectives.kl_penalty(logp, old, mask, kind=kind), logp
        )
    return table


def peak_bytes(call: Call) -> int:
    """Return the highest sum of live allocations that the call makes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        kept = call()
    del kept
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = [e for e in watched.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def measure(call: Call, repeats: int) -> dict[str, Any]:
    call()
    seconds, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    peak = peak_bytes(call)
    return {
        "seconds_median": statistics.median(seconds),
        "processor_seconds_median": statistics.median(processor),
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_bytes": peak,
        "peak_buffers": peak / BUFFER,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each objective")
    parser.add_argument("--json", type=Path, help="write the raw numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = round(os.getloadavg()[0], 2)

    print(f"{ROWS} x {TOKENS} float32, {options.threads} threads, torch {torch.__version__}")
    print(f"{'objective':<55}{'seconds':>9}{'processor':>11}{'buffers':>9}")
    rows: dict[str, dict[str, Any]] = {}
    for name, call in calls().items():
        rows[name] = row = measure(call, options.repeats)
        times = f"{row['seconds_median']:>9.3f}{row['processor_seconds_median']:>11.3f}"
        print(f"{name:<55}{times}{row['peak_buffers']:>9.2f}")
    broken = [
        name for name, row in rows.items() if row["seconds_median"] > MOST_SECONDS or row["peak_buffers"] > MOST_BUFFERS
    ]
    print(
        f"bound {MOST_SECONDS} s and {MOST_BUFFERS} buffers: {'broken by ' + ', '.join(broken) if broken else 'kept'}"
    )
    if options.json:
        settings = {"threads": options.threads, "shape": [ROWS, TOKENS], "dtype": "float32", "load_before": load}
        bound = {"seconds": MOST_SECONDS, "buffers": MOST_BUFFERS, "buffer_bytes": BUFFER}
        write_json(
            options.json,
            facts("lengthwise", "torch") | settings | {"bound": bound, "broken": broken, "objectives": rows},
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
