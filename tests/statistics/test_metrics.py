"""Metrics and trade-off scores: spec page metrics, sections 1 to 3 and 7 to 9, by hand and against loops."""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle

import numpy as np
import pytest

from lengthwise.errors import InputError, ShapeError
from lengthwise.statistics import metrics, tradeoff_scores
from lengthwise.statistics.metrics import (
    accuracy,
    accuracy_at_budget,
    accuracy_given_finished,
    control_error,
    majority_at_k,
    mean_pass_at_k,
    mean_tokens,
    mean_tokens_at_budget,
    overthinking_area,
    pass_at_k,
    removable_share,
    subset_mean_tokens,
    token_efficiency,
    truncation_at_budget,
    truncation_rate,
    violation_rate,
)
from lengthwise.statistics.tradeoff_scores import (
    EfficiencyScore,
    accuracy_efficiency_score,
    check_same_reference,
    frontier,
    gain_ratio,
    matched_accuracy_difference,
)

TOKENS = [[100, 400, 900], [200, 1000, 1000]]
CORRECT = [[1, 1, 0], [1, 0, 0]]
FINISHED = [[1, 1, 1], [1, 0, 1]]
WRONG = [[0, 0, 1], [0, 1, 1]]
CAP = 1000


def random_run(seed: int, problems: int = 12, samples: int | None = 4):
    """Correct, finished, tokens; `samples` None: uneven."""
    make = np.random.default_rng(seed)
    correct, finished, tokens = [], [], []
    for _ in range(problems):
        size = samples or int(make.integers(1, 7))
        n = make.integers(1, CAP + 1, size)
        f = make.random(size) < 0.8
        correct.append(((make.random(size) < 0.6) & f).tolist())
        finished.append(f.tolist())
        tokens.append(n.tolist())
    return correct, finished, tokens


