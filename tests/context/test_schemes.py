"""giraffe.md: every hand-checked row, invariant and edge case of the position schemes as pure functions."""

from __future__ import annotations

import math

import pytest
import torch

from lengthwise.context.positions import schemes
from lengthwise.errors import ConfigError

BASE = 10_000.0


def close(found: torch.Tensor, wanted: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        # f = 1, 0.1, 0.01, 0.001, each divided by 4
        pytest.param(lambda: schemes.linear_inv_freq(8, BASE, factor=4), [0.25, 0.025, 0.0025, 0.00025], id="giraffe-6-row1"),  # noqa: E501
        # brackets 1, 3/4, 2/4, 1/4
        pytest.param(lambda: schemes.power_inv_freq(8, BASE, power=1), [1, 0.075, 0.005, 0.00025], id="giraffe-6-row2"),
        # square roots 1, 0.8660254, 0.7071068, 0.5
        pytest.param(lambda: schemes.power_inv_freq(8, BASE, power=0.5), [1, 0.08660254, 0.007071068, 0.0005], id="giraffe-6-row3"),  # noqa: E501
        # b = 0.0981748, a = 0.0122718: 1 and 0.1 are kept, 0.01 < a stops
        pytest.param(lambda: schemes.truncated_inv_freq(8, BASE, length=64), [1, 0.1, 0, 0], id="giraffe-6-row4"),
        # b = 0.0628319, a = 0.00785398: 0.01 is in the band, rho = b/16
        pytest.param(lambda: schemes.truncated_inv_freq(8, BASE, length=100), [1, 0.1, 0.00392699, 0], id="giraffe-6-row5"),  # noqa: E501
        # b = 0.785398, a = 0.0981748: 0.1 is in the band, rho = b/16
        pytest.param(lambda: schemes.truncated_inv_freq(8, BASE, length=8), [1, 0.0490874, 0, 0], id="giraffe-6-row6"),
        # (2i + 3.2) / 11.2
        pytest.param(lambda: schemes.xpos_zeta(8), [0.2857143, 0.4642857, 0.6428571, 0.8214286], id="giraffe-6-row11"),
        # square roots of row 11, 256 / 512 = 1/2
        pytest.param(lambda: schemes.xpos_decay(8, 256), [0.5345225, 0.6813851, 0.8017837, 0.9063270], id="giraffe-6-row12"),  # noqa: E501
        # 2 * running sums .5, .75, 1.5, 2: last one 4 = n, no stretching
        pytest.param(lambda: schemes.randomised_positions(torch.tensor([0.5, 0.25, 0.75, 0.5])), [1, 1.5, 3, 4], id="giraffe-6-row9"),  # noqa: E501
        # 2 * sums = 1.8, 3.4, 5.4, 6.8; times 4/6.8
        pytest.param(lambda: schemes.randomised_positions(torch.tensor([0.9, 0.8, 1.0, 0.7])), [1.0588235, 2, 3.1764706, 4], id="giraffe-6-row10"),  # noqa: E501
    ],
)  # fmt: skip
def test_hand_checked_values(found, wanted) -> None:
    close(found(), wanted)


@pytest.mark.parametrize(
    ("length", "kept", "slow", "stopped"),
    [pytest.param(2048, 41, 14, 9, id="giraffe-6-row7"), pytest.param(4096, 46, 14, 4, id="giraffe-6-row8")],
)
def test_truncated_groups(length: int, kept: int, slow: int, stopped: int) -> None:
    plain, found = schemes.default_inv_freq(128), schemes.truncated_inv_freq(128, length=length)
    rho = 2 * math.pi / length / 16
    assert [int((found == plain).sum()), int((found == 0).sum())] == [kept, stopped]
    torch.testing.assert_close(found[kept : kept + slow], torch.full((slow,), rho), rtol=1e-6, atol=0)
    if length == 2048:
        assert rho == pytest.approx(1.917476e-4, rel=1e-6)
    # giraffe section 7: index-contiguous groups
    assert (found[:kept] == plain[:kept]).all() and (found[kept + slow :] == 0).all()


@pytest.mark.parametrize(
    ("tokens", "starts"), [(3, [0]), (5, [0, 2]), (10, [0, 2, 4, 6])], ids=lambda value: f"giraffe-6-row13-{value}"
)
def test_chunk_starts(tokens: int, starts: list[int]) -> None:
    # c = 4, h = 2: starts below max(1, N - 2) = 1, 3, 8
    assert schemes.chunk_starts(tokens, 4) == starts


def test_a_chunk_is_padded_on_the_right_with_0() -> None:
    assert schemes.chunk([7, 8, 9], 4) == [([7, 8, 9, 0], [1, 1, 1, 0])]
    assert schemes.chunk([5, 6], 4) == [([5, 6, 0, 0], [1, 1, 0, 0])]  # N <= h still yields one chunk
    assert schemes.chunk([], 4) == []


