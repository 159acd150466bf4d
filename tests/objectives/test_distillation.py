"""CRISP's divergences (spec page crisp): hand numbers, slow references with autograd, invariants and edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tensors import bools

from lengthwise.errors import ConfigError, InputError, ShapeError
from lengthwise.objectives import distillation, reverse_kl, reverse_kl_of_states, teacher_is_copied
from lengthwise.objectives.distillation import DIVERGENCES, MEANS, RESTS

NAN, INF = math.nan, math.inf
TEACHER, STUDENT = [0.6, 0.25, 0.1, 0.05], [0.3, 0.5, 0.15, 0.05]
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES)
every_mean = pytest.mark.parametrize("aggregate", MEANS)


def logs(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()[None]


def one(student: list[float], teacher: list[float], **options: Any) -> float:
    return float(reverse_kl(logs(student), logs(teacher), torch.ones(1, 1, dtype=torch.bool), **options))


def slope(student: list[float], **options: Any) -> torch.Tensor:
    """The gradient in the logits of one token, against TEACHER."""
    logits = torch.tensor(student, dtype=torch.float64).log()[None, None].requires_grad_()
    loss = reverse_kl(torch.log_softmax(logits, -1), logs(TEACHER), torch.ones(1, 1, dtype=torch.bool), **options)
    return torch.autograd.grad(loss, logits)[0][0, 0]


def drawn(token: int) -> torch.Tensor:
    """The gradient in the logits of the sampled form, where this token was drawn."""
    logits = torch.tensor(STUDENT, dtype=torch.float64).log().requires_grad_()
    student = torch.log_softmax(logits, -1)[token][None, None]
    teacher = torch.tensor(TEACHER[token], dtype=torch.float64).log()[None, None]
    loss = reverse_kl(student, teacher, torch.ones(1, 1, dtype=torch.bool), form="sampled")
    return torch.autograd.grad(loss, logits)[0]


# ---- hand numbers (crisp section 8) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        # .4 ln(.4/.7) + .4 ln 2 + .2 ln 2 = -.2238 + .4159; .7 ln(.7/.4) + .3 ln .5; against [.55, .3, .15]
        ([0.7, 0.2, 0.1], [0.4, 0.4, 0.2], (0.1920, 0.1838, 0.0462)),
        # .6 ln .6 + .4 ln 4e8; ln(5/3); against [.4, .4, .2]
        ([0.5, 0.5, 1e-9], [0.3, 0.3, 0.4], (7.616, 0.5108, 0.1639)),
    ],
)
def test_crisp_8_divergences(teacher: list[float], student: list[float], expected: tuple[float, ...]) -> None:
    values = [one(student, teacher, divergence=divergence) for divergence in DIVERGENCES]
    assert values == pytest.approx(expected, abs=5e-4 if expected[0] > 1 else 5e-5)


def test_crisp_8_reverse_value_and_gradient() -> None:
    # .3 ln .5 + .5 ln 2 + .15 ln 1.5 = -.2079 + .3466 + .0608; log S - log T = -.6931, .6931, .4055, 0
    assert one(STUDENT, TEACHER) == pytest.approx(0.1994, abs=5e-5)
    # S (log S - log T - .1994)
    expected = torch.tensor([-0.2678, 0.2468, 0.0309, -0.0100], dtype=torch.float64)
    torch.testing.assert_close(slope(STUDENT), expected, rtol=0, atol=5e-5)
    assert float(slope(STUDENT).sum()) == pytest.approx(0, abs=1e-15)


def test_crisp_8_top_2_of_the_student() -> None:
    # renormalized: S .375, .625, T .7059, .2941: .375 ln .5312 + .625 ln 2.125; rest .2 against .15
    top = {"form": "top-k", "student": [0.5, 0.3], "teacher": [0.25, 0.6]}
    assert one(rest="renormalize", **top) == pytest.approx(0.2339, abs=5e-5)
    assert one(rest="bucket", **top) == pytest.approx(0.1962, abs=5e-5)


def test_crisp_8_sampled_token_gradients_and_their_mean() -> None:
    # (log S - log T)(y) times (1[v = y] - S_v): -.6931 * (.7, -.5, -.15, -.05); .6931 * (-.3, .5, -.15, -.05)
    for token, expected in ((0, [-0.4852, 0.3466, 0.1040, 0.0347]), (1, [-0.2079, 0.3466, -0.1040, -0.0347])):
        torch.testing.assert_close(drawn(token), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=5e-5)
    mean = sum((STUDENT[token] * drawn(token) for token in range(4)), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(mean, slope(STUDENT))


def test_crisp_8_mean_of_tokens_and_of_rows() -> None:
    # KL([.5, .5] || [t, 1 - t]) = -ln 2 - ln(t (1 - t))/2 = D: t = (1 + sqrt(1 - exp(-2 D)))/2
    def opposed(distance: float) -> list[float]:
        t = (1 + math.sqrt(1 - math.exp(-2 * distance))) / 2
        return [t, 1 - t]

    teacher = torch.stack([logs(*[opposed(1.0)] * 8)[0], logs(*[opposed(0.25)] * 8)[0]])
    student, mask = torch.full_like(teacher, math.log(0.5)), torch.arange(8) < torch.tensor([[2], [8]])
    # (2 * 1 + 8 * .25)/10; (1 + .25)/2
    assert float(reverse_kl(student, teacher, mask)) == pytest.approx(0.400)
    assert float(reverse_kl(student, teacher, mask, aggregate="seq-mean-token-mean")) == pytest.approx(0.625)


def test_crisp_8_copies_of_the_teacher() -> None:
    assert [step for step in range(100) if teacher_is_copied(step, every=50)] == [50]
    assert [step for step in range(101) if teacher_is_copied(step, every=50)] == [50, 100]
    assert not any(teacher_is_copied(step, every=0) for step in range(101))
    assert [step for step in range(4) if teacher_is_copied(step, every=1)] == [1, 2, 3]


# ---- slow references --------------------------------------------------------------------------------------


def slow_divergence(s: torch.Tensor, t: torch.Tensor, divergence: str, beta: float) -> torch.Tensor:
    """Two probability vectors, an entry at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for v in range(len(s)):
        m = beta * t[v] + (1 - beta) * s[v]
        if divergence == "reverse":
            total = total + s[v] * (s[v].log() - t[v].log())
        elif divergence == "forward":
            total = total + t[v] * (t[v].log() - s[v].log())
        else:
            total = total + beta * t[v] * (t[v].log() - m.log()) + (1 - beta) * s[v] * (s[v].log() - m.log())
    return total


