"""Length terms of production trainers (spec page production-penalties): hand numbers, loops, invariants, edges."""

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
    efficiency_bonus,
    effort_reward,
    gated_decay,
    group_length_bonus,
    group_normalised,
    length_weighted_baseline,
    linear_length,
    max_share_penalty,
    quantile_slack,
    relative_length,
)

Reward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
FOUR = ints(7, 7, 7, 7)


def same(result: torch.Tensor, *expected: float, digits: float = 6e-5) -> None:
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, floats(*expected), rtol=0, atol=digits)


def centred(rewards: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    return group_normalised(rewards, group_ids, divide_by_std=False)


# ---- hand numbers (production-penalties section 8) --------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "r", "n", "paid", "advantage"),
    [
        # mean 2000: 1/1.15, 1/1.3, 1/1.6; their mean over four .5659
        (0.3, [1, 1, 1, 0], [1000, 2000, 4000, 1000], [0.8696, 0.7692, 0.6250, 0], [0.3036, 0.2033, 0.0591, -0.5659]),
        # mean 4000: 1/1.075, 1/1.15, 1/1.3: a long wrong row raises every right row
        (0.3, [1, 1, 1, 0], [1000, 2000, 4000, 9000], [0.9302, 0.8696, 0.7692, 0], [0.2880, 0.2273, 0.1270, -0.6423]),
        # mean 2750: 1/(1 + 2000/2750), 1/(1 + 18000/2750): alpha too large, a right row is pushed down
        (2, [1, 1, 0, 0], [1000, 9000, 500, 500], [0.5789, 0.1325, 0, 0], [0.4011, -0.0453, -0.1779, -0.1779]),
    ],
)
def test_production_8_gr3(
    alpha: float, r: list[float], n: list[int], paid: list[float], advantage: list[float]
) -> None:
    result = relative_length(floats(*r), ints(*n), FOUR, alpha=alpha)
    same(result, *paid)
    same(centred(result, FOUR), *advantage)


def test_production_8_prime_rl_linear() -> None:
    # mean reward .5: .125 * n/8000 = .03125, .09375, .015625, .109375
    r, n = floats(1, 1, 0, 0), ints(2000, 6000, 1000, 7000)
    paid = linear_length(r, n, FOUR, max_tokens=8000)
    same(paid, 0.9688, 0.9062, -0.0156, -0.1094)
    same(centred(paid, FOUR), 0.5312, 0.4688, -0.4531, -0.5469)
    # by the reward: wrong rows pay 0, mean .46875
    same(centred(linear_length(r, n, FOUR, max_tokens=8000, by_reward=True), FOUR), 0.5, 0.4375, -0.4688, -0.4688)
    # by tokens: (2000 * .96875 + 6000 * .90625 - 1000 * .015625 - 7000 * .109375)/16000 = .41211
    weighted = length_weighted_baseline(paid, n, FOUR)
    same(weighted, 0.5566, 0.4941, -0.4277, -0.5215)
    same(paid - weighted, 0.4121, 0.4121, 0.4121, 0.4121)
    # per row, the cap that it was drawn under
    same(linear_length(r, n, FOUR, max_tokens=ints(8000, 8000, 8000, 8000)), *paid.tolist(), digits=1e-12)


def test_production_8_prime_rl_linear_pays_for_length_where_the_mean_reward_is_negative() -> None:
    # mean reward -.5: the same prices with the other sign
    rows = floats(-1, -1, 1, -1), ints(2000, 6000, 1000, 7000), FOUR
    same(linear_length(*rows, max_tokens=8000, allow_negative=True), -0.9688, -0.9062, 1.0156, -0.8906)
    with pytest.raises(InputError, match=r"rewards\[0\] is -1.0; pass rewards of at least 0"):
        linear_length(*rows, max_tokens=8000)


def test_production_8_prime_rl_efficiency() -> None:
    # right mean 3000: 1 - 1/3, 1 - 2/3, 1 - 2 -> 0; the short wrong row earns nothing
    paid = efficiency_bonus(floats(1, 1, 1, 0), ints(1000, 2000, 6000, 100), FOUR)
    same(paid, 1.6667, 1.3333, 1, 0)
    same(centred(paid, FOUR), 0.6667, 0.3333, 0, -1)


