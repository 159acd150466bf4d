from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import tiny
import torch

from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.batches import grade_rollouts
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.updates import UpdatePlan, score_batch, update_policy
from lengthwise.errors import InputError, TrainingError
from lengthwise.methods import build_method

AGGREGATES = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
CAP = 8


def practised(net, *, groups=6, size=4):
    """Sampled and graded rollouts of the tiny task."""
    practice = tiny.task(groups)
    rows = [prompt for prompt in practice.prompts for _ in range(size)]
    drawn = Sampler(net, eos_ids=tiny.EOS, pad_id=0).generate(rows, caps=CAP, generator=tiny.generator(5))
    return grade_rollouts(drawn, practice)


def update(net, rollouts, method, *, advantages=None, plan=None, reference=None, optimizer=None, scorer=None):
    """One `update_policy` by plain gradient descent; returns the change of every weight and the statistics."""
    parameters = list(net.parameters())
    before = [p.detach().clone() for p in parameters]
    if advantages is None:
        advantages = method.advantage(method.reward(rollouts, {}), rollouts)
    stats = update_policy(
        scorer or Scorer(net),
        optimizer or torch.optim.SGD(parameters, lr=1.0),
        parameters,
        method,
        rollouts,
        advantages,
        plan or UpdatePlan(updates=1, micro_batch_tokens=10_000, grad_clip=1e9),
        generator=tiny.generator(7),
        reference=reference,
    )
    return [after.detach() - old for after, old in zip(parameters, before, strict=True)], stats


