"""On-Policy SFT's loss (spec page on-policy-sft): hand numbers, a loop with autograd, invariants and edges."""

from __future__ import annotations

import math

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    clipped_surrogate,
    filtered_likelihood,
    filtered_normaliser,
    kept_share,
    positive_lm,
    truncation,
)
from lengthwise.objectives.likelihood import DIVISORS

every = pytest.mark.parametrize("divisor", DIVISORS)
NAN = math.nan
# rows of 2, 5 and 3 tokens, padding that must never be read
LOGP = torch.tensor([[-0.5, -0.5, NAN, NAN, NAN], [-0.2] * 5, [-1, -1, -1, NAN, NAN]], dtype=torch.float64)
MASK = torch.arange(5) < ints(2, 5, 3)[:, None]


def hand(divisor: str, kept: torch.Tensor) -> tuple[float, torch.Tensor]:
    logp = LOGP.clone().requires_grad_()
    loss = filtered_likelihood(logp, MASK, kept, divisor=divisor)
    loss.backward()
    assert logp.grad is not None
    return float(loss.detach()), logp.grad


@pytest.mark.parametrize(
    ("divisor", "loss", "first", "second"),
    [
        ("longest", 0.2, -0.1, -0.1),  # (1 + 1)/5/2; 1/(5 * 2)
        ("token-mean", 2 / 7, -1 / 7, -1 / 7),  # two tokens and five
        ("row", 0.35, -0.25, -0.1),  # (.5 + .2)/2; 1/(2 * 2) and 1/(5 * 2)
    ],
)
def test_on_policy_sft_8_three_divisors(divisor: str, loss: float, first: float, second: float) -> None:
    value, gradient = hand(divisor, bools(1, 1, 0))  # the third is wrong, or right and cut: the same here
    assert value == pytest.approx(loss, rel=1e-12)
    expected = torch.tensor([[first] * 2 + [0] * 3, [second] * 5, [0] * 5], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected)


def test_on_policy_sft_8_a_cut_answer_is_dropped_where_the_authors_code_learns_it() -> None:
    # right with the number boxed in its thinking, but cut: not kept by the truncation reward; theirs: (1 + 1 + 3)/10
    paid = truncation(bools(1, 1, 1), ints(2, 5, 3), bools(1, 1, 0), limit=5)
    assert hand("token-mean", paid > 0)[0] == pytest.approx(2 / 7)
    assert hand("token-mean", bools(1, 1, 1))[0] == pytest.approx(0.5)


def test_on_policy_sft_8_no_kept_row_is_lost_to_a_number_of_workers() -> None:
    logp = torch.full((5, 1), -1.0, requires_grad=True)
    filtered_likelihood(logp, torch.ones(5, 1, dtype=torch.bool), bools(1, 1, 1, 1, 1)).backward()
    assert logp.grad is not None and torch.allclose(logp.grad, torch.full((5, 1), -0.2))


def test_on_policy_sft_8_share_of_prompts_without_a_kept_row() -> None:
    # .75^32 = 1.0e-4, and .25 * 32 = 8 kept ones are expected; kept_share leaves out all-kept and none-kept
    assert 1 - kept_share(0.25, 32) - 0.25**32 == pytest.approx(1.0e-4, abs=5e-6)


# ---- against a loop ---------------------------------------------------------------------------------------


def random_batch(seed: int, rows: int = 12, width: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    mask = torch.arange(width) < torch.randint(1, width + 1, (rows,), generator=make)[:, None]
    logp = -torch.rand(rows, width, generator=make, dtype=torch.float64)
    return logp.masked_fill(~mask, NAN), mask, torch.rand(rows, generator=make) < 0.6


def naive(logp: torch.Tensor, mask: torch.Tensor, kept: torch.Tensor, divisor: str) -> torch.Tensor:
    rows = [logp[i][mask[i]] for i in range(len(mask)) if kept[i]]
    if divisor == "token-mean":
        return -torch.cat(rows).mean()
    longest = max(len(row) for row in rows)
    return torch.stack([-row.sum() / (len(row) if divisor == "row" else longest) for row in rows]).mean()


@every
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_against_autograd_of_a_loop(divisor: str, seed: int) -> None:
    logp, mask, kept = random_batch(seed)
    ours, slow = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    loss, expected = filtered_likelihood(ours, mask, kept, divisor=divisor), naive(slow, mask, kept, divisor)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, slow.grad)


# ---- invariants (on-policy-sft section 9) -----------------------------------------------------------------


@every
def test_on_policy_sft_9_rows_that_are_not_kept_change_nothing(divisor: str) -> None:
    logp, mask, kept = random_batch(4)
    whole = filtered_likelihood(logp, mask, kept, divisor=divisor)
    torch.testing.assert_close(filtered_likelihood(logp[kept], mask[kept], kept[kept], divisor=divisor), whole)
    other = torch.where(kept[:, None], logp, NAN)
    torch.testing.assert_close(filtered_likelihood(other, mask, kept, divisor=divisor), whole)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(filtered_likelihood(logp[order], mask[order], kept[order], divisor=divisor), whole)


