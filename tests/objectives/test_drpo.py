"""DRPO and DisCO (spec page drpo): hand numbers, finite differences, invariants, splits and edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensors import bools, floats, ints

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import (
    batch_normalised,
    drpo,
    drpo_questions,
    drpo_weights,
    group_normalised,
    kl_penalty,
    normalised_length,
)

C = 8192
OPTIONS: dict[str, Any] = {"lam": 0.1, "max_tokens": 40, "tau": 1.0, "kl_limit": 1e-4, "kl_coef": 10.0}


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def random_batch(seed: int, rows: int = 16, width: int = 7) -> Batch:
    """The tensors of `drpo` in its order; shuffled groups, one all right, one all wrong, one alone."""
    make = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, width, generator=make, dtype=torch.float64) * 2
    logp = old + 0.3 * torch.randn(rows, width, generator=make, dtype=torch.float64)
    num_tokens = torch.randint(1, width + 1, (rows,), generator=make)
    mask = torch.arange(width)[None, :] < num_tokens[:, None]
    group_ids = torch.cat([ints(0, 0, 1, 1, 9), torch.randint(2, 5, (rows - 5,), generator=make)])
    correct = torch.cat([bools(1, 1, 0, 0, 1), torch.rand(rows - 5, generator=make) < 0.5])
    order = torch.randperm(rows, generator=make)
    return logp, old, mask, correct[order], num_tokens, group_ids[order]


def with_scores(scores: list[float], num_tokens: list[int], correct: list[int]) -> Batch:
    """A single-token row per score: with one token, s is logp itself; the lengths enter through the weights."""
    logp = torch.tensor(scores, dtype=torch.float64)[:, None].requires_grad_()
    rows = len(scores)
    mask = torch.ones(rows, 1, dtype=torch.bool)
    return logp, logp.detach().clone(), mask, bools(*correct), ints(*num_tokens), torch.zeros(rows, dtype=torch.int64)


# ---- the contrast -----------------------------------------------------------------------------------------


SCORES, TOKENS, VERDICTS = [-0.5, -0.7, -0.4, -1.0], [1000, 2000, 1500, 1500], [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("tau", "contrast", "pushed"),
    [
        # w = e^(1000/819.2)/(1 + ...) = .772187; positive -.5 * .772187 - .7 * .227813 = -.545563
        # tau log((e^(-.4/tau) + e^(-1/tau))/2) = -.655659; softmax of (-.4, -1)/tau
        pytest.param(1.0, 0.110097, [0.645656, 0.354344], id="drpo-8-row5-tau-1"),
        # -.695501
        pytest.param(10.0, 0.149938, [0.514996, 0.485004], id="drpo-8-row6-tau-10"),
        # -.469067
        pytest.param(0.1, -0.076495, [0.997527, 0.002473], id="drpo-8-row7-tau-.1"),
        # the plain mean -.7: DisCO-b
        pytest.param(math.inf, -0.545563 + 0.7, [0.5, 0.5], id="drpo-9-tau-inf"),
    ],
)
def test_contrast_hand_numbers(tau: float, contrast: float, pushed: list[float]) -> None:
    batch = with_scores(SCORES, TOKENS, VERDICTS)
    loss, stats = drpo(*batch, lam=0.1, max_tokens=C, tau=tau)
    (gradient,) = torch.autograd.grad(loss, batch[0])
    assert loss.item() == pytest.approx(-contrast, abs=1e-6)
    torch.testing.assert_close(gradient[:, 0], floats(-0.772187, -0.227813, *pushed), rtol=0, atol=6e-7)
    assert {k: float(v) for k, v in stats.items()} == {
        "tokens": 4, "kl_sum": 0, "approx_kl_sum": 0,
        "questions": 1, "valid_questions": 1, "unlike_questions": 1, "uniform_questions": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kl", "hinge", "slope"),
    [
        pytest.param(5e-5, 0, 0, id="drpo-8-row8-below"),
        pytest.param(1e-4, 0, 0, id="drpo-8-row8-at"),
        # 500 * (2e-4)^2 = 2e-5; 1000 * 2e-4 = .2
        pytest.param(3e-4, 2e-5, 0.2, id="drpo-8-row8-above"),
        pytest.param(-1.0, 0, 0, id="drpo-7-negative-kl"),
    ],
)
def test_hinge_hand_numbers(kl: float, hinge: float, slope: float) -> None:
    # all right: no contrast; two rows of 1 and 3 tokens, old - logp = kl on each token
    mask = torch.arange(3)[None, :] < torch.tensor([[1], [3]])
    logp = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    old = torch.full((2, 3), kl, dtype=torch.float64)
    loss, stats = drpo(logp, old, mask, bools(1, 1), ints(1, 3), ints(0, 0), lam=0.1, max_tokens=9)
    (gradient,) = torch.autograd.grad(loss, logp)
    assert loss.item() == pytest.approx(hinge, rel=1e-9, abs=0)
    torch.testing.assert_close(gradient, -slope * mask.double() / 4, rtol=1e-9, atol=0)  # every token alike
    assert float(stats["kl_sum"]) == pytest.approx(4 * kl)


def test_drpo_8_row9_a_right_answer_below_the_mean_of_its_group() -> None:
    """Mean .255: (.2 - .255)/.329545 (sample) and /.300832 (population); DRPO keeps its weight above 0."""
    advantage = group_normalised(floats(0.73, 0.60, 0.20, 0, 0, 0), torch.zeros(6, dtype=torch.int64))
    assert float(advantage[2]) == pytest.approx(-0.1669, abs=5e-5)
    assert float(advantage[2]) * math.sqrt(6 / 5) == pytest.approx(-0.1829, abs=5e-5)
    weights = drpo_weights(
        bools(1, 1, 1, 0, 0, 0), ints(2700, 4000, 8000, 9, 9, 9), ints(*[0] * 6), lam=0.1, max_tokens=10_000
    )
    assert weights[2] > 0


def test_drpo_8_row10_an_all_correct_question_halves_the_contrast() -> None:
    logp, old, mask, correct, num_tokens, group = with_scores([*SCORES, -0.2, -0.3], [*TOKENS, 5, 9], [*VERDICTS, 1, 1])
    alone, _ = drpo(*(x[:4] for x in (logp, old, mask, correct, num_tokens, group)), lam=0.1, max_tokens=C, tau=1.0)
    group = ints(0, 0, 0, 0, 5, 5)
    both, _ = drpo(logp, old, mask, correct, num_tokens, group, lam=0.1, max_tokens=C, tau=1.0)
    torch.testing.assert_close(both, alone / 2)
    valid, _ = drpo(logp, old, mask, correct, num_tokens, group, lam=0.1, max_tokens=C, tau=1.0, divide_by="valid")
    torch.testing.assert_close(valid, alone)


# ---- against a loop and finite differences ----------------------------------------------------------------


def naive_drpo(
    logp: torch.Tensor, old: torch.Tensor, mask: torch.Tensor, correct: torch.Tensor, num_tokens: torch.Tensor,
    group_ids: torch.Tensor, *, score: str, kl_kind: str, lam: float, max_tokens: int, tau: float, kl_limit: float,
    kl_coef: float, divide_by: str = "all",
) -> torch.Tensor:  # fmt: skip
    """The page's pseudo-code word for word, for autograd to differentiate."""
    d = [logp[i][mask[i]] - old[i][mask[i]] for i in range(len(mask))]
    s = [(logp[i][mask[i]] if score == "log" else d[i].exp()).mean() for i in range(len(mask))]
    total, valid = torch.zeros((), dtype=logp.dtype), 0
    for q in group_ids.unique():
        right = [i for i in range(len(mask)) if group_ids[i] == q and correct[i]]
        wrong = [i for i in range(len(mask)) if group_ids[i] == q and not correct[i]]
        if not right or not wrong:
            continue
        valid += 1
        w = torch.softmax(-num_tokens[right].to(logp.dtype) / (max_tokens * lam), 0)
        against = torch.stack([s[i] for i in wrong])
        total = total + (w * torch.stack([s[i] for i in right])).sum()
        total = total - tau * (torch.logsumexp(against / tau, 0) - math.log(len(wrong)))
    questions = len(group_ids.unique()) if divide_by == "all" else max(valid, 1)
    flat = torch.cat(d)
    kl = (-flat if kl_kind == "k1" else flat.exp() - 1 - flat).mean()
    return -total / questions + 0.5 * kl_coef * torch.relu(kl - kl_limit) ** 2


