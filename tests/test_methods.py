"""Methods by name: parts, options, and the errors that name the nearest ones."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import tiny
from lengthwise.engine import LossInputs
from lengthwise.errors import ConfigError
from lengthwise.methods import METHODS, build_method
from lengthwise.objectives import batch_normalised, clipped_surrogate, group_normalised, truncation


def batch():
    return tiny.rollouts(
        [3, 6, 6, 2, 5, 4], groups=[0, 0, 0, 1, 1, 1], correct=[True, False, True, True, True, True],
        finished=[True, True, False, True, True, True],
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_says_where_it_comes_from_and_its_options_are_json(name):
    method = build_method(name, cap=6)
    assert method.name == name
    assert "arXiv" in method.paper
    assert method.options["cap"] == 6
    assert json.loads(json.dumps(dict(method.options))) == dict(method.options)
    assert build_method(name, **method.options).options == method.options
    assert method.cap(0, {}) == method.cap(99, {}) == 6.0


def test_unknown_names_get_the_nearest_ones():
    with pytest.raises(ConfigError, match="did you mean dler"):
        build_method("dlr", cap=6)
    with pytest.raises(ConfigError, match="choose one of dler, grpo"):
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


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_loss_is_the_clipped_surrogate_with_the_method_s_bounds(name):
    method, rollouts = build_method(name, cap=6), batch()
    old = torch.where(rollouts.mask, -2.0, 0.0)
    logp = (old + 0.5 * torch.randn(old.shape, generator=tiny.generator())).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    normaliser = method.normaliser(rollouts.mask)
    loss, stats = method.loss(LossInputs(logp, old, advantages, rollouts.mask, rollouts, normaliser))
    options = dict(method.options)
    want, _ = clipped_surrogate(
        logp, old, advantages, rollouts.mask, clip_low=options["clip_low"], clip_high=options["clip_high"],
        dual_clip=options.get("dual_clip"), aggregate=options["aggregate"],
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