def test_production_8_prime_rl_max_share() -> None:
    # mean reward 2/3; prices .25/4 + .1/10 + .1/5 = .0925, .45, .25/2 + .1/2 + .1 * .4 = .215
    lengths = torch.stack([ints(1000, 4000, 2000), ints(500, 5000, 2500), ints(1, 5, 2)])
    paid = max_share_penalty(floats(1, 1, 0), lengths, ints(0, 0, 0), weights=(0.25, 0.1, 0.1))
    same(paid, 0.9383, 0.7, -0.1433)
    same(centred(paid, ints(0, 0, 0)), 0.44, 0.2017, -0.6417)


def test_production_8_nemotron() -> None:
    # 1 - place = 1, .5, 0; less .5
    three, nothing = ints(0, 0, 0), ints(5, 5, 5)
    lengths = ints(400, 1000, 1600)
    same(group_length_bonus(floats(0, 0, 0), lengths, nothing, three, thinking_weight=1.0), 0.5, 0, -0.5)
    same(group_length_bonus(floats(1, 0, 1), nothing, lengths, three, answer_weight=0.3), 1.15, 0, 0.85)
    # 1 for the shortest, less .25; times .5
    lengths, nothing = ints(2000, 100, 2000, 2000), ints(5, 5, 5, 5)
    paid = group_length_bonus(floats(1, 0, 0, 0), lengths, nothing, FOUR, thinking_weight=0.5)
    same(paid, 0.875, 0.375, -0.125, -0.125)


def test_production_8_effort() -> None:
    # .6 * (1 - n/2000): .45, 0, -.3, -.3, .45, .45, .15
    r, n = floats(1, 1, 1, 0, 0, -1, -1), ints(500, 2000, 3000, 3000, 500, 500, 1500)
    result = effort_reward(r, n, budget=2000, weight=0.6, allow_negative=True)
    same(result, 1.45, 1.00, 0.70, -0.30, 0, -1.45, -1.15, digits=1e-12)
    marked = effort_reward(r, n, budget=2000, weight=0.6, allow_negative=True, marked=bools(1, 1, 0, 0, 1, 1, 1))
    same(marked, 1.45, 1.00, 1, 0, 0, -1.45, -1.15, digits=1e-12)
    with pytest.raises(InputError, match=r"rewards\[5\] is -1.0"):
        effort_reward(r, n, budget=2000, weight=0.6)


def test_production_8_quantile_slack() -> None:
    # right lengths 400, 600, 1000, 3000: at .75 of the way from 400 to 600, 550; allowed 605 + 16 = 621
    # 1000: .1 * 379/550 = .0689; 3000: .4325, at most .2
    rows = floats(1, 1, 1, 0, 1), bools(1, 1, 1, 0, 1), ints(400, 600, 1000, 5000, 3000), ints(0, 0, 0, 0, 0)
    same(quantile_slack(*rows), 1, 1, 0.9311, 0, 0.8)
    # right lengths 100, 1000, 5000: halfway from 100 to 1000
    rows = floats(1.2, 1, 1), bools(1, 1, 1), ints(100, 1000, 5000), ints(0, 0, 0)
    same(quantile_slack(*rows), 1.2, 0.9311, 0.8)


def test_production_8_context_cost() -> None:
    # d .25: .25 + .75 * exp(-16000/65536) = .8375, .25 + .75 * exp(-32000/65536) = .7103
    rows = floats(1, 1, 1, 0), bools(1, 1, 1, 0), ints(8000, 24000, 40000, 3000), FOUR
    same(gated_decay(*rows), 1, 0.8375, 0.7103, 0)
    # d .5: .5 + .5 * exp(-1) = .6839, held at the best wrong
    rows = floats(1, 1, 0.6, 0.95), bools(1, 1, 0, 0), ints(8000, 73536, 3000, 3000), FOUR
    same(gated_decay(*rows), 1, 0.95, 0.6, 0.95)


# ---- against loops ----------------------------------------------------------------------------------------