@pytest.mark.parametrize("divide_by", ["all", "valid"])
@pytest.mark.parametrize("kl_kind", ["k1", "k3"])
@pytest.mark.parametrize("score", ["log", "ratio"])
def test_against_the_pseudo_code_in_value_and_gradient(score: str, kl_kind: str, divide_by: str) -> None:
    for seed in range(4):
        logp, old, *rest = random_batch(seed)
        logp = logp - 0.05  # so that the k1 hinge is at work in most seeds
        fast, slow = logp.clone().requires_grad_(), logp.clone().requires_grad_()
        options = OPTIONS | {"score": score, "kl_kind": kl_kind, "divide_by": divide_by}
        loss, _ = drpo(fast, old, *rest, **options)
        expected = naive_drpo(slow, old, *rest, **options)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, fast), torch.autograd.grad(expected, slow))


@pytest.mark.parametrize("lam", [0.1, math.inf])
@pytest.mark.parametrize("tau", [0.1, 10.0, math.inf])
@pytest.mark.parametrize("kl_kind", ["k1", "k3"])
@pytest.mark.parametrize("score", ["log", "ratio"])
def test_gradient_by_finite_differences(score: str, kl_kind: str, tau: float, lam: float) -> None:
    logp, old, *rest = random_batch(5, rows=12, width=5)
    options = OPTIONS | {"score": score, "kl_kind": kl_kind, "tau": tau, "lam": lam}

    def loss(x: torch.Tensor) -> torch.Tensor:
        return drpo(x, old, *rest, **options)[0]

    assert torch.autograd.gradcheck(loss, ((logp - 0.1).requires_grad_(),))