def alike(one, other, atol=1e-6):
    return all(torch.allclose(a, b, atol=atol) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("micro_batch_tokens", [1, 25, 70])
def test_the_split_into_micro_batches_does_not_matter(net, aggregate, micro_batch_tokens):
    method = build_method("dler", cap=CAP, aggregate=aggregate, kl_coef=0.1)
    rollouts, reference = practised(net), Scorer(tiny.model(seed=3))
    results = []
    for tokens in (10_000, micro_batch_tokens):
        plan = UpdatePlan(updates=2, micro_batch_tokens=tokens, grad_clip=0.5, truncate_importance=2.0)
        results.append(update(copy.deepcopy(net), rollouts, method, plan=plan, reference=reference))
    (whole, stats), (split, split_stats) = results
    assert max(float(change.abs().max()) for change in whole) > 1e-3
    assert alike(whole, split)
    assert split_stats == pytest.approx(stats, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("micro_batch_tokens", [1, 70])
def test_a_loss_that_couples_groups_does_not_depend_on_the_split_either(net, micro_batch_tokens):
    method = build_method("drpo", cap=CAP, kl_limit=0.0)
    rollouts = practised(net)
    results = []
    for tokens in (10_000, micro_batch_tokens):
        plan = UpdatePlan(updates=3, micro_batch_tokens=tokens, grad_clip=0.5)
        results.append(update(copy.deepcopy(net), rollouts, method, plan=plan))
    (whole, stats), (split, split_stats) = results
    assert stats["approx_kl"] > 1e-6  # the later updates feel the trust region, which is over all tokens
    assert alike(whole, split)
    assert split_stats == pytest.approx(stats, rel=1e-3, abs=1e-5)
    assert "clip_high_share" not in stats and 0 <= stats["uniform_weights"] <= 1


def test_rows_without_signal_are_skipped_and_change_nothing(net):
    rollouts = practised(net)
    method = build_method("grpo", cap=CAP)
    advantages = method.advantage(method.reward(rollouts, {}), rollouts)
    silent = int((advantages == 0).sum())
    assert 0 < silent < len(rollouts)
    scored = []

    class Counting(Scorer):
        def __call__(self, part, **options):
            scored.append(len(part))
            return super().__call__(part, **options)

    changes = []
    # coupling "group" makes every row count; with it the silent rows are run as well
    for coupled in (False, True):
        fresh = copy.deepcopy(net)
        asked = replace(method, coupling="group") if coupled else method
        # clipped, so that weights move by less than 1 and rounding stays below the bound
        plan = UpdatePlan(updates=2, micro_batch_tokens=10_000, grad_clip=0.5)
        changes.append(update(fresh, rollouts, asked, plan=plan, scorer=Counting(fresh))[0])
    # each row is scored once for old_logp and once for the update
    live = len(rollouts) - silent
    assert sum(scored[: len(scored) // 2]) == 2 * live and sum(scored) == 2 * live + 2 * len(rollouts)
    assert alike(*changes)


def test_a_batch_without_any_signal_moves_nothing(net):
    rollouts = practised(net)
    method = build_method("grpo", cap=CAP)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    change, stats = update(net, rollouts, method, advantages=torch.zeros(len(rollouts)), optimizer=optimizer)
    assert all((c == 0).all() for c in change)
    assert stats["loss"] == 0 and stats["grad_norm"] == 0 and stats["trained_tokens"] == 0


def test_one_update_needs_no_scoring_of_the_old_policy(net):
    calls = []

    class Counting(Scorer):
        def __call__(self, part, **options):
            calls.append(len(part))
            return super().__call__(part, **options)

    _, stats = update(net, practised(net), build_method("dler", cap=CAP, kl_coef=0.0), scorer=Counting(net))
    assert len(calls) == 1
    assert stats["ratio_max"] == 1 and stats["clip_high_share"] == stats["clip_low_share"] == 0


def test_several_updates_reach_the_clip_bounds(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-2)
    plan = UpdatePlan(updates=4, micro_batch_tokens=10_000, grad_clip=1.0)
    method = build_method("dler", cap=CAP, kl_coef=0.0)
    _, stats = update(net, practised(net), method, plan=plan, optimizer=optimizer)
    assert stats["updates"] == 4
    assert stats["clip_high_share"] > 0 and stats["clip_low_share"] > 0
    assert stats["ratio_max"] > 1.28 and stats["approx_kl"] > 0


def test_the_update_makes_good_answers_likelier(net):
    rollouts, method = practised(net), build_method("grpo", cap=CAP)
    scorer, everything = Scorer(net), torch.arange(len(rollouts))
    before = score_batch(scorer, rollouts, everything, 10_000)
    # a step small enough that the first order decides
    update(net, rollouts, method, optimizer=torch.optim.SGD(net.parameters(), lr=1e-3))
    rise = (score_batch(scorer, rollouts, everything, 10_000) - before).sum(1) / rollouts.num_tokens
    advantages = method.advantage(method.reward(rollouts, {}), rollouts)
    assert float((advantages * rise).sum()) > 0
    assert float(rise[advantages > 0].mean()) > float(rise[advantages < 0].mean())


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_the_reference_pulls(net, kind):
    """Without any advantage the penalty alone acts; k2 and k3 bring the policy to its reference."""
    rollouts = practised(net, size=16)
    reference = tiny.model(seed=9)
    method = replace(build_method("grpo", cap=CAP), kl_coef=1.0, kl_kind=kind)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.0)
    zero = torch.zeros(len(rollouts))
    rows, target = torch.arange(len(rollouts)), Scorer(reference)
    ref = score_batch(target, rollouts, rows, 10_000)

    def distance():
        return float(((score_batch(Scorer(net), rollouts, rows, 10_000) - ref).square() * rollouts.mask).sum())

    start = distance()
    stats = [update(net, rollouts, method, advantages=zero, reference=target, optimizer=optimizer)[1] for _ in range(8)]
    if kind == "k1":
        # its gradient is that of logp itself: it pushes the sampled tokens down, whatever the reference says
        assert stats[-1]["reference_kl"] < stats[0]["reference_kl"]
    else:
        assert stats[-1]["reference_kl"] < 0.6 * stats[0]["reference_kl"]
        assert distance() < start


def test_importance_weights_are_truncated(net):
    rollouts = practised(net)
    # the sampler thought every token five times less likely than the trainer does: weight min(5, 2) = 2
    shifted = rollouts.with_fields(
        logp=Scorer(net)(rollouts)[0].detach() - torch.log(torch.tensor(5.0)) * rollouts.mask
    )
    method = build_method("grpo", cap=CAP)
    advantages = method.advantage(method.reward(rollouts, {}), rollouts)
    plan = UpdatePlan(updates=1, micro_batch_tokens=10_000, grad_clip=1e9)
    plain, stats = update(copy.deepcopy(net), shifted, method, plan=plan)
    # log 5 is about 1.609
    assert stats["sampler_gap"] == pytest.approx(1.6094, abs=1e-3)
    bounded, _ = update(copy.deepcopy(net), shifted, method, plan=replace(plan, truncate_importance=2.0))
    doubled, _ = update(copy.deepcopy(net), shifted, method, plan=plan, advantages=2 * advantages)
    unbounded, _ = update(copy.deepcopy(net), shifted, method, plan=replace(plan, truncate_importance=1e6))
    fivefold, _ = update(copy.deepcopy(net), shifted, method, plan=plan, advantages=5 * advantages)
    assert alike(bounded, doubled, 1e-5) and alike(unbounded, fivefold, 1e-5) and not alike(plain, bounded, 1e-3)


def test_tokens_outside_the_train_mask_are_not_learnt(net):
    rollouts = practised(net)
    first = torch.zeros_like(rollouts.mask)
    first[:, 0] = True
    narrowed = rollouts.with_fields(train_mask=first)
    method = build_method("dler", cap=CAP, kl_coef=0.0)
    advantages = torch.where(rollouts.correct, 1.0, -1.0)
    change, stats = update(copy.deepcopy(net), narrowed, method, advantages=advantages)
    assert stats["trained_tokens"] == len(rollouts)
    # the same as responses of one token each, cut after the first
    cut = tiny.rollouts([1] * len(rollouts)).with_fields(
        prompt_ids=rollouts.prompt_ids,
        prompt_mask=rollouts.prompt_mask,
        completion_ids=rollouts.completion_ids[:, :1],
        group_ids=rollouts.group_ids,
    )
    assert alike(change, update(copy.deepcopy(net), cut, method, advantages=advantages)[0])


def test_advantages_per_token_and_per_row_agree(net):
    rollouts = practised(net)
    method = build_method("grpo", cap=CAP)
    rows = torch.where(rollouts.correct, 1.0, -0.5)
    plan = UpdatePlan(updates=2, micro_batch_tokens=40, grad_clip=1.0)
    one, _ = update(copy.deepcopy(net), rollouts, method, advantages=rows, plan=plan)
    other, _ = update(copy.deepcopy(net), rollouts, method, advantages=rows[:, None] * rollouts.mask, plan=plan)
    assert alike(one, other)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_weights_move(net, bad):
    method = build_method("grpo", cap=CAP)

    def broken(inputs):
        loss, stats = method.loss(inputs)
        return loss * bad, stats

    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(TrainingError, match=r"is not finite; the last checkpoint is kept"):
        update(net, practised(net), replace(method, loss=broken))
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_a_gradient_that_is_not_finite_stops_too(net):
    method = build_method("grpo", cap=CAP)

    def broken(inputs):
        loss, stats = method.loss(inputs)
        # sqrt has an infinite slope at 0: the loss is finite, its gradient is not
        return loss + (inputs.logp - inputs.logp.detach()).abs().sum().sqrt(), stats

    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(TrainingError, match="gradient norm"):
        update(net, practised(net), replace(method, loss=broken))
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_log_probabilities_that_are_not_finite_are_refused(net):
    rollouts = practised(net)
    with torch.no_grad():
        net.model.norm.weight[0] = float("nan")
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises((InputError, TrainingError), match="finite"):
        update(net, rollouts, build_method("grpo", cap=CAP))
    assert all(torch.allclose(p, old, 0, 0, True) for p, old in zip(net.parameters(), before, strict=True))


def test_the_gradient_norm_is_clipped(net):
    rollouts, method = practised(net), build_method("grpo", cap=CAP)
    plan = UpdatePlan(updates=1, micro_batch_tokens=10_000, grad_clip=0.01)
    change, stats = update(net, rollouts, method, plan=plan)
    assert stats["grad_norm"] > 0.01
    # plain gradient descent at rate 1: the change is the clipped gradient
    assert float(torch.cat([c.flatten() for c in change]).norm()) == pytest.approx(0.01, rel=1e-3)


def test_scores_of_a_batch_stand_in_their_rows(net):
    rollouts = practised(net)
    rows = torch.tensor([7, 2, 11])
    scores = score_batch(Scorer(net), rollouts, rows, 30)
    whole, _ = Scorer(net)(rollouts)
    assert torch.allclose(scores[rows], whole[rows].detach(), atol=1e-5)
    rest = torch.ones(len(rollouts), dtype=torch.bool)
    rest[rows] = False
    assert (scores[rest] == 0).all() and not scores.requires_grad


def test_in_half_precision_a_second_update_computes_with_the_weights_of_the_first(net):
    # Autocast keeps casts of weights within its context, and all updates of a batch lie within one.
    method, seen = build_method("grpo", cap=CAP), []
    batch = tiny.rollouts([3, 3, 3, 3], groups=[0, 0, 1, 1])

    def loss(inputs):
        seen.append(float((inputs.logp - inputs.old_logp).detach().abs().max()))
        return method.loss(inputs)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        plan = UpdatePlan(updates=2, micro_batch_tokens=1_000, grad_clip=1.0)
        signal = torch.tensor([1.0, -1.0, 1.0, -1.0])
        update(net, batch, replace(method, loss=loss), advantages=signal, plan=plan)
    assert seen[0] == 0 and seen[1] > 0.01