def random_rows(seed: int, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Verdicts, graded rewards (right ones 1 to 1.5, wrong ones 0 to .7), lengths and group ids."""
    make = torch.Generator().manual_seed(seed)
    correct = torch.rand(rows, generator=make) < 0.6
    reward = torch.rand(rows, generator=make, dtype=torch.float64)
    reward = torch.where(correct, 1 + reward.round() / 2, reward * 0.7)
    num_tokens = torch.randint(0, 3000, (rows,), generator=make)
    group_ids = torch.randint(-3, 12, (rows,), generator=make)
    group_ids[0] = 100
    return correct, reward, num_tokens, group_ids


def loop_quantile(values: list[int], q: float) -> float:
    values = sorted(values)
    place = q * (len(values) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return values[low] + (values[high] - values[low]) * (place - low)


def loop_place(n: list[int], i: int, rows: list[int]) -> float:
    low, high = min(n[j] for j in rows), max(n[j] for j in rows)
    if low == high:
        return 0.0
    places = {j: min(max(1 - (n[j] - low) / (high - low), 0), 1) for j in {*rows, i}}
    return places[i] - statistics.fmean(places[j] for j in rows)


def loop_reward(name: str, c: list[bool], r: list[float], n: list[int], mates: list[int], i: int) -> float:
    right = [j for j in mates if c[j]]
    mean = statistics.fmean(r[j] for j in mates)
    if name.startswith("gr3"):
        rows = right if name.endswith("right") else mates
        centre = statistics.fmean(n[j] for j in rows) if rows else 0
        return r[i] / (1 + 0.3 * n[i] / centre) if centre else r[i]
    if name == "efficiency":
        top = [j for j in mates if r[j] == max(r[k] for k in mates)]
        centre = statistics.fmean(n[j] for j in top)
        return r[i] * (1 + min(max(1 - n[i] / centre, 0), 1)) if i in top and r[i] > 0 and centre else r[i]
    if name.startswith("linear"):
        price = 0.25 * mean * n[i] / 3000
        return r[i] - price * (r[i] if name.endswith("reward") else 1)
    if name == "effort":
        e = min(1, 0.6 * (1 - n[i] / 1000))
        return r[i] + r[i] * max(e, 0) + 2 * min(e, 0)
    if name == "slack":
        if not c[i] or len(right) < 2:
            return r[i]
        ref = max(1, loop_quantile([n[j] for j in right], 0.25))
        over = n[i] - (1.1 * ref + 16)
        return max(min(0.8, r[i]), r[i] - min(0.2, 0.1 * over / ref)) if over > 0 else r[i]
    if name == "decay":
        if not c[i]:
            return r[i]
        d = 1 - len(right) / len(mates)
        f = d + (1 - d) * math.exp(-0.5 * max(0, n[i] - min(n[j] for j in right)) / 32768)
        return max([r[i] * f, *(r[j] for j in mates if not c[j])])
    if name.startswith("max share"):
        rows = right if name.endswith("right") else mates
        share = min(1, n[i] / max([1, *(n[j] for j in rows)]))
        return r[i] - mean * 0.1 * share
    assert name.startswith("bonus")
    rows = right if name.endswith("right") else mates
    return r[i] + (0.1 * loop_place(n, i, rows) if rows else 0.0)


TRAINER_REWARDS: dict[str, Callable[..., torch.Tensor]] = {
    "gr3": lambda c, r, n, g: relative_length(r, n, g),
    "gr3 right": lambda c, r, n, g: relative_length(r, n, g, counted=c),
    "efficiency": lambda c, r, n, g: efficiency_bonus(r, n, g),
    "linear": lambda c, r, n, g: linear_length(r, n, g, max_tokens=3000),
    "linear by reward": lambda c, r, n, g: linear_length(r, n, g, max_tokens=3000, by_reward=True),
    "effort": lambda c, r, n, g: effort_reward(r, n, budget=1000, weight=0.6, penalty=2.0),
    "slack": lambda c, r, n, g: quantile_slack(r, c, n, g),
    "decay": lambda c, r, n, g: gated_decay(r, c, n, g),
    "max share": lambda c, r, n, g: max_share_penalty(r, n[None], g),
    "max share right": lambda c, r, n, g: max_share_penalty(r, n[None], g, counted=c),
    "bonus": lambda c, r, n, g: group_length_bonus(r, n, n, g, answer_weight=0.0),
    "bonus right": lambda c, r, n, g: group_length_bonus(r, n, n, g, thinking_weight=0.0, counted=c),
}
every = pytest.mark.parametrize("name", TRAINER_REWARDS)


@every
@pytest.mark.parametrize("seed", range(3))
def test_trainer_rewards_against_a_loop(name: str, seed: int) -> None:
    correct, reward, num_tokens, group_ids = random_rows(seed)
    c, r, n, g = correct.tolist(), reward.tolist(), num_tokens.tolist(), group_ids.tolist()
    expected = [loop_reward(name, c, r, n, [j for j in range(60) if g[j] == g[i]], i) for i in range(60)]
    torch.testing.assert_close(TRAINER_REWARDS[name](correct, reward, num_tokens, group_ids), floats(*expected))


def test_the_flat_bonus_goes_to_the_shortest_that_is_among_the_best() -> None:
    # ten rows: rank max(0, 2 - 1) = 1, so the reward of the second best, .9, is enough; nine rows: rank 0
    r = floats(1, 0.9, 0.8, 0, 0, 0, 0, 0, 0, 0)
    lengths = torch.full((10,), 50)
    for shortest, paid in ((0, 1.5), (1, 1.4), (2, 0.8)):  # the shortest of all or nobody
        n = lengths.clone()
        n[shortest] = 10
        result = group_length_bonus(r, n, n, lengths, thinking_weight=0.0, answer_weight=0.0, thinking_bonus=0.5)
        assert float(result[shortest]) == pytest.approx(paid)
        assert torch.equal(result - r != 0, (torch.arange(10) == shortest) & (shortest < 2))
    nine = group_length_bonus(r[1:], n[1:], n[1:], n[1:] * 0, thinking_weight=0.0, answer_weight=0.0, answer_bonus=0.5)
    assert torch.equal(nine, r[1:])
    # empty thinking is the best place, and not the shortest; equally short rows are both paid
    n = ints(0, 40, 40, 90)
    result = group_length_bonus(floats(1, 1, 1, 1), n, n, FOUR, thinking_weight=0.0, answer_weight=0.0, answer_bonus=1)
    same(result, 1, 2, 2, 1)


def test_length_weighted_baseline_against_a_loop() -> None:
    _, reward, num_tokens, group_ids = random_rows(4)
    r, n, g = reward.tolist(), num_tokens.tolist(), group_ids.tolist()
    expected = []
    for i in range(60):
        mates = [j for j in range(60) if g[j] == g[i]]
        expected.append(r[i] - sum(n[j] * r[j] for j in mates) / sum(n[j] for j in mates) if len(mates) > 1 else 0.0)
    result = length_weighted_baseline(reward, num_tokens, group_ids)
    torch.testing.assert_close(result, floats(*expected))
    for group in group_ids.unique():
        assert float((result * num_tokens)[group_ids == group].sum()) == pytest.approx(0, abs=1e-9)
    assert length_weighted_baseline(reward.float(), num_tokens, group_ids).dtype == torch.float32
    # no token in the group: the row mean; equal rewards: exactly 0
    same(length_weighted_baseline(floats(1, 0), ints(0, 0), ints(0, 0)), 0.5, -0.5)
    same(length_weighted_baseline(floats(0.1, 0.1, 0.1), ints(3, 900, 7), ints(0, 0, 0)), 0, 0, 0, digits=0)
    assert length_weighted_baseline(floats(), ints(), ints()).shape == (0,)


# ---- invariants (production-penalties section 9) ----------------------------------------------------------


@every
def test_production_9_rows_may_come_in_any_order_and_other_groups_change_nothing(name: str) -> None:
    rows = random_rows(5)
    whole = TRAINER_REWARDS[name](*rows)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(TRAINER_REWARDS[name](*(column[order] for column in rows)), whole[order])
    some = rows[3] < 5
    torch.testing.assert_close(TRAINER_REWARDS[name](*(column[some] for column in rows)), whole[some])
    assert TRAINER_REWARDS[name](bools(), floats(), ints(), ints()).shape == (0,)


@pytest.mark.parametrize("name", ["gr3", "efficiency", "max share", "bonus", "slack"])
def test_production_9_a_factor_on_all_lengths_changes_nothing(name: str) -> None:
    correct, reward, num_tokens, group_ids = random_rows(6)
    if name == "slack":  # up to its margin
        one, three = (quantile_slack(reward, correct, num_tokens * k, group_ids, margin=0) for k in (1, 3))
        # the quantile is at least one token, which only groups of empty answers feel
        torch.testing.assert_close(one, three)
    else:
        rows = (correct, reward, num_tokens, group_ids), (correct, reward, num_tokens * 3, group_ids)
        torch.testing.assert_close(*(TRAINER_REWARDS[name](*row) for row in rows))


@pytest.mark.parametrize("name", ["linear", "effort"])
def test_production_9_a_factor_on_all_lengths_matters_to_a_fixed_scale(name: str) -> None:
    correct, reward, num_tokens, group_ids = random_rows(6)
    before, after = (TRAINER_REWARDS[name](correct, reward, num_tokens * k, group_ids) for k in (1, 3))
    assert not torch.allclose(before, after)


def test_production_9_gr3_orders_right_answers_by_length_within_its_bounds() -> None:
    correct, _, num_tokens, group_ids = random_rows(7)
    paid = relative_length(correct.double(), num_tokens, group_ids, alpha=0.4)
    for group in group_ids.unique():
        mates = correct & (group_ids == group)
        size = int((group_ids == group).sum())
        ordered = paid[mates][torch.argsort(num_tokens[mates])]
        assert (ordered.diff() <= 0).all()
        assert (ordered > 1 / (1 + 0.4 * size) - 1e-12).all() and (ordered <= 1).all()


def test_production_9_efficiency_pays_right_answers_one_to_two() -> None:
    correct, _, num_tokens, group_ids = random_rows(8)
    paid = efficiency_bonus(correct.double(), num_tokens, group_ids)
    assert ((paid[correct] >= 1) & (paid[correct] <= 2)).all() and not paid[~correct].any()
    for group in group_ids[correct].unique():
        mates = correct & (group_ids == group)
        long = num_tokens[mates] >= num_tokens[mates].double().mean()
        assert (paid[mates][long] == 1).all()


@every
def test_production_9_all_wrong_groups(name: str) -> None:
    # silent or untouched, but for the two of section 6 that charge everyone
    correct, num_tokens = bools(0, 0, 0, 0), ints(100, 500, 900, 2500)
    advantage = centred(TRAINER_REWARDS[name](correct, floats(0, 0, 0, 0), num_tokens, FOUR), FOUR)
    assert bool(advantage.any()) is (name in ("effort", "bonus"))


def test_production_9_half_the_pass_rate_halves_the_price() -> None:
    n = ints(100, 500, 900, 2500)
    for price in (
        lambda r: r - linear_length(r, n, FOUR, max_tokens=3000),
        lambda r: r - max_share_penalty(r, n[None], FOUR),
    ):
        full, half, none = (price(floats(*r)) for r in ((1, 1, 1, 1), (1, 0, 1, 0), (0, 0, 0, 0)))
        torch.testing.assert_close(half, full / 2)
        assert not none.any()


@every
def test_production_6_whether_a_wrong_row_can_earn_more_than_a_right_one(name: str) -> None:
    worst = math.inf
    for seed in range(20):
        correct, _, num_tokens, group_ids = random_rows(seed)
        num_tokens = torch.where(correct, num_tokens * 20, num_tokens)
        paid = TRAINER_REWARDS[name](correct, correct.double(), num_tokens, group_ids)
        for group in group_ids.unique():
            right, wrong = (paid[(group_ids == group) & c] for c in (correct, ~correct))
            worst = min(worst, float(right.min() - wrong.max())) if len(right) and len(wrong) else worst
    # lengths here go to 20 caps, so `linear` and effort break; within one cap linear cannot (coef * mean < 1)
    assert (worst <= 0) is (name in ("linear", "linear by reward", "effort"))


# ---- edge cases (production-penalties section 7) ----------------------------------------------------------


def test_no_token_at_all() -> None:
    zeros = ints(0, 0)
    same(relative_length(floats(1, 1), zeros, zeros), 1, 1)
    same(efficiency_bonus(floats(1, 1), zeros, zeros), 1, 1)
    same(group_length_bonus(floats(1, 1), zeros, zeros, zeros, thinking_bonus=1.0), 1, 1)
    same(max_share_penalty(floats(1, 1), zeros[None], zeros), 1, 1)
    same(quantile_slack(floats(1, 1), bools(1, 1), zeros, zeros), 1, 1)
    same(effort_reward(floats(1, 1), zeros, budget=100, weight=3.0), 2, 2)  # at most 1


def test_a_group_of_one() -> None:
    one = floats(1), ints(700), ints(4)
    same(relative_length(*one), 1 / 1.3, digits=1e-12)
    same(efficiency_bonus(*one), 1)
    same(group_length_bonus(one[0], one[1], one[1], one[2]), 1)
    same(max_share_penalty(one[0], one[1][None], one[2]), 0.9)
    same(linear_length(*one, max_tokens=1400), 0.875)
    same(quantile_slack(one[0], bools(1), *one[1:]), 1)
    same(gated_decay(one[0], bools(1), *one[1:]), 1)


def test_equal_lengths_share_one_factor() -> None:
    same(relative_length(floats(1, 0, 1), ints(5, 5, 5), ints(0, 0, 0)), 1 / 1.3, 0, 1 / 1.3, digits=1e-12)


def test_slack_needs_two_right_rows_and_leaves_low_rewards_alone() -> None:
    rows = bools(1, 0), ints(9000, 100), ints(0, 0)
    same(quantile_slack(floats(1, 0), *rows), 1, 0)
    # a right reward of .5 is below the least of .8: neither fined nor lifted
    same(quantile_slack(floats(0.5, 1), bools(1, 1), ints(9000, 100), ints(0, 0)), 0.5, 1)


def test_decay_leaves_groups_without_a_right_answer_and_all_right_ones_have_no_hold() -> None:
    same(gated_decay(floats(0.3, 0.2), bools(0, 0), ints(5, 9), ints(0, 0)), 0.3, 0.2)
    # d = 0: exp(-.5 * 32768/32768)
    same(gated_decay(floats(1, 1), bools(1, 1), ints(0, 32768), ints(0, 0)), 1, math.exp(-0.5), digits=1e-12)


GROUP = (floats(1), ints(1), ints(0))
BAD: list[tuple[Callable[..., torch.Tensor], tuple[Any, ...], dict[str, Any]]] = [
    (relative_length, GROUP, {"alpha": -0.1}),
    (linear_length, GROUP, {"max_tokens": 0}),
    (linear_length, GROUP, {"max_tokens": 5, "coef": -1.0}),
    (effort_reward, GROUP[:2], {"budget": 0}),
    (effort_reward, GROUP[:2], {"budget": 5, "weight": -1.0}),
    (effort_reward, GROUP[:2], {"budget": 5, "penalty": math.nan}),
    (quantile_slack, (floats(1), bools(1), *GROUP[1:]), {"quantile": 1.5}),
    (quantile_slack, (floats(1), bools(1), *GROUP[1:]), {"margin": -1}),
    (quantile_slack, (floats(1), bools(1), *GROUP[1:]), {"most": -1.0}),
    (gated_decay, (floats(1), bools(1), *GROUP[1:]), {"beta": -1.0}),
    (gated_decay, (floats(1), bools(1), *GROUP[1:]), {"reference_tokens": 0}),
    (group_length_bonus, (floats(1), ints(1), ints(1), ints(0)), {"thinking_weight": -1.0}),
    (group_length_bonus, (floats(1), ints(1), ints(1), ints(0)), {"answer_bonus": -1.0}),
    (group_length_bonus, (floats(1), ints(1), ints(1), ints(0)), {"top_share": 1.1}),
    (max_share_penalty, (floats(1), ints(1)[None], ints(0)), {"weights": (-0.1,)}),
    (max_share_penalty, (floats(1), ints(1)[None], ints(0)), {"weights": 0.1}),
]


@pytest.mark.parametrize(("reward", "rows", "options"), BAD)
def test_options_out_of_range_are_refused(
    reward: Callable[..., torch.Tensor], rows: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="|".join(options)):
        reward(*rows, **options)


@every
def test_bad_rows_are_refused_by_name(name: str) -> None:
    reward = TRAINER_REWARDS[name]
    with pytest.raises(InputError, match=r"\[1\] is -2"):
        reward(bools(1, 1), floats(1, 1), ints(3, -2), ints(0, 0))
    with pytest.raises(InputError, match=r"rewards\[0\] is nan"):
        reward(bools(1, 1), floats(math.nan, 1), ints(3, 2), ints(0, 0))
    with pytest.raises(ShapeError, match="entries but"):
        reward(bools(1, 1), floats(1, 1, 1), ints(3, 2), ints(0, 0))
    with pytest.raises(ShapeError, match="rewards"):
        reward(bools(1, 1), ints(1, 1), ints(3, 2), ints(0, 0))


def test_kinds_of_length_must_match_their_weights() -> None:
    with pytest.raises(ShapeError, match=r"lengths has shape \(1, 2\); .* one row for each of the weights \(2\)"):
        max_share_penalty(floats(1, 1), ints(1, 2)[None], ints(0, 0), weights=(0.1, 0.1))
    with pytest.raises(InputError, match=r"lengths\[0\]\[1\] is -2"):
        max_share_penalty(floats(1, 1), ints(1, -2)[None], ints(0, 0))
