from __future__ import annotations

import pytest
import torch

from lengthwise.engine.backends import drawing
from lengthwise.engine.backends.drawing import BLOCK, draw, draw_half, one_of_each, row_numbers


@pytest.mark.parametrize("before", [0, 3, BLOCK - 2, 2 * BLOCK + 7])
@pytest.mark.parametrize("behind", [0, BLOCK])
def test_one_number_a_row_draws_by_the_weights_wherever_blocks_end(before, behind):
    some = torch.tensor([1.0, 0.0, 0.6, 0.4, 0.0])  # halved they are shares
    weights = torch.cat([torch.zeros(before), some, torch.zeros(behind)]).repeat(40_000, 1)
    token = one_of_each(weights, torch.Generator().manual_seed(0)) - before
    share = torch.bincount(token, minlength=5) / len(token)
    assert share[1] == share[4] == 0
    # three standard errors of a share of a half in 40,000 draws: 3 * sqrt(.25 / 40,000) = .0075
    assert (share[:5] - some / 2).abs().max() < 0.0075


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_rounding_to_either_end_never_draws_a_token_without_weight(monkeypatch, place):
    weights = torch.zeros(1, 2 * BLOCK + 5)
    weights[0, 3], weights[0, BLOCK + 4] = 0.25, 0.75
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, place))
    assert one_of_each(weights, torch.Generator()).tolist() == [3 if place == 0 else BLOCK + 4]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_those_of_a_softmax_however_many_rows_are_drawn_together(monkeypatch, temperature):
    logits = (4 * torch.randn(7, 1300, generator=torch.Generator().manual_seed(1))).bfloat16()
    token, logp = draw_half(logits, torch.Generator().manual_seed(2), temperature)
    wanted = torch.log_softmax(logits.float() / temperature, -1).gather(-1, token[:, None])[:, 0]
    assert torch.allclose(logp, wanted, atol=1e-5)
    monkeypatch.setattr(drawing, "BYTES_AT_ONCE", 2 * 4 * 1300)
    again = draw_half(logits, torch.Generator().manual_seed(2), temperature)
    assert again[0].tolist() == token.tolist()
    assert torch.equal(again[1], logp)


def test_a_logit_that_is_no_number_makes_its_rows_log_probability_none():
    logits = torch.zeros(2, 9).bfloat16()
    logits[1, 8] = torch.nan
    assert draw_half(logits, torch.Generator().manual_seed(0), 1.0)[1].isnan().tolist() == [False, True]


def test_a_row_s_numbers_are_splitmix64_s_and_uniform():
    # The reference implementation, seeded with 1234567: 6457827717110365317, 3203168211198807973, 9817491932198370423.
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    found = row_numbers(torch.full((3,), 1234567), torch.arange(1, 4))[:, 0]
    assert found.tolist() == [(word >> 40) / 2**24 for word in wanted]
    many = row_numbers(torch.arange(50_000) - 25_000, torch.full((50_000,), 7))[:, 0]
    shares = torch.histc(many, bins=10, min=0, max=1) / len(many)
    # three standard errors of a share of a tenth in 50,000 numbers: 3 * sqrt(.09 / 50,000) = .004
    assert many.min() >= 0 and many.max() < 1 and (shares - 0.1).abs().max() < 0.004


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_have_numbers_of_their_own_draw_alike_in_any_company(dtype):
    logits = torch.randn(5, 1300, generator=torch.Generator().manual_seed(1)).to(dtype)
    seeds, places = torch.tensor([3, 1, 4, 1, 5]), torch.tensor([9, 2, 6, 5, 3])
    together = draw(logits, row_numbers(seeds, places), 1.0, 1.0)
    for row in range(5):
        one = slice(row, row + 1)
        alone = draw(logits[one], row_numbers(seeds[one], places[one]), 1.0, 1.0)
        assert alone[0].tolist() == together[0][one].tolist()
        assert torch.allclose(alone[1], together[1][one])