# ---- section 8: numbers by hand -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # (2/3 + 1/3) / 2
        pytest.param(accuracy(CORRECT), 0.5, id="metrics-8-accuracy"),
        # (1400/3 + 2200/3) / 2
        pytest.param(mean_tokens(TOKENS), 600, id="metrics-8-mean-tokens"),
        # 1 of 6 cut
        pytest.param(truncation_rate(FINISHED), 1 / 6, id="metrics-8-truncation"),
        # (100 + 400 + 900 + 200 + 1000) / 5
        pytest.param(subset_mean_tokens(TOKENS, FINISHED), 520, id="metrics-8-tokens-finished"),
        # (100 + 400 + 200) / 3
        pytest.param(subset_mean_tokens(TOKENS, CORRECT), 700 / 3, id="metrics-8-tokens-correct"),
        # (900 + 1000 + 1000) / 3
        pytest.param(subset_mean_tokens(TOKENS, WRONG), 2900 / 3, id="metrics-8-tokens-wrong"),
        # 3 right of 5 finished
        pytest.param(accuracy_given_finished(CORRECT, FINISHED), 0.6, id="metrics-8-given-finished"),
        # 1/3 and 1/3: 100 and 200 are within 300
        pytest.param(accuracy_at_budget(CORRECT, TOKENS, 300, cap=CAP), 1 / 3, id="metrics-8-budget-accuracy"),
        # 400, 900, 1000, 1000 are above 300
        pytest.param(truncation_at_budget(TOKENS, FINISHED, 300, cap=CAP), 2 / 3, id="metrics-8-budget-truncation"),
        # (100 + 300 + 300 + 200 + 300 + 300) / 6
        pytest.param(mean_tokens_at_budget(TOKENS, 300, cap=CAP), 250, id="metrics-8-budget-tokens"),
        # 1000 * 3 / 3600
        pytest.param(token_efficiency(CORRECT, TOKENS), 5 / 6, id="metrics-8-efficiency"),
        pytest.param(mean_pass_at_k(CORRECT, 1), 0.5, id="metrics-8-pass-at-1"),
        # (1 - C(1,2)/C(3,2) + 1 - C(2,2)/C(3,2)) / 2 = (1 + 2/3) / 2
        pytest.param(mean_pass_at_k(CORRECT, 2), 5 / 6, id="metrics-8-pass-at-2"),
        # ((.9 + .6)/3 + .8/3) / 2
        pytest.param(overthinking_area(CORRECT, TOKENS, t_max=1000), 2.3 / 6, id="metrics-8-overthinking"),
    ],
)
def test_metrics_8_hand_numbers(value, expected):
    assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        pytest.param(4, 1, 2, 0.5, id="metrics-8-pass(4,1,2)"),  # 1 - 3/6
        pytest.param(4, 2, 2, 5 / 6, id="metrics-8-pass(4,2,2)"),  # 1 - 1/6
        pytest.param(10, 3, 5, 11 / 12, id="metrics-8-pass(10,3,5)"),  # 1 - 21/252
        pytest.param(5, 0, 3, 0.0, id="metrics-8-pass(5,0,3)"),
        pytest.param(5, 4, 2, 1.0, id="metrics-8-pass(5,4,2)"),  # one wrong sample, two drawn
    ],
)
def test_metrics_8_pass_at_k_by_hand(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


AES_ROWS = [
    # dL = .5
    ((1, 3, 5), (0.5, 1000), (0.5, 500), 0.5),
    # .5 + 3 * .1
    ((1, 3, 5), (0.5, 1000), (0.55, 500), 0.8),
    # .5 - 5 * .1
    ((1, 3, 5), (0.5, 1000), (0.45, 500), 0.0),
    # -.2 - 5 * .1
    ((1, 3, 5), (0.5, 1000), (0.45, 1200), -0.7),
    ((1, 5, 10), (0.5, 1000), (0.5, 500), 0.5),
    # .5 + 5 * .1
    ((1, 5, 10), (0.5, 1000), (0.55, 500), 1.0),
    # .5 - 10 * .1
    ((1, 5, 10), (0.5, 1000), (0.45, 500), -0.5),
    # -.2 - 10 * .1
    ((1, 5, 10), (0.5, 1000), (0.45, 1200), -1.2),
    # dL = 1963/3490 = .562464, dA = -.025/.649 = -.038521: .562464 - 5 * .038521
    ((1, 3, 5), (0.649, 3490), (0.624, 1527), 0.3699),
    # .562464 - 10 * .038521
    ((1, 3, 10), (0.649, 3490), (0.624, 1527), 0.1773),
]


@pytest.mark.parametrize(
    ("weights", "reference", "run", "expected"),
    [pytest.param(*row, id=f"metrics-8-aes-{i}") for i, row in enumerate(AES_ROWS)],
)
def test_metrics_8_accuracy_efficiency_score_by_hand(weights, reference, run, expected):
    score = accuracy_efficiency_score(
        accuracy=run[0], tokens=run[1], accuracy_ref=reference[0], tokens_ref=reference[1], weights=weights
    )
    assert score == pytest.approx(expected, abs=5e-5)


def test_metrics_8_gain_ratio_of_siri_low():
    # gains .432624, .376744, .207120, .064320; ratios .575124, .530740, .556279, .607165
    result = gain_ratio(
        [40.4, 29.6, 74.6, 87.7], [7093, 6509, 4700, 2881], [28.2, 21.5, 61.8, 82.4], [12333, 12264, 8449, 4745]
    )
    assert (result.gain, result.ratio, result.score) == pytest.approx((0.2702, 0.5673, 0.4763), abs=5e-5)


# ---- section 2: identities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_metrics_2_identities_with_equal_samples(seed):
    correct, finished, tokens = random_run(seed)
    given = accuracy_given_finished(correct, finished)
    assert accuracy(correct) == pytest.approx((1 - truncation_rate(finished)) * given)
    assert token_efficiency(correct, tokens) == pytest.approx(1000 * accuracy(correct) / mean_tokens(tokens))
    assert accuracy_at_budget(correct, tokens, CAP, cap=CAP) == accuracy(correct)
    assert mean_tokens_at_budget(tokens, CAP, cap=CAP) == mean_tokens(tokens)
    assert truncation_at_budget(tokens, finished, CAP, cap=CAP) == pytest.approx(truncation_rate(finished))


@pytest.mark.parametrize("samples", [4, None], ids=["even", "uneven"])
def test_metrics_2_accuracy_at_budget_never_falls_and_truncation_never_rises(samples):
    correct, finished, tokens = random_run(3, samples=samples)
    budgets = range(0, CAP + 1, 50)
    accuracies = [accuracy_at_budget(correct, tokens, b, cap=CAP) for b in budgets]
    cuts = [truncation_at_budget(tokens, finished, b, cap=CAP) for b in budgets]
    assert accuracies == sorted(accuracies)
    assert cuts == sorted(cuts, reverse=True)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_2_against_loops_on_uneven_samples(seed):
    correct, _, tokens = random_run(seed, samples=None)

    def mean(rows):
        return sum(sum(row) / len(row) for row in rows) / len(rows)

    pairs = [list(zip(c, n, strict=True)) for c, n in zip(correct, tokens, strict=True)]
    assert accuracy(correct) == pytest.approx(mean(correct))
    assert mean_tokens(tokens) == pytest.approx(mean(tokens))
    assert accuracy_at_budget(correct, tokens, 300, cap=CAP) == pytest.approx(
        mean([[c and n <= 300 for c, n in row] for row in pairs])
    )
    assert overthinking_area(correct, tokens, t_max=600) == pytest.approx(
        mean([[c * max(0, 600 - n) / 600 for c, n in row] for row in pairs])
    )
    assert control_error(tokens, 500) == pytest.approx(mean([[abs(n - 500) / 500 for n in row] for row in tokens]))
    chosen = [n for row in pairs for c, n in row if c]
    assert subset_mean_tokens(tokens, correct) == pytest.approx(sum(chosen) / len(chosen))


def test_metrics_7_uneven_samples_weigh_problems_equally():
    # problem means 1 and 0, not 1 right of 4 samples
    assert accuracy([[1], [0, 0, 0]]) == 0.5
    assert mean_tokens([[100], [400, 400]]) == 250


def test_metrics_2_control_error_and_violation_rate():
    # |90 - 100|/100 = .1, |120 - 100|/100 = .2; second problem, target 200: .5
    assert control_error([[90, 120], [100, 100]], [100, 200]) == pytest.approx((0.15 + 0.5) / 2)
    assert violation_rate([[90, 120], [100, 100]], [100, 200]) == pytest.approx(0.25)
    assert violation_rate([[100]], 100) == 0  # equal is no violation


@pytest.mark.parametrize(
    ("base", "after", "oracle", "expected"),
    # (70 - 40)/(70 - 30), nothing, all, longer than before, shorter than the oracle
    [(70, 40, 30, 0.75), (70, 70, 30, 0), (70, 30, 30, 1), (70, 90, 30, -0.5), (70, 20, 30, 1.25)],
)
def test_removable_share(base, after, oracle, expected):
    assert removable_share(base, after, oracle) == pytest.approx(expected)


# ---- section 7: edge cases ----------------------------------------------------------------------------------


def test_metrics_7_no_correct_answer():
    none = [[0, 0, 0], [0, 0, 0]]
    assert token_efficiency(none, TOKENS) == 0
    assert subset_mean_tokens(TOKENS, none) is None
    with pytest.raises(ValueError, match="accuracy_ref is 0"):
        accuracy_efficiency_score(accuracy=0.5, tokens=10, accuracy_ref=0, tokens_ref=10)


def test_metrics_7_all_cut():
    cut = [[0, 0], [0, 0]]
    assert accuracy(cut) == 0
    assert truncation_rate(cut) == 1
    assert accuracy_given_finished(cut, cut) is None


def test_metrics_2_no_token_has_no_efficiency():
    assert token_efficiency([[0]], [[0]]) is None


def test_metrics_7_budget_equal_to_a_length_is_inside():
    assert accuracy_at_budget([[1]], [[300]], 300, cap=CAP) == 1
    assert truncation_at_budget([[300]], [[1]], 300, cap=CAP) == 0
    assert accuracy_at_budget([[1]], [[301]], 300, cap=CAP) == 0


def test_metrics_7_pass_at_k_above_the_samples_names_the_problem():
    with pytest.raises(ValueError, match="k is 2 but problem 1 has 1 samples"):
        mean_pass_at_k([[1, 0], [1]], 2)


def test_metrics_1_correct_when_cut_is_an_error_unless_allowed():
    with pytest.raises(InputError, match=r"correct\[0\] has a correct answer that was cut"):
        accuracy_given_finished([[1, 1]], [[1, 0]])
    assert accuracy_given_finished([[1, 1]], [[1, 0]], allow_correct_when_cut=True) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([]), "correct has no problem"),
        (lambda: accuracy([[1], []]), r"correct\[1\] has no sample"),
        (lambda: accuracy([[0.5]]), r"correct\[0\] is \[0.5\]"),
        (lambda: accuracy([[2]]), "one True or False per sample"),
        (lambda: accuracy([1, 0]), r"correct\[0\] is 1; pass \[problems\]\[samples\]"),
        (lambda: accuracy("yes"), "pass one list of samples per problem"),
        (lambda: accuracy(3), "pass one list of samples per problem"),
        (lambda: accuracy([[None]]), r"pass \[problems\]\[samples\]"),
        (lambda: accuracy([[[1, 0], [1]]]), "nested too deep"),
        (lambda: mean_tokens([[10.5]]), "integer >= 0"),
        (lambda: mean_tokens([[True]]), "integer >= 0"),
        (lambda: mean_tokens([[-1]]), "integer >= 0"),
        (lambda: mean_tokens([["ten"]]), "flat list per problem"),
        (lambda: subset_mean_tokens(TOKENS, [[1, 1, 1]]), "num_tokens has 2 problems but subset has 1"),
        (lambda: token_efficiency([[1, 1]], [[5]]), "problem 0: correct has 2 samples but num_tokens has 1"),
        (lambda: accuracy_at_budget(CORRECT, TOKENS, 1001, cap=CAP), "budget is 1001 .* cap of 1000"),
        (lambda: truncation_at_budget(TOKENS, FINISHED, 1001, cap=CAP), "budget is 1001"),
        (lambda: mean_tokens_at_budget(TOKENS, -1, cap=CAP), "budget is -1"),
        (lambda: overthinking_area(CORRECT, TOKENS, t_max=0), "t_max is 0"),
        (lambda: control_error(TOKENS, 0), "target is 0"),
        (lambda: control_error(TOKENS, [1, 2, 3]), "target has 3 values for 2 problems"),
        (lambda: pass_at_k(3, 4, 1), "c is 4 with n 3"),
        (lambda: pass_at_k(3, -1, 1), "c is -1"),
        (lambda: pass_at_k(3, 1, 4), "k is 4 but there are 3 samples"),
        (lambda: pass_at_k(3, 1, 0), "k is 0"),
        (lambda: removable_share(30, 30, 30), "nothing is removable"),
        (lambda: removable_share(30, math.nan, 10), "after is nan"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)


