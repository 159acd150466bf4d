"""Many methods, one protocol: the same weights, problems, sampled tokens and evaluation; knobs chosen on validation.

`compare_methods` measures the untouched model, trains every setting of every arm with every seed side by side, and
says what may be claimed. A folder that is there is continued: with more seeds or more methods, too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence

from lengthwise.config.files import run_config
from lengthwise.engine.backends.choice import Wanted, choose
from lengthwise.engine.model_folders import resolve_device
from lengthwise.errors import ConfigError
from lengthwise.files import atomic_write_json, read_json
from lengthwise.folder_lock import is_lock, writes
from lengthwise.grading.contract_choice import say_thinking
from lengthwise.lab.shipped_models import model_folder
from lengthwise.pretrained import read_config
from lengthwise.runs.compare.arenas import Arena, open_arena
from lengthwise.runs.compare.arms import Arm, Settled, built
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.comparison_result import ComparisonResult
from lengthwise.runs.compare.folder import (
    PLAN,
    REPORT,
    REQUEST,
    RESULT,
    SHARED,
    base_folder,
    baseline_file,
    check_folder,
    is_done,
    run_folder,
)
from lengthwise.runs.compare.page import build_page
from lengthwise.runs.compare.plan import check_arms, facts_of, make_plan
from lengthwise.runs.compare.processes import Piece, run_pieces, usable_cpus
from lengthwise.runs.compare.result import result_of
from lengthwise.runs.run_folder import CONFIG, MODEL, OUTCOME, RECORDS, environment, open_run

Listener = Callable[[str, Mapping[str, object]], None]
"""Told of progress: (event, facts). Events: phase (name, steps), done (name, done, of), tick, said (text)."""


@writes("asked.out")
def compare_methods(asked: Comparison, *, listener: Listener | None = None) -> ComparisonResult:
    """Compare methods in ``asked.out`` and return what came of it.

    ``jobs`` of the settings: processes side by side, by default one per usable core, on an accelerator one. Models of
    settings that were not chosen are removed unless ``keep_models``. A run that ends for want of anything to learn is a
    result and shown as failed.

    Raises:
        InputError: data, or a model whose answers are too rarely right to set caps by.
        ConfigError: options that exclude each other, or a folder that holds another comparison.
        TrainingError: a run crashed or was killed; the same call continues.
    """
    tell = listener or (lambda event, facts: None)
    check_folder(asked.out)
    arena = open_arena(asked)
    check_arms(asked, arena)
    say_thinking(arena.test.contract, tell)
    count = job_count(asked)
    raised = ", the default (--eval-cap raises it)" if asked.splits.eval_cap is None and not arena.lab else ""
    tell("phase", {"name": f"evaluation: at most {arena.eval_cap:,} response tokens{raised}"})
    _open(asked, arena)
    bases = [Piece(f"base seed {seed}", ("base", str(seed))) for seed in asked.seed_numbers]
    _work(asked, "measuring the untouched model", bases, lambda piece: _measured(asked, arena, piece), count, tell)
    plan = make_plan(asked, arena, facts_of(asked))
    atomic_write_json(asked.out / PLAN, plan.to_dict())
    for arm in asked.all_arms:
        _check_done(asked, arm, plan.settings[arm.name])
    runs = [
        Piece(f"{arm.name} {arm.knob}={arm.values[k]} seed {seed}", ("run", arm.name, str(k), str(seed)))
        for k in range(len(asked.arms[0].values)) for seed in asked.seed_numbers for arm in asked.all_arms
        if k < len(arm.values)
    ]  # fmt: skip
    _work(asked, "training", runs, lambda piece: _trained(asked, piece), count, tell)
    tell("phase", {"name": "comparing"})
    result = result_of(asked, arena, plan)
    atomic_write_json(asked.out / RESULT, result.to_dict())
    build_page(result, asked.out / REPORT)
    if not asked.settings.keep_models:
        _drop_models(asked, result)
    return result


def job_count(asked: Comparison) -> int:
    """Processes side by side: as many as asked for, else one per usable core, on an accelerator or under vLLM one."""
    if asked.settings.jobs:
        return asked.settings.jobs
    device, folder = resolve_device(asked.runtime.device), model_folder(asked.settings.model, in_its_world=True)
    config = read_config(folder, trust_remote_code=asked.runtime.trust_remote_code)
    alone = (
        device.type != "cpu" or choose(asked.settings.writing.backend, Wanted(folder, config, device)).name == "vllm"
    )
    return 1 if alone else usable_cpus()


def _open(asked: Comparison, arena: Arena) -> None:
    problems = {"validation": arena.validation, "test": arena.test}
    shared = {
        **asked.shared(),
        "problems": {name: [len(these), these.fingerprint()] for name, these in problems.items()},
        "eval_cap": arena.eval_cap,
        "environment": environment(asked.runtime.device),
    }
    check_folder(asked.out)
    if asked.settings.overwrite and asked.out.is_dir():
        for path in asked.out.iterdir():
            if not is_lock(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not (asked.out / SHARED).is_file():
        atomic_write_json(asked.out / SHARED, shared)
    open_run(asked.out, shared, overwrite=False, name=SHARED)
    atomic_write_json(asked.out / CONFIG, run_config(asked.settings, environment=shared["environment"]))
    atomic_write_json(asked.out / REQUEST, asked.to_dict())


def _work(
    asked: Comparison, name: str, pieces: Sequence[Piece], is_there: Callable[[Piece], bool], jobs: int, tell: Listener
) -> None:
    missing = [piece for piece in pieces if not is_there(piece)]
    there = len(pieces) - len(missing)
    tell("phase", {"name": name, "steps": len(pieces), "done": there})

    def heard(piece: Piece) -> None:
        nonlocal there
        there += 1
        tell("done", {"name": piece.name, "done": there, "of": len(pieces)})

    run_pieces(asked.out, missing, jobs=jobs, done=heard, tick=lambda: tell("tick", {}))


def _measured(asked: Comparison, arena: Arena, piece: Piece) -> bool:
    seed = int(piece.words[1])
    names = ("before", "before-test", "before-greedy")
    own = [base_folder(asked.out, seed) / RECORDS / f"{name}.json" for name in names]
    return all(path.is_file() for path in [*own, *(baseline_file(asked.out, seed, n) for n in arena.baselines)])


def _trained(asked: Comparison, piece: Piece) -> bool:
    _, name, setting, seed = piece.words
    return is_done(run_folder(asked.out, asked.arm(name), int(setting), int(seed)))


def _check_done(asked: Comparison, arm: Arm, settings: Sequence[Mapping[str, Settled]]) -> None:
    """A run that is there must have been this one: options that were fixed otherwise give another run."""
    for place, options in enumerate(settings):
        wanted = json.loads(json.dumps(dict(built(arm, options).options)))
        for seed in asked.seed_numbers:
            path = run_folder(asked.out, arm, place, seed) / CONFIG
            there = read_json(path)["method"]["options"] if path.is_file() else wanted
            if there != wanted:
                differing = [f"{k}: {there.get(k)!r} there, {v!r} now" for k, v in wanted.items() if there.get(k) != v]
                raise ConfigError(
                    f"{path.parent} holds a run with other options ({'; '.join(differing)}); give the same ones, or "
                    "name another folder with --out"
                )


def _drop_models(asked: Comparison, result: ComparisonResult) -> None:
    chosen = {row.name: row.chosen for row in result.trained}
    for arm in asked.all_arms:
        for setting in range(len(arm.values)):
            for seed in asked.seed_numbers:
                folder = run_folder(asked.out, arm, setting, seed)
                if setting != chosen[arm.name] and (folder / OUTCOME).is_file():
                    shutil.rmtree(folder / MODEL, ignore_errors=True)
