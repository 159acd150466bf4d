"""Rewards against hand numbers (spec pages dler and length-rewards), naive loops, invariants and edge cases."""

from __future__ import annotations

import math

import pytest
import torch
from tensors import bools

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import difficulty_truncation, truncation


def random_rollouts(seed: int, rows: int = 60) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    correct = torch.rand(rows, generator=make) < 0.6
    num_tokens = torch.randint(0, 12, (rows,), generator=make)
    finished = torch.rand(rows, generator=make) < 0.8
    group_ids = torch.randint(-3, 9, (rows,), generator=make)
    return correct, num_tokens, group_ids, finished


# ---- truncation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tokens", "finished", "expected"),
    [
        # 4000 <= 4000 and finished
        pytest.param(4000, 1, 1.0, id="length-rewards-6-truncation-at-limit"),
        # 4001 > 4000
        pytest.param(4001, 1, 0.0, id="length-rewards-6-truncation-above-limit"),
        # short enough, but cut
        pytest.param(4000, 0, 0.0, id="length-rewards-6-truncation-cut"),
    ],
)
def test_truncation_hand_numbers(num_tokens: int, finished: int, expected: float) -> None:
    reward = truncation(bools(1), torch.tensor([num_tokens]), bools(finished), limit=4000)
    assert reward.tolist() == [expected]
    assert reward.dtype == torch.float32


def test_cut_reward_is_paid_to_correct_rows_only() -> None:
    # rows: right and within; right but long; right but cut; wrong and within; wrong and cut
    reward = truncation(
        bools(1, 1, 1, 0, 0), torch.tensor([3, 6, 3, 3, 3]), bools(1, 1, 0, 1, 0), limit=5, cut_reward=0.1
    )
    torch.testing.assert_close(reward, torch.tensor([1.0, 0.1, 0.1, 0.0, 0.0]))


def test_limit_travels_with_the_sample() -> None:
    reward = truncation(bools(1, 1, 1), torch.tensor([5, 5, 5]), bools(1, 1, 1), limit=torch.tensor([4, 5, 6]))
    assert reward.tolist() == [0.0, 1.0, 1.0]


def test_a_huge_limit_is_no_limit_for_int32_counts() -> None:
    reward = truncation(bools(1), torch.tensor([7], dtype=torch.int32), bools(1), limit=2**40)
    assert reward.tolist() == [1.0]


@pytest.mark.parametrize("cut_reward", [0.0, 0.1, 1.0])
def test_truncation_against_a_loop(cut_reward: float) -> None:
    correct, num_tokens, _, finished = random_rollouts(0)
    caps = torch.randint(1, 12, (60,), generator=torch.Generator().manual_seed(1))
    for limit in (6, caps):
        expected = []
        for row in range(60):
            cap = limit if isinstance(limit, int) else int(limit[row])
            whole = bool(finished[row]) and int(num_tokens[row]) <= cap
            expected.append((1.0 if whole else cut_reward) if correct[row] else 0.0)
        reward = truncation(correct, num_tokens, finished, limit=limit, cut_reward=cut_reward)
        torch.testing.assert_close(reward, torch.tensor(expected))


def test_truncation_never_rises_with_length_and_permutes_with_its_rows() -> None:
    rewards = truncation(torch.ones(20, dtype=torch.bool), torch.arange(20), torch.ones(20, dtype=torch.bool), limit=9)
    assert (rewards.diff() <= 0).all()
    assert set(rewards.tolist()) == {0.0, 1.0}

    correct, num_tokens, _, finished = random_rollouts(2)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    whole = truncation(correct, num_tokens, finished, limit=6)
    assert torch.equal(truncation(correct[order], num_tokens[order], finished[order], limit=6), whole[order])


def test_lengths_of_wrong_answers_do_not_matter() -> None:
    correct, num_tokens, _, finished = random_rollouts(4)
    other = torch.where(correct, num_tokens, num_tokens + 100)
    assert torch.equal(
        truncation(correct, num_tokens, finished, limit=6), truncation(correct, other, finished, limit=6)
    )


def test_empty_batch_gives_empty_rewards() -> None:
    none, no_tokens = bools(), torch.zeros(0, dtype=torch.int64)
    assert truncation(none, no_tokens, none, limit=5).shape == (0,)
    tiers = difficulty_truncation(none, no_tokens, no_tokens, none, limits=(4, 2), thresholds=(0.5,))
    assert tiers.shape == (0,)