def slow_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, **o: Any) -> torch.Tensor:
    rows = []
    for i in range(len(mask)):
        tokens = []
        for j in range(mask.shape[1]):
            if not mask[i, j]:
                continue
            s, t = student[i, j].exp(), teacher[i, j].exp()
            if o.get("rest") == "renormalize":
                s, t = s / s.sum(), t / t.sum()
            elif o.get("rest") == "bucket":
                s, t = torch.cat([s, 1 - s.sum()[None]]), torch.cat([t, 1 - t.sum()[None]])
            tokens.append(slow_divergence(s, t, o["divergence"], o["beta"]))
        if tokens:
            rows.append(torch.stack(tokens))
    return torch.cat(rows).mean() if o["aggregate"] == "token-mean" else torch.stack([r.mean() for r in rows]).mean()


def random_batch(seed: int, entries: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(5, 6, entries, generator=make, dtype=torch.float64) * 2 for _ in range(2))
    mask = torch.rand(5, 6, generator=make) < 0.6
    mask[1] = False
    return student, teacher, mask


@every_divergence
@every_mean
@pytest.mark.parametrize("rest", [None, *RESTS])
@pytest.mark.parametrize("chunk", [7, 2**20])  # a token at a time, and all at once
def test_value_and_gradient_against_autograd_of_a_loop(
    divergence: str, aggregate: str, rest: str | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "_CHUNK", chunk)
    logits, teacher, mask = random_batch(0)
    teacher = torch.log_softmax(teacher, -1)
    keep = slice(None) if rest is None else slice(0, 4)
    options: dict[str, Any] = {"divergence": divergence, "beta": 0.3, "aggregate": aggregate}
    form = {"form": "full"} if rest is None else {"form": "top-k", "rest": rest}
    ours, slow = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    student = torch.log_softmax(ours, -1)[..., keep]
    padded = torch.where(mask[..., None], student, NAN)
    loss = reverse_kl(padded, torch.where(mask[..., None], teacher[..., keep], NAN), mask, **form, **options)
    expected = slow_loss(torch.log_softmax(slow, -1)[..., keep], teacher[..., keep], mask, rest=rest, **options)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(ours.grad, slow.grad)