# ---- section 9: invariants ----------------------------------------------------------------------------------


def test_metrics_9_order_of_problems_and_samples_does_not_matter():
    correct, finished, tokens = random_run(7, samples=None)
    make = np.random.default_rng(0)
    order = make.permutation(len(correct))
    inside = [make.permutation(len(row)) for row in correct]

    def shuffled(rows):
        return [[rows[p][s] for s in inside[p]] for p in order]

    for metric in (
        lambda c, f, n: accuracy(c),
        lambda c, f, n: mean_tokens(n),
        lambda c, f, n: truncation_rate(f),
        lambda c, f, n: subset_mean_tokens(n, f),
        lambda c, f, n: accuracy_given_finished(c, f),
        lambda c, f, n: accuracy_at_budget(c, n, 300, cap=CAP),
        lambda c, f, n: truncation_at_budget(n, f, 300, cap=CAP),
        lambda c, f, n: mean_tokens_at_budget(n, 300, cap=CAP),
        lambda c, f, n: control_error(n, 400),
        lambda c, f, n: violation_rate(n, 400),
        lambda c, f, n: token_efficiency(c, n),
        lambda c, f, n: overthinking_area(c, n, t_max=CAP),
        lambda c, f, n: mean_pass_at_k(c, 1),
    ):
        assert metric(shuffled(correct), shuffled(finished), shuffled(tokens)) == pytest.approx(
            metric(correct, finished, tokens)
        )


