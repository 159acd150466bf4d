"""The bootstrap over problems and seeds: spec page metrics, sections 4 and 9, against loops and known truths."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from lengthwise.errors import InputError, ShapeError
from lengthwise.statistics import bootstrap
from lengthwise.statistics.bootstrap import Draws, cluster_bootstraps, drawn_means, mean_interval, ratio_of_columns
from lengthwise.statistics.seed_runs import Side, paired_intervals
from lengthwise.statistics.tradeoff_scores import accuracy_efficiency_score, matched_accuracy_difference

CAP = 1000
WEIGHTS = (1.0, 3.0, 5.0)
NAMES = ("accuracy_difference", "tokens_ratio", "accuracy_efficiency_score", "matched")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ratio(numerator, denominator, **options):
    columns = np.stack([numerator, denominator], axis=1)
    return cluster_bootstraps(columns, {"": ratio_of_columns(0, 1)}, **options)[""]


def side(seed: int, *, runs: int = 1, problems: int = 9, share: float = 0.6, most: int = CAP) -> Side:
    """Runs with 1 to 3 samples per problem, of 50, 100, ... tokens."""
    make = rng(seed)
    sizes = make.integers(1, 4, problems)
    finished = [[make.random(s) < 0.9 for s in sizes] for _ in range(runs)]
    tokens = [[np.where(f, 50 * make.integers(1, most // 50, len(f)), most) for f in run] for run in finished]
    return Side([[(make.random(len(f)) < share) & f for f in run] for run in finished], finished, tokens)


# ---- over problems ------------------------------------------------------------------------------------------


def test_metrics_9_same_seed_same_interval_another_seed_another():
    values = rng(1).random(20)
    first = mean_interval(values, rng=rng(5))
    assert mean_interval(values, rng=rng(5)) == first
    assert mean_interval(values, rng=rng(6)) != first
    assert (first.draws, first.level, first.dropped) == (2000, 0.95, 0)


@pytest.mark.parametrize("seed", range(20))
def test_metrics_9_interval_contains_the_estimate(seed):
    interval = mean_interval(rng(seed).random(30), rng=rng(seed))
    assert interval.low < interval.estimate < interval.high


def test_metrics_4_vectorised_bootstrap_equals_a_loop():
    make = rng(2)
    numerator, denominator = make.random(9), make.random(9) + 0.5
    result = ratio(numerator, denominator, rng=rng(3), draws=200)
    drawn = rng(3).integers(0, 9, size=(200, 9))
    values = [sum(numerator[p] for p in row) / sum(denominator[p] for p in row) for row in drawn]
    low, high = np.quantile(values, (0.025, 0.975), method="linear")
    assert (result.low, result.high) == pytest.approx((low, high))
    assert result.estimate == pytest.approx(numerator.sum() / denominator.sum())


@pytest.mark.parametrize("runs", [1, 3])
def test_parts_change_nothing(monkeypatch, runs):
    a, b = side(1, runs=runs), side(2)
    whole = paired_intervals(a, b, weights=WEIGHTS, rng=rng(5))
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 300)
    monkeypatch.setattr("lengthwise.statistics.seed_runs.CELLS_AT_ONCE", 300)
    parts = paired_intervals(a, b, weights=WEIGHTS, rng=rng(5))
    for name in NAMES:
        assert (parts[name].low, parts[name].high) == pytest.approx((whole[name].low, whole[name].high), abs=1e-11)
        assert parts[name].dropped == whole[name].dropped


def test_several_metrics_share_the_draws():
    columns = rng(1).random((15, 2)) + 0.1
    together = cluster_bootstraps(columns, {"mean": lambda m: m[:, 0], "ratio": ratio_of_columns(0, 1)}, rng=rng(4))
    assert together["mean"] == mean_interval(columns[:, 0], rng=rng(4))
    assert together["ratio"] == ratio(columns[:, 0], columns[:, 1], rng=rng(4))


@pytest.mark.parametrize("runs", [1, 4])
def test_metrics_4_one_problem_has_no_interval(runs):
    result = mean_interval(np.full((runs, 1), 0.5), rng=rng())
    assert (result.estimate, result.low, result.high) == (0.5, None, None)
    assert not result.excludes(0)


@pytest.mark.parametrize("runs", [1, 2, 3, 7])
def test_metrics_4_equal_values_have_zero_width(runs):
    result = mean_interval(np.full((runs, 7), 0.1), rng=rng())
    assert result.low == result.high == result.estimate == 0.1


def test_metrics_9_width_falls_as_one_over_root_of_problems():
    values = rng(0).random(4000)

    def width(n):
        result = mean_interval(values[:n], rng=rng(1))
        return result.high - result.low

    assert width(1000) / width(4000) == pytest.approx(2, rel=0.15)


def test_metrics_4_undefined_draws_are_dropped_and_counted():
    # 60 problems, 4 with a denominator: a draw misses all four with chance (56/60)^60 = .016
    few = ratio(np.ones(60), [1.0] * 4 + [0.0] * 56, rng=rng())
    assert 0 < few.dropped <= 100
    assert few.low is not None
    # 10 problems, 1 with a denominator: (9/10)^10 = .35 of the draws are undefined
    many = ratio(np.ones(10), [1.0] + [0.0] * 9, rng=rng())
    assert many.dropped > 100
    assert (many.estimate, many.low, many.high) == (pytest.approx(10), None, None)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1e-9])
def test_a_draw_of_zeros_is_exactly_zero(value):
    # no rounding may turn 0 over 0 into a number: exactly the draws without problem 0 are undefined
    result = ratio(np.zeros(9), [value] + [0.0] * 8, rng=rng())
    drawn = rng().integers(0, 9, size=(2000, 9))
    assert result.dropped == int((drawn != 0).all(axis=1).sum())


def test_a_draw_of_runs_that_are_zero_is_exactly_zero():
    # one run of three has a denominator: (2/3)^3 = .296 of the draws miss it
    denominator = np.stack([np.full(9, 0.3), np.zeros(9), np.zeros(9)])
    table = np.stack([np.ones((3, 9)), denominator], axis=2)
    result = cluster_bootstraps(table, {"": ratio_of_columns(0, 1)}, rng=rng(1))[""]
    drawn = rng(1).integers(0, 3, size=(2000, 3))
    assert result.dropped == int((drawn != 0).all(axis=1).sum())


def test_undefined_on_the_data_itself_is_none():
    never = ratio(np.ones(5), np.zeros(5), rng=rng())
    assert (never.estimate, never.low, never.high, never.dropped) == (None, None, None, 2000)
    assert never.to_dict()["estimate"] is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mean_interval([], rng=rng()), ShapeError, "columns has shape"),
        (lambda: mean_interval(np.ones((1, 2, 3)), rng=rng()), ShapeError, "columns has shape"),
        (lambda: mean_interval([1, math.nan], rng=rng()), InputError, "not finite"),
        (lambda: mean_interval([1, 2], rng=rng(), draws=0), InputError, "draws is 0"),
        (lambda: mean_interval([1, 2], rng=rng(), level=1.0), InputError, "level 1.0"),
        (lambda: bootstrap.bootstrap(dict, problems=0, rng=rng()), InputError, "problems is 0"),
        (lambda: bootstrap.bootstrap(dict, problems=3, seeds=(), rng=rng()), InputError, r"seeds \[\]"),
        (lambda: bootstrap.bootstrap(dict, problems=3, seeds=(2, 0), rng=rng()), InputError, r"seeds \[2, 0\]"),
    ],
)
def test_bootstrap_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- two runs, paired ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_metrics_9_paired_interval_of_a_run_with_itself(seed):
    run = side(seed, problems=17)
    result = paired_intervals(run, run, weights=WEIGHTS, rng=rng(seed))
    for name, value in zip(NAMES, (0, 1, 0, 0), strict=True):
        assert (result[name].estimate, result[name].low, result[name].high) == (value, value, value), name
        assert result[name].dropped == 0


def test_pairing_is_tighter_than_two_unpaired_runs():
    hard = rng(1).random(200)
    a = Side([[np.arange(40) < 40 * x for x in hard]], [[np.ones(40, bool)] * 200], [[np.full(40, 9)] * 200])
    b = Side([[np.arange(40) < 40 * x + 1 for x in hard]], a.finished, a.num_tokens)
    paired = paired_intervals(a, b, weights=WEIGHTS, rng=rng(2))["accuracy_difference"]
    assert paired.excludes(0)
    alone = mean_interval(a.means[0, :, 0], rng=rng(2))
    assert paired.high - paired.low < (alone.high - alone.low) / 4


# ---- an independent slow reference --------------------------------------------------------------------------


def slow_side(side: Side, problems, runs):
    """Accuracy and mean tokens of the drawn runs and problems, and the points of the forced-cut curve."""
    lengths = sorted({int(n) for run in side.num_tokens for row in run for n in row})

    def mean(value):
        total = 0.0
        for k in runs:
            for p in problems:
                samples = list(zip(side.correct[k][p], side.num_tokens[k][p], strict=True))
                total += sum(value(bool(c), int(n)) for c, n in samples) / len(samples)
        return total / (len(runs) * len(problems))

    points = [(mean(lambda c, n, b=b: min(n, b)), mean(lambda c, n, b=b: c and n <= b)) for b in lengths]
    return mean(lambda c, n: c), mean(lambda c, n: n), points


def slow_values(a: Side, b: Side, problems, runs_a, runs_b):
    accuracy_a, tokens_a, points = slow_side(a, problems, runs_a)
    accuracy_b, tokens_b, _ = slow_side(b, problems, runs_b)
    if accuracy_a:
        score = accuracy_efficiency_score(
            accuracy=accuracy_b, tokens=tokens_b, accuracy_ref=accuracy_a, tokens_ref=tokens_a
        )
    else:
        score = math.nan
    matched = matched_accuracy_difference(tokens_b, accuracy_b, baseline=points)
    return accuracy_b - accuracy_a, tokens_b / tokens_a, float(score), math.nan if matched is None else matched


def slow_interval(values):
    kept = sorted(value for value in values if not math.isnan(value))

    def quantile(share):
        place = share * (len(kept) - 1)
        low = math.floor(place)
        return kept[low] + (place - low) * (kept[min(low + 1, len(kept) - 1)] - kept[low])

    return quantile(0.025), quantile(0.975), len(values) - len(kept)


@pytest.mark.parametrize(("runs_a", "runs_b"), [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_two_levels_equal_a_slow_reference_on_the_same_draws(runs_a, runs_b):
    a, b = side(11, runs=runs_a), side(12, runs=runs_b, share=0.7, most=600)
    draws, problems = 150, 9
    found = bootstrap_of(a, b, draws)
    # the order in which the generator is asked: each side's runs, where it has several, then the problems
    make = rng(7)
    drawn_a, drawn_b = (
        make.integers(0, k, (draws, k)) if k > 1 else np.zeros((draws, 1), int) for k in (runs_a, runs_b)
    )
    drawn = make.integers(0, problems, (draws, problems))
    values = [slow_values(a, b, *row) for row in zip(drawn, drawn_a, drawn_b, strict=True)]
    for name, column in zip(NAMES, zip(*values, strict=True), strict=True):
        low, high, dropped = slow_interval(column)
        assert found[name].dropped == dropped, name
        if dropped <= 0.05 * draws:
            assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=1e-9), name
        else:
            assert found[name].low is None, name
    estimates = slow_values(a, b, range(problems), range(runs_a), range(runs_b))
    for name, value in zip(NAMES, estimates, strict=True):
        assert found[name].estimate == pytest.approx(value, abs=1e-9), name


def bootstrap_of(a: Side, b: Side, draws: int):
    """`paired_intervals` with fewer draws."""
    whole = bootstrap.bootstrap

    def fewer(*arguments, **options):
        return whole(*arguments, **{**options, "draws": draws})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lengthwise.statistics.seed_runs.bootstrap", fewer)
        return paired_intervals(a, b, weights=WEIGHTS, rng=rng(7))


def test_two_levels_agree_with_an_independent_slow_reference():
    # Another generator, other code: the ends of the two intervals differ by their Monte Carlo error alone.
    a, b = side(21, runs=3, problems=12), side(22, runs=2, problems=12, share=0.7, most=600)
    found = paired_intervals(a, b, weights=WEIGHTS, rng=rng(1))
    dice = random.Random(4)
    values = []
    for _ in range(300):
        drawn = [dice.choices(range(size), k=size) for size in (12, 3, 2)]
        values.append(slow_values(a, b, *drawn))
    for name, column in zip(NAMES, zip(*values, strict=True), strict=True):
        low, high, _ = slow_interval(column)
        width = found[name].high - found[name].low
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=0.15 * width), name


# ---- two levels ---------------------------------------------------------------------------------------------


def test_runs_are_drawn_for_each_side_alone_and_problems_for_both():
    seen: list[Draws] = []

    def statistic(drawn):
        seen.append(drawn)
        return {"": drawn.problems[:, 0] * 1.0}

    bootstrap.bootstrap(statistic, problems=5, seeds=(4, 4, 1), rng=rng(), draws=300)
    once, drawn = seen
    assert (once.problems == 1).all() and all((runs == 1).all() for runs in once.seeds)
    assert drawn.problems.shape == (300, 5) and (drawn.problems.sum(axis=1) == 5).all()
    assert [runs.shape for runs in drawn.seeds] == [(300, 4), (300, 4), (300, 1)]
    assert all((runs.sum(axis=1) == runs.shape[1]).all() for runs in drawn.seeds)
    assert (drawn.seeds[0] != drawn.seeds[1]).any()


def test_runs_that_are_alike_change_nothing():
    one = side(5, problems=15)
    two = Side(one.correct * 2, one.finished * 2, one.num_tokens * 2)
    other = side(6, problems=15, most=600)
    make = rng(3)
    make.integers(0, 2, size=(2000, 2))  # what drawing the two runs asks of the generator
    alone = paired_intervals(one, other, weights=WEIGHTS, rng=make)
    twice = paired_intervals(two, other, weights=WEIGHTS, rng=rng(3))
    for name in NAMES:
        assert [twice[name].estimate, twice[name].low, twice[name].high] == pytest.approx(
            [alone[name].estimate, alone[name].low, alone[name].high]
        )
        assert twice[name].low is not None


def test_runs_that_differ_widen_the_interval():
    # Ten problems, alike within a run: over problems alone no width at all, over runs .4 and .6.
    table = np.stack([np.full(10, 0.4), np.full(10, 0.6)])
    assert mean_interval(table.mean(axis=0), rng=rng()).low == 0.5
    both = mean_interval(table, rng=rng())
    # both runs twice with chance 1/4 each: the quantiles are the runs themselves
    assert (both.low, both.estimate, both.high) == (pytest.approx(0.4), pytest.approx(0.5), pytest.approx(0.6))


def test_drawn_means_against_a_loop():
    make = rng(8)
    table = make.random((3, 6, 2))
    problems = np.array([[2, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    runs = np.array([[2, 1, 0], [0, 0, 3]])
    found = drawn_means(table, problems, runs)
    for d in range(2):
        for f in range(2):
            slow = sum(runs[d, k] * problems[d, p] * table[k, p, f] for k in range(3) for p in range(6)) / 18
            assert found[d, f] == pytest.approx(slow)


@pytest.mark.parametrize(("drawn_runs", "lowest", "highest"), [(True, 0.88, 0.99), (False, 0.0, 0.75)])
def test_coverage_of_a_known_difference(drawn_runs, lowest, highest):
    # Problems of unlike difficulty, five runs a side that differ by .06 from one another: the truth is .1.
    # With the runs drawn, the 95 % interval holds it nearly as often as it says (five are few); with all runs
    # taken for one, as if only problems were left to chance, it does not.
    held, trials = 0, 200
    for trial in range(trials):
        make = rng(1000 + trial)
        hard = make.uniform(0.2, 0.7, 80)
        sides = [
            np.stack([make.binomial(4, np.clip(hard + gain + make.normal(0, 0.06), 0, 1)) / 4 for _ in range(5)])
            for gain in (0.0, 0.1)
        ]
        if not drawn_runs:
            sides = [table.mean(axis=0)[None] for table in sides]

        def difference(drawn, sides=sides):
            a, b = (drawn_means(t[..., None], drawn.problems, r)[:, 0] for t, r in zip(sides, drawn.seeds, strict=True))
            return {"": b - a}

        interval = bootstrap.bootstrap(
            difference, problems=80, seeds=[len(table) for table in sides], rng=make, draws=300
        )[""]
        held += not interval.excludes(0.1)
    assert lowest <= held / trials <= highest