def test_signs_sums_and_a_constant_on_all_scores() -> None:
    """drpo-9: dJ/ds >= 0 on right, <= 0 on wrong rows, +1 and -1 per valid question; J ignores a common constant."""
    batch = random_batch(6, rows=40)
    logp, old, _, correct, _, group_ids = batch
    options = OPTIONS | {"kl_coef": 0.0}
    logp.requires_grad_()
    loss, stats = drpo(*batch, **options)
    (gradient,) = torch.autograd.grad(loss, logp)
    by_score = -gradient.sum(1) * float(stats["questions"])  # each token carries 1/n of dJ/ds
    assert (by_score[correct] >= 0).all()
    assert (by_score[~correct] <= 0).all()
    for group in group_ids.unique():
        rows = group_ids == group
        both = bool(correct[rows].any()) and not bool(correct[rows].all())
        assert float(by_score[rows & correct].sum()) == pytest.approx(float(both))
        assert float(by_score[rows & ~correct].sum()) == pytest.approx(-float(both))
    torch.testing.assert_close(drpo(logp + 3.0, old + 3.0, *batch[2:], **options)[0], loss)


def test_a_group_relative_length_penalty_pushes_right_answers_down_and_drpo_does_not() -> None:
    correct, num_tokens, group_ids = bools(1, 1, 1, 0, 0, 0), ints(100, 120, 4000, 9, 9, 9), ints(*[0] * 6)
    rewards = normalised_length(correct, num_tokens, group_ids, alpha=0.99)
    mask = torch.ones(6, 1, dtype=torch.bool)
    assert (group_normalised(rewards, group_ids)[correct] < 0).any()
    assert (batch_normalised(rewards, group_ids, mask)[correct] < 0).any()
    batch = with_scores([-1.0] * 6, num_tokens.tolist(), correct.int().tolist())
    (gradient,) = torch.autograd.grad(drpo(*batch, lam=0.1, max_tokens=C)[0], batch[0])
    assert (gradient[correct] < 0).all()