def test_metrics_9_pass_at_k_rises_with_k_and_c_and_has_known_ends():
    for n, c in itertools.product(range(1, 9), range(9)):
        if c > n:
            continue
        values = [pass_at_k(n, c, k) for k in range(1, n + 1)]
        assert values == sorted(values)
        assert values[0] == pytest.approx(c / n)
        assert values[-1] == pytest.approx(float(c > 0))
        for k in range(1, n + 1):
            closed = 1 - math.comb(n - c, k) / math.comb(n, k)
            assert pass_at_k(n, c, k) == pytest.approx(closed)
            if c < n:
                assert pass_at_k(n, c + 1, k) >= pass_at_k(n, c, k)


def test_pass_at_k_of_many_samples_stays_finite():
    assert pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)


def test_metrics_9_score_of_the_reference_is_zero_and_scaling_changes_nothing():
    same = {"accuracy": 0.4, "tokens": 700, "accuracy_ref": 0.4, "tokens_ref": 700}
    assert accuracy_efficiency_score(**same) == 0
    shorter = accuracy_efficiency_score(accuracy=0.4, tokens=350, accuracy_ref=0.4, tokens_ref=700, weights=(2, 3, 5))
    assert shorter == pytest.approx(2 * 0.5)  # equal accuracy: alpha * dL
    one = accuracy_efficiency_score(accuracy=0.3, tokens=350, accuracy_ref=0.4, tokens_ref=700)
    ten = accuracy_efficiency_score(accuracy=0.3, tokens=3500, accuracy_ref=0.4, tokens_ref=7000)
    assert one == pytest.approx(ten)


