"""What `t-ppo` and `ppo` say as methods."""

from __future__ import annotations

import json

import pytest
import tiny
import torch

from lengthwise.engine import LossInputs
from lengthwise.errors import ConfigError
from lengthwise.methods.papers.t_ppo import ppo, t_ppo
from lengthwise.objectives import clipped_surrogate, whitened

MAKERS = {"t-ppo": t_ppo, "ppo": ppo}


@pytest.mark.parametrize("name", MAKERS)
def test_options_are_json_and_make_the_same_method_again(name):
    method = MAKERS[name](cap=30)
    assert method.name == name
    assert "arXiv" in method.paper
    options = json.loads(json.dumps(dict(method.options)))
    assert MAKERS[name](**options).options == method.options
    assert MAKERS[name](**options).windows == method.windows
    assert method.cap(0, {}) == method.cap(99, {}) == 30


@pytest.mark.parametrize(("cap", "window"), [(9, 3), (10, 4), (260, 87), (1, 1), (24576, 8192)])
def test_the_window_is_a_third_of_the_cap_unless_it_is_given(cap, window):
    assert t_ppo(cap=cap).windows.window == window
    assert t_ppo(cap=cap, window=5).windows.window == 5


def test_t_ppo_the_defaults_of_the_page():
    windows = t_ppo(cap=24576).windows
    assert (windows.gamma, windows.lam_critic, windows.lam_floor, windows.alpha) == (1.0, 1.0, 0.95, 0.05)
    assert (windows.value_clip_low, windows.value_clip_high, windows.lm_weight) == (0.5, 0.6, 0.1)
    assert (windows.tail_ignore, windows.critic_warmup) == (0, 10)
    # actor 8e-7, critic 2e-6
    assert windows.critic_lr == pytest.approx(2e-6 / 8e-7)
    options = t_ppo(cap=24576).options
    assert (options["clip_low"], options["clip_high"], options["dual_clip"]) == (0.2, 0.28, 10.0)
    assert t_ppo(cap=24576).kl_coef == 0


def test_ppo_is_t_ppo_with_a_window_as_long_as_the_cap():
    one, two = ppo(cap=30, critic_warmup=3, lm_weight=0.0), t_ppo(cap=30, window=30, critic_warmup=3, lm_weight=0.0)
    assert one.windows == two.windows
    assert one.options.keys() < two.options.keys()


def test_right_and_finished_earns_1_and_all_else_costs_1():
    rollouts = tiny.rollouts([2, 3, 3], correct=[True, True, False], finished=[True, False, True])
    assert t_ppo(cap=3).reward(rollouts, {}).tolist() == [1.0, -1.0, -1.0]


def test_the_advantage_is_whitened_over_what_the_policy_learns_from():
    rollouts = tiny.rollouts([4])
    credit = torch.tensor([[0.2, -0.1, 0.3, 0.0]])
    # t-ppo.md: mean .1, deviations .1 -.2 .2 -.1, variance .1/3 = .033333, its root .182574
    want = torch.tensor([[0.547722, -1.095445, 1.095445, -0.547722]])
    torch.testing.assert_close(t_ppo(cap=4).advantage(credit, rollouts), want, atol=1e-5, rtol=0)
    narrowed = rollouts.with_fields(train_mask=torch.tensor([[True, True, False, False]]))
    got = t_ppo(cap=4).advantage(credit, narrowed)
    assert got.equal(whitened(credit, narrowed.train_mask))
    assert got[0, 2:].tolist() == [0, 0]


def test_the_loss_is_the_clipped_surrogate_over_tokens():
    rollouts, dice = tiny.rollouts([2, 4]), tiny.generator()
    logp, old = (-torch.rand(2, 4, generator=dice) * rollouts.mask for _ in range(2))
    advantages, method = torch.randn(2, 4, generator=dice), t_ppo(cap=4)
    assert method.normaliser(rollouts) == 6
    inputs = LossInputs(logp, old, advantages, rollouts.mask, rollouts, 6)
    loss, stats = method.loss(inputs)
    want, _ = clipped_surrogate(
        logp, old, advantages, rollouts.mask, clip_low=0.2, clip_high=0.28, dual_clip=10.0, aggregate="token-mean"
    )
    assert float(loss) == pytest.approx(float(want), abs=1e-6)
    assert int(stats["tokens"]) == 6


def test_impossible_options_are_named():
    with pytest.raises(ConfigError, match="tail_ignore is 3 in a window of 3"):
        t_ppo(cap=9, tail_ignore=3)