@every_mean
def test_sampled_form_against_a_loop(aggregate: str) -> None:
    student, teacher, mask = (column[..., 0] if column.dim() == 3 else column for column in random_batch(1))
    ours, slow = student.clone().requires_grad_(), student.clone().requires_grad_()
    loss = reverse_kl(ours, teacher.masked_fill(~mask, NAN), mask, form="sampled", aggregate=aggregate)
    rows = [((slow - teacher).detach() * slow)[i][mask[i]] for i in range(5) if mask[i].any()]
    expected = torch.cat(rows).mean() if aggregate == "token-mean" else torch.stack([r.mean() for r in rows]).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, slow.grad)


@every_divergence
@every_mean
@pytest.mark.parametrize("least", [1, 64])
def test_states_against_the_full_form(
    divergence: str, aggregate: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "_CHUNK", 7)
    monkeypatch.setattr(distillation, "_LEAST_TOKENS", least)
    make = torch.Generator().manual_seed(2)
    states, other = (torch.randn(5, 6, size, generator=make, dtype=torch.float64) for size in (3, 4))
    head, other_head = (torch.randn(7, size, generator=make, dtype=torch.float64) for size in (3, 4))
    mask = random_batch(2)[2]
    options: dict[str, Any] = {"divergence": divergence, "aggregate": aggregate}
    ours = states.clone().requires_grad_(), head.clone().requires_grad_()
    theirs = states.clone().requires_grad_(), head.clone().requires_grad_()
    padded = torch.where(mask[..., None], ours[0], NAN)
    loss = reverse_kl_of_states(padded, other, mask, student_head=ours[1], teacher_head=other_head, **options)
    student = torch.log_softmax(theirs[0] @ theirs[1].T, -1)
    expected = reverse_kl(student, torch.log_softmax(other @ other_head.T, -1), mask, **options)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    for one_, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one_.grad, two.grad)


def test_states_in_half_precision_are_close_and_keep_their_type() -> None:
    make = torch.Generator().manual_seed(3)
    states, other, head = (torch.randn(*shape, generator=make) for shape in ((2, 6, 8), (2, 6, 8), (20, 8)))
    mask = torch.ones(2, 6, dtype=torch.bool)
    exact = reverse_kl_of_states(states, other, mask, student_head=head, teacher_head=head)
    half = states.bfloat16().requires_grad_(), head.bfloat16().requires_grad_()
    loss = reverse_kl_of_states(half[0], other.bfloat16(), mask, student_head=half[1], teacher_head=head.bfloat16())
    loss.backward()
    assert loss.dtype == torch.float32 and half[0].grad is not None and half[0].grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, exact, rtol=0.05, atol=0)


# ---- invariants (crisp section 9) -------------------------------------------------------------------------


@every_divergence
@pytest.mark.parametrize("form", ["full", "bucket", "renormalize"])
def test_crisp_9_at_least_zero_and_zero_between_equals(divergence: str, form: str) -> None:
    student, teacher, mask = random_batch(4)
    options = {"form": "full"} if form == "full" else {"form": "top-k", "rest": form}
    s, t = (torch.log_softmax(x, -1)[..., : 7 if form == "full" else 4] for x in (student, teacher))
    assert reverse_kl(s, t, mask, divergence=divergence, **options) > 0
    leaf = student.clone().requires_grad_()
    same = torch.log_softmax(leaf, -1)[..., : s.shape[-1]]
    loss = reverse_kl(same, same.detach(), mask, divergence=divergence, **options)
    loss.backward()
    assert abs(float(loss.detach())) < 1e-15 and leaf.grad is not None and float(leaf.grad.abs().max()) < 1e-15


def test_crisp_9_an_empty_instruction_gives_exactly_nothing() -> None:
    student, _, mask = random_batch(5)
    s = torch.log_softmax(student, -1)
    leaf = s[..., 0].clone().requires_grad_()
    loss = reverse_kl(leaf, s[..., 0], mask, form="sampled")
    loss.backward()
    assert reverse_kl(s, s, mask) == 0 and loss == 0 and leaf.grad is not None and not leaf.grad.any()


@every_divergence
def test_crisp_9_the_gradient_in_the_logits_sums_to_zero_and_none_reaches_the_teacher(divergence: str) -> None:
    student, teacher, mask = (x.clone().requires_grad_() if x.is_floating_point() else x for x in random_batch(6))
    reverse_kl(torch.log_softmax(student, -1), torch.log_softmax(teacher, -1), mask, divergence=divergence).backward()
    assert teacher.grad is None and student.grad is not None
    torch.testing.assert_close(student.grad.sum(-1), torch.zeros(5, 6, dtype=torch.float64), rtol=0, atol=1e-15)
    assert not student.grad[~mask].any()


