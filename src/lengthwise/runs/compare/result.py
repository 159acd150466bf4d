"""From a comparison's folder to its result: settings chosen on validation, everything else measured on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lengthwise.files import read_json
from lengthwise.reporting.plot_values import ticks
from lengthwise.runs.compare.arenas import Arena
from lengthwise.runs.compare.arms import Arm
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.findings import findings
from lengthwise.runs.compare.folder import FAILED, base_folder, baseline_file, load_record, run_folder
from lengthwise.runs.compare.paired_differences import matched, paired
from lengthwise.runs.compare_records import Named, compare_records
from lengthwise.runs.run_folder import OUTCOME
from lengthwise.statistics.records import Record, in_one_order, side_of
from lengthwise.statistics.seed_runs import Side
from lengthwise.statistics.tradeoff_scores import AES_WEIGHTS, efficiency_scores

BASE = "base"
LENGTHS = 6


def result_of(asked: Comparison, arena: Arena, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a comparison whose runs are all there, JSON-ready.

    ``arms``: per arm its ``settings`` (value, options, accuracy and tokens on validation and test, cost, failures) and
    the place of the ``chosen`` one, or None where every setting has a run that failed. ``table``: the untouched model,
    the chosen settings, the controls and the baselines against each other (see `compare_records.compare_records`).
    ``controls``: as ``arms``, of what learned from a reward that says nothing. ``pairs``: paired differences between
    arms, ``control_pairs``: of arms against controls; ``matched``: accuracy at equal lengths; ``findings``: what may be
    said.
    """
    base = {
        name: [load_record(base_folder(asked.out, seed), name) for seed in asked.seed_numbers]
        for name in ("before", "before-test")
    }
    reference = _point(base["before"])
    arms, controls = (
        [_arm(asked, arm, plan["settings"][arm.name], reference) for arm in these]
        for these in (asked.arms, asked.control_arms)
    )
    chosen, unrewarded = (
        {row["name"]: _test(asked, row["name"], row["chosen"]) for row in rows if row["chosen"] is not None}
        for rows in (arms, controls)
    )
    baselines = {
        name: [Record.load(baseline_file(asked.out, seed, name)) for seed in asked.seed_numbers]
        for name in arena.baselines
    }
    named = [
        Named(name, tuple(records))
        for name, records in ({BASE: base["before-test"]} | chosen | unrewarded | baselines).items()
    ]
    seed = asked.training.seed
    sides = {name: _side(records) for name, records in (chosen | unrewarded).items()}
    result = {
        "model": asked.model,
        "source": asked.source,
        "lab": arena.lab,
        "seeds": asked.seed_numbers,
        "margin": asked.splits.margin,
        "choose": asked.splits.choose,
        "plan": {key: plan[key] for key in ("cap", "token_budget", "mean_tokens", "accuracy")},
        "train": asked.training.to_dict(),
        "arms": arms,
        "controls": controls,
        "baselines": list(baselines),
        "oracle_tokens": arena.oracle_tokens,
        "frontier": None if arena.frontier is None else [list(point) for point in arena.frontier],
        "table": _table(named, seed),
        "pairs": paired({name: sides[name] for name in chosen}, seed=seed),
        "control_pairs": paired(sides, [(control, name) for control in unrewarded for name in chosen], seed=seed),
        "matched": _matched(asked, arms, base["before-test"], seed=seed),
    }
    return {**result, "findings": findings(result)}


def _table(named: Sequence[Named], seed: int) -> dict[str, Any] | None:
    """All sides against the first, where there are others."""
    if len(named) < 2:
        return None
    return compare_records(named, allow=("temperature", "samples"), seed=seed).to_dict()


def _arm(
    asked: Comparison, arm: Arm, settings: Sequence[Mapping[str, Any]], reference: tuple[float, float]
) -> dict[str, Any]:
    rows = [_setting(asked, arm, place, options) for place, options in enumerate(settings)]
    return {
        "name": arm.name,
        "method": arm.method,
        "knob": arm.knob,
        "settings": rows,
        "chosen": choose(
            [row["validation"] for row in rows],
            reference,
            rule=asked.splits.choose,
            margin=asked.splits.margin,
        ),
        "sampled_tokens": sum(row["sampled_tokens"] for row in rows) * asked.settings.seeds,
        "seconds": sum(row["seconds"] for row in rows) * asked.settings.seeds,
    }