def test_an_empty_response_is_within_every_limit() -> None:
    assert truncation(bools(1), torch.tensor([0]), bools(1), limit=1).tolist() == [1.0]


@pytest.mark.parametrize(
    "num_tokens", ["ab", [3, 4], torch.tensor([3.0, 4.0]), torch.tensor([[3, 4]]), torch.tensor([3, 4, 5])]
)
def test_lengths_that_are_no_token_counts_are_refused(num_tokens: object) -> None:
    with pytest.raises(ShapeError, match="num_tokens"):
        truncation(bools(1, 1), num_tokens, bools(1, 1), limit=5)  # type: ignore[arg-type]


def test_negative_length_names_the_row_and_the_value() -> None:
    with pytest.raises(InputError, match=r"num_tokens\[1\] is -2"):
        truncation(bools(1, 1), torch.tensor([3, -2]), bools(1, 1), limit=5)


@pytest.mark.parametrize("verdict", [torch.tensor([1.0, 0.0]), torch.tensor([1, 0]), [True, False]])
def test_verdicts_must_be_bool(verdict: object) -> None:
    lengths = torch.tensor([1, 1])
    with pytest.raises(ShapeError, match="answer_correct"):
        truncation(verdict, lengths, bools(1, 1), limit=5)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="finished"):
        truncation(bools(1, 1), lengths, verdict, limit=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -1, 4.0, math.nan, True, "4", None])
def test_limits_that_are_no_positive_int_are_refused(limit: object) -> None:
    with pytest.raises(ConfigError, match="limit"):
        truncation(bools(1), torch.tensor([1]), bools(1), limit=limit)  # type: ignore[arg-type]


def test_limit_tensors_are_checked() -> None:
    with pytest.raises(ShapeError, match="limit has 2 entries"):
        truncation(bools(1), torch.tensor([1]), bools(1), limit=torch.tensor([4, 5]))
    with pytest.raises(ShapeError, match="limit has dtype"):
        truncation(bools(1), torch.tensor([1]), bools(1), limit=torch.tensor([4.0]))
    with pytest.raises(InputError, match=r"limit\[0\] is 0"):
        truncation(bools(1), torch.tensor([1]), bools(1), limit=torch.tensor([0]))


@pytest.mark.parametrize("cut_reward", [-0.1, 1.1, math.nan, math.inf, "0"])
def test_cut_reward_out_of_range_is_refused(cut_reward: object) -> None:
    with pytest.raises(ConfigError, match="cut_reward"):
        truncation(bools(1), torch.tensor([1]), bools(1), limit=4, cut_reward=cut_reward)  # type: ignore[arg-type]


# ---- difficulty_truncation --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "reward_of_3000"),
    [
        # p = 4/8 = 0.5 is not above 0.5: target 4000, so 3000 tokens are within it
        pytest.param(4, 1.0, id="dler-8-da-dler-4-correct"),
        # p = 5/8 > 0.5: target 2000, so 3000 tokens are too long
        pytest.param(5, 0.0, id="dler-8-da-dler-5-correct"),
    ],
)
def test_difficulty_hand_numbers(correct: int, reward_of_3000: float) -> None:
    verdicts = torch.arange(8) < correct
    num_tokens = torch.tensor([3000] + [1500] * 7)
    reward = difficulty_truncation(
        verdicts, num_tokens, torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.bool),
        limits=(4000, 2000), thresholds=(0.5,),
    )  # fmt: skip
    assert reward.tolist() == [reward_of_3000] + [1.0] * (correct - 1) + [0.0] * (8 - correct)


def test_share_counts_only_what_finished_within_the_longest_limit() -> None:
    # five right answers, but one is longer than 4000 and one was cut: p = 3/8, so the target stays 4000
    reward = difficulty_truncation(
        torch.arange(8) < 5,
        torch.tensor([3000, 3000, 3000, 4001, 3000, 10, 10, 10]),
        torch.zeros(8, dtype=torch.int64),
        bools(1, 1, 1, 1, 0, 1, 1, 1),
        limits=[4000, 2000],
        thresholds=[0.5],
    )
    assert reward.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 1 / 3, 2 / 3])
