"""Length rewards of rows and of groups (spec pages length-rewards and grpo-lambda): hand numbers, loops, edges."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    adaptive_penalty,
    adaptive_weight,
    budget_exact,
    budget_max,
    cosine_length,
    group_normalised,
    history_length,
    linear_price,
    min_max_length,
    normalised_length,
    reference_ratio,
    selective_length_penalty,
    shortest_correct,
    soft_overlong,
    step_bonus,
    truncation,
)

Reward = Callable[..., torch.Tensor]


def same(result: torch.Tensor, *expected: float, digits: float = 5e-5) -> None:
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, floats(*expected), rtol=0, atol=digits)


def random_rows(seed: int, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    correct = torch.rand(rows, generator=make) < 0.6
    num_tokens = torch.randint(1, 900, (rows,), generator=make)
    group_ids = torch.randint(-3, 12, (rows,), generator=make)
    group_ids[0] = 100
    return correct, num_tokens, group_ids


REFERENCE = {"reference_tokens": 400.0, "reference_accuracy": 0.5}


def _reference(c: torch.Tensor, n: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    tokens, accuracy = (torch.full_like(n, value, dtype=torch.float64) for value in REFERENCE.values())
    return reference_ratio(c, n, tokens, accuracy)


# every reward as a function of (correct, num_tokens, group_ids), terms added to the verdict
EVERY: dict[str, Reward] = {
    "truncation": lambda c, n, g: truncation(c, n, torch.ones_like(c), limit=450),
    "soft overlong": lambda c, n, g: c + soft_overlong(n, limit=600, cache=200),
    "cosine": lambda c, n, g: cosine_length(c, n, limit=700),
    "exact": lambda c, n, g: budget_exact(c, n, 400),
    "max": lambda c, n, g: budget_max(c, n, 400, alpha=3e-3),
    "max code": lambda c, n, g: budget_max(c, n, 400, alpha=3e-3, form="code"),
    "normalised": lambda c, n, g: normalised_length(c, n, g),
    "shortest": lambda c, n, g: shortest_correct(c, n, g),
    "min-max": lambda c, n, g: c + min_max_length(c, n, g),
    "alp": lambda c, n, g: adaptive_penalty(c, n, g, beta=1e-5),
    "hapo": lambda c, n, g: history_length(c, n, torch.full_like(n, 300)),
    "hapo linear": lambda c, n, g: history_length(c, n, torch.full_like(n, 300), form="linear"),
    "laser": lambda c, n, g: step_bonus(c, n, torch.ones_like(c), target=400),
    "o1": _reference,
    "a-dlp": lambda c, n, g: adaptive_weight(c, n, weight=1e-3),
    "price": lambda c, n, g: linear_price(c, n, price=1e-3),
    "grpo-lambda": lambda c, n, g: selective_length_penalty(c, n, g, fraction=1.0),
}
every = pytest.mark.parametrize("reward", EVERY.values(), ids=EVERY.keys())


# ---- hand numbers -----------------------------------------------------------------------------------------


def test_length_rewards_6_normalised_length() -> None:
    # mean 400, std 100, z = -1 and 1: 1 - .1 * sigma(-1) = 1 - .0268941; 1 - .1 * .7310586
    same(normalised_length(bools(1, 1), ints(300, 500), ints(0, 0)), 0.9731, 0.9269)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        # 2000 - n = 2000, 1000, 0, -1000, -2000 times 3e-4 = .6, .3, 0, -.3, -.6
        pytest.param("paper", [1, 0.8, 0.5, 0.2, 0], id="length-rewards-6-max-paper"),  # + .5, clipped to [0, 1]
        pytest.param("code", [0.8, 0.65, 0.5, 0.35, 0.2], id="length-rewards-6-max-code"),  # (. + 1)/2
        pytest.param("exact", [0.4, 0.7, 1, 0.7, 0.4], id="length-rewards-6-exact"),  # 1 - |.|
    ],
)
def test_budget_hand_numbers(option: str, expected: list[float]) -> None:
    correct, num_tokens = bools(1, 1, 1, 1, 1), ints(0, 1000, 2000, 3000, 4000)
    for target in (2000, torch.full((5,), 2000)):
        if option == "exact":
            same(budget_exact(correct, num_tokens, target), *expected, digits=1e-12)
        else:
            same(budget_max(correct, num_tokens, target, form=option), *expected, digits=1e-12)
            assert not budget_max(~correct, num_tokens, target, form=option).any()


def test_length_rewards_6_min_max() -> None:
    # (n - 100)/400 = 0, .25, .5, 1; .5 minus it; wrong rows keep what is below 0
    lengths, group = ints(100, 200, 300, 500), ints(0, 0, 0, 0)
    same(min_max_length(bools(1, 1, 1, 1), lengths, group), 0.5, 0.25, 0, -0.5, digits=1e-12)
    same(min_max_length(bools(0, 0, 0, 0), lengths, group), 0, 0, 0, -0.5, digits=1e-12)
    same(min_max_length(bools(1, 0, 0, 1), lengths, group, weight=2.0), 1, 0, 0, -1, digits=1e-12)


def test_length_rewards_6_alp() -> None:
    # p = 3/4: 1 - 1e-5 * 1000 * .75; 0 - 1e-5 * 2000 * .75; p = 0: 1/K = 1/4, -1e-5 * 2000 / 4
    result = adaptive_penalty(
        bools(1, 0, 1, 1, 0, 0, 0, 0), ints(1000, 2000, 1, 1, 2000, 1, 1, 1), ints(0, 0, 0, 0, 1, 1, 1, 1), beta=1e-5
    )
    same(result[[0, 1, 4]], 0.9925, -0.015, -0.005, digits=1e-12)


def test_length_rewards_6_cosine() -> None:
    # cos 0, pi/2, pi = 1, 0, -1, and pi again above the limit: .5 + .25 * (2, 1, 0, 0); -.5 - .25 * (2, 1, 0, 0)
    lengths = ints(0, 500, 1000, 1500)
    same(cosine_length(bools(1, 1, 1, 1), lengths, limit=1000), 1, 0.75, 0.5, 0.5, digits=1e-12)
    same(cosine_length(bools(0, 0, 0, 0), lengths, limit=1000), -1, -0.75, -0.5, -0.5, digits=1e-12)


def test_cosine_without_the_clamp_comes_back_up_and_takes_a_limit_per_row() -> None:
    # cos(1.5 pi) = 0 as at half the limit; the second row's own limit is its length
    result = cosine_length(bools(1, 1), ints(1500, 300), limit=ints(1000, 300), clamp=False)
    same(result, 0.75, 0.5, digits=1e-12)


def test_length_rewards_6_soft_overlong() -> None:
    # free up to 800, then -50/200, -100/200, -200/200, and -1 above
    result = soft_overlong(ints(800, 850, 900, 1000, 1001), limit=1000, cache=200)
    same(result, 0, -0.25, -0.5, -1, -1, digits=1e-12)
    # verl has no floor: -(1100 - 800)/200
    same(soft_overlong(ints(1100), limit=1000, cache=200, floor=False), -1.5, digits=1e-12)


def test_length_rewards_6_shortest_correct() -> None:
    # n* = 300: 2 - 0; 2 - .001 * 200; -.001 * 100
    same(shortest_correct(bools(1, 1, 0), ints(300, 500, 400), ints(0, 0, 0)), 2, 1.8, -0.1, digits=1e-12)


def test_length_rewards_6_o1_pruner() -> None:
    # 600/400 - 1 + 2 * .5; 600/800 - 1 - 2 * .5; 600/100 - 1 + 2 * .5 = 6
    rows = bools(1, 0, 1), ints(400, 800, 100), floats(600, 600, 600), floats(0.5, 0.5, 0.5)
    same(reference_ratio(*rows), 1.5, -1.25, 6, digits=1e-12)
    same(reference_ratio(*rows, clip=(-2, 4)), 1.5, -1.25, 4, digits=1e-12)
    # mean 4.25/3 = 1.41667, deviations .08333, -2.66667, 2.58333, sample std sqrt(13.79167/2) = 2.62599
    same(reference_ratio(*rows, clip=(-2, 4), standardise=True), 0.03173, -1.01549, 0.98376, digits=1e-5)


def test_linear_price_is_the_verdict_minus_a_price() -> None:
    # 1 - .01 * 30, 0 - .01 * 3
    same(linear_price(bools(1, 0), ints(30, 3), price=0.01), 0.7, -0.03, digits=1e-12)
    assert torch.equal(linear_price(bools(1, 0), ints(30, 3), price=0.0), floats(1, 0))


# ---- against a loop ---------------------------------------------------------------------------------------


def loop_normalised(c: list[bool], n: list[int], members: list[int], i: int, alpha: float, form: str) -> float:
    right = [n[j] for j in members if c[j]]
    if not c[i]:
        return 0.0
    if form == "paper":
        z = (n[i] - statistics.fmean(right)) / (statistics.pstdev(right) + 1e-7)
    elif len(right) == 1:
        z = float(n[i])
    else:
        z = (n[i] - statistics.fmean(right)) / (statistics.stdev(right) + 1e-6)
    return 1 - alpha / (1 + math.exp(-z))


def loop_group_reward(name: str, c: list[bool], n: list[int], members: list[int], i: int) -> float:
    lengths, right = [n[j] for j in members], [n[j] for j in members if c[j]]
    if name in ("paper", "laser"):
        return loop_normalised(c, n, members, i, 0.3, name)
    if name == "shortest":
        goal = min(right) if right else statistics.fmean(lengths)
        return 2.0 * c[i] - 1e-3 * abs(n[i] - goal)
    if name == "alp":
        return c[i] - 1e-4 * n[i] * max(len(right) / len(lengths), 1 / len(lengths))
    if max(lengths) == min(lengths):
        return 0.0
    place = 0.5 - (n[i] - min(lengths)) / (max(lengths) - min(lengths))
    return place if c[i] else min(0.0, place)


GROUP_REWARDS: dict[str, Reward] = {
    "paper": lambda c, n, g: normalised_length(c, n, g, alpha=0.3),
    "laser": lambda c, n, g: normalised_length(c, n, g, alpha=0.3, form="laser"),
    "shortest": lambda c, n, g: shortest_correct(c, n, g),
    "alp": lambda c, n, g: adaptive_penalty(c, n, g, beta=1e-4),
    "min-max": lambda c, n, g: min_max_length(c, n, g),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GROUP_REWARDS)
def test_group_rewards_against_a_loop(name: str, seed: int) -> None:
    correct, num_tokens, group_ids = random_rows(seed)
    c, n = correct.tolist(), num_tokens.tolist()
    expected = []
    for i in range(60):
        members = [j for j in range(60) if group_ids[j] == group_ids[i]]
        expected.append(loop_group_reward(name, c, n, members, i))
    torch.testing.assert_close(GROUP_REWARDS[name](correct, num_tokens, group_ids), floats(*expected))


@pytest.mark.parametrize("seed", range(2))
def test_row_rewards_against_a_loop(seed: int) -> None:
    correct, num_tokens, _ = random_rows(seed)
    make = torch.Generator().manual_seed(seed + 50)
    target, tokens = (torch.randint(1, 900, (60,), generator=make) for _ in range(2))
    accuracy = torch.rand(60, generator=make, dtype=torch.float64)
    columns: dict[str, list[float]] = {name: [] for name in ("overlong", "cosine", "exact", "max", "code", "o1")}
    for i in range(60):
        c, n, t = float(correct[i]), int(num_tokens[i]), int(target[i])
        columns["overlong"].append(0.0 if n <= 300 else (300 - n) / 200 if n <= 500 else -1.0)
        lo, hi = (0.5, 1.0) if c else (-0.5, -1.0)
        columns["cosine"].append(lo + (hi - lo) / 2 * (1 + math.cos(math.pi * min(n / t, 1))))
        columns["exact"].append(c - 1e-3 * abs(t - n))
        columns["max"].append(c * min(max(1e-3 * (t - n) + 0.5, 0), 1))
        columns["code"].append(c * (min(max(1e-3 * (t - n), -1), 1) + 1) / 2)
        columns["o1"].append(int(tokens[i]) / n - 1 + 2 * (c - float(accuracy[i])))
    results = {
        "overlong": soft_overlong(num_tokens, limit=500, cache=200),
        "cosine": cosine_length(correct, num_tokens, limit=target),
        "exact": budget_exact(correct, num_tokens, target, alpha=1e-3),
        "max": budget_max(correct, num_tokens, target, alpha=1e-3),
        "code": budget_max(correct, num_tokens, target, alpha=1e-3, form="code"),
        "o1": reference_ratio(correct, num_tokens, tokens.double(), accuracy),
    }
    for name, result in results.items():
        torch.testing.assert_close(result, floats(*columns[name]))


# ---- invariants (length-rewards section 7, section 3) -----------------------------------------------------


@every
def test_permuting_rows_permutes_rewards_and_empty_gives_empty(reward: Reward) -> None:
    correct, num_tokens, group_ids = random_rows(4)
    whole = reward(correct, num_tokens, group_ids)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reward(correct[order], num_tokens[order], group_ids[order]), whole[order])
    if reward is not EVERY["grpo-lambda"]:
        assert reward(bools(), ints(), ints()).shape == (0,)


@every
def test_a_correct_reward_never_rises_with_its_own_length(reward: Reward) -> None:
    correct, num_tokens, group_ids = random_rows(5)
    for row in correct.nonzero()[:8, 0].tolist():
        values = []
        for length in range(1, 1000, 37):
            lengths = num_tokens.clone()
            lengths[row] = length
            values.append(float(reward(correct, lengths, group_ids)[row]))
        steps = torch.tensor(values).diff()
        if reward in (EVERY["exact"], EVERY["shortest"]):  # these peak at the target
            assert (steps[: int(torch.tensor(values).argmax())] >= -1e-12).all()
            assert (steps[int(torch.tensor(values).argmax()) :] <= 1e-12).all()
        else:
            assert (steps <= 1e-12).all()


@every
def test_another_group_in_the_batch_changes_nothing(reward: Reward) -> None:
    correct, num_tokens, group_ids = random_rows(6)
    some = group_ids < 5
    part = reward(correct[some], num_tokens[some], group_ids[some])
    torch.testing.assert_close(part, reward(correct, num_tokens, group_ids)[some])


@pytest.mark.parametrize("name", ["normalised", "min-max", "grpo-lambda"])
def test_a_constant_added_to_all_lengths_of_a_group_changes_nothing(name: str) -> None:
    correct, num_tokens, group_ids = random_rows(7)
    moved = num_tokens + 5000 * (group_ids == group_ids[1])
    torch.testing.assert_close(EVERY[name](correct, moved, group_ids), EVERY[name](correct, num_tokens, group_ids))


@pytest.mark.parametrize("name", ["truncation", "normalised", "max", "shortest", "grpo-lambda"])
def test_lengths_of_wrong_rows_do_not_matter_to_the_right_ones(name: str) -> None:
    correct, num_tokens, group_ids = random_rows(8)
    other = torch.where(correct, num_tokens, num_tokens + 77)
    changed, before = (EVERY[name](correct, n, group_ids)[correct] for n in (other, num_tokens))
    assert torch.equal(changed, before)


NEVER_BELOW = ["truncation", "soft overlong", "cosine", "max", "max code", "normalised", "hapo", "hapo linear",
               "laser", "min-max", "grpo-lambda"]  # fmt: skip


@pytest.mark.parametrize("name", NEVER_BELOW)
def test_a_right_answer_never_scores_below_a_wrong_one_of_its_group(name: str) -> None:
    correct, num_tokens, group_ids = random_rows(9)
    result = EVERY[name](correct, num_tokens, group_ids)
    for group in group_ids.unique():
        right, wrong = result[(group_ids == group) & correct], result[(group_ids == group) & ~correct]
        if len(right) and len(wrong):
            assert right.min() >= wrong.max()


def test_alp_scale_cancels_until_it_nears_the_eps_of_the_division() -> None:
    # all correct, lengths 1000 and 1000 + 1000 sqrt 2: sample std 1000; beta 1e-9 gives 1e-6 beside eps 1e-6: half
    correct, num_tokens, group = bools(1, 1), ints(1000, 2414), ints(0, 0)
    large = group_normalised(adaptive_penalty(correct, num_tokens, group, beta=1e-3), group)
    small = group_normalised(adaptive_penalty(correct, num_tokens, group, beta=1e-9), group)
    torch.testing.assert_close(small / large, floats(0.5, 0.5), rtol=1e-3, atol=0)


# ---- edge cases (length-rewards section 5) ----------------------------------------------------------------


def test_group_of_one_row() -> None:
    one = bools(1), ints(700), ints(4)
    same(normalised_length(*one, alpha=0.3), 0.85)  # z = 0: 1 - .3/2
    same(normalised_length(*one, alpha=0.3, form="laser"), 0.7)  # z = 700: 1 - .3
    same(shortest_correct(*one), 2)
    same(min_max_length(*one), 0)
    same(adaptive_penalty(*one, beta=1e-4), 1 - 1e-4 * 700)


def test_no_correct_row_in_the_group() -> None:
    group = bools(0, 0), ints(100, 300), ints(4, 4)
    same(normalised_length(*group), 0, 0)
    same(shortest_correct(*group), -0.1, -0.1)  # mean 200
    same(min_max_length(*group), 0, -0.5)
    same(adaptive_penalty(*group, beta=1e-4), -0.005, -0.015)  # 1/K = 1/2


def test_equal_lengths_and_ties_for_the_shortest() -> None:
    same(normalised_length(bools(1, 1, 0), ints(7, 7, 900), ints(0, 0, 0)), 0.95, 0.95, 0)
    same(min_max_length(bools(1, 0), ints(7, 7), ints(0, 0)), 0, 0)
    same(shortest_correct(bools(1, 1, 1), ints(7, 7, 17), ints(0, 0, 0)), 2, 2, 1.99)


def test_no_token_at_all_is_allowed_by_all_but_the_ratio() -> None:
    for name, reward in EVERY.items():
        if name == "o1":
            with pytest.raises(InputError, match=r"num_tokens\[1\] is 0; pass at least 1 token"):
                reward(bools(1, 1), ints(5, 0), ints(0, 0))
        else:
            assert torch.isfinite(reward(bools(1, 1), ints(5, 0), ints(0, 0))).all()


def test_overlong_without_a_cache_is_a_step() -> None:
    same(soft_overlong(ints(999, 1000, 1001), limit=1000, cache=0), 0, 0, -1)
    with pytest.raises(ConfigError, match="cache is 0 with floor=False"):
        soft_overlong(ints(1), limit=1000, cache=0, floor=False)
    with pytest.raises(ConfigError, match="cache is 11 but limit is 10"):
        soft_overlong(ints(1), limit=10, cache=11)


@every
def test_bad_rows_are_refused_by_name(reward: Reward) -> None:
    with pytest.raises(InputError, match=r"num_tokens\[1\] is -2"):
        reward(bools(1, 1), ints(3, -2), ints(0, 0))
    with pytest.raises(ShapeError, match="num_tokens"):
        reward(bools(1, 1), floats(3, 2), ints(0, 0))
    if reward is not EVERY["soft overlong"]:
        with pytest.raises(ShapeError, match="correct"):
            reward(floats(1, 1), ints(3, 2), ints(0, 0))
        with pytest.raises(ShapeError, match="entries but"):
            reward(bools(1, 1, 1), ints(3, 2), ints(0, 0, 0))


GROUP = (bools(1), ints(1), ints(0))
ROW = GROUP[:2]
BAD: list[tuple[Reward, tuple[Any, ...], dict[str, Any]]] = [
    (soft_overlong, (ints(1),), {"limit": 0, "cache": 0}),
    (soft_overlong, (ints(1),), {"limit": 5, "cache": -1}),
    (cosine_length, ROW, {"limit": 0}),
    (cosine_length, ROW, {"limit": 5, "correct_range": 1.0}),
    (cosine_length, ROW, {"limit": 5, "wrong_range": (0.0, math.nan)}),
    (budget_exact, (*ROW, 5), {"alpha": -1.0}),
    (budget_exact, (*ROW, 5), {"alpha": math.nan}),
    (budget_max, (*ROW, 5), {"form": "other"}),
    (budget_max, (*ROW, 0), {}),
    (budget_max, (*ROW, 5.0), {}),
    (linear_price, ROW, {"price": -0.1}),
    (linear_price, ROW, {"price": math.inf}),
    (reference_ratio, (*ROW, floats(1), floats(1)), {"lam": -1.0}),
    (reference_ratio, (*ROW, floats(1), floats(1)), {"clip": (4, -2)}),
    (normalised_length, GROUP, {"alpha": 1.0}),
    (normalised_length, GROUP, {"alpha": -0.1}),
    (normalised_length, GROUP, {"form": "code"}),
    (shortest_correct, GROUP, {"alpha": -1.0}),
    (shortest_correct, GROUP, {"beta": math.nan}),
    (min_max_length, GROUP, {"weight": -1.0}),
    (adaptive_penalty, GROUP, {"beta": "1"}),
]


@pytest.mark.parametrize(("reward", "rows", "options"), BAD)
def test_options_out_of_range_are_refused(reward: Reward, rows: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="|".join(options) or "target_tokens"):
        reward(*rows, **options)


def test_reference_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"reference_tokens\[0\] is 0.0"):
        reference_ratio(*ROW, floats(0), floats(1))
    with pytest.raises(InputError, match=r"reference_accuracy\[0\] is 1.5"):
        reference_ratio(*ROW, floats(1), floats(1.5))
    with pytest.raises(InputError, match=r"target_tokens\[0\] is 0"):
        budget_exact(*ROW, ints(0))
