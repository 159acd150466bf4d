"""From a comparison's folder to its result: settings chosen on validation, everything else measured on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lengthwise.files import read_json
from lengthwise.reporting.plot_values import ticks
from lengthwise.runs.compare.arenas import Arena
from lengthwise.runs.compare.arms import Arm, Settled
from lengthwise.runs.compare.comparison import Comparison
from lengthwise.runs.compare.comparison_result import (
    BASE,
    ArmResult,
    ComparisonResult,
    FailedRun,
    MatchedLengths,
    Point,
    SettingResult,
)
from lengthwise.runs.compare.findings import findings
from lengthwise.runs.compare.folder import FAILED, REPORT, base_folder, baseline_file, load_record, run_folder
from lengthwise.runs.compare.paired_differences import matched, paired
from lengthwise.runs.compare.plan_values import Plan
from lengthwise.runs.compare_records import Named, RecordsComparison, compare_records
from lengthwise.runs.run_folder import OUTCOME
from lengthwise.statistics.records import Record, in_one_order, side_of
from lengthwise.statistics.seed_runs import Side
from lengthwise.statistics.tradeoff_scores import AES_WEIGHTS, efficiency_scores

LENGTHS = 6


def result_of(asked: Comparison, arena: Arena, plan: Plan) -> ComparisonResult:
    """The result of a comparison whose runs are all there."""

    base = {
        name: [load_record(base_folder(asked.out, seed), name) for seed in asked.seed_numbers]
        for name in ("before", "before-test")
    }
    reference = _point(base["before"])
    arms, controls = (
        [_arm(asked, arm, plan.settings[arm.name], reference) for arm in these]
        for these in (asked.arms, asked.control_arms)
    )
    chosen, unrewarded = (
        {row.name: _test(asked, row.name, row.chosen) for row in rows if row.chosen is not None}
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
    page = asked.out / REPORT
    result = ComparisonResult(
        model=asked.model,
        source=asked.source,
        lab=arena.lab,
        seeds=asked.seed_numbers,
        margin=asked.splits.margin,
        choose=asked.splits.choose,
        plan=plan,
        train=asked.training.to_dict(),
        arms=arms,
        controls=controls,
        baselines=list(baselines),
        oracle_tokens=arena.oracle_tokens,
        frontier=arena.frontier,
        table=_table(named, seed),
        pairs=paired({name: sides[name] for name in chosen}, seed=seed),
        control_pairs=paired(sides, [(control, name) for control in unrewarded for name in chosen], seed=seed),
        matched=_matched(asked, arms, base["before-test"], seed=seed),
        report=str(page),
        picture=str(page.with_suffix(".png")),
    )
    return replace(result, findings=findings(result))


def _table(named: Sequence[Named], seed: int) -> RecordsComparison | None:
    """All sides against the first, where there are others."""
    return None if len(named) < 2 else compare_records(named, allow=("temperature", "samples"), seed=seed)


def _arm(asked: Comparison, arm: Arm, settings: Sequence[Mapping[str, Settled]], reference: Point) -> ArmResult:
    rows = [_setting(asked, arm, place, options) for place, options in enumerate(settings)]
    points = [row.validation for row in rows]
    return ArmResult(
        name=arm.name,
        method=arm.method,
        knob=arm.knob,
        settings=rows,
        chosen=choose(points, reference, rule=asked.splits.choose, margin=asked.splits.margin),
        sampled_tokens=sum(row.sampled_tokens for row in rows) * asked.settings.seeds,
        seconds=sum(row.seconds for row in rows) * asked.settings.seeds,
    )


def _setting(asked: Comparison, arm: Arm, place: int, options: Mapping[str, Settled]) -> SettingResult:
    folders = {seed: run_folder(asked.out, arm, place, seed) for seed in asked.seed_numbers}
    failed = {seed: FailedRun(**read_json(f / FAILED)) for seed, f in folders.items() if not (f / OUTCOME).is_file()}
    costs = [failed[s].last_step if s in failed else read_json(f / OUTCOME) for s, f in folders.items()]

    def reached(record: str) -> Point | None:
        return None if failed else _point([load_record(folder, record) for folder in folders.values()])

    return SettingResult(
        value=arm.values[place],
        options=options,
        validation=reached("after"),
        test=reached("after-test"),
        failed={str(seed): found for seed, found in failed.items()},
        sampled_tokens=float(np.mean([cost.get("sampled_tokens", 0) for cost in costs])),
        seconds=float(np.mean([cost.get("train_seconds", cost.get("seconds", 0.0)) for cost in costs])),
    )


def choose(settings: Sequence[Point | None], reference: Point, *, rule: str, margin: float) -> int | None:
    """The place of the setting that is reported, by its validation numbers alone; None if no setting has any.

    ``aes``: the highest accuracy-efficiency score against ``reference``, the untouched model.
    ``shortest``: the shortest that is at most ``margin`` less accurate. Where that says nothing, the most accurate.
    """
    there = {place: one for place, one in enumerate(settings) if one is not None}
    if not there:
        return None

    def score(place: int) -> tuple[float, ...]:
        accuracy, tokens = there[place].accuracy, there[place].mean_tokens
        if rule == "shortest":
            fits = accuracy >= reference.accuracy - margin - 1e-12
            return (1.0, -tokens) if fits else (0.0, accuracy)
        columns = [np.asarray(float(x)) for x in (accuracy, tokens, reference.accuracy, reference.mean_tokens)]
        found = float(efficiency_scores(columns, AES_WEIGHTS))
        return (found if np.isfinite(found) else accuracy, -tokens)

    return max(there, key=score)


def _point(records: Sequence[Record]) -> Point:
    """Accuracy and mean tokens, averaged over seeds."""
    found = [(float(record.accuracies.mean()), float(record.tokens.mean())) for record in records]
    return Point(float(np.mean([a for a, _ in found])), float(np.mean([t for _, t in found])))


def _test(asked: Comparison, name: str, place: int) -> list[Record]:
    return [
        load_record(run_folder(asked.out, asked.arm(name), place, seed), "after-test") for seed in asked.seed_numbers
    ]


def _side(records: Sequence[Record]) -> Side:
    return side_of(in_one_order(records))


def _matched(
    asked: Comparison, arms: Sequence[ArmResult], before: Sequence[Record], *, seed: int
) -> MatchedLengths | None:
    """Accuracy of every arm at a few round lengths between the shortest setting and the untouched model."""
    curves = {
        row.name: [_side(_test(asked, row.name, k)) for k, one in enumerate(row.settings) if one.test is not None]
        for row in arms
    }
    curves = {name: sides for name, sides in curves.items() if sides}
    lengths = [float(side.means[..., 1].mean()) for sides in curves.values() for side in sides]
    high = _point(before).mean_tokens
    inside = [at for at in ticks(min(lengths), high, LENGTHS) if min(lengths) <= at <= high] if lengths else []
    if not inside:
        return None
    return MatchedLengths(inside, matched(curves, _side(before), inside, seed=seed))
