"""Folders as `lengthwise shorten` leaves them, made of numbers: nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from lengthwise.statistics.records import Record

PROBLEMS, CAP, SEED = 48, 260, 3
HOSTILE = "<script>alert('x')</script>&\"<img src=x onerror=y>"


def make_record(
    name: str, *, accuracy: float, passes: float, levels: tuple[int, ...] = (2, 3, 4, 5, 6, 7), **context: object
) -> Record:
    """A record of chains: `passes` is the mean number of passes through a problem of 6 * level + 3 tokens."""
    rng = np.random.default_rng(sum(map(ord, name)))
    level = [levels[i % len(levels)] for i in range(PROBLEMS)]
    extra = rng.poisson(passes - 1, PROBLEMS)
    tokens = np.minimum([6 * n * (1 + e) + 3 for n, e in zip(level, extra, strict=True)], CAP)
    facts = {"model": "m", "data": "d", "temperature": 1.0, "top_p": 1.0, "samples": 1, "grader": "g/1"}
    return Record(
        name=name,
        context={**facts, "tokenizer": "t", "template": "abc", "cap": CAP, **context},
        problem_ids=[f"{levels[0]}-{i}" for i in range(PROBLEMS)],
        categories=[str(n) for n in level],
        answer_correct=[[bool(x)] for x in rng.random(PROBLEMS) < accuracy],
        finished=[[bool(n < CAP)] for n in tokens],
        num_tokens=[[int(n)] for n in tokens],
    )


def make_run(folder: Path, **changes: object) -> Path:
    """A finished run's folder: about 70 tokens and .78 before, 28 and .92 after."""
    before = make_record("before", accuracy=0.78, passes=2.5)
    records = {
        "before": before,
        "after": make_record("after", accuracy=0.92, passes=1.0),
        "before-greedy": make_record("before-greedy", accuracy=0.95, passes=2.2, temperature=0.0),
        "after-greedy": make_record("after-greedy", accuracy=0.96, passes=1.0, temperature=0.0),
        "control-cut": before.recut(30),
        "control-first-pass": make_record("control-first-pass", accuracy=0.8, passes=1.0),
        "before-rare-levels": make_record("before-rare-levels", accuracy=1.0, passes=2.0, levels=(1,)),
        "after-rare-levels": make_record("after-rare-levels", accuracy=0.9, passes=1.0, levels=(1,)),
    }
    for name, record in records.items():
        record.save(folder / "records" / f"{name}.json")
    config = {
        "model": "lab:chains",
        "method": {"name": "dler", "paper": "arXiv 2510.15110", "summary": "a method", "options": {"cap": 50}},
        "settings": {"steps": 60},
        "steps": 60,
        "lab": True,
        "seed": SEED,
        "environment": {"python": "3.11.0", "torch": "2.9"},
        **changes,
    }
    answer = {"text": "7+5=12;A:12 " * 40, "num_tokens": 187, "correct": True, "finished": True}
    sample = {
        "problem": HOSTILE,
        "answer": "12",
        "level": "2",
        "before": answer,
        "after": {"text": HOSTILE, "num_tokens": 9, "correct": False, "finished": True},
    }
    outcome = {"oracle_tokens": 27.0, "removable_share": 0.987, "tokens_saved": 0.6, "levels_apart": ["1"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "samples.json").write_text(json.dumps([sample] * 3))
    (folder / "outcome.json").write_text(json.dumps(outcome))
    rows = [metrics_row(step) for step in range(1, 61)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def metrics_row(step: int) -> dict[str, object]:
    shared = {"step": step, "cap": 50, "accuracy": 0.5 + step / 130, "mean_tokens": 45 - step / 4, "cut_rate": 1 / step}
    rest = {"uniform_groups": 0.5, "entropy": 1 / step, "clip_high_share": 0.001, "seconds": 2.0 * step}
    warnings = ["raise the cap " + HOSTILE] if step in (5, 9) else []
    return {**shared, **rest, "clip_low_share": float("nan") if step == 7 else None, "warnings": warnings}