@every
def test_on_policy_sft_9_micro_batches_add_up(divisor: str) -> None:
    logp, mask, kept = random_batch(5)
    whole, norm = (
        filtered_likelihood(logp, mask, kept, divisor=divisor),
        filtered_normaliser(mask, kept, divisor=divisor),
    )
    parts = [
        filtered_likelihood(logp[at], mask[at], kept[at], divisor=divisor, normaliser=norm)
        for at in (slice(0, 5), slice(5, 6), slice(6, 12))
    ]
    torch.testing.assert_close(sum(parts[1:], parts[0]), whole)


def test_on_policy_sft_9_zero_only_at_certainty() -> None:
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert filtered_likelihood(torch.zeros(2, 3), mask, bools(1, 1)) == 0
    assert filtered_likelihood(torch.tensor([[0.0, 0, 0], [0, -1e-3, 0]]), mask, bools(1, 1)) > 0


def test_on_policy_sft_9_equals_reinforce_on_the_truncation_reward_at_the_first_update() -> None:
    logp, mask, _ = random_batch(6)
    logp = logp.nan_to_num(0)
    num_tokens = mask.sum(dim=1)
    reward = truncation(num_tokens > 2, num_tokens, num_tokens < 9, limit=7)
    kept = reward > 0
    ours, theirs = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    filtered_likelihood(ours, mask, kept).backward()
    normaliser = filtered_normaliser(mask, kept)
    clipped_surrogate(theirs, logp, reward, mask, aggregate="seq-mean-token-sum", normaliser=normaliser)[0].backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_its_token_mean_is_the_imitation_loss_of_t_ppo() -> None:
    logp, mask, kept = random_batch(7)
    assert torch.equal(filtered_likelihood(logp, mask, kept, divisor="token-mean"), positive_lm(logp, mask, kept))


# ---- edge cases (on-policy-sft section 7) -----------------------------------------------------------------


@every
def test_no_kept_row_and_no_row_at_all(divisor: str) -> None:
    logp, mask, kept = random_batch(8)
    logp.requires_grad_()
    loss = filtered_likelihood(logp, mask, kept & False, divisor=divisor)
    loss.backward()
    assert loss == 0 and logp.grad is not None and not logp.grad.any()
    assert filtered_normaliser(mask, kept & False, divisor=divisor) == 1
    empty = torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.bool), bools()
    assert filtered_likelihood(*empty, divisor=divisor) == 0


@every
def test_one_kept_row_is_learned_with_full_weight(divisor: str) -> None:
    value, gradient = hand(divisor, bools(0, 0, 1))
    assert value == pytest.approx(1) and torch.allclose(gradient[2, :3], floats(-1 / 3))


def test_one_very_long_row_shrinks_every_other_rows_step() -> None:
    assert filtered_normaliser(MASK, bools(1, 0, 1)) == 6
    assert filtered_normaliser(MASK, bools(1, 1, 1)) == 15
    assert [filtered_normaliser(MASK, bools(1, 1, 0), divisor=d) for d in DIVISORS] == [10, 7, 2]


def test_a_kept_row_without_a_token_counts_as_a_row() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    logp = torch.full((2, 2), -1.0, dtype=torch.float64)
    values = [float(filtered_likelihood(logp, mask, bools(1, 1), divisor=d)) for d in DIVISORS]
    assert values == pytest.approx([0.5, 1, 0.5])


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="divisor is 'own'; choose one of longest, token-mean, row"):
        filtered_likelihood(LOGP, MASK, bools(1, 1, 0), divisor="own")
    with pytest.raises(ConfigError, match="divisor"):
        filtered_normaliser(MASK, bools(1, 1, 0), divisor="own")
    with pytest.raises(ConfigError, match="normaliser is 0"):
        filtered_likelihood(LOGP, MASK, bools(1, 1, 0), normaliser=0)
    with pytest.raises(InputError, match="logp row 1 is NaN or infinite"):
        filtered_likelihood(torch.full((2, 2), -math.inf), torch.tensor([[0, 0], [1, 1]]).bool(), bools(1, 1))
    with pytest.raises(ShapeError, match="kept"):
        filtered_likelihood(LOGP, MASK, ints(1, 1, 0))
    with pytest.raises(ShapeError, match="kept has 2 entries"):
        filtered_likelihood(LOGP, MASK, bools(1, 1))
    with pytest.raises(ShapeError, match="logp"):
        filtered_likelihood(LOGP[:, :4], MASK, bools(1, 1, 0))