def test_metrics_9_doubling_the_tokens_halves_efficiency():
    doubled = [[2 * n for n in row] for row in TOKENS]
    assert token_efficiency(CORRECT, doubled) == pytest.approx(token_efficiency(CORRECT, TOKENS) / 2)


# ---- majority@k ---------------------------------------------------------------------------------------------


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("keys", "correct", "k", "expected"),
    [
        pytest.param(["7", "7", "8"], [1, 1, 0], 3, 1.0, id="right-answer-leads"),
        pytest.param(["7", "8", "8"], [1, 0, 0], 3, 0.0, id="wrong-answer-leads"),
        # 7 and 8 have one vote each: half of the top answers is right
        pytest.param(["7", "8"], [1, 0], 2, 0.5, id="tie-counts-its-share"),
        # three answers tie, one is right
        pytest.param(["7", "8", "9"], [1, 0, 0], 3, 1 / 3, id="three-way-tie"),
        # two without an answer do not outvote the one with 7
        pytest.param([None, None, "7"], [0, 0, 1], 3, 1.0, id="no-answer-never-wins"),
        pytest.param([None, None], [0, 0], 2, 0.0, id="nobody-answers"),
        # pairs: (7,7) right, (7,8) twice half: (1 + .5 + .5)/3
        pytest.param(["7", "7", "8"], [1, 1, 0], 2, 2 / 3, id="every-choice-of-two"),
        # one each: the accuracy
        pytest.param(["7", "7", "8", None], [1, 1, 0, 0], 1, 0.5, id="majority-at-1-is-accuracy"),
        # one of the two 7 was cut, hence wrong: the vote earns its half
        pytest.param(["7", "7", "8"], [1, 0, 0], 3, 0.5, id="mixed-verdicts-share"),
    ],
)
def test_majority_by_hand(keys, correct, k, expected):
    assert majority_at_k([keys], [correct], k, rng=rng()) == pytest.approx(expected)
    # problems weigh alike: a second one that is always won
    assert majority_at_k([keys, ["1"] * k], [correct, [1] * k], k, rng=rng()) == pytest.approx((expected + 1) / 2)


