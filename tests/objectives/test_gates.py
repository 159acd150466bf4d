"""Gates (spec page gates): hand numbers, a loop, and the page's invariants over every reward of the package."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise import objectives as o
from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import gate, gate_metrics, group_normalised, guarded_product, mixed_groups, order_gap
from lengthwise.objectives.gates import GATES

FLOOR = 0.1
SHUT = GATES[1:]
Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Reward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def base_of(correct: torch.Tensor, right: float = 1.0, wrong: float = 0.0) -> torch.Tensor:
    return torch.where(correct, right, wrong).double()


def same(result: torch.Tensor, *expected: float, digits: float = 5e-5) -> None:
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, floats(*expected), rtol=0, atol=digits)


# ---- hand numbers (gates section 8) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "floor", "expected"),
    [
        # price 1e-4 on [6000, 14000, 500, 9000] is [.6, 1.4, .05, .9]; bases [1, 1, 0, 0]; the share of right is .5
        pytest.param("none", None, [0.40, -0.40, -0.05, -0.90], id="none"),
        pytest.param("right", None, [0.40, -0.40, 0, 0], id="right"),
        pytest.param("right", FLOOR, [0.40, 0.10, 0, 0], id="right-floor"),  # W = 0, D = 1: at least 0 + .1
        pytest.param("solved", None, [0.40, -0.40, -0.05, -0.90], id="solved"),
        pytest.param("solved", FLOOR, [0.40, 0.05, -0.05, -0.90], id="solved-floor"),  # W = -.05: at least .05
        pytest.param("rate", None, [0.70, 0.30, -0.025, -0.45], id="rate"),  # half of each term
        pytest.param("rate-right", None, [0.70, 0.30, 0, 0], id="rate-right"),
    ],
)
def test_gates_8_linear_price(kind: str, floor: float | None, expected: list[float]) -> None:
    correct, tokens, group = bools(1, 1, 0, 0), ints(6000, 14000, 500, 9000), ints(7, 7, 7, 7)
    shaped = o.linear_price(correct, tokens, price=1e-4)
    same(gate(base_of(correct), shaped, correct, group, kind=kind, floor=floor), *expected, digits=1e-12)


def test_gates_8_all_wrong() -> None:
    correct, group = bools(0, 0), ints(3, 3)
    shaped = o.linear_price(correct, ints(500, 9000), price=1e-4)
    same(gate(base_of(correct), shaped, correct, group, kind="none"), -0.05, -0.90)
    for kind in SHUT:
        assert gate(base_of(correct), shaped, correct, group, kind=kind, floor=FLOOR).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    # (n - 200)/800 = 0, .75, .125, 1; .5 minus it: .5, -.25, .375 (wrong: 0), -.5; the share of right is .5
    [("none", [1.5, 0.75, 0, -0.5]), ("right", [1.5, 0.75, 0, 0]), ("rate-right", [1.25, 0.875, 0, 0])],
)
def test_gates_8_kimi(kind: str, expected: list[float]) -> None:
    correct, tokens, group = bools(1, 1, 0, 0), ints(200, 800, 300, 1000), ints(0, 0, 0, 0)
    shaped = base_of(correct) + o.min_max_length(correct, tokens, group)
    same(gate(base_of(correct), shaped, correct, group, kind=kind), *expected, digits=1e-12)


def test_kimi_with_statistics_over_right_rows_is_another_reward() -> None:
    # gates section 3 asks for this behind `right`: 200 and 800 are the extremes now, so .5 and -.5
    correct, tokens, group = bools(1, 1, 0, 0), ints(200, 800, 300, 1000), ints(0, 0, 0, 0)
    shaped = base_of(correct) + o.min_max_length(correct, tokens, group, counted=correct)
    same(gate(base_of(correct), shaped, correct, group, kind="right"), 1.5, 0.5, 0, 0, digits=1e-12)


def test_gates_8_cosine() -> None:
    # cos(.1 pi) = .95106: .5 + .25 * 1.95106 = .9878 and .5 + .25 * .04894 = .5122; minus those for wrong ones
    correct, tokens, group = bools(1, 1, 0, 0), ints(100, 900, 100, 900), ints(0, 0, 0, 0)
    shaped, base = o.cosine_length(correct, tokens, limit=1000), base_of(correct, 1, -1)
    same(gate(base, shaped, correct, group, kind="none"), 0.9878, 0.5122, -0.9878, -0.5122)
    same(gate(base, shaped, correct, group, kind="right"), 0.9878, 0.5122, -1, -1)


def test_gates_8_shorter_better() -> None:
    # n* = 723: 2 - 0; 2 - 12.327; -.606. D = 2, so the floor is 0 + .1 * 2
    correct, tokens, group = bools(1, 1, 0), ints(723, 13050, 1329), ints(0, 0, 0)
    shaped, base = o.shortest_correct(correct, tokens, group), base_of(correct, 2)
    same(gate(base, shaped, correct, group, kind="none"), 2, -10.327, -0.606, digits=1e-12)
    same(gate(base, shaped, correct, group, kind="right"), 2, -10.327, 0, digits=1e-12)
    same(gate(base, shaped, correct, group, kind="right", floor=FLOOR), 2, 0.2, 0, digits=1e-12)


def test_gates_8_l1_exact() -> None:
    # 1 - 3e-4 * 7617 = -1.2851; -3e-4 * 40 = -.012: the wrong one is paid more
    correct, tokens, group = bools(1, 0), ints(383, 8040), ints(0, 0)
    shaped = o.budget_exact(correct, tokens, 8000)
    same(gate(base_of(correct), shaped, correct, group, kind="none"), -1.2851, -0.0120)
    same(gate(base_of(correct), shaped, correct, group, kind="right", floor=FLOOR), 0.1, 0, digits=1e-12)


def test_gates_8_a_fine_has_full_strength_in_an_all_wrong_group_whatever_its_size() -> None:
    # fines [.03, .12, .24, .3], mean .1725, squared deviations .043875 in all, sample std sqrt(.014625) = .120934
    fine, group = 0.3 * floats(0.1, 0.4, 0.8, 1), ints(0, 0, 0, 0)
    same(group_normalised(-fine, group), 1.178, 0.434, -0.558, -1.054, digits=5e-4)
    torch.testing.assert_close(group_normalised(1 - fine, group), group_normalised(-fine, group))
    assert torch.allclose(group_normalised(-fine / 1000, group, eps=1e-9), group_normalised(-fine, group), rtol=1e-4)
    assert not group_normalised(gate(0 * fine, -fine, bools(0, 0, 0, 0), group, kind="right"), group).any()


def test_gates_8_five_wrong_answers_in_characters() -> None:
    # .3 * 20/512 = .01172, .3 * 150/512 = .08789, .17578, .26367, and .3 from 512 on
    reward = -0.3 * (floats(20, 150, 300, 450, 600) / 512).clamp(max=1)
    same(reward, -0.0117, -0.0879, -0.1758, -0.2637, -0.3)
    # mean -.16781, sample std .11987; the third is -.00797/.11987 = -.0665 (-.067 on the page)
    same(group_normalised(reward, ints(0, 0, 0, 0, 0)), 1.3021, 0.6667, -0.0665, -0.7997, -1.1027)


def test_gates_8_product_trap() -> None:
    # -.4 * .6 = -.24 would lift a wrong answer by its length; .2 * .6 = .12
    base, factors = floats(1, -0.4, 0.2, 1), floats(1, 0.6, 0.6, 0.8)
    same(base * factors, 1, -0.24, 0.12, 0.8, digits=1e-12)
    same(guarded_product(base, factors), 1, -0.4, 0.12, 0.8, digits=1e-12)


# ---- the rewards of the package, run (gates section 6) ----------------------------------------------------

# (reward at cap 1000 with the page's options, what a right answer's base is, what a wrong one's is)
EVERY: dict[str, tuple[Reward, float, float]] = {
    "truncation": (lambda c, n, g: o.truncation(c, n, torch.ones_like(c), limit=1000), 1, 0),
    "da-dler": (
        lambda c, n, g: o.difficulty_truncation(c, n, g, torch.ones_like(c), limits=(1000, 500), thresholds=(0.5,)),
        1,
        0,
    ),
    "rloo-lp": (o.normalised_length, 1, 0),
    "grpo-lambda": (lambda c, n, g: o.selective_length_penalty(c, n, g, fraction=1.0), 1, 0),
    "laser": (lambda c, n, g: o.step_bonus(c, n, torch.ones_like(c), target=500), 1, 0),
    "laser-de": (
        lambda c, n, g: o.step_bonus(c, n, torch.ones_like(c), target=500, repetitive=torch.zeros_like(c)),
        1,
        0,
    ),
    "l1-max": (lambda c, n, g: o.budget_max(c, n, 500), 1, 0),
    "l1-exact": (lambda c, n, g: o.budget_exact(c, n, 500), 1, 0),
    "alp": (lambda c, n, g: o.adaptive_penalty(c, n, g, beta=1e-4), 1, 0),
    "linear-price": (lambda c, n, g: o.linear_price(c, n, price=1e-4), 1, 0),
    "linear-price of 1": (lambda c, n, g: o.linear_price(c, n, price=1.0), 1, 0),
    "a-dlp": (lambda c, n, g: o.adaptive_weight(c, n, weight=1e-4), 1, 0),
    "hapo": (lambda c, n, g: o.history_length(c, n, torch.full_like(n, 400)), 1, 0),
    "hapo linear": (lambda c, n, g: o.history_length(c, n, torch.full_like(n, 400), form="linear", weight=3.0), 1, 0),
    "kimi": (lambda c, n, g: base_of(c) + o.min_max_length(c, n, g), 1, 0),
    "kimi of right rows": (lambda c, n, g: base_of(c) + o.min_max_length(c, n, g, weight=5.0, counted=c), 1, 0),
    "shorter-better": (o.shortest_correct, 2, 0),
    "soft-overlong": (lambda c, n, g: base_of(c) + o.soft_overlong(n, limit=1000, cache=200), 1, 0),
    "soft-overlong without end": (
        lambda c, n, g: base_of(c) + o.soft_overlong(n, limit=1000, cache=200, floor=False),
        1,
        0,
    ),
    "cosine": (lambda c, n, g: o.cosine_length(c, n, limit=1000), 1, -1),
    "o1-pruner": (
        lambda c, n, g: o.reference_ratio(c, n, torch.full(n.shape, 400.0), torch.full(n.shape, 0.5)),
        1,
        -1,
    ),
    "gr3": (lambda c, n, g: o.relative_length(base_of(c), n, g), 1, 0),
    "gr3 of right rows": (lambda c, n, g: o.relative_length(base_of(c), n, g, alpha=2.0, counted=c), 1, 0),
    "efficiency": (lambda c, n, g: o.efficiency_bonus(base_of(c), n, g), 1, 0),
    "linear-penalty": (lambda c, n, g: o.linear_length(base_of(c), n, g, max_tokens=1000), 1, 0),
    "max share": (lambda c, n, g: o.max_share_penalty(base_of(c), n[None], g, weights=(2.0,)), 1, 0),
    "group-bonus": (lambda c, n, g: o.group_length_bonus(base_of(c), n, n, g, thinking_weight=2.0), 1, 0),
    "group-bonus of right rows": (lambda c, n, g: o.group_length_bonus(base_of(c), n, n, g, counted=c), 1, 0),
    "effort": (lambda c, n, g: o.effort_reward(base_of(c), n, budget=500), 1, 0),
    "quantile-slack": (lambda c, n, g: o.quantile_slack(base_of(c), c, n, g), 1, 0),
    "gated-decay": (lambda c, n, g: o.gated_decay(base_of(c), c, n, g, reference_tokens=100), 1, 0),
    "laconic": (
        lambda c, n, g: o.constrained_cost(base_of(c), n, target=300, multiplier=0.5, max_tokens=1000, most=3.0),
        1,
        0,
    ),
}
# these compare with wrong rows too; "of right rows" is what stands behind a gate for right
FROM_WRONG_ROWS = {"kimi", "gr3", "max share", "group-bonus"}
every = pytest.mark.parametrize("name", EVERY)
every_gate = pytest.mark.parametrize("kind", GATES)


@pytest.mark.parametrize(
    ("name", "wrong", "spread"),
    [
        # a wrong row of 100, 500, 950 tokens; the spread of four wrong ones of 100, 300, 600, 900
        ("truncation", [0, 0, 0], 0),
        ("grpo-lambda", [0, 0, 0], 0),
        ("rloo-lp", [0, 0, 0], 0),
        ("laser", [0, 0, 0], 0),
        ("l1-max", [0, 0, 0], 0),
        ("alp", [-0.005, -0.025, -0.0475], 0.02),  # half are right; all wrong: 1e-4 * 800 / 4
        ("linear-price", [-0.010, -0.050, -0.095], 0.08),
        ("a-dlp", [-0.010, -0.050, -0.095], 0.08),
        ("hapo", [0, -0.3827, -1], 1),  # cos(1.25 * pi/2) = -.3827; -1 from twice the history on; 900 is beyond
        ("kimi", [0, -0.10, -0.50], 0.5),  # 500 is at 300/500 between 200 and 700: .5 - .6
        ("shorter-better", [-0.10, -0.30, -0.75], 0.30),  # from 200; all wrong: from 475, .425 - .125
        ("soft-overlong", [0, 0, -0.75], 0.5),  # 150 of the last 200
        ("l1-exact", [-0.12, 0, -0.135], 0.09),
        ("laser-de", [0, 0, 0.5], 0.5),
        ("cosine", [-0.9878, -0.75, -0.5031], 0.4755),  # cos(.95 pi) = -.98769
    ],
)
def test_gates_6_what_wrong_answers_are_paid(name: str, wrong: list[float], spread: float) -> None:
    # beside a right one of 200 and one of 500, and a wrong one of 700 (which the page leaves out; alp and kimi need it)
    reward, group = EVERY[name][0], ints(0, 0, 0, 0)
    paid = [float(reward(bools(0, 1, 1, 0), ints(n, 200, 500, 700), group)[0]) for n in (100, 500, 950)]
    assert paid == pytest.approx(wrong, abs=5e-5)
    alone = reward(bools(0, 0, 0, 0), ints(100, 300, 600, 900), group)
    assert float(alone.max() - alone.min()) == pytest.approx(spread, abs=5e-5)


# rewards with the options of their methods' defaults, by the cap
DEFAULTS: dict[str, Callable[[int, Rows], torch.Tensor]] = {
    "l1-exact": lambda cap, r: o.budget_exact(r[0], r[1], cap // 2),
    "shorter-better": lambda cap, r: o.shortest_correct(*r),
    "linear-price": lambda cap, r: o.linear_price(r[0], r[1], price=1e-4),
    "l1-max": lambda cap, r: o.budget_max(r[0], r[1], cap // 2),
    "alp": lambda cap, r: o.adaptive_penalty(*r),
    "hapo": lambda cap, r: o.history_length(r[0], r[1], torch.full_like(r[1], 400)),
    "kimi": lambda cap, r: base_of(r[0]) + o.min_max_length(*r),
    "cosine": lambda cap, r: o.cosine_length(r[0], r[1], limit=cap),
    "laser-de": lambda cap, r: o.step_bonus(r[0], r[1], r[0] | True, target=cap // 2, repetitive=r[0] & False),
    "grpo-lambda": lambda cap, r: o.selective_length_penalty(*r),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_gates_6_a_reward_that_can_pay_wrong_more_than_right_is_found_before_the_run(name: str) -> None:
    gaps = []
    for cap in (1000, 16_000):
        rows = o.probe_groups(cap=cap)
        gaps.append(float(order_gap(DEFAULTS[name](cap, rows), rows[0], rows[2])))
    assert gaps[0] > 0
    # the page: three of them at a cap of 16,000, and l1-max ties
    assert (gaps[1] < 0) is (name in ("l1-exact", "shorter-better", "linear-price"))
    assert (gaps[1] == 0) is (name == "l1-max")


def test_probe_groups_are_mixed_and_reach_the_ends() -> None:
    correct, num_tokens, group_ids = o.probe_groups(cap=100, points=3)
    # 3^2 groups of two and 2 * 3^3 of three
    assert len(group_ids.unique()) == 63 and len(correct) == 18 + 162 and mixed_groups(correct, group_ids).all()
    assert num_tokens.unique().tolist() == [1, 50, 100]
    assert o.probe_groups(cap=2)[1].unique().tolist() == [1, 2] and o.probe_groups(cap=1)[1].unique().tolist() == [1]
    for option in ("cap", "points"):
        with pytest.raises(ConfigError, match=f"{option} is 0"):
            o.probe_groups(**{"cap": 5, option: 0})  # type: ignore[arg-type]


# ---- against a loop ---------------------------------------------------------------------------------------


def loop_gate(
    base: list[float], shaped: list[float], c: list[bool], g: list[int], kind: str, least: int, floor: float | None
) -> list[float]:
    """Section 5 of the page, a row at a time."""
    paid = []
    for i in range(len(c)):
        mates = [j for j in range(len(c)) if g[j] == g[i]]
        right = sum(c[j] for j in mates)
        k = {"none": 1.0, "right": float(c[i]), "solved": float(right > 0), "rate": right / len(mates)}
        k["rate-right"] = k["rate"] * k["right"]
        opening = k[kind] if kind == "none" or right >= least else 0.0
        paid.append(base[i] + opening * (shaped[i] - base[i]))
    floored = list(paid)
    for i in range(len(c)):
        wrong = [j for j in range(len(c)) if g[j] == g[i] and not c[j]]
        if floor is not None and c[i] and wrong:
            gap = min(base[j] for j in range(len(c)) if g[j] == g[i] and c[j]) - max(base[j] for j in wrong)
            floored[i] = max(paid[i], max(paid[j] for j in wrong) + floor * gap)
    return floored


def random_rows(seed: int, rows: int = 80, longest: int = 100_000) -> Rows:
    make = torch.Generator().manual_seed(seed)
    group_ids = torch.randint(-3, 14, (rows,), generator=make)
    group_ids[0] = 100  # a group of one
    correct = torch.rand(rows, generator=make) < torch.rand(40, generator=make)[group_ids % 40]
    correct[group_ids == 5] = False
    correct[group_ids == 6] = True
    num_tokens = (torch.rand(rows, generator=make) ** 4 * longest).long() + 1
    return correct, num_tokens, group_ids


@every_gate
@pytest.mark.parametrize("floor", [None, 0.0, FLOOR, 1.0])
@pytest.mark.parametrize("min_right", [1, 2, 4])
def test_gate_against_a_loop(kind: str, floor: float | None, min_right: int) -> None:
    correct, _, group_ids = random_rows(min_right)
    make = torch.Generator().manual_seed(9)
    # graded rewards: bases between 1 and 2 for right rows, between -1 and 0 for wrong ones
    base = torch.rand(80, generator=make, dtype=torch.float64) + torch.where(correct, 1.0, -1.0)
    shaped = base + torch.randn(80, generator=make, dtype=torch.float64)
    result = gate(base, shaped, correct, group_ids, kind=kind, min_right=min_right, floor=floor)
    columns = (base.tolist(), shaped.tolist(), correct.tolist(), group_ids.tolist())
    torch.testing.assert_close(result, floats(*loop_gate(*columns, kind, min_right, floor)))


# ---- invariants, every reward behind every gate (gates section 9) -----------------------------------------


def paid_by(name: str, rows: Rows, **options: Any) -> torch.Tensor:
    reward, right, wrong = EVERY[name]
    return gate(base_of(rows[0], right, wrong), reward(*rows), rows[0], rows[2], **options)


@every
@every_gate
def test_gates_9_no_wrong_answer_is_paid_more_than_a_right_one(name: str, kind: str) -> None:
    for seed, longest in ((0, 900), (1, 16_000), (2, 100_000)):
        for min_right in (1, 2):
            rows = random_rows(seed, longest=longest)
            paid = paid_by(name, rows, kind=kind, floor=FLOOR, min_right=min_right)
            assert float(order_gap(paid, rows[0], rows[2])) > 0


@every
@pytest.mark.parametrize("kind", SHUT)
def test_gates_9_no_all_wrong_group_trains_on_length_alone(name: str, kind: str) -> None:
    correct, num_tokens, group_ids = rows = random_rows(3)
    _, right, wrong = EVERY[name]
    paid = paid_by(name, rows, kind=kind, floor=FLOOR)
    for group in group_ids.unique():
        if not correct[group_ids == group].any():
            assert (paid[group_ids == group] == wrong).all()
    assert not group_normalised(paid_by(name, (correct & False, num_tokens, group_ids), kind=kind), group_ids).any()
    metrics = gate_metrics(
        base_of(correct, right, wrong), EVERY[name][0](*rows), correct, group_ids, kind=kind, floor=FLOOR
    )
    assert metrics["all_wrong_spread"] == 0 and metrics["order_gap"] > 0


@every
@pytest.mark.parametrize("kind", ["right", "rate-right"])
def test_gates_9_behind_right_a_wrong_rows_length_changes_nothing_anywhere(name: str, kind: str) -> None:
    correct, num_tokens, group_ids = random_rows(4)
    make = torch.Generator().manual_seed(5)
    other = torch.where(correct, num_tokens, torch.randint(1, 100_000, (80,), generator=make))
    for floor in (None, FLOOR):
        before, after = (paid_by(name, (correct, n, group_ids), kind=kind, floor=floor) for n in (num_tokens, other))
        assert torch.equal(before, after) is (name not in FROM_WRONG_ROWS)


@every
def test_gates_9_an_open_gate_is_none(name: str) -> None:
    rows = random_rows(6)
    reward = EVERY[name][0](*rows).double()
    paid = {kind: paid_by(name, rows, kind=kind, floor=None if kind == "solved" else FLOOR) for kind in SHUT}
    assert torch.equal(paid_by(name, rows, kind="none"), reward)
    for group in rows[2].unique():
        mates = rows[2] == group
        if rows[0][mates].all():
            assert all(torch.equal(paid[kind][mates], reward[mates]) for kind in SHUT)
        if rows[0][mates].any():
            assert torch.equal(paid["solved"][mates], reward[mates])


@every_gate
def test_gates_9_without_a_term_all_gates_agree(kind: str) -> None:
    correct, _, group_ids = random_rows(7)
    for right, wrong in ((1, 0), (2, 0), (1, -1), (0.3, 0.1)):
        base = base_of(correct, right, wrong)
        assert torch.equal(gate(base, base, correct, group_ids, kind=kind, floor=FLOOR), base)


@every
@every_gate
def test_gates_9_rows_and_groups_may_come_in_any_order(name: str, kind: str) -> None:
    correct, num_tokens, group_ids = rows = random_rows(8)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    whole = paid_by(name, rows, kind=kind, floor=FLOOR)
    moved = paid_by(name, (correct[order], num_tokens[order], 1000 - group_ids[order]), kind=kind, floor=FLOOR)
    torch.testing.assert_close(moved, whole[order])


def test_gates_9_kept_groups_depend_on_verdicts_only() -> None:
    # an all-wrong and an all-right group whose shaped rewards differ are dropped, the mixed one is kept
    correct, group = bools(0, 0, 1, 1, 1, 0), ints(0, 0, 1, 1, 2, 2)
    shaped = o.linear_price(correct, ints(1, 900, 1, 900, 5, 5), price=1e-3)
    assert [len(shaped[group == g].unique()) for g in range(3)] == [2, 2, 2]
    assert mixed_groups(correct, group).tolist() == [False] * 4 + [True] * 2


# ---- edge cases (gates section 7) -------------------------------------------------------------------------


def test_min_right_shuts_the_gate_of_a_group_with_fewer_right_rows() -> None:
    correct, group = bools(1, 0, 1, 1, 0), ints(0, 0, 1, 1, 1)
    base, shaped = base_of(correct), base_of(correct) - floats(0.5, 0.5, 0.2, 0.3, 0.6)
    same(gate(base, shaped, correct, group, kind="solved", min_right=2), 1, 0, 0.8, 0.7, -0.6, digits=1e-12)
    assert torch.equal(gate(base, shaped, correct, group, kind="none", min_right=2), shaped)


def test_one_right_row_is_still_floored() -> None:
    # W = 0, D = 1
    correct, group = bools(1, 0), ints(0, 0)
    same(gate(floats(1, 0), floats(-3, -1), correct, group, kind="right", floor=FLOOR), 0.1, 0, digits=1e-12)
    # shut by min_right, the right one has its base, and the floor nothing to do
    same(gate(floats(1, 0), floats(-3, -1), correct, group, kind="right", min_right=2, floor=FLOOR), 1, 0)


def test_a_group_of_one_has_no_floor() -> None:
    for kind in GATES:
        same(gate(floats(1), floats(-3), bools(1), ints(0), kind=kind, floor=FLOOR), -3)
    same(gate(floats(0), floats(-3), bools(0), ints(0), kind="rate", floor=FLOOR), 0)


def test_all_right_and_empty() -> None:
    shaped = floats(0.2, -0.7)
    for kind in GATES:
        assert torch.equal(gate(floats(1, 1), shaped, bools(1, 1), ints(0, 0), kind=kind, floor=FLOOR), shaped)
        assert gate(floats(), floats(), bools(), ints(), kind=kind, floor=FLOOR).shape == (0,)
    assert guarded_product(floats(), floats()).shape == (0,)
    assert order_gap(floats(), bools(), ints()) == math.inf
    assert order_gap(shaped, bools(1, 1), ints(0, 0)) == math.inf


def test_a_floor_of_zero_ties_with_the_best_wrong_answer() -> None:
    paid = gate(floats(1, 0), floats(-3, -0.2), bools(1, 0), ints(0, 0), kind="solved", floor=0.0)
    same(paid, -0.2, -0.2, digits=1e-12)
    assert order_gap(paid, bools(1, 0), ints(0, 0)) == 0


def test_graded_bases_give_the_floor_their_gap() -> None:
    # D = .9 - .4 = .5, W = .4: at least .4 + .1 * .5
    base, shaped = floats(0.9, 1.0, 0.4, 0.1), floats(0, 0.8, 0, 0)
    same(gate(base, shaped, bools(1, 1, 0, 0), ints(0, 0, 0, 0), kind="right", floor=FLOOR), 0.45, 0.8, 0.4, 0.1)


def test_a_base_that_does_not_rank_right_above_wrong_is_refused_where_a_floor_needs_it() -> None:
    rows = floats(0.2, 0.3, 1), floats(0.2, 0.3, 1), bools(1, 0, 1), ints(4, 4, 5)
    assert gate(*rows, kind="right").tolist() == pytest.approx([0.2, 0.3, 1])
    with pytest.raises(InputError, match=r"base of a right answer is not above .* group 4 \(row 0\)"):
        gate(*rows, kind="right", floor=FLOOR)


def test_metrics_name_what_the_gate_did() -> None:
    # right: rows 2 and 3 lose their fines (changed), row 1 is lifted from -.4 to .1 (changed and floored)
    correct, group = bools(1, 1, 0, 0, 0), ints(7, 7, 7, 7, 8)
    shaped = o.linear_price(correct, ints(6000, 14000, 500, 9000, 0), price=1e-4)
    metrics = gate_metrics(base_of(correct), shaped, correct, group, kind="right", floor=FLOOR)
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(
        {"changed_share": 0.6, "floored_share": 0.2, "all_wrong_spread": 0, "order_gap": 0.1}
    )
    shaped = o.linear_price(correct & False, ints(6000, 14000, 500, 9000, 0), price=1e-4)
    open_gate = gate_metrics(0 * shaped, shaped, correct & False, group, kind="none")
    assert float(open_gate["all_wrong_spread"]) == pytest.approx(1.35)  # 1.4 - .05
    empty = gate_metrics(floats(), floats(), bools(), ints(), kind="right", floor=FLOOR)
    assert [float(v) for v in empty.values()] == [0, 0, 0, math.inf]


def test_equal_but_float32_bases_are_taken() -> None:
    paid = gate(floats(1, 0).float(), floats(0.5, -0.25), bools(1, 0), ints(0, 0), kind="right")
    same(paid, 0.5, 0)


def test_bad_input_is_refused_by_name() -> None:
    good = floats(1, 0), floats(1, 0), bools(1, 0), ints(0, 0)
    with pytest.raises(ConfigError, match="kind is 'open'; choose one of none, right, solved, rate, rate-right"):
        gate(*good, kind="open")
    with pytest.raises(ConfigError, match="min_right is 0"):
        gate(*good, kind="right", min_right=0)
    for floor in (-0.1, 1.5, math.nan, "0.1"):
        with pytest.raises(ConfigError, match="floor is"):
            gate(*good, kind="right", floor=floor)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"shaped\[1\] is nan"):
        gate(good[0], floats(1, math.nan), *good[2:], kind="right")
    with pytest.raises(ShapeError, match="base"):
        gate(ints(1, 0), *good[1:], kind="right")
    with pytest.raises(ShapeError, match="correct"):
        gate(*good[:2], floats(1, 0), good[3], kind="right")
    with pytest.raises(ShapeError, match="shaped has 1 entries"):
        gate(good[0], floats(1), *good[2:], kind="right")
    with pytest.raises(InputError, match=r"factors\[0\] is -1.0"):
        guarded_product(floats(1), floats(-1))
    with pytest.raises(ShapeError, match="counted"):
        o.min_max_length(bools(1), ints(1), ints(0), counted=ints(1))
