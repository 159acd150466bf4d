"""Time and peak memory of every objective on 1024 rows of 4096 tokens, float32, forward and backward.

    python benchmarks/objectives_cost.py [--threads 2] [--repeats 5] [--rows 1024] [--tokens 4096] [--only WORD ...]
        [--json FILE]

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
from lengthwise.objectives.decoupled import SCORES
from lengthwise.objectives.distillation import DIVERGENCES, RESTS
from lengthwise.objectives.likelihood import DIVISORS
from lengthwise.objectives.losses import AGGREGATES, KL_KINDS

GROUP, VOCABULARY = 16, 4096
MOST_SECONDS, MOST_BUFFERS = 1.0, 6.0

Call = Callable[[], object]


def gradient(loss: torch.Tensor, logp: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, logp)[0]


class Batch:
    """One random batch: what the objectives are called with."""

    def __init__(self, rows: int, tokens: int) -> None:
        make = torch.Generator().manual_seed(0)
        self.rows, self.tokens = rows, tokens
        self.num_tokens = torch.randint(1, tokens + 1, (rows,), generator=make)
        self.mask = torch.arange(tokens)[None, :] < self.num_tokens[:, None]
        self.group_ids = (torch.arange(rows) // GROUP)[torch.randperm(rows, generator=make)]
        self.correct = torch.rand(rows, generator=make) < 0.5
        self.finished = self.num_tokens < tokens
        self.rewards = self.correct.float()
        self.old = -torch.rand(rows, tokens, generator=make)
        self.logp = (self.old + 0.3 * torch.randn(rows, tokens, generator=make)).requires_grad_()
        self.by_row = objectives.group_normalised(self.rewards, self.group_ids)
        self.by_token = objectives.batch_normalised(self.rewards, self.group_ids, self.mask)
        # half of every group is long, by its place in the group
        self.is_long = torch.argsort(torch.argsort(self.group_ids, stable=True)) % 2 == 0


def reward_calls(b: Batch) -> dict[str, Call]:
    """Rewards, tiers and memories: one number per row."""
    rows, grouped = (b.correct, b.num_tokens), (b.correct, b.num_tokens, b.group_ids)
    halves = (b.correct, b.is_long, b.group_ids)
    tiers = objectives.difficulty_tier(b.correct, b.group_ids)
    shortest = objectives.updated_history(torch.zeros_like(b.num_tokens), *rows, b.group_ids)
    reference = torch.full((b.rows,), 500.0), torch.full((b.rows,), 0.5)
    thresholds = tuple(range(1, b.tokens, max(1, b.tokens // 32)))
    return {
        "truncation": lambda: objectives.truncation(*rows, b.finished, limit=b.tokens // 2),
        "difficulty_truncation": lambda: objectives.difficulty_truncation(
            *grouped, b.finished, limits=(b.tokens, b.tokens // 2), thresholds=(0.5,)
        ),
        "soft_overlong": lambda: objectives.soft_overlong(b.num_tokens, limit=b.tokens, cache=b.tokens // 4),
        "cosine_length": lambda: objectives.cosine_length(*rows, limit=b.tokens),
        "budget_exact": lambda: objectives.budget_exact(*rows, b.tokens // 2),
        "budget_max": lambda: objectives.budget_max(*rows, b.tokens // 2),
        "linear_price": lambda: objectives.linear_price(*rows, price=1e-4),
        "reference_ratio": lambda: objectives.reference_ratio(*rows, *reference),
        "normalised_length": lambda: objectives.normalised_length(*grouped),
        "best_solved": lambda: objectives.best_solved(b.correct, b.group_ids),
        "selective_length_penalty": lambda: objectives.selective_length_penalty(*grouped),
        "shortest_correct": lambda: objectives.shortest_correct(*grouped),
        "min_max_length": lambda: objectives.min_max_length(*grouped),
        "adaptive_penalty": lambda: objectives.adaptive_penalty(*grouped),
        "history_length": lambda: objectives.history_length(*rows, shortest),
        "updated_history": lambda: objectives.updated_history(shortest, *rows, b.group_ids),
        "step_bonus": lambda: objectives.step_bonus(*rows, b.finished, target=b.tokens // 2),
        "difficulty_tier": lambda: objectives.difficulty_tier(b.correct, b.group_ids),
        "tier_targets": lambda: objectives.tier_targets(
            b.num_tokens, tiers, thresholds=thresholds, group_size=GROUP, fallback=b.tokens
        ),
        "adaptive_weight": lambda: objectives.adaptive_weight(*rows, weight=1e-4),
        "updated_weight": lambda: objectives.updated_weight(1e-4, b.correct, rate=1e-5, reference_accuracy=0.5),
        "preferred_mode": lambda: objectives.preferred_mode(*halves),
        "mode_reward": lambda: objectives.mode_reward(*halves),
        "group_pairs": lambda: objectives.group_pairs(b.correct, ~b.correct, seed=0),
        "instance_pairs": lambda: objectives.instance_pairs(*rows),
    }


def gate_calls(b: Batch) -> dict[str, Call]:
    """Gates between a reward and its advantage."""
    shaped = objectives.linear_price(b.correct, b.num_tokens, price=1e-4)
    rows = (b.rewards, shaped, b.correct, b.group_ids)
    return {
        "gate": lambda: objectives.gate(*rows, kind="rate-right", floor=0.1),
        "gate_metrics": lambda: objectives.gate_metrics(*rows, kind="rate-right", floor=0.1),
        "order_gap": lambda: objectives.order_gap(shaped, b.correct, b.group_ids),
        "guarded_product": lambda: objectives.guarded_product(b.rewards, b.rewards),
    }


def trainer_calls(b: Batch) -> dict[str, Call]:
    """Length terms of production trainers."""
    rows, half = (b.rewards, b.num_tokens, b.group_ids), b.num_tokens // 2
    judged = (b.rewards, b.correct, b.num_tokens, b.group_ids)
    return {
        "relative_length": lambda: objectives.relative_length(*rows, counted=b.correct),
        "efficiency_bonus": lambda: objectives.efficiency_bonus(*rows),
        "group_length_bonus": lambda: objectives.group_length_bonus(b.rewards, half, b.num_tokens - half, b.group_ids),
        "max_share_penalty": lambda: objectives.max_share_penalty(b.rewards, b.num_tokens[None], b.group_ids),
        "linear_length": lambda: objectives.linear_length(*rows, max_tokens=b.tokens),
        "effort_reward": lambda: objectives.effort_reward(b.rewards, b.num_tokens, budget=b.tokens // 2),
        "quantile_slack": lambda: objectives.quantile_slack(*judged),
        "gated_decay": lambda: objectives.gated_decay(*judged),
        "length_weighted_baseline": lambda: objectives.length_weighted_baseline(*rows),
    }


def budget_calls(b: Batch) -> dict[str, Call]:
    """A mean length to be met, and thinking that is cut at budgets."""
    budgets = objectives.even_budgets(b.tokens, 4)
    answers = (torch.rand(b.rows, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    segments = objectives.budget_relative(answers.mean(dim=2), b.group_ids)
    half, options = b.num_tokens // 2, {"target": b.tokens // 4}
    return {
        "constrained_cost": lambda: objectives.constrained_cost(
            b.rewards, b.num_tokens, multiplier=0.1, max_tokens=b.tokens, **options
        ),
        "updated_multiplier": lambda: objectives.updated_multiplier(0.1, b.num_tokens, rate=0.01, high=0.5, **options),
        "drawn_budgets": lambda: objectives.drawn_budgets(b.rows, budgets, weights=[1.0] * 4, seed=0),
        "separated_truncation": lambda: objectives.separated_truncation(
            b.correct, half, b.num_tokens - half, b.finished, thinking_budget=b.tokens // 4, answer_budget=b.tokens
        ),
        "budget_relative": lambda: objectives.budget_relative(answers.mean(dim=2), b.group_ids),
        "budget_answers": lambda: objectives.budget_answers(answers, b.group_ids),
        "segment_credit": lambda: objectives.segment_credit(segments.float(), b.mask, budgets=budgets),
    }


def advantage_calls(b: Batch) -> dict[str, Call]:
    """Advantages of rows and of tokens, targets and masks."""
    token_rewards, values = torch.zeros_like(b.old), b.old
    lam = objectives.length_adaptive_lambda(b.num_tokens, b.finished, window=b.tokens)
    # an unfinished row fills its window; all others of this batch are done
    done = b.num_tokens < b.tokens
    table: dict[str, Call] = {
        "group_normalised": lambda: objectives.group_normalised(b.rewards, b.group_ids),
        "leave_one_out": lambda: objectives.leave_one_out(b.rewards, b.group_ids),
        "mixed_groups": lambda: objectives.mixed_groups(b.correct, b.group_ids),
        "length_adaptive_lambda": lambda: objectives.length_adaptive_lambda(b.num_tokens, done, window=b.tokens),
        "gae": lambda: objectives.gae(token_rewards, values, b.mask),
        "egae": lambda: objectives.egae(token_rewards, values, b.mask, done, lam=lam),
        "returns_to_go": lambda: objectives.returns_to_go(token_rewards, b.mask),
        "window_mask": lambda: objectives.window_mask(b.mask, done, window=b.tokens, tail_ignore=8),
        "whitened": lambda: objectives.whitened(values, b.mask),
        "explained_variance": lambda: objectives.explained_variance(values, b.logp.detach(), b.mask),
    }
    both = torch.stack([b.rewards, (b.num_tokens < b.tokens // 2).float()])
    for whiten in ("rows", "tokens"):
        table[f"decoupled_advantage {whiten}"] = lambda whiten=whiten: objectives.decoupled_advantage(  # type: ignore[misc]
            both, b.correct, b.group_ids, whiten=whiten, num_tokens=b.num_tokens
        )
    for weights in ("tokens", "sequence"):
        table[f"batch_normalised {weights}"] = lambda weights=weights: objectives.batch_normalised(  # type: ignore[misc]
            b.rewards, b.group_ids, b.mask, weights=weights
        )
    return table


def loss_calls(b: Batch) -> dict[str, Call]:
    """Losses, forward and backward."""
    logits = torch.zeros(b.rows // GROUP, VOCABULARY, requires_grad=True)
    mode = objectives.preferred_mode(b.correct, b.is_long, b.group_ids)[: len(logits)]

    def surrogate(credit: torch.Tensor, aggregate: str) -> torch.Tensor:
        loss, _ = objectives.clipped_surrogate(b.logp, b.old, credit, b.mask, aggregate=aggregate, max_tokens=b.tokens)
        return gradient(loss, b.logp)

    def decoupled(score: str, kl_kind: str) -> torch.Tensor:
        loss, _ = objectives.drpo(
            b.logp, b.old, b.mask, b.correct, b.num_tokens, b.group_ids,
            lam=0.1, max_tokens=b.tokens, score=score, kl_kind=kl_kind,
        )  # fmt: skip
        return gradient(loss, b.logp)

    table: dict[str, Call] = {
        "loss_normaliser": lambda: objectives.loss_normaliser(b.mask),
        "drpo_questions": lambda: objectives.drpo_questions(b.correct, b.group_ids),
        "drpo_weights": lambda: objectives.drpo_weights(
            b.correct, b.num_tokens, b.group_ids, lam=0.1, max_tokens=b.tokens
        ),
        "clipped_value": lambda: gradient(objectives.clipped_value(b.logp, b.old, b.old, b.mask)[0], b.logp),
        "filtered_normaliser": lambda: objectives.filtered_normaliser(b.mask, b.correct),
        "positive_lm": lambda: gradient(objectives.positive_lm(b.logp, b.mask, b.correct), b.logp),
        "mode_switch": lambda: gradient(objectives.mode_switch(logits, mode, long_token=0, short_token=1), logits),
    }
    for name, credit in (("A [B]", b.by_row), ("A [B,T]", b.by_token)):
        for aggregate in AGGREGATES:
            table[f"clipped_surrogate {name} {aggregate}"] = lambda credit=credit, aggregate=aggregate: surrogate(  # type: ignore[misc]
                credit, aggregate
            )
    for divisor in DIVISORS:
        table[f"filtered_likelihood {divisor}"] = lambda divisor=divisor: gradient(  # type: ignore[misc]
            objectives.filtered_likelihood(b.logp, b.mask, b.correct, divisor=divisor), b.logp
        )
    for kind in KL_KINDS:
        table[f"kl_penalty {kind}"] = lambda kind=kind: gradient(  # type: ignore[misc]
            objectives.kl_penalty(b.logp, b.old, b.mask, kind=kind), b.logp
        )
    for score in SCORES:
        for kind in ("k1", "k3"):
            table[f"drpo {score} {kind}"] = lambda score=score, kind=kind: decoupled(score, kind)  # type: ignore[misc]
    return table


def distillation_calls(b: Batch) -> dict[str, Call]:
    """Distillation, forward and backward. The vocabulary-wide forms have inputs of one buffer: fewer tokens."""
    make = torch.Generator().manual_seed(2)
    numbers = b.rows * b.tokens
    mask = torch.ones(1, numbers // VOCABULARY, dtype=torch.bool)
    wide = [torch.randn(1, numbers // VOCABULARY, VOCABULARY, generator=make) for _ in range(2)]
    student, teacher = torch.log_softmax(wide[0], -1).requires_grad_(), torch.log_softmax(wide[1], -1)
    states = torch.randn(1, numbers // VOCABULARY, 256, generator=make).requires_grad_()
    head = torch.randn(VOCABULARY, 256, generator=make).div_(16).requires_grad_()
    few = [(torch.log_softmax(x.view(1, -1, 64), -1) - 0.1) for x in wide]
    top, every = few[0].requires_grad_(), torch.ones(1, numbers // 64, dtype=torch.bool)
    table: dict[str, Call] = {
        "reverse_kl sampled": lambda: gradient(objectives.reverse_kl(b.logp, b.old, b.mask, form="sampled"), b.logp),
        "reverse_kl_of_states": lambda: torch.autograd.grad(
            objectives.reverse_kl_of_states(states, states, mask, student_head=head, teacher_head=head), (states, head)
        ),
    }
    for divergence in DIVERGENCES:
        table[f"reverse_kl full {divergence}"] = lambda divergence=divergence: gradient(  # type: ignore[misc]
            objectives.reverse_kl(student, teacher, mask, divergence=divergence), student
        )
    for rest in RESTS:
        table[f"reverse_kl top-k {rest}"] = lambda rest=rest: gradient(  # type: ignore[misc]
            objectives.reverse_kl(top, few[1], every, form="top-k", rest=rest), top
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


def measure(call: Call, repeats: int, buffer: int) -> dict[str, Any]:
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
        "peak_buffers": peak / buffer,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each objective")
    parser.add_argument("--rows", type=int, default=1024, help="rows of the batch, a multiple of 16")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of the longest row")
    parser.add_argument("--only", nargs="*", default=[], help="measure the objectives with such a word in their name")
    parser.add_argument("--json", type=Path, help="write the raw numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = round(os.getloadavg()[0], 2)

    batch, buffer = Batch(options.rows, options.tokens), options.rows * options.tokens * 4
    print(f"{options.rows} x {options.tokens} float32, {options.threads} threads, torch {torch.__version__}")
    print(f"{'objective':<55}{'seconds':>9}{'processor':>11}{'buffers':>9}")
    rows: dict[str, dict[str, Any]] = {}
    parts = (reward_calls, trainer_calls, gate_calls, budget_calls, advantage_calls, loss_calls, distillation_calls)
    calls = {name: call for part in parts for name, call in part(batch).items()}
    for name, call in calls.items():
        if options.only and not any(word in name for word in options.only):
            continue
        rows[name] = row = measure(call, options.repeats, buffer)
        times = f"{row['seconds_median']:>9.3f}{row['processor_seconds_median']:>11.3f}"
        print(f"{name:<55}{times}{row['peak_buffers']:>9.2f}")
    broken = [
        name for name, row in rows.items() if row["seconds_median"] > MOST_SECONDS or row["peak_buffers"] > MOST_BUFFERS
    ]
    print(
        f"bound {MOST_SECONDS} s and {MOST_BUFFERS} buffers: {'broken by ' + ', '.join(broken) if broken else 'kept'}"
    )
    if options.json:
        shape = [options.rows, options.tokens]
        settings = {"threads": options.threads, "shape": shape, "dtype": "float32", "load_before": load}
        bound = {"seconds": MOST_SECONDS, "buffers": MOST_BUFFERS, "buffer_bytes": buffer}
        write_json(
            options.json,
            facts("lengthwise", "torch") | settings | {"bound": bound, "broken": broken, "objectives": rows},
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