def slow_majority(keys, correct, choices):
    """A loop over choices of samples: votes counted one by one."""
    total = 0.0
    for chosen in choices:
        votes: dict[str, list[bool]] = {}
        for i in chosen:
            if keys[i] is not None:
                votes.setdefault(keys[i], []).append(correct[i])
        most = max(map(len, votes.values()), default=0)
        winners = [held for held in votes.values() if len(held) == most]
        total += sum(sum(held) / len(held) for held in winners) / len(winners) if winners else 0.0
    return total / len(choices)


@pytest.mark.parametrize("seed", range(6))
def test_majority_against_brute_force(seed):
    make = rng(seed)
    n = int(make.integers(2, 8))
    keys = [[None if x == 4 else str(x) for x in make.integers(0, 5, n)] for _ in range(5)]
    correct = [[key in ("0", "1") for key in row] for row in keys]
    for k in range(1, n + 1):
        choices = list(itertools.combinations(range(n), k))
        expected = np.mean([slow_majority(*row, choices) for row in zip(keys, correct, strict=True)])
        assert majority_at_k(keys, correct, k, rng=rng()) == pytest.approx(expected)


def test_majority_of_many_samples_is_drawn_and_near_the_exact_value():
    # C(16, 8) = 12870 choices are more than the 1000 that are looked at
    keys = ["7"] * 6 + ["8"] * 5 + ["9"] * 3 + [None] * 2
    correct = [key == "7" for key in keys]
    exact = slow_majority(keys, correct, list(itertools.combinations(range(16), 8)))
    first = majority_at_k([keys], [correct], 8, rng=rng(1))
    assert first == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(1000))
    assert first == majority_at_k([keys], [correct], 8, rng=rng(1)) != majority_at_k([keys], [correct], 8, rng=rng(2))
    # every answer of the n is one choice: exact, whatever the generator
    assert majority_at_k([keys], [correct], 16, rng=rng(1)) == 1.0


def test_majority_ignores_the_order_of_samples_and_the_names_of_answers():
    keys, correct = ["7", "8", "7", None, "9"], [1, 0, 1, 0, 0]
    order = [3, 1, 4, 0, 2]
    moved = [{"7": "a", "8": "b", "9": "c", None: None}[keys[i]] for i in order]
    for k in range(1, 6):
        assert majority_at_k([moved], [[correct[i] for i in order]], k, rng=rng()) == pytest.approx(
            majority_at_k([keys], [correct], k, rng=rng())
        )


@pytest.mark.parametrize(
    ("keys", "correct", "k", "message"),
    [
        ([["7"], ["7", "8"]], [[1], [1, 0]], 2, "k is 2 but problem 0 has 1 samples"),
        ([["7"]], [[1]], 0, "k is 0"),
        ([["7", "8"]], [[1]], 1, "problem 0: keys has 2 samples but correct has 1"),
        ([["7"]], [[1], [0]], 1, "keys has 1 problems but correct has 2"),
        ([[7]], [[1]], 1, r"keys\[0\] is \[7\]; pass one answer per sample, as text, or None"),
        (["78"], [[1, 0]], 1, r"keys\[0\] is '78'"),
        ([["7"]], [[2]], 1, "one True or False per sample"),
        ([], [], 1, "correct has no problem"),
    ],
)
def test_majority_refuses(keys, correct, k, message):
    with pytest.raises(InputError, match=message):
        majority_at_k(keys, correct, k, rng=rng())


# ---- section 3: scores --------------------------------------------------------------------------------------