@pytest.mark.parametrize("head_dim", [8, 64, 128])
def test_identity_settings_are_the_default_bit_for_bit(head_dim: int) -> None:
    plain = schemes.default_inv_freq(head_dim)
    enough = 2 * math.pi / float(plain.min()) * 1.01  # every f >= 2 pi / T
    for found in (
        schemes.linear_inv_freq(head_dim, factor=1),
        schemes.power_inv_freq(head_dim, power=0),
        schemes.truncated_inv_freq(head_dim, length=enough),
        schemes.composed_inv_freq(head_dim, factor=1, power=0, truncate_length=enough),
    ):
        assert torch.equal(found, plain)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda bad: schemes.linear_inv_freq(8, factor=bad), "factor"),
        (lambda bad: schemes.power_inv_freq(8, power=bad), "power"),
        (lambda bad: schemes.truncated_inv_freq(8, length=bad), "truncate_length"),
        (lambda bad: schemes.xpos_decay(8, 1.0, scale_base=bad), "xpos_scale_base"),
    ],
)
@pytest.mark.parametrize("bad", [-1.0, -0.5, math.nan, math.inf, True, "4"])
def test_parameters_out_of_range_name_themselves(make, names: str, bad: object) -> None:
    with pytest.raises(ConfigError, match=names) as raised:
        make(bad)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: schemes.linear_inv_freq(8, factor=0.5), "factor is 0.5"),
        (lambda: schemes.truncated_inv_freq(8, length=0), "truncate_length is 0"),
        (lambda: schemes.xpos_decay(8, 1.0, scale_base=0), "xpos_scale_base is 0"),
        (lambda: schemes.default_inv_freq(7), "head_dim is 7"),
        (lambda: schemes.xpos_zeta(7), "head_dim is 7"),
        (lambda: schemes.chunk_starts(10, 5), "length is 5"),
        (lambda: schemes.randomised_positions(torch.ones(0)), "draws"),
    ],
)
def test_more_that_is_refused(make, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        make()


def test_linear_equals_positions_divided() -> None:
    positions = torch.arange(0, 64, 4).float()
    slowed = positions[:, None] * schemes.linear_inv_freq(8, factor=4)
    torch.testing.assert_close(slowed, positions[:, None] / 4 * schemes.default_inv_freq(8))


@pytest.mark.parametrize("power", [0.1, 0.5, 1.0, 2.0])
def test_power_starts_at_1_and_strictly_falls(power: float) -> None:
    ratio = schemes.power_inv_freq(64, power=power) / schemes.default_inv_freq(64)
    assert ratio[0] == 1 and (ratio.diff() < 0).all()


def test_composition_is_in_order() -> None:
    # linear 2, power 1, then truncated at 100 (b = 0.0628319, a = 0.00785398, rho = 0.00392699):
    # 0.5 kept; 0.05 * 3/4 = 0.0375 in the band; 0.0025 and 0.000125 stop
    close(schemes.composed_inv_freq(8, factor=2, power=1, truncate_length=100), [0.5, 0.00392699, 0, 0])


def test_randomised_positions_rise_and_stay_in_range() -> None:
    draws = torch.rand(50, 300, generator=torch.Generator().manual_seed(0)).clamp(min=1e-3)
    found = schemes.randomised_positions(draws)
    assert (found.diff(dim=1) > 0).all() and (found > 0).all() and (found <= 300).all()
    for row, u in zip(found, draws, strict=True):  # the page's words, one row at a time
        t = 2 * u.cumsum(0)
        torch.testing.assert_close(row, t * 300 / max(float(t[-1]), 300))


def test_randomised_positions_are_not_stretched_when_they_end_early() -> None:
    close(schemes.randomised_positions(torch.full((4,), 0.25)), [0.5, 1.0, 1.5, 2.0])


def test_xpos_needs_no_centre_and_tends_to_rope() -> None:
    m, s = 600.0, 88.0
    whole = schemes.xpos_decay(8, m - s)
    for centre in (0.0, 88.0, 300.0, 600.0):
        torch.testing.assert_close(schemes.xpos_decay(8, m - centre) * schemes.xpos_decay(8, centre - s), whole)
    assert (schemes.xpos_decay(8, 100.0, scale_base=1e12) - 1).abs().max() < 1e-6
    zeta = schemes.xpos_zeta(128)
    assert zeta[0] == pytest.approx(2 / 7) and (zeta < 1).all()


def test_the_authors_xpos_schedule() -> None:
    # 8192 - 8 a step while above 128: step 1008 is the first at 128 = 8192 - 8064
    assert [schemes.xpos_base_at(step) for step in (0, 1, 1007, 1008, 5000)] == [8192, 8184, 136, 128, 128]
