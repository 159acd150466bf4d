"""One piece of a comparison's work, in a process of its own: the untouched model's measurement, or one run.

``python -m lengthwise.runs.compare.worker FOLDER base SEED`` or ``... FOLDER run ARM SETTING SEED``. It ends when the
process that started it does, and continues what a killed one left.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lengthwise.config.commands import ShortenSettings
from lengthwise.engine.backends.writer import Writer
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.errors import LengthwiseError, TrainingError
from lengthwise.files import atomic_write_json, clear_partials, read_json
from lengthwise.pretrained import read_config
from lengthwise.runs.compare.arenas import Arena, open_arena
from lengthwise.runs.compare.arms import Settled
from lengthwise.runs.compare.comparison import STEPS_AT_MOST, Comparison
from lengthwise.runs.compare.comparison_result import FailedRun
from lengthwise.runs.compare.folder import FAILED, PLAN, REQUEST, base_folder, baseline_file, baseline_log, run_folder
from lengthwise.runs.compare.plan_values import Plan
from lengthwise.runs.run_folder import RECORDS, TEXTS
from lengthwise.runs.shortening.job import Job, load
from lengthwise.runs.shortening.shorten import measure, shorten
from lengthwise.runs.writing import writer_for

TEST = "test"
SHOWN = ("step", "accuracy", "mean_tokens", "cut_rate", "sampled_tokens", "seconds")


def measure_base(asked: Comparison, arena: Arena, seed: int) -> None:
    """The untouched model on validation and test, and every free baseline on test; what is there stays."""
    job = _job(asked, arena, base_folder(asked.out, seed), seed, method="grpo", options={"cap": arena.eval_cap})
    for part in (RECORDS, TEXTS):
        clear_partials(job.out / part)
    with _writer(asked, arena, job) as writer:
        _measure_base(asked, arena, dataclasses.replace(job, writer=writer), seed)


def _measure_base(asked: Comparison, arena: Arena, job: Job, seed: int) -> None:
    policy = load(job)
    before = measure(job, policy, {"": arena.validation, f"-{TEST}": arena.test}, "before", lambda event, facts: None)
    for name, baseline in arena.baselines.items():
        path = baseline_file(asked.out, seed, name)
        if not path.is_file():
            started = time.perf_counter()
            log = baseline_log(asked.out, seed, name)
            record = baseline(policy, arena.test, before[f"-{TEST}"], log)
            context = {**record.context, "seconds": time.perf_counter() - started}
            dataclasses.replace(record, name=name, context=context).save(path)


def carry_out(asked: Comparison, arena: Arena, name: str, setting: int, seed: int) -> None:
    """Train one setting of a method or control with one seed and measure it; a run that cannot go on leaves why."""
    plan = Plan(**read_json(asked.out / PLAN))
    arm = asked.arm(name)
    folder = run_folder(asked.out, arm, setting, seed)
    options = plan.settings[name][setting]
    job = _job(asked, arena, folder, seed, method=arm.method, options=options, budget=plan.token_budget)
    try:
        with _writer(asked, arena, job) as writer:
            shorten(
                dataclasses.replace(job, writer=writer), arena.train(seed), arena.validation,
                extra_sets={TEST: arena.test}, measured=base_folder(asked.out, seed),
            )  # fmt: skip
    except TrainingError as error:
        last = next(iter(read_metrics(folder)[-1:]), {})
        found = {key: value for key in SHOWN if isinstance(value := last.get(key), int | float)}
        atomic_write_json(folder / FAILED, FailedRun(str(error), found).to_dict())
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _writer(asked: Comparison, arena: Arena, job: Job) -> Writer:
    """What writes the tokens of one piece."""
    sets = (arena.train(job.train.seed), arena.validation, arena.test)
    longest = max(len(prompt) for problems in sets for prompt in problems.prompts)
    runtime = asked.runtime
    return writer_for(
        asked.settings.writing, arena.folder,
        read_config(arena.folder, trust_remote_code=runtime.trust_remote_code), arena.test.contract,
        device=runtime.device, dtype=runtime.dtype, tokens=longest + job.eval_cap, rows=job.train.sample_rows,
        trains=True, trust_remote_code=runtime.trust_remote_code,
    )  # fmt: skip


def _job(
    asked: Comparison,
    arena: Arena,
    out: Path,
    seed: int,
    *,
    method: str,
    options: Mapping[str, Settled],
    budget: int | None = None,
) -> Job:
    own, cap = {name: value for name, value in options.items() if name != "cap"}, options["cap"]
    assert isinstance(cap, int), "the plan has checked it"
    steps = STEPS_AT_MOST * asked.training.steps
    training = asked.training.replace(seed=seed, steps=steps, token_budget=budget)
    said = asked.settings
    settings = ShortenSettings.from_dict(
        {
            "model": str(arena.folder), "data": asked.source, "eval_data": arena.source, "out": out, "method": method,
            "cap": cap, "contract": said.contract, "training": training, "runtime": said.runtime,
            "adaptation": said.adaptation, "eval_samples": said.splits.eval_samples,
        }
    )  # fmt: skip
    return Job(settings, cap, max(arena.eval_cap, cap), own)


def _end_with_parent() -> None:
    """Leave at once when the process at the other end of stdin is gone: nobody would start us a second time."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str]) -> int:
    """Do one piece; what was asked wrongly is one line on stderr and exit code 2."""
    _end_with_parent()
    import torch

    torch.set_num_threads(1)
    folder, kind, *rest = arguments
    asked = Comparison.from_dict(read_json(Path(folder) / REQUEST))
    try:
        arena = open_arena(asked)
        if kind == "base":
            measure_base(asked, arena, int(rest[0]))
        else:
            carry_out(asked, arena, rest[0], int(rest[1]), int(rest[2]))
    except LengthwiseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