def test_metrics_3_score_carries_and_prints_weights_and_reference():
    score = accuracy_efficiency_score(accuracy=0.55, tokens=500, accuracy_ref=0.5, tokens_ref=1000)
    assert (score.weights, score.accuracy_ref, score.tokens_ref) == ((1, 3, 5), 0.5, 1000)
    assert str(score) == "0.8000 (AES, weights 1, 3, 5; reference accuracy 0.5, tokens 1000)"
    assert json.loads(json.dumps({"score": score})) == {"score": pytest.approx(0.8)}
    for again in (pickle.loads(pickle.dumps(score)), copy.deepcopy(score)):
        assert isinstance(again, EfficiencyScore)
        assert (again, again.weights, again.tokens_ref) == (score, score.weights, score.tokens_ref)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weights": (1, 5, 10)}, "weights"),
        ({"accuracy_ref": 0.6}, "accuracy_ref"),
        ({"tokens_ref": 900}, "tokens_ref"),
    ],
)
def test_metrics_3_scores_of_unlike_weights_or_reference_share_no_table(change, field):
    given = {"accuracy": 0.5, "tokens": 500, "accuracy_ref": 0.5, "tokens_ref": 1000}
    first, other = accuracy_efficiency_score(**given), accuracy_efficiency_score(**{**given, **change})
    check_same_reference({"a": first, "b": first})
    check_same_reference({})
    with pytest.raises(ValueError, match=f"{field} of b is"):
        check_same_reference({"a": first, "b": other})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens_ref": 0}, "tokens_ref is 0"),
        ({"accuracy_ref": 0}, "accuracy_ref is 0"),
        ({"accuracy": math.nan}, "accuracy is nan"),
        ({"tokens": -1}, "tokens is -1"),
        ({"weights": (1, 3)}, "weights is"),
        ({"weights": (1, 3, -5)}, "weights is"),
    ],
)
def test_metrics_3_score_refuses(change, message):
    given = {"accuracy": 0.5, "tokens": 500, "accuracy_ref": 0.5, "tokens_ref": 1000}
    with pytest.raises(ValueError, match=message):
        accuracy_efficiency_score(**{**given, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [1]}, r"tokens has shape \(1,\)"),
        ({"accuracy_ref": [0, 1]}, "accuracy_ref is"),
        ({"tokens_ref": [0, 1]}, "every value must be finite and > 0"),
    ],
)
def test_metrics_3_gain_ratio_refuses(change, message):
    given = {"accuracy": [1, 1], "tokens": [1, 1], "accuracy_ref": [1, 1], "tokens_ref": [1, 1]}
    with pytest.raises(ValueError, match=message):
        gain_ratio(**{**given, **change})
    with pytest.raises(ShapeError):
        gain_ratio([], [], [], [])


def test_metrics_3_relative_accuracy_explodes_on_hard_sets():
    # 11 -> 16 right of 30 at equal length: 3 * 5/11
    score = accuracy_efficiency_score(accuracy=16 / 30, tokens=900, accuracy_ref=11 / 30, tokens_ref=900)
    assert score == pytest.approx(1.3636, abs=5e-5)


def test_metrics_3_score_has_a_kink_at_equal_accuracy():
    given = {"tokens": 500, "accuracy_ref": 0.5, "tokens_ref": 1000}
    at, above, below = (accuracy_efficiency_score(accuracy=a, **given) for a in (0.5, 0.5005, 0.4995))
    # dA = .001: up by 3 of it, down by 5 of it
    assert (above - at, at - below) == pytest.approx((0.003, 0.005))


def test_metrics_3_gain_ratio_ignores_losses():
    # sets at .8 and 1.2 of the reference: mean of 0 and .2
    assert gain_ratio([0.8, 1.2], [1, 1], [1, 1], [2, 2]).gain == pytest.approx(0.1)


def test_metrics_3_frontier_keeps_what_nothing_dominates():
    points = [(300, 0.5), (100, 0.4), (200, 0.4), (300, 0.6), (400, 0.6), (100, 0.4), (500, 0.7)]
    # (200,.4) costs more than (100,.4); (300,.5) and (400,.6) lose to (300,.6); equal points both stay
    assert frontier(points) == [(100, 0.4), (100, 0.4), (300, 0.6), (500, 0.7)]
    assert frontier([]) == []


@pytest.mark.parametrize("seed", range(4))
def test_metrics_9_frontier_against_the_definition(seed):
    make = np.random.default_rng(seed)
    points = [(float(n), float(a)) for n, a in zip(make.integers(1, 9, 40), make.integers(0, 9, 40), strict=True)]

    def dominated(p):
        return any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)

    kept = frontier(points)
    assert kept == sorted(p for p in points if not dominated(p))
    worse = (kept[0][0] + 1, kept[0][1] - 1)
    assert frontier([*points, worse]) == kept  # adding a dominated point changes nothing