def test_negative_term_lies_between_the_mean_and_the_hardest_and_reaches_both() -> None:
    def negative(tau: float) -> float:
        batch = with_scores([0.0, -0.4, -1.0, -0.9], [5, 5, 5, 5], [1, 0, 0, 0])
        return drpo(*batch, lam=1.0, max_tokens=9, tau=tau)[0].item()

    values = [negative(tau) for tau in (math.inf, 1e6, 10, 1, 0.1, 1e-3)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(-2.3 / 3)
    assert values[1] == pytest.approx(values[0], abs=1e-6)
    assert values[-1] == pytest.approx(-0.4, abs=2e-3)


def test_on_policy_ratio_scores_are_one_and_the_hinge_is_exactly_zero() -> None:
    logp, _, *rest = random_batch(7)
    logp.requires_grad_()
    loss, stats = drpo(logp, logp.detach(), *rest, **(OPTIONS | {"score": "ratio"}))
    # J = 1 - tau log(mean e^(1/tau)) = 0 for every question
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert stats["kl_sum"] == stats["approx_kl_sum"] == 0
    log_form, _ = drpo(logp, logp.detach(), *rest, **OPTIONS)
    without, _ = drpo(logp, logp.detach(), *rest, **(OPTIONS | {"kl_coef": 0.0}))
    assert torch.equal(log_form, without)


# ---- splits -----------------------------------------------------------------------------------------------


def random_split(group_ids: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Rows in parts of whole groups."""
    groups = group_ids.unique()
    part = torch.randint(0, 3, (len(groups),), generator=torch.Generator().manual_seed(seed))
    return [torch.isin(group_ids, groups[part == k]).nonzero()[:, 0] for k in range(3) if (part == k).any()]


@pytest.mark.parametrize("kl_kind", ["k1", "k3"])
@pytest.mark.parametrize("score", ["log", "ratio"])
@pytest.mark.parametrize("divide_by", ["all", "valid"])
def test_every_split_into_whole_groups_gives_the_same_gradient(divide_by: str, score: str, kl_kind: str) -> None:
    logp, old, *rest = random_batch(8, rows=30)
    mask, correct, _, group_ids = rest
    logp = logp - 0.1
    options = OPTIONS | {"divide_by": divide_by, "score": score, "kl_kind": kl_kind}
    whole_logp = logp.clone().requires_grad_()
    whole, whole_stats = drpo(whole_logp, old, *rest, **options)
    (expected,) = torch.autograd.grad(whole, whole_logp)

    sizes = (group_ids[:, None] == group_ids[None, :]).sum(1)
    normaliser = drpo_questions(correct, group_ids, divide_by=divide_by)
    batch_kl = (float(kl_penalty(old, logp, mask, kind=kl_kind)), int(mask.sum()))
    assert batch_kl[0] > OPTIONS["kl_limit"]  # the hinge is at work
    for seed in range(6):
        part_logp = logp.clone().requires_grad_()
        total = torch.zeros((), dtype=torch.float64)
        stats: dict[str, torch.Tensor] = {}
        for rows in random_split(group_ids, seed):
            width = int(mask[rows].sum(1).max())
            loss, counts = drpo(
                part_logp[rows, :width], old[rows, :width], mask[rows, :width], *(x[rows] for x in rest[1:]),
                normaliser=normaliser, batch_kl=batch_kl, group_sizes=sizes[rows], **options,
            )  # fmt: skip
            loss.backward()
            total = total + loss.detach()
            stats = {name: stats.get(name, 0.0) + value for name, value in counts.items()}  # type: ignore[misc]
        torch.testing.assert_close(total, whole.detach(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(part_logp.grad, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(stats, whole_stats)


def test_without_the_whole_kl_each_part_uses_its_own_weighted_by_questions() -> None:
    logp, old, *rest = random_batch(9, rows=30)
    logp, group_ids = logp - 0.1, rest[3]
    parts = random_split(group_ids, 0)
    questions = drpo_questions(rest[1], group_ids)
    total = sum(float(drpo(logp[p], old[p], *(x[p] for x in rest), normaliser=questions, **OPTIONS)[0]) for p in parts)
    contrast = float(drpo(logp, old, *rest, **(OPTIONS | {"kl_coef": 0.0}))[0])
    hinge = 0.0
    for p in parts:
        kl = float(kl_penalty(old[p], logp[p], rest[0][p], kind="k1"))
        hinge += len(group_ids[p].unique()) / questions * 5.0 * max(kl - 1e-4, 0.0) ** 2
    assert total == pytest.approx(contrast + hinge, rel=1e-12)


def test_a_split_group_is_an_error_where_it_can_be_seen() -> None:
    batch = random_batch(10)
    group_ids = batch[5]
    sizes = (group_ids[:, None] == group_ids[None, :]).sum(1)
    rows = (group_ids != 2) | (torch.arange(16) != int((group_ids == 2).nonzero()[0, 0]))
    part = [x[rows] for x in batch]
    size = int((group_ids == 2).sum())
    with pytest.raises(InputError, match=f"group 2 has {size - 1} of its {size} rows"):
        drpo(*part, group_sizes=sizes[rows], **OPTIONS)
    with pytest.raises(InputError, match="normaliser is 2 but this part has"):
        drpo(*batch, normaliser=2, **OPTIONS)
    tokens = int(batch[2].sum())
    for options in ({"batch_kl": (0.1, tokens)}, {"batch_kl": (0.1, tokens - 1), "normaliser": 9}):
        with pytest.raises(ConfigError, match="batch_kl is"):
            drpo(*batch, **options, **OPTIONS)


# ---- edges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("divide_by", ["all", "valid"])
@pytest.mark.parametrize(
    ("correct", "group_ids"), [((1, 1), (0, 0)), ((0, 0), (0, 0)), ((1, 0), (0, 1))], ids=["right", "wrong", "alone"]
)
def test_no_valid_question_leaves_the_hinge(
    correct: tuple[int, ...], group_ids: tuple[int, ...], divide_by: str
) -> None:
    logp = floats(-1.0, -1.5)[:, None].requires_grad_()
    loss, stats = drpo(
        logp, logp.detach() + 0.3, torch.ones(2, 1, dtype=torch.bool), bools(*correct), ints(1, 1), ints(*group_ids),
        **(OPTIONS | {"divide_by": divide_by}),
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss, logp)
    # 10/2 * (.3 - 1e-4)^2; -10 * (.3 - 1e-4)/2 on each token
    assert loss.item() == pytest.approx(5 * 0.2999**2)
    assert gradient[:, 0].tolist() == pytest.approx([-1.4995, -1.4995])
    assert stats["valid_questions"] == 0


def test_extreme_scores_stay_finite() -> None:
    batch = with_scores([-1e3, -1e3, -1e3, -2e3], [5, 6, 7, 8], [1, 0, 0, 0])
    loss, _ = drpo(*batch, lam=0.1, max_tokens=9, tau=0.1)
    (gradient,) = torch.autograd.grad(loss, batch[0])
    # the log-mean-exp of -1e3, -1e3, -2e3: -1e3 + .1 log(2/3)
    assert loss.item() == pytest.approx(0.1 * math.log(2 / 3), rel=1e-6)
    assert gradient[:, 0].tolist() == pytest.approx([-1, 0.5, 0.5, 0])


@pytest.mark.parametrize("kl_kind", ["k1", "k3"])
@pytest.mark.parametrize("score", ["log", "ratio"])
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e30])
def test_padding_its_width_and_row_order_do_not_matter(score: str, kl_kind: str, garbage: float) -> None:
    logp, old, *rest = random_batch(11)
    options = OPTIONS | {"score": score, "kl_kind": kl_kind}
    logp.requires_grad_()
    loss, stats = drpo(logp, old, *rest, **options)
    (gradient,) = torch.autograd.grad(loss, logp)
    wide, wide_old = (torch.nn.functional.pad(x.detach(), (0, 4)) for x in (logp, old))
    mask = torch.nn.functional.pad(rest[0], (0, 4))
    wide[~mask], wide_old[~mask] = garbage, -garbage
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = wide[order].requires_grad_()
    other, other_stats = drpo(moved, wide_old[order], mask[order], *(x[order] for x in rest[1:]), **options)
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(other_stats, stats)
    (moved_gradient,) = torch.autograd.grad(other, moved)
    torch.testing.assert_close(moved_gradient[:, :-4], gradient[order])
    assert not moved_gradient[~mask[order]].any()


def test_ratios_beyond_the_clamp_are_frozen_but_still_count_in_k1() -> None:
    logp = torch.tensor([[0.0], [-60.0]], dtype=torch.float64).requires_grad_()
    old = torch.tensor([[-60.0], [0.0]], dtype=torch.float64)
    rows = torch.ones(2, 1, dtype=torch.bool), bools(1, 0), ints(1, 1), ints(0, 0)
    for kl_kind in ("k1", "k3"):
        loss, _ = drpo(logp, old, *rows, **(OPTIONS | {"score": "ratio", "kl_kind": kl_kind, "kl_coef": 0.0}))
        assert not torch.autograd.grad(loss, logp)[0].any()
    loss, stats = drpo(logp, old - 60, *rows, **(OPTIONS | {"score": "ratio", "kl_coef": 1.0, "kl_limit": 0.0}))
    assert stats["kl_sum"] == -120
    loss, _ = drpo(logp, old + 60, *rows, **(OPTIONS | {"score": "ratio", "kl_coef": 1.0, "kl_limit": 0.0}))
    # KL = (0 + 120)/2 = 60: -60/2 on each token; the first row's ratio is 1: -1/1 besides
    assert torch.autograd.grad(loss, logp)[0].tolist() == [[-31.0], [-30.0]]


def test_uniform_weights_are_counted_where_lengths_differ() -> None:
    # lam 5, C 1000: weights of lengths 10 and 12 differ by exp(2/5000) < 1.01; of 10 and 500 by exp(490/5000)
    batch = with_scores([-1.0] * 6, [10, 12, 5, 10, 500, 5], [1, 1, 0, 1, 1, 0])
    group_ids = ints(0, 0, 0, 1, 1, 1)
    _, stats = drpo(*batch[:5], group_ids, lam=5.0, max_tokens=1000)
    assert (stats["unlike_questions"], stats["uniform_questions"]) == (2, 1)


def test_drpo_questions_counts() -> None:
    correct, group_ids = bools(1, 0, 1, 1, 0, 0, 1), ints(5, 5, 2, 2, 9, 9, 1)
    assert drpo_questions(correct, group_ids) == 4
    assert drpo_questions(correct, group_ids, divide_by="valid") == 1
    assert drpo_questions(bools(), ints()) == 0
    with pytest.raises(ConfigError, match="divide_by"):
        drpo_questions(correct, group_ids, divide_by="some")


def test_inputs_are_left_alone_and_backward_keeps_one_buffer() -> None:
    logp, old, *rest = random_batch(12)
    logp.requires_grad_()
    copies = [x.detach().clone() for x in (logp, old, *rest)]
    kept: list[int] = []

    def note(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        drpo(logp, old, *rest, **OPTIONS)
    assert kept == [logp.numel()]
    assert all(torch.equal(x, copy) for x, copy in zip((logp, old, *rest), copies, strict=True))


def test_bad_input_is_refused_by_name() -> None:
    logp, old, mask, correct, num_tokens, group_ids = random_batch(13)
    rows = correct, num_tokens, group_ids
    for option, value in (
        ("tau", 0.0), ("tau", -1.0), ("tau", math.nan), ("lam", 0.0), ("max_tokens", 0), ("kl_limit", -1e-4),
        ("kl_coef", -1.0), ("score", "prob"), ("kl_kind", "k2"), ("divide_by", "rows"), ("length_reward", "square"),
        ("normaliser", 0),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=option):
            drpo(logp, old, mask, *rows, **(OPTIONS | {option: value}))
    empty = mask.clone()
    empty[2] = False
    with pytest.raises(InputError, match="mask row 2 has no token"):
        drpo(logp, old, empty, *rows, **OPTIONS)
    with pytest.raises(InputError, match="mask has no row"):
        drpo(logp[:0], old[:0], mask[:0], *(x[:0] for x in rows), **OPTIONS)
    spoilt = logp.clone()
    spoilt[3, 0] = math.nan
    with pytest.raises(InputError, match="not finite on a token inside the mask, first in row 3"):
        drpo(spoilt, old, mask, *rows, **OPTIONS)
    with pytest.raises(ShapeError, match="correct"):
        drpo(logp, old, mask, correct.float(), num_tokens, group_ids, **OPTIONS)
    with pytest.raises(ShapeError, match="correct has 15 entries but mask has 16"):
        drpo(logp, old, mask, *(x[:-1] for x in rows), **OPTIONS)
    with pytest.raises(ShapeError, match="length_reward has 3 entries"):
        drpo(logp, old, mask, *rows, **(OPTIONS | {"length_reward": floats(1, 2, 3)}))