def _setting(asked: Comparison, arm: Arm, place: int, options: Mapping[str, Any]) -> dict[str, Any]:
    folders = {seed: run_folder(asked.out, arm, place, seed) for seed in asked.seed_numbers}
    failed = {seed: read_json(f / FAILED) for seed, f in folders.items() if not (f / OUTCOME).is_file()}
    costs = [failed[s]["last_step"] if s in failed else read_json(f / OUTCOME) for s, f in folders.items()]
    measured: dict[str, Any] = {"validation": None, "test": None}
    if not failed:
        for name, record in (("validation", "after"), ("test", "after-test")):
            accuracy, tokens = _point([load_record(folder, record) for folder in folders.values()])
            measured[name] = {"accuracy": accuracy, "mean_tokens": tokens}
    return {
        "value": arm.values[place],
        "options": dict(options),
        **measured,
        "failed": {str(seed): reason for seed, reason in failed.items()},
        "sampled_tokens": float(np.mean([cost.get("sampled_tokens", 0) for cost in costs])),
        "seconds": float(np.mean([cost.get("train_seconds", cost.get("seconds", 0.0)) for cost in costs])),
    }


def choose(
    settings: Sequence[Mapping[str, float] | None], reference: tuple[float, float], *, rule: str, margin: float
) -> int | None:
    """The place of the setting that is reported, by its validation numbers alone; None if no setting has any.

    ``aes``: the highest accuracy-efficiency score against the untouched model's ``reference`` (accuracy, tokens).
    ``shortest``: the shortest that is at most ``margin`` less accurate. Where that says nothing, the most accurate.
    """
    there = {place: one for place, one in enumerate(settings) if one is not None}
    if not there:
        return None

    def score(place: int) -> tuple[float, ...]:
        accuracy, tokens = there[place]["accuracy"], there[place]["mean_tokens"]
        if rule == "shortest":
            fits = accuracy >= reference[0] - margin - 1e-12
            return (1.0, -tokens) if fits else (0.0, accuracy)
        columns = [np.asarray(float(x)) for x in (accuracy, tokens, *reference)]
        found = float(efficiency_scores(columns, AES_WEIGHTS))
        return (found if np.isfinite(found) else accuracy, -tokens)

    return max(there, key=score)


def _point(records: Sequence[Record]) -> tuple[float, float]:
    """Accuracy and mean tokens, averaged over seeds."""
    found = [(float(record.accuracies.mean()), float(record.tokens.mean())) for record in records]
    return float(np.mean([a for a, _ in found])), float(np.mean([t for _, t in found]))


def _test(asked: Comparison, name: str, place: int) -> list[Record]:
    return [
        load_record(run_folder(asked.out, asked.arm(name), place, seed), "after-test") for seed in asked.seed_numbers
    ]


def _side(records: Sequence[Record]) -> Side:
    return side_of(in_one_order(records))


def _matched(
    asked: Comparison, arms: Sequence[Mapping[str, Any]], before: Sequence[Record], *, seed: int
) -> dict[str, Any] | None:
    """Accuracy of every arm at a few round lengths between the shortest setting and the untouched model."""
    curves = {
        row["name"]: [_side(_test(asked, row["name"], k)) for k, one in enumerate(row["settings"]) if one["test"]]
        for row in arms
    }
    curves = {name: sides for name, sides in curves.items() if sides}
    lengths = [float(side.means[..., 1].mean()) for sides in curves.values() for side in sides]
    high = _point(before)[1]
    inside = [at for at in ticks(min(lengths), high, LENGTHS) if min(lengths) <= at <= high] if lengths else []
    if not inside:
        return None
    return {"tokens": inside, "accuracy": matched(curves, _side(before), inside, seed=seed)}