def test_metrics_3_matched_difference_interpolates_inside_the_range_only():
    baseline = [(400, 0.6), (200, 0.4), (200, 0.3)]
    # at 300 the baseline has .5
    assert matched_accuracy_difference(300, 0.55, baseline=baseline) == pytest.approx(0.05)
    # at 200 its better point counts
    assert matched_accuracy_difference(200, 0.5, baseline=baseline) == pytest.approx(0.1)
    assert matched_accuracy_difference(199, 0.5, baseline=baseline) is None
    assert matched_accuracy_difference(401, 0.5, baseline=baseline) is None
    with pytest.raises(InputError, match="baseline has no points"):
        matched_accuracy_difference(1, 1, baseline=[])
    with pytest.raises(InputError, match="both finite"):
        matched_accuracy_difference(math.inf, 1, baseline=baseline)
    # a baseline of one point matches its own length only
    assert matched_accuracy_difference(400, 0.7, baseline=[(400, 0.6)]) == pytest.approx(0.1)
    assert matched_accuracy_difference(401, 0.7, baseline=[(400, 0.6)]) is None


def slow_cut_curve(correct, tokens):
    """(mean tokens, accuracy) at every own length of the responses, problem by problem."""
    lengths = sorted({n for row in tokens for n in row})
    return [
        (mean_tokens_at_budget(tokens, b, cap=CAP), accuracy_at_budget(correct, tokens, b, cap=CAP)) for b in lengths
    ]


@pytest.mark.parametrize("seed", range(4))
def test_metrics_3_the_cut_curve_is_the_metrics_at_every_length(seed):
    correct, _, tokens = random_run(seed, samples=None)
    share = np.concatenate([np.full(len(row), 1 / len(row) / len(tokens)) for row in tokens])
    flat, right = np.concatenate(tokens), np.concatenate(correct).astype(bool)
    order = np.argsort(flat, kind="stable")
    curve_tokens, curve_accuracy = tradeoff_scores.cut_curve(right[order], flat[order], share[order][None])
    slow = slow_cut_curve(correct, tokens)
    assert curve_tokens[0] == pytest.approx([n for n, _ in slow])
    assert curve_accuracy[0] == pytest.approx([a for _, a in slow])
    assert (np.diff(curve_tokens[0]) >= 0).all()
    assert (np.diff(curve_accuracy[0]) >= 0).all()


def test_metrics_3_curves_are_interpolated_row_by_row():
    curve_tokens = np.array([[10.0, 20.0, 20.0, 30.0], [10.0, 20.0, 30.0, 40.0]])
    curve_accuracy = np.array([[0.0, 0.2, 0.4, 0.6], [0.0, 0.2, 0.4, 0.6]])
    for asked, expected in (
        ([10, 40], [0.0, 0.6]),
        ([15, 25], [0.1, 0.3]),
        ([20, 20], [0.4, 0.2]),  # of points with equal tokens the best counts
        ([25, 35], [0.5, 0.5]),
        ([9, 41], [np.nan, np.nan]),
    ):
        found = tradeoff_scores.accuracy_at_tokens(np.array(asked, dtype=float), curve_tokens, curve_accuracy)
        assert found == pytest.approx(expected, nan_ok=True)
    # a sum in another order may be a rounding above the end
    assert (
        tradeoff_scores.accuracy_at_tokens(np.array([30 * (1 + 1e-15)]), curve_tokens[:1], curve_accuracy[:1])[0] == 0.6
    )


def test_arrays_and_lists_give_the_same():
    assert accuracy(np.array(CORRECT)) == accuracy(np.array(CORRECT, dtype=bool)) == accuracy(CORRECT)
    assert mean_tokens(np.array(TOKENS)) == mean_tokens(TOKENS)
    assert metrics.check_flags(CORRECT, "x")[0].dtype == bool
    assert tradeoff_scores.check_weights([1, 2, 3]) == (1.0, 2.0, 3.0)
