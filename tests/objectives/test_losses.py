"""Losses against hand numbers (spec page dler), naive loops, autograd, micro-batches, padding and bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import clipped_surrogate, kl_penalty, loss_normaliser
from lengthwise.objectives.losses import AGGREGATES, KL_KINDS

MAX_TOKENS = 9
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def norm_options(aggregate: str) -> dict[str, Any]:
    return {"aggregate": aggregate, "max_tokens": MAX_TOKENS if aggregate.endswith("norm") else None}


def random_batch(seed: int, *, per_token: bool = False, rows: int = 9, width: int = 8) -> Batch:
    """Ratios on both sides of every bound and beyond the clamp, none of them within 1e-2 of a kink."""
    make = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, width, generator=make, dtype=torch.float64) * 3
    steps = torch.tensor([-25.0, -3.0, -0.3, -0.15, 0.0, 0.1, 0.2, 0.3, 1.0, 2.5, 3.0, 25.0], dtype=torch.float64)
    logp = old + steps[torch.randint(0, len(steps), (rows, width), generator=make)]
    shape = (rows, width) if per_token else (rows,)
    advantages = torch.randn(shape, generator=make, dtype=torch.float64)
    lengths = torch.randint(1, width + 1, (rows,), generator=make)
    mask = torch.arange(width)[None, :] < lengths[:, None]
    return logp, old, advantages, mask


def naive_token_loss(
    logp: torch.Tensor, old: torch.Tensor, a: torch.Tensor, low: float, high: float, dual: float | None
) -> torch.Tensor:
    """One token, the formula of the page word for word, for autograd to differentiate."""
    s = torch.exp(torch.clamp(logp - old, -20, 20))
    loss = torch.maximum(-a * s, -a * torch.clamp(s, 1 - low, 1 + high))
    if a < 0 and dual is not None:
        loss = torch.minimum(loss, -a * dual)
    return loss


def naive_surrogate(
    logp: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, aggregate: str, **clips: Any
) -> torch.Tensor:
    low, high, dual = clips.get("low", 0.2), clips.get("high", 0.28), clips.get("dual", 10.0)
    rows = []
    for i in range(len(mask)):
        tokens = []
        for t in range(mask.shape[1]):
            if mask[i, t]:
                a = advantages[i] if advantages.dim() == 1 else advantages[i, t]
                tokens.append(naive_token_loss(logp[i, t], old[i, t], a, low, high, dual))
        rows.append(torch.stack(tokens))
    if aggregate == "token-mean":
        return torch.cat(rows).mean()
    if aggregate == "seq-mean-token-mean":
        return torch.stack([row.mean() for row in rows]).mean()
    if aggregate == "seq-mean-token-sum":
        return torch.stack([row.sum() for row in rows]).mean()
    return torch.cat(rows).sum() / (len(rows) * MAX_TOKENS)


def one_token(advantage: float, ratio: float, **options: Any) -> tuple[float, float, dict[str, torch.Tensor]]:
    logp = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    loss, stats = clipped_surrogate(
        logp, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([advantage], dtype=torch.float64), mask, **options
    )
    loss.backward()
    assert logp.grad is not None
    return float(loss.detach()), float(logp.grad), stats


# ---- hand numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "gradient"),
    [
        # A = 1: -min(s, clip(s, .8, 1.28)); the gradient is -s, or 0 above 1.28
        pytest.param(1, 1.25, -1.25, -1.25, id="dler-8-A1-s1.25"),
        pytest.param(1, 1.5, -1.28, 0, id="dler-8-A1-s1.5"),
        pytest.param(1, 0.5, -0.5, -0.5, id="dler-8-A1-s0.5"),
        # A = -1: max(s, clip(s)), at most 10; the gradient is s, or 0 below .8 and above 10
        pytest.param(-1, 0.75, 0.8, 0, id="dler-8-A-1-s0.75"),
        pytest.param(-1, 0.9, 0.9, 0.9, id="dler-8-A-1-s0.9"),
        pytest.param(-1, 1.5, 1.5, 1.5, id="dler-8-A-1-s1.5"),
        pytest.param(-1, 20, 10, 0, id="dler-8-A-1-s20"),
        # A = -2: min(2 * 12, 2 * 10) = 20
        pytest.param(-2, 12, 20, 0, id="dler-8-A-2-s12"),
    ],
)
def test_surrogate_hand_numbers(advantage: float, ratio: float, loss: float, gradient: float) -> None:
    value, slope, _ = one_token(advantage, ratio)
    assert value == pytest.approx(loss, rel=1e-12)
    assert slope == pytest.approx(gradient, rel=1e-12)


def test_dual_clip_none_turns_it_off() -> None:
    assert one_token(-1, 20, dual_clip=None)[:2] == pytest.approx((20, 20))


@pytest.mark.parametrize(
    ("advantage", "ratio", "counted"),
    [
        (1, 1.29, "clipped_high"),
        (-1, 0.79, "clipped_low"),
        (-1, 10.1, "dual_clipped"),
        (1, 1.27, None),
        (1, 0.1, None),
        (1, 11.0, "clipped_high"),
        (-1, 0.81, None),
        (-1, 9.9, None),
        (0, 5.0, None),
        (0, 0.1, None),
    ],
)
def test_the_gradient_vanishes_exactly_where_a_clip_is_counted(
    advantage: float, ratio: float, counted: str | None
) -> None:
    _, slope, stats = one_token(advantage, ratio)
    names = [name for name in ("clipped_high", "clipped_low", "dual_clipped") if stats[name] == 1]
    assert names == ([counted] if counted else [])
    if advantage:
        assert (slope == 0) == (counted is not None)


def test_a_ratio_on_the_bound_still_learns() -> None:
    # the page vanishes the gradient for s > 1 + high and s < 1 - low only: with bounds of 0, s = 1 is inside
    for advantage in (1.0, -1.0):
        _, slope, stats = one_token(advantage, 1.0, clip_low=0.0, clip_high=0.0)
        assert slope == -advantage
        assert stats["clipped_high"] == stats["clipped_low"] == 0


def test_on_policy_gradient_is_minus_advantage_over_tokens() -> None:
    logp, _, advantages, mask = random_batch(0)
    logp.requires_grad_()
    loss, stats = clipped_surrogate(logp, logp.detach(), advantages, mask)
    loss.backward()
    expected = -advantages[:, None] * mask / mask.sum()
    torch.testing.assert_close(logp.grad, expected)
    assert stats["approx_kl_sum"] == 0
    assert stats["ratio_sum"] == stats["tokens"] == mask.sum()


# ---- against a loop and against autograd ------------------------------------------------------------------


@pytest.mark.parametrize("clips", [{}, {"low": 0.1, "high": 0.4, "dual": None}, {"dual": 1.1}], ids=str)
@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_surrogate_against_a_loop_in_value_and_gradient(
    aggregate: str, per_token: bool, clips: dict[str, float | None]
) -> None:
    logp, old, advantages, mask = random_batch(1, per_token=per_token)
    options = {"low": "clip_low", "high": "clip_high", "dual": "dual_clip"}
    fast, slow = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    loss, _ = clipped_surrogate(
        fast, old, advantages, mask, **norm_options(aggregate), **{options[k]: v for k, v in clips.items()}
    )
    expected = naive_surrogate(slow, old, advantages, mask, aggregate, **clips)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, fast), torch.autograd.grad(expected, slow))


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_surrogate_passes_gradcheck(aggregate: str, per_token: bool) -> None:
    logp, old, advantages, mask = random_batch(2, per_token=per_token, rows=4, width=6)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return clipped_surrogate(x, old, advantages, mask, **norm_options(aggregate))[0]

    assert torch.autograd.gradcheck(loss, (logp.requires_grad_(),))


def test_stats_against_a_loop() -> None:
    logp, old, advantages, mask = random_batch(3)
    expected = dict.fromkeys(["clipped_high", "clipped_low", "dual_clipped", "tokens", "ratio_sum"], 0.0)
    expected |= {"ratio_max": 0.0, "approx_kl_sum": 0.0}
    for i in range(len(mask)):
        for t in range(int(mask[i].sum())):
            d = max(-20.0, min(20.0, float(logp[i, t] - old[i, t])))
            s, a = math.exp(d), float(advantages[i])
            expected["clipped_high"] += a > 0 and s > 1.28
            expected["clipped_low"] += a < 0 and s < 0.8
            expected["dual_clipped"] += a < 0 and s > 10
            expected["tokens"] += 1
            expected["ratio_sum"] += s
            expected["ratio_max"] = max(expected["ratio_max"], s)
            expected["approx_kl_sum"] += s - 1 - d
    _, stats = clipped_surrogate(logp.requires_grad_(), old, advantages, mask)
    assert {name: float(value) for name, value in stats.items()} == pytest.approx(expected)
    assert all(value.dim() == 0 and value.is_floating_point() for value in stats.values())
    assert not any(value.requires_grad for value in stats.values())


def test_approx_kl_keeps_its_digits_near_zero() -> None:
    # float32, d = 1e-4 on 1000 tokens: d^2/2 + d^3/6 each = 5.00017e-9; exp(d) - 1 - d would be off by 1e-8
    mask = torch.ones(10, 100, dtype=torch.bool)
    _, stats = clipped_surrogate(torch.full((10, 100), 1e-4), torch.zeros(10, 100), torch.ones(10), mask)
    assert float(stats["approx_kl_sum"]) == pytest.approx(5.00017e-6, rel=1e-2)


def test_log_ratio_is_clamped_at_20_with_gradient_zero_beyond() -> None:
    logp = torch.tensor([[60.0, -60.0, 19.0]], dtype=torch.float64, requires_grad=True)
    loss, stats = clipped_surrogate(
        logp, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[-1.0, 1.0, -1.0]]), torch.ones(1, 3).bool(),
        dual_clip=None,
    )  # fmt: skip
    loss.backward()
    # (e^20 - e^-20 + e^19)/3; only the last token is inside the clamp
    assert float(loss.detach()) == pytest.approx((math.exp(20) - math.exp(-20) + math.exp(19)) / 3)
    torch.testing.assert_close(logp.grad, torch.tensor([[0, 0, math.exp(19) / 3]], dtype=torch.float64))
    assert float(stats["ratio_max"]) == pytest.approx(math.exp(20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_advantages_equal_their_broadcast(dtype: torch.dtype) -> None:
    logp, old, advantages, mask = (x.to(dtype) if x.is_floating_point() else x for x in random_batch(4))
    one, one_stats = clipped_surrogate(logp, old, advantages, mask)
    two, two_stats = clipped_surrogate(logp, old, advantages[:, None] * mask, mask)
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(one_stats, two_stats)
    assert one.dtype == dtype


# ---- micro-batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_micro_batches_add_up_to_the_mini_batch(aggregate: str, per_token: bool) -> None:
    logp, old, advantages, mask = random_batch(5, per_token=per_token)
    whole_logp, part_logp = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    whole, whole_stats = clipped_surrogate(whole_logp, old, advantages, mask, **norm_options(aggregate))
    whole.backward()

    normaliser = loss_normaliser(mask, **norm_options(aggregate))
    total, stats = torch.zeros((), dtype=torch.float64), dict.fromkeys(whole_stats, torch.zeros(()))
    for part in (slice(0, 2), slice(2, 3), slice(3, 9)):
        width = int(mask[part].sum(1).max())  # micro-batches are cut to their own width
        credit = advantages[part, :width] if per_token else advantages[part]
        loss, counts = clipped_surrogate(
            part_logp[part, :width], old[part, :width], credit, mask[part, :width],
            aggregate=aggregate, normaliser=normaliser,
        )  # fmt: skip
        loss.backward()
        total = total + loss.detach()
        for name in stats:
            joined = torch.maximum if name == "ratio_max" else torch.add
            stats[name] = joined(stats[name].double(), counts[name])
    torch.testing.assert_close(total, whole.detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(part_logp.grad, whole_logp.grad, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(stats, whole_stats)


@pytest.mark.parametrize("kind", KL_KINDS)
def test_kl_micro_batches_add_up(kind: str) -> None:
    logp, ref, _, mask = random_batch(6)
    whole_logp, part_logp = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    whole = kl_penalty(whole_logp, ref, mask, kind=kind)
    parts = [
        kl_penalty(part_logp[part], ref[part], mask[part], kind=kind, normaliser=loss_normaliser(mask))
        for part in (slice(0, 4), slice(4, 9))
    ]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(torch.autograd.grad(sum(parts), part_logp), torch.autograd.grad(whole, whole_logp))


def test_loss_normaliser_counts() -> None:
    # 2 + 5 + 1 = 8 tokens, 3 rows, 3 * 9 = 27
    mask = torch.arange(5)[None, :] < torch.tensor([2, 5, 1])[:, None]
    counts = [loss_normaliser(mask, **norm_options(aggregate)) for aggregate in AGGREGATES]
    assert counts == [8, 3, 3, 27]
    assert all(type(count) is int for count in counts)


# ---- kl_penalty -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    # d = .5 and -1, mean of two tokens: k1 (.5 - 1)/2; k2 (.125 + .5)/2; k3 (e^-.5 - .5 + e - 2)/2
    [("k1", -0.25), ("k2", 0.3125), ("k3", (math.exp(-0.5) - 0.5 + math.e - 2) / 2)],
)
def test_kl_hand_numbers(kind: str, expected: float) -> None:
    logp = torch.tensor([[-1.0, -3.0]], dtype=torch.float64)
    ref = torch.tensor([[-1.5, -2.0]], dtype=torch.float64)
    assert float(kl_penalty(logp, ref, torch.ones(1, 2, dtype=torch.bool), kind=kind)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KL_KINDS)
def test_kl_against_a_loop_in_value_and_gradient(kind: str) -> None:
    logp, ref, _, mask = random_batch(7)
    fast, slow = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    terms = []
    for i in range(len(mask)):
        for t in range(int(mask[i].sum())):
            d = slow[i, t] - ref[i, t]
            clamped = d.clamp(-20, 20)
            terms.append({"k1": d, "k2": 0.5 * d**2, "k3": torch.exp(-clamped) - 1 + clamped}[kind])
    expected = torch.stack(terms).mean()
    result = kl_penalty(fast, ref, mask, kind=kind)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, fast), torch.autograd.grad(expected, slow))


@pytest.mark.parametrize("kind", KL_KINDS)
def test_kl_passes_gradcheck(kind: str) -> None:
    make = torch.Generator().manual_seed(8)
    logp, ref = torch.randn(2, 4, 6, generator=make, dtype=torch.float64)
    mask = random_batch(8, rows=4, width=6)[3]
    assert torch.autograd.gradcheck(lambda x: kl_penalty(x, ref, mask, kind=kind), (logp.requires_grad_(),))


def test_kl_defaults_to_k2_and_is_never_negative() -> None:
    logp, ref, _, mask = random_batch(9)
    assert kl_penalty(logp, ref, mask) == kl_penalty(logp, ref, mask, kind="k2")
    assert kl_penalty(logp, ref, mask, kind="k2") > 0
    assert kl_penalty(logp, ref, mask, kind="k3") > 0
    assert kl_penalty(logp, logp, mask, kind="k3") == 0


# ---- padding, order, memory -------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_garbage_in_the_padding_reaches_neither_value_nor_gradient(aggregate: str, garbage: float) -> None:
    logp, old, advantages, mask = random_batch(10, per_token=True)
    options = norm_options(aggregate)
    clean_logp = logp.clone().requires_grad_()
    clean, clean_stats = clipped_surrogate(clean_logp, old, advantages, mask, **options)
    clean.backward()
    for spoilt in range(3):
        tensors = [logp.clone(), old.clone(), advantages.clone()]
        tensors[spoilt][~mask] = garbage
        tensors[0].requires_grad_()
        loss, stats = clipped_surrogate(*tensors, mask, **options)
        loss.backward()
        assert torch.equal(loss, clean)
        assert torch.equal(tensors[0].grad, clean_logp.grad)  # type: ignore[arg-type]
        assert stats == clean_stats
        assert (tensors[0].grad[~mask] == 0).all()  # type: ignore[index]


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("kind", KL_KINDS)
def test_garbage_in_the_padding_does_not_reach_the_kl(kind: str, garbage: float) -> None:
    logp, ref, _, mask = random_batch(11)
    clean = kl_penalty(logp, ref, mask, kind=kind)
    for spoilt in range(2):
        tensors = [logp.clone(), ref.clone()]
        tensors[spoilt][~mask] = garbage
        tensors[0].requires_grad_()
        result = kl_penalty(*tensors, mask, kind=kind)
        result.backward()
        assert torch.equal(result, clean)
        assert (tensors[0].grad[~mask] == 0).all()  # type: ignore[index]
        assert torch.isfinite(tensors[0].grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_order_of_rows_and_padding_width_do_not_matter(aggregate: str) -> None:
    logp, old, advantages, mask = random_batch(12)
    options = norm_options(aggregate)
    loss, stats = clipped_surrogate(logp, old, advantages, mask, **options)
    order = torch.randperm(len(mask), generator=torch.Generator().manual_seed(0))
    shuffled = clipped_surrogate(logp[order], old[order], advantages[order], mask[order], **options)
    torch.testing.assert_close(shuffled, (loss, stats))
    wide = [torch.nn.functional.pad(x, (0, 7)) for x in (logp, old, mask)]
    torch.testing.assert_close(clipped_surrogate(wide[0], wide[1], advantages, wide[2], **options), (loss, stats))
    torch.testing.assert_close(kl_penalty(*wide), kl_penalty(logp, old, mask))


def test_a_mask_with_holes_is_honoured() -> None:
    logp, old, advantages, mask = random_batch(13, per_token=True)
    mask[:, 0] = True
    mask[2:, 1] = False
    torch.testing.assert_close(
        clipped_surrogate(logp, old, advantages, mask)[0],
        naive_surrogate_with_holes(logp, old, advantages, mask),
    )


def naive_surrogate_with_holes(
    logp: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    places = mask.nonzero().tolist()
    return torch.stack(
        [naive_token_loss(logp[i, t], old[i, t], advantages[i, t], 0.2, 0.28, 10.0) for i, t in places]
    ).mean()


def test_zero_advantages_give_zero_loss_and_gradient() -> None:
    logp, old, advantages, mask = random_batch(14)
    logp.requires_grad_()
    loss, stats = clipped_surrogate(logp, old, torch.zeros_like(advantages), mask)
    loss.backward()
    assert loss == 0
    assert (logp.grad == 0).all()
    assert stats["clipped_high"] == stats["clipped_low"] == stats["dual_clipped"] == 0


def test_inputs_are_left_alone_and_only_logp_gets_a_gradient() -> None:
    logp, old, advantages, mask = random_batch(15, per_token=True)
    inputs = [x.requires_grad_() for x in (logp, old, advantages)]
    copies = [x.detach().clone() for x in inputs]
    loss = clipped_surrogate(*inputs, mask)[0] + kl_penalty(logp, old, mask, kind="k3")
    loss.backward()
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, copies, strict=True))
    assert logp.grad is not None
    assert old.grad is None
    assert advantages.grad is None


def test_backward_keeps_one_buffer_of_the_batch() -> None:
    logp, old, advantages, mask = random_batch(16)
    logp.requires_grad_()
    kept: list[int] = []

    def note(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        clipped_surrogate(logp, old, advantages, mask)
        kl_penalty(logp, old, mask)
    assert kept == [mask.numel(), mask.numel()]


def test_losses_scale_with_the_gradient_they_receive() -> None:
    logp, old, advantages, mask = random_batch(17)
    logp.requires_grad_()
    loss, _ = clipped_surrogate(logp, old, advantages, mask)
    (one,) = torch.autograd.grad(loss, logp, retain_graph=True)
    (three,) = torch.autograd.grad(3 * loss, logp)
    torch.testing.assert_close(three, 3 * one)


# ---- bad input --------------------------------------------------------------------------------------------


def test_rows_without_a_token_and_empty_batches_are_refused() -> None:
    logp, old, advantages, mask = random_batch(18)
    mask[3] = False
    for call in (
        lambda: clipped_surrogate(logp, old, advantages, mask),
        lambda: kl_penalty(logp, old, mask),
        lambda: loss_normaliser(mask),
    ):
        with pytest.raises(InputError, match="mask row 3 has no token"):
            call()
    with pytest.raises(InputError, match="mask has no row"):
        clipped_surrogate(logp[:0], old[:0], advantages[:0], mask[:0])
    with pytest.raises(InputError, match="mask has no row"):
        kl_penalty(logp[:0], old[:0], mask[:0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_inside_the_mask_must_be_finite(bad: float) -> None:
    for spoilt, message in (
        (0, "logp or old_logp .* row 2"),
        (1, "logp or old_logp .* row 2"),
        (2, "advantages row 2"),
    ):
        tensors = list(random_batch(19, per_token=True))
        tensors[spoilt][2, 0] = bad
        with pytest.raises(InputError, match=message):
            clipped_surrogate(*tensors)
    logp, old, advantages, mask = random_batch(19)
    advantages[1] = bad
    with pytest.raises(InputError, match=r"advantages\[1\]"):
        clipped_surrogate(logp, old, advantages, mask)
    logp[2, 0] = bad
    with pytest.raises(InputError, match=r"logp or ref_logp .* row 2"):
        kl_penalty(logp, old, mask)


def test_shapes_and_dtypes_are_checked() -> None:
    logp, old, advantages, mask = random_batch(20)
    bad_calls: list[tuple[str, tuple[Any, ...]]] = [
        ("logp has shape", (logp[:, :-1], old, advantages, mask)),
        ("old_logp has shape", (logp, old[:, :-1], advantages, mask)),
        ("logp has dtype torch.bfloat16", (logp.bfloat16(), old, advantages, mask)),
        ("old_logp is torch.float32 but logp is torch.float64", (logp, old.float(), advantages, mask)),
        ("logp is a list", (logp.tolist(), old, advantages, mask)),
        ("mask has dtype", (logp, old, advantages, mask.float())),
        ("mask has shape", (logp, old, advantages, mask[0])),
        ("advantages has 8 entries but mask has 9", (logp, old, advantages[:-1], mask)),
        ("advantages has shape", (logp, old, advantages[:, None], mask)),
        ("advantages has dtype", (logp, old, advantages.long(), mask)),
    ]
    for message, arguments in bad_calls:
        with pytest.raises(ShapeError, match=message):
            clipped_surrogate(*arguments)
    with pytest.raises(ShapeError, match="ref_logp has shape"):
        kl_penalty(logp, old[:, :-1], mask)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("clip_low", -0.1), ("clip_low", 1.1), ("clip_low", math.nan), ("clip_low", "0.2"),
        ("clip_high", -0.1), ("clip_high", math.nan), ("clip_high", math.inf),
        ("dual_clip", 1.0), ("dual_clip", math.nan),
        ("normaliser", 0), ("normaliser", -3), ("normaliser", math.nan),
        ("aggregate", "mean"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        clipped_surrogate(*random_batch(21), **{option: value})  # type: ignore[arg-type]


def test_unknown_words_list_the_known_ones_and_the_norm_form_needs_its_constant() -> None:
    logp, old, advantages, mask = random_batch(22)
    with pytest.raises(ConfigError, match="kind is 'k4'; choose one of k1, k2, k3"):
        kl_penalty(logp, old, mask, kind="k4")
    with pytest.raises(ConfigError, match="aggregate is 'sum'; choose one of token-mean"):
        loss_normaliser(mask, aggregate="sum")
    with pytest.raises(ConfigError, match="max_tokens is None"):
        clipped_surrogate(logp, old, advantages, mask, aggregate="seq-mean-token-sum-norm")
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        loss_normaliser(mask, aggregate="seq-mean-token-sum-norm", max_tokens=0)
    with pytest.raises(ConfigError, match="normaliser"):
        kl_penalty(logp, old, mask, normaliser=0)
