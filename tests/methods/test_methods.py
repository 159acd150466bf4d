"""Methods by name: parts, options, and the errors that name the nearest ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import tiny
import torch

from lengthwise import objectives as o
from lengthwise.engine import LossInputs
from lengthwise.errors import ConfigError
from lengthwise.methods import METHODS, build_method, options_of
from lengthwise.objectives import batch_normalised, clipped_surrogate, group_normalised, truncation


def batch():
    return tiny.rollouts(
        [3, 6, 6, 2, 5, 4], groups=[0, 0, 0, 1, 1, 1], correct=[True, False, True, True, True, True],
        finished=[True, True, False, True, True, True],
    ).with_fields(thinking_tokens=torch.tensor([2, 4, 6, 1, 3, 2]))  # fmt: skip


# These take credit for tokens in place of rewards; what they say is tested in test_t_ppo.
WINDOWED = {"t-ppo", "ppo"}
# Stages without a loop are tested in test_ada_r1*, what needs modes in test_adaptive.
LOOPS = sorted(set(METHODS) - {"ada-r1"})
PLAIN = sorted(set(LOOPS) - WINDOWED - {"adaptive", "brpo", "effort", "elastic"})


@pytest.mark.parametrize("name", LOOPS)
def test_every_method_says_where_it_comes_from_and_its_options_are_json(name):
    method = build_method(name, cap=6)
    assert method.name == name
    assert "arXiv" in method.paper or "no paper" in method.paper
    assert method.options["cap"] == 6
    assert json.loads(json.dumps(dict(method.options))) == dict(method.options)
    assert build_method(name, **method.options).options == method.options
    assert method.cap(0, {}) == 6.0
    assert method.cap(99, {}) == 6.0 or name == "siri"
    assert set(method.options) == set(options_of(name))


@pytest.mark.parametrize("name", PLAIN)
def test_every_method_gives_one_reward_and_one_advantage_a_row(name):
    method, rollouts = build_method(name, cap=6), batch()
    rewards = method.reward(rollouts, method.initial_state())
    advantages = method.advantage(rewards, rollouts)
    assert rewards.shape == (6,) and advantages.shape in ((6,), rollouts.mask.shape)
    assert torch.isfinite(rewards).all() and torch.isfinite(advantages).all()


REWARDS = {
    "da-dler": lambda r: o.difficulty_truncation(
        r.answer_correct, r.num_tokens, r.group_ids, r.finished, limits=(6, 3), thresholds=(0.5,)
    ),
    "siri": lambda r: r.correct.float(),
    "grpo-lambda": lambda r: o.selective_length_penalty(r.correct, r.num_tokens, r.group_ids, fraction=0.2, alpha=0.2),
    "dr-grpo": lambda r: r.correct.float(),
    "rloo": lambda r: r.correct.float(),
    "rloo-lp": lambda r: o.normalised_length(r.correct, r.num_tokens, r.group_ids, alpha=0.1),
    "alp": lambda r: o.adaptive_penalty(r.correct, r.num_tokens, r.group_ids, beta=1e-7),
    "l1-exact": lambda r: o.budget_exact(r.correct, r.num_tokens, 3, alpha=3e-4),
    "l1-max": lambda r: o.budget_max(r.correct, r.num_tokens, 3, alpha=3e-4),
    "shorter-better": lambda r: o.shortest_correct(r.correct, r.num_tokens, r.group_ids, alpha=2.0, beta=1e-3),
    "laser": lambda r: o.step_bonus(r.correct, r.num_tokens, r.finished, target=3),
    "kimi": lambda r: r.correct + o.min_max_length(r.correct, r.num_tokens, r.group_ids),
    "soft-overlong": lambda r: r.correct + o.soft_overlong(r.num_tokens, limit=6, cache=2),
    "cosine": lambda r: o.cosine_length(r.correct, r.num_tokens, limit=6),
    "linear-price": lambda r: o.linear_price(r.correct, r.num_tokens, price=1e-4),
}


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_a_length_reward_is_its_objective_with_the_paper_s_defaults(name):
    rollouts = batch()
    got = build_method(name, cap=6).reward(rollouts, {})
    torch.testing.assert_close(got, REWARDS[name](rollouts), check_dtype=False)


@pytest.mark.parametrize(
    ("name", "advantage"),
    [
        ("rloo", o.leave_one_out),
        ("rloo-lp", o.leave_one_out),
        ("kimi", o.group_normalised),
        ("dr-grpo", lambda r, g: o.group_normalised(r, g, divide_by_std=False)),
        ("linear-price", lambda r, g: o.group_normalised(r, g, divide_by_std=False)),
    ],
)
def test_a_length_reward_is_credited_as_its_paper_says(name, advantage):
    method, rollouts = build_method(name, cap=6), batch()
    rewards = method.reward(rollouts, {})
    torch.testing.assert_close(method.advantage(rewards, rollouts), advantage(rewards, rollouts.group_ids))


def test_hapo_scores_with_the_old_history_and_then_remembers():
    method, rollouts = build_method("hapo", cap=6), batch()
    state = method.initial_state()
    assert torch.equal(method.reward(rollouts, state), rollouts.correct.double())  # nothing known, no length part
    state = method.update_state(state, rollouts)
    # group 0 is problem 0: its only right and finished row has 3 tokens; group 1: 2, 5 and 4
    assert json.loads(json.dumps(state)) == {"shortest": {"0": 3, "1": 2}}
    want = o.history_length(rollouts.correct, rollouts.num_tokens, torch.tensor([3, 3, 3, 2, 2, 2]))
    torch.testing.assert_close(method.reward(rollouts, state), want)
    longer = tiny.rollouts([5, 5, 5], groups=[0, 0, 0])
    assert method.update_state(state, longer)["shortest"]["0"] == 3


def test_a_dlp_raises_its_price_while_it_is_more_accurate_than_the_reference():
    method, rollouts = build_method("a-dlp", cap=6, reference_accuracy=0.5, rate=0.3), batch()
    state = method.initial_state()
    assert torch.equal(method.reward(rollouts, state), rollouts.correct.double())
    state = method.update_state(state, rollouts)  # 4 of 6 right: 0.3 * (4/6 - 0.5) = 0.05
    assert state["weight"] == pytest.approx(0.05)
    torch.testing.assert_close(
        method.reward(rollouts, state), rollouts.correct.double() - 0.05 * rollouts.num_tokens, check_dtype=False
    )


def test_laser_d_takes_its_targets_from_the_watched_set():
    method = build_method("laser-d", cap=16)
    state = method.initial_state()
    assert state == {"targets": [16, 16, 16]}
    seen = tiny.rollouts([2, 2, 3, 9, 9, 9], groups=[0, 0, 0, 1, 1, 1], correct=[True] * 3 + [False] * 3)
    state = method.observe.update(state, seen)
    # group 0 is solved always (high tier): two of three rollouts have 2 tokens, and 2/3 * 2 >= 1. Group 1 never: low.
    assert state == {"targets": [9, 16, 2]}
    batch_of_both = tiny.rollouts([2, 3, 9, 10], groups=[0, 0, 1, 1], correct=[True, True, False, False])
    assert method.reward(batch_of_both, state).tolist() == [1.5, 1.0, 0.0, 0.0]


def test_laser_de_pays_for_long_wrong_answers_that_do_not_repeat_themselves():
    lost = tiny.rollouts([12, 12], groups=[0, 0], correct=[False, False])
    varied = torch.arange(2, 14)
    ids = torch.stack([torch.full_like(varied, 7), varied])
    lost = lost.with_fields(completion_ids=ids)
    method = build_method("laser-de", cap=16)
    assert method.reward(lost, {"targets": [8, 8, 8]}).tolist() == [0.0, 0.5]
    assert build_method("laser-d", cap=16).reward(lost, {"targets": [8, 8, 8]}).tolist() == [0.0, 0.0]


def test_siri_moves_the_cap_in_cycles():
    method = build_method("siri", cap=100, shortest=40, cycle=8)
    assert [round(method.cap(step, {})) for step in (0, 4, 8)] == [100, 40, 100]
    stair = build_method("siri", cap=100, shape="stair", cycle=8)
    assert [stair.cap(step, {}) for step in (0, 4)] == [50, 100]
    with pytest.raises(ConfigError, match="shape is 'saw'"):
        build_method("siri", cap=100, shape="saw")


def test_dler_s_limit_is_the_cap_that_a_row_was_drawn_under():
    method = build_method("dler", cap=6)
    rollouts = batch().with_fields(cap=torch.tensor([2, 6, 6, 6, 6, 6]))
    assert method.reward(rollouts, {})[0] == 0  # right and finished, but three tokens under a cap of two


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("da-dler", {"easy_cap": 7}, "easy_cap is 7 and cap 6"),
        ("drpo", {"lam": math.inf}, "take the method disco"),
        ("siri", {"shortest": 7}, "shortest is 7"),
    ],
)
def test_impossible_options_are_refused_when_the_method_is_made(name, options, words):
    with pytest.raises(ConfigError, match=words):
        build_method(name, cap=6, **options)


def test_drpo_is_its_loss_over_whole_questions():
    method, rollouts = build_method("drpo", cap=6), batch()
    assert method.coupling == "group" and method.normaliser(rollouts) == 2
    old = torch.where(rollouts.mask, -2.0, 0.0)
    logp = (old + 0.1 * torch.randn(old.shape, generator=tiny.generator())).requires_grad_()
    facts = method.shared(logp.detach(), old, rollouts.mask)
    given = LossInputs(logp, old, torch.ones(6), rollouts.mask, rollouts, 2, facts)
    loss, stats = method.loss(given)
    want, _ = o.drpo(
        logp, old, rollouts.mask, rollouts.correct, rollouts.num_tokens, rollouts.group_ids,
        lam=0.1, max_tokens=6, tau=10.0, kl_limit=1e-4, kl_coef=1e3,
    )  # fmt: skip
    torch.testing.assert_close(loss, want)
    assert stats["questions"] == 2 and stats["valid_questions"] == 1
    # DisCO is the same with an endless lam.
    base, _ = o.drpo(
        logp, old, rollouts.mask, rollouts.correct, rollouts.num_tokens, rollouts.group_ids,
        lam=math.inf, max_tokens=6, tau=10.0, kl_limit=1e-4, kl_coef=1e3,
    )  # fmt: skip
    torch.testing.assert_close(build_method("disco", cap=6).loss(given)[0], base)


def test_unknown_names_get_the_nearest_ones():
    with pytest.raises(ConfigError, match="did you mean dler"):
        build_method("dlr", cap=6)
    with pytest.raises(ConfigError, match="choose one of a-dlp, ada-r1, adaptive, alp, "):
        build_method("zzz", cap=6)
    with pytest.raises(ConfigError, match=r"no option 'clip_hihg'; did you mean clip_high"):
        build_method("dler", cap=6, clip_hihg=0.3)


def test_grpo_rewards_right_and_finished_alone():
    method, rollouts = build_method("grpo", cap=6), batch()
    assert method.keep is None
    rewards = method.reward(rollouts, {})
    assert rewards.tolist() == [1, 0, 0, 1, 1, 1]
    torch.testing.assert_close(method.advantage(rewards, rollouts), group_normalised(rewards, rollouts.group_ids))


def test_dler_is_made_of_its_four_parts():
    method, rollouts = build_method("dler", cap=6), batch()
    rewards = method.reward(rollouts, {})
    want = truncation(rollouts.answer_correct, rollouts.num_tokens, rollouts.finished, limit=6)
    assert torch.equal(rewards, want)
    # the verdict before truncation decides what is kept: group 1 is all right
    assert method.keep(rollouts).tolist() == [True] * 3 + [False] * 3
    got = method.advantage(rewards, rollouts)
    assert torch.equal(got, batch_normalised(rewards, rollouts.group_ids, rollouts.mask))
    assert method.kl_coef == 5e-4
    assert build_method("dler", cap=6, dynamic_sampling=False).keep is None


@pytest.mark.parametrize("name", sorted(set(LOOPS) - {"crisp", "drpo", "disco", "on-policy-sft"} - WINDOWED))
def test_the_loss_is_the_clipped_surrogate_with_the_method_s_bounds(name):
    method, rollouts = build_method(name, cap=6), batch()
    old = torch.where(rollouts.mask, -2.0, 0.0)
    logp = (old + 0.5 * torch.randn(old.shape, generator=tiny.generator())).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    normaliser = method.normaliser(rollouts)
    loss, stats = method.loss(LossInputs(logp, old, advantages, rollouts.mask, rollouts, normaliser))
    options = dict(method.options)
    want, _ = clipped_surrogate(
        logp, old, advantages, rollouts.mask, clip_low=options["clip_low"], clip_high=options["clip_high"],
        dual_clip=options.get("dual_clip"), aggregate=options["aggregate"], max_tokens=6,
    )  # fmt: skip
    torch.testing.assert_close(loss, want)
    assert stats["clipped_high"] > 0


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"kl_coef": -1.0}, "kl_coef is -1.0"),
        ({"kl_coef": float("nan")}, "kl_coef is nan"),
        ({"coupling": "pair"}, "coupling is 'pair'"),
        ({"kl_kind": "k9"}, "kl_kind is 'k9'"),
    ],
)
def test_impossible_parts_are_named(parts, words):
    with pytest.raises(ConfigError, match=words):
        replace(build_method("grpo", cap=6), **parts)