def test_crisp_9_top_k_of_all_is_full_and_the_bucket_rises_to_it() -> None:
    student, teacher, mask = random_batch(7)
    s, t = torch.log_softmax(student, -1), torch.log_softmax(teacher, -1)
    order = s.argsort(dim=-1, descending=True)
    s, t = s.gather(-1, order), t.gather(-1, order)
    full = float(reverse_kl(s, t, mask))
    for rest in RESTS:
        assert float(reverse_kl(s, t, mask, form="top-k", rest=rest)) == pytest.approx(full, rel=1e-9)
        single = reverse_kl(s.float(), t.float(), mask, form="top-k", rest=rest)
        assert float(single) == pytest.approx(full, rel=1e-4)
    buckets = [float(reverse_kl(s[..., :k], t[..., :k], mask, form="top-k")) for k in range(1, 8)]
    assert buckets == sorted(buckets) and buckets[-1] <= full + 1e-12


def test_crisp_9_padding_width_and_other_rows_lengths_change_nothing() -> None:
    student, teacher, mask = random_batch(8)
    s, t = torch.log_softmax(student, -1), torch.log_softmax(teacher, -1)
    whole = reverse_kl(s, t, mask)
    wide = [torch.cat([x, torch.full_like(x, NAN)], dim=1) for x in (s, t)]
    torch.testing.assert_close(reverse_kl(*wide, torch.cat([mask, mask & False], dim=1)), whole)
    # micro-batches with the mini-batch's normaliser add up
    count = int(mask.sum())
    parts = [reverse_kl(s[at], t[at], mask[at], normaliser=count) for at in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(parts[0] + parts[1], whole)
    rows = int(mask.any(dim=1).sum())
    options: dict[str, Any] = {"aggregate": "seq-mean-token-mean"}
    parts = [reverse_kl(s[at], t[at], mask[at], normaliser=rows, **options) for at in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(parts[0] + parts[1], reverse_kl(s, t, mask, **options))


def test_the_full_form_makes_no_second_tensor_of_its_size() -> None:
    student, teacher, mask = random_batch(9)
    s, t = torch.log_softmax(student, -1).requires_grad_(), torch.log_softmax(teacher, -1)
    loss = reverse_kl(s, t, mask)
    kept = [x for x in loss.grad_fn.saved_tensors if x.dim() == 3]  # type: ignore[union-attr]
    assert {x.data_ptr() for x in kept} == {s.data_ptr(), t.data_ptr()}  # the inputs themselves, no copy


# ---- edge cases (crisp section 7) -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opposite_certainties_are_120_nats_and_log_2(dtype: torch.dtype) -> None:
    s = torch.log_softmax(torch.tensor([[[60.0, -60.0]]], dtype=dtype), -1)
    mask = torch.ones(1, 1, dtype=torch.bool)
    for divergence, expected in zip(DIVERGENCES, (120, 120, math.log(2)), strict=True):
        assert float(reverse_kl(s, s.flip(-1), mask, divergence=divergence)) == pytest.approx(expected)


def test_an_entry_of_probability_zero_is_no_nan() -> None:
    zero = torch.tensor([[[0.5, 0.5, 0.0]]], dtype=torch.float64).log().requires_grad_()
    mask = torch.ones(1, 1, dtype=torch.bool)
    goal = logs([0.4, 0.4, 0.2])
    loss = reverse_kl(zero, goal, mask)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(0.5 / 0.4)) and zero.grad is not None
    assert torch.isfinite(zero.grad).all() and zero.grad[0, 0, 2] == 0
    # 0 on both sides is 0, and Jensen-Shannon takes a 0 on either
    assert reverse_kl(zero, zero.detach(), mask) == 0
    for a, b in ((zero, goal), (goal, zero.detach())):
        assert math.isfinite(float(reverse_kl(a, b, mask, divergence="jensen-shannon")))
    with pytest.raises(InputError, match=r"teacher_logp is -inf, about row 0, .* divergence is infinite"):
        reverse_kl(goal, zero.detach(), mask)
    with pytest.raises(InputError, match="student_logp is -inf"):
        reverse_kl(zero, goal, mask, divergence="forward")


@pytest.mark.parametrize("form", ["full", "top-k", "sampled"])
@every_mean
def test_no_row_to_learn_from_is_a_loss_of_zero(form: str, aggregate: str) -> None:
    # only right rollouts, and none is right: mask & kept
    s = torch.full((2, 3) if form == "sampled" else (2, 3, 4), -1.0, requires_grad=True)
    mask = torch.ones(2, 3, dtype=torch.bool) & bools(0, 0)[:, None]
    loss = reverse_kl(s, s.detach(), mask, form=form, aggregate=aggregate)
    loss.backward()
    assert loss == 0 and s.grad is not None and not s.grad.any()
    empty = s.detach()[:0]
    assert reverse_kl(empty, empty, mask[:0], form=form, aggregate=aggregate) == 0
    states, head = torch.ones(2, 3, 5, requires_grad=True), torch.ones(4, 5, requires_grad=True)
    reverse_kl_of_states(states, states, mask, student_head=head, teacher_head=head, aggregate=aggregate).backward()
    assert head.grad is not None and not head.grad.any() and states.grad is not None and not states.grad.any()


def test_one_eos_alone_is_a_response() -> None:
    assert math.isfinite(one([0.9, 0.1], [0.5, 0.5]))


def test_what_is_no_log_probability_is_refused() -> None:
    logits = torch.tensor([[[3.0, 1.0, 0.0]]], dtype=torch.float64)
    good, mask = torch.log_softmax(logits, -1), torch.ones(1, 1, dtype=torch.bool)
    for s, t, name in ((logits, good, "student_logp"), (good, logits, "teacher_logp")):
        with pytest.raises(InputError, match=f"{name} has a token, about row 0, whose probabilities sum to 23.8"):
            reverse_kl(s, t, mask)
    with pytest.raises(InputError, match="sum to nan"):
        reverse_kl(good.masked_fill(good < -2, NAN), good, mask)
    with pytest.raises(InputError, match="sum to 0.9"):
        reverse_kl(good[..., :2], good[..., :2], mask)  # k of V are "top-k"
    with pytest.raises(InputError, match="teacher_logp is not finite"):
        reverse_kl(good[..., 0], torch.full((1, 1), -INF, dtype=torch.float64), mask, form="sampled")
    with pytest.raises(InputError, match="student_logp has a token"):
        ones = torch.full((1, 1, 2), NAN)
        reverse_kl_of_states(ones, ones, mask, student_head=ones[0], teacher_head=ones[0])


GOOD = (torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
BAD: list[tuple[dict[str, Any], str]] = [
    ({"form": "half"}, "form is 'half'; choose one of full, top-k, sampled"),
    ({"rest": "none"}, "rest is 'none'"),
    ({"divergence": "kl"}, "divergence is 'kl'"),
    ({"form": "sampled", "divergence": "forward"}, "divergence is 'forward'; choose one of reverse"),
    ({"beta": 1.0}, "beta is 1.0"),
    ({"beta": 0.0}, "beta is 0.0"),
    ({"aggregate": "row"}, "aggregate is 'row'"),
    ({"normaliser": 0}, "normaliser is 0"),
]


@pytest.mark.parametrize(("options", "word"), BAD)
def test_options_out_of_range_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        reverse_kl(*GOOD, **options)


def test_shapes_that_do_not_fit_are_refused() -> None:
    student, teacher, mask = GOOD
    with pytest.raises(ShapeError, match=r"student_logp .* shape \[B,T,V\]"):
        reverse_kl(student[0], teacher, mask)
    with pytest.raises(ShapeError, match=r"student_logp .* shape \[B,T,k\]"):
        reverse_kl(student[0], teacher, mask, form="top-k")
    with pytest.raises(ShapeError, match="teacher_logp is torch.float64"):
        reverse_kl(student, teacher.double(), mask)
    with pytest.raises(ShapeError, match="pass the same entries of both"):
        reverse_kl(student, torch.zeros(1, 1, 2), mask)
    with pytest.raises(ShapeError, match=r"student_logp has shape \(1, 1, 1\) but mask has \(1, 2\)"):
        reverse_kl(student, teacher, torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ShapeError, match="student_logp"):
        reverse_kl(student, teacher, mask, form="sampled")
    head = torch.zeros(4, 1)
    with pytest.raises(ShapeError, match="teacher_head has 5 entries but student_head has 4"):
        reverse_kl_of_states(student, teacher, mask, student_head=head, teacher_head=torch.zeros(5, 1))
    with pytest.raises(ShapeError, match="student_head is torch.float64"):
        reverse_kl_of_states(student, teacher, mask, student_head=head.double(), teacher_head=head)
    with pytest.raises(ShapeError, match="teacher_states has shape"):
        reverse_kl_of_states(student, torch.zeros(1, 2, 1), mask, student_head=head, teacher_head=head)
    for name in ("step", "every"):
        with pytest.raises(ConfigError, match=f"{name} is -1"):
            teacher_is_copied(**{"step": 1, "every": 1, name: -1})  # type: ignore[arg-type]