def test_a_share_equal_to_the_threshold_keeps_the_longer_limit(threshold: float) -> None:
    # 3 of 30, 9 of 30, 21 of 30, 10 of 30, 20 of 30: the division must round like the Python number
    correct = torch.arange(30) < round(threshold * 30)
    rest = torch.full((30,), 9), torch.zeros(30, dtype=torch.int64), torch.ones(30, dtype=torch.bool)
    reward = difficulty_truncation(correct, *rest, limits=(10, 5), thresholds=(threshold,))
    assert torch.equal(reward, correct.float())


def test_difficulty_against_a_loop() -> None:
    correct, num_tokens, group_ids, finished = random_rollouts(5)
    limits, thresholds = (10, 7, 4), (0.25, 0.5)
    expected = []
    for row in range(60):
        group = [j for j in range(60) if group_ids[j] == group_ids[row]]
        within = [bool(correct[j] and finished[j] and num_tokens[j] <= limits[0]) for j in group]
        tier = sum(threshold < sum(within) / len(group) for threshold in thresholds)
        good = bool(correct[row] and finished[row] and num_tokens[row] <= limits[tier])
        expected.append(1.0 if good else (0.1 if correct[row] else 0.0))
    reward = difficulty_truncation(
        correct, num_tokens, group_ids, finished, limits=limits, thresholds=thresholds, cut_reward=0.1
    )
    torch.testing.assert_close(reward, torch.tensor(expected))


def test_another_group_in_the_batch_changes_nothing() -> None:
    correct, num_tokens, group_ids, finished = random_rollouts(6)
    options = {"limits": (10, 4), "thresholds": (0.4,)}
    whole = difficulty_truncation(correct, num_tokens, group_ids, finished, **options)
    some = group_ids < 3
    part = difficulty_truncation(correct[some], num_tokens[some], group_ids[some], finished[some], **options)
    assert torch.equal(part, whole[some])


def test_one_limit_and_no_threshold_is_plain_truncation() -> None:
    correct, num_tokens, group_ids, finished = random_rollouts(7)
    tiers = difficulty_truncation(correct, num_tokens, group_ids, finished, limits=(6,), thresholds=())
    assert torch.equal(tiers, truncation(correct, num_tokens, finished, limit=6))


def test_group_of_one_all_correct_and_all_wrong() -> None:
    # group 0: alone and right within 10, p = 1 > 0.5, target 5, 8 tokens are too long
    # group 1: all right, the same; group 2: all wrong, p = 0
    reward = difficulty_truncation(
        bools(1, 1, 1, 0, 0), torch.tensor([8, 8, 5, 1, 1]), torch.tensor([0, 1, 1, 2, 2]), bools(1, 1, 1, 1, 1),
        limits=(10, 5), thresholds=(0.5,),
    )  # fmt: skip
    assert reward.tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("limits", "thresholds", "named"),
    [
        ((4, 2), (), "limits"),
        ((4,), (0.5,), "limits"),
        ((2, 4), (0.5,), "limits"),
        ((4, 4), (0.5,), "limits"),
        ((4.0, 2.0), (0.5,), "limits"),
        ((4, 0), (0.5,), "limits"),
        (4, (0.5,), "limits"),
        ((6, 4, 2), (0.5, 0.4), "thresholds"),
        ((6, 4, 2), (0.5, 0.5), "thresholds"),
        ((4, 2), (math.nan,), "thresholds"),
        ((4, 2), (1.5,), "thresholds"),
        ((4, 2), (-0.1,), "thresholds"),
        ((4, 2), torch.tensor([0.5]), "thresholds"),
    ],
)
def test_tiers_out_of_order_or_range_are_refused(limits: object, thresholds: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        difficulty_truncation(
            bools(1),
            torch.tensor([1]),
            torch.tensor([0]),
            bools(1),
            limits=limits,
            thresholds=thresholds,  # type: ignore[arg-type]
        )


def test_group_ids_must_be_one_integer_per_row() -> None:
    for group_ids in (torch.tensor([0, 1]), torch.tensor([0.0]), ["a"]):
        with pytest.raises(ShapeError, match="group_ids"):
            difficulty_truncation(
                bools(1),
                torch.tensor([1]),
                group_ids,
                bools(1),
                limits=(4, 2),
                thresholds=(0.5,),  # type: ignore[arg-type]
            )
