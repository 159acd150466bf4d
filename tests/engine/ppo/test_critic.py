"""The value model: where its values come from, what it learns, and its file."""

from __future__ import annotations

import pytest
import tiny
import torch
import windows

from lengthwise.engine.optimizer_step import take_step
from lengthwise.engine.ppo.critic import Critic, estimate, update_critic
from lengthwise.engine.updates import UpdatePlan
from lengthwise.errors import InputError, TrainingError, UnsupportedModelError
from lengthwise.objectives import clipped_value

PLAN = UpdatePlan(updates=1, micro_batch_tokens=4096, grad_clip=1.0)
CLIP = {"clip_low": 0.5, "clip_high": 0.6}


def taught(family="qwen2"):
    """A critic whose head says something."""
    critic = Critic(tiny.model(family))
    with torch.no_grad():
        critic.head.weight.copy_(torch.randn(critic.head.weight.shape, generator=tiny.generator(1)) / 5)
        critic.head.bias.fill_(0.3)
    return critic


def plain_values(critic, prompt, response):
    """One forward of one sequence: the value of a token is read at the token before it."""
    with torch.no_grad():
        hidden = critic.decoder(input_ids=torch.tensor([prompt + response]), use_cache=False).last_hidden_state[0]
        return critic.head(hidden)[len(prompt) - 1 : -1, 0]


def learn(critic, rollouts, returns, *, old=None, optimizer=None, plan=PLAN):
    parameters = list(critic.parameters())
    return update_critic(
        critic, optimizer or torch.optim.SGD(parameters, lr=0.1), parameters, rollouts,
        torch.zeros_like(returns) if old is None else old, returns, plan, generator=tiny.generator(), **CLIP,
    )  # fmt: skip


def test_an_untaught_critic_says_exactly_0():
    assert Critic(tiny.model())(tiny.rollouts([3, 5])).equal(torch.zeros(2, 5))


@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_a_value_is_read_before_its_token_whatever_the_padding(family):
    critic, rollouts = taught(family), tiny.rollouts([1, 6, 3, 4], prompt_lengths=[4, 1, 3, 2])
    found = estimate(critic, rollouts, 4096)
    for row in range(4):
        want = plain_values(critic, rollouts.prompt(row), rollouts.response(row))
        torch.testing.assert_close(found[row, : len(want)], want, atol=1e-5, rtol=1e-5)
    assert not found[~rollouts.mask].any()
    torch.testing.assert_close(estimate(critic, rollouts, 8), found, atol=1e-5, rtol=1e-5)


def test_the_critic_is_a_copy_that_leaves_the_policy_alone():
    net = tiny.model()
    critic = Critic(net)
    assert {p.data_ptr() for p in critic.parameters()}.isdisjoint(p.data_ptr() for p in net.parameters())
    before = windows.weights(net)
    rollouts = tiny.rollouts([3, 5])
    learn(critic, rollouts, torch.ones(2, 5))
    assert windows.same(before, windows.weights(net))
    assert all(p.grad is None for p in net.parameters())


def test_it_learns_what_it_is_told():
    critic, rollouts = Critic(tiny.model()), tiny.rollouts([4, 6, 2, 5], correct=[True, False, True, False])
    returns = (2.0 * rollouts.answer_correct - 1)[:, None].expand_as(rollouts.mask) * rollouts.mask
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        old = estimate(critic, rollouts, 4096)
        losses.append(learn(critic, rollouts, returns, old=old, optimizer=optimizer)["value_loss"])
    assert losses[0] == 0.5  # every value is 0 and every target 1 or -1: half of 1
    assert losses[-1] < 0.05


@pytest.mark.parametrize("micro_batch_tokens", [1, 9, 20, 4096])
def test_any_split_gives_the_same_loss_and_step(micro_batch_tokens):
    rollouts = tiny.rollouts([4, 6, 2, 5, 1])
    returns, critic, whole = torch.full((5, 6), 0.7) * rollouts.mask, taught(), taught()
    stats = learn(critic, rollouts, returns, plan=UpdatePlan(1, micro_batch_tokens, 1.0))
    want, _ = clipped_value(whole(rollouts), torch.zeros(5, 6), returns, rollouts.mask, **CLIP)
    assert stats["value_loss"] == pytest.approx(float(want.detach()), rel=1e-5)
    learn(whole, rollouts, returns)
    for one, two in zip(critic.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_every_response_counts_the_same_whatever_its_length():
    # Row 0: V 0, G 1 on eight tokens, loss 1; row 1: V 0, G 0 on one token, loss 0. Half of the mean: .25.
    # A mean over tokens would give half of 8/9.
    rollouts = tiny.rollouts([8, 1])
    returns = torch.tensor([[1.0] * 8, [0.0] * 8])
    assert learn(Critic(tiny.model()), rollouts, returns)["value_loss"] == pytest.approx(0.25)


def test_updates_are_as_many_as_asked_but_none_is_empty():
    rollouts = tiny.rollouts([2, 3, 4])
    stats = learn(taught(), rollouts, torch.ones(3, 4), plan=UpdatePlan(2, 4096, 1.0))
    assert stats["value_updates"] == 2
    assert learn(taught(), rollouts, torch.ones(3, 4), plan=UpdatePlan(9, 4096, 1.0))["value_updates"] == 3


def test_a_file_gives_the_same_values_and_only_to_its_own_architecture(tmp_path):
    critic, rollouts = taught(), tiny.rollouts([3, 5])
    critic.save(tmp_path / "critic.safetensors")
    other = Critic(tiny.model(seed=5))
    assert not other(rollouts).equal(critic(rollouts))
    other.load(tmp_path / "critic.safetensors")
    assert other(rollouts).equal(critic(rollouts))
    with pytest.raises(InputError, match="critic is .*cannot be loaded"):
        Critic(tiny.model("gpt_neox")).load(tmp_path / "critic.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 9)
    for name in ("torn.safetensors", "none.safetensors"):
        with pytest.raises(InputError, match=f"{name}.*saved by a run on the same model"):
            other.load(tmp_path / name)


def test_a_model_without_a_decoder_of_its_own_is_refused():
    net = tiny.model()
    net.get_decoder = lambda: net
    with pytest.raises(UnsupportedModelError, match="'qwen2' has no decoder apart from its head"):
        Critic(net)


def test_the_head_stays_exact_under_autocast():
    critic, rollouts = taught(), tiny.rollouts([3, 5])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = critic(rollouts)
    assert values.dtype == torch.float32
    # bfloat16 has 8 bits of mantissa: some value needs more
    assert not values.equal(values.bfloat16().float())


def test_a_frozen_policy_makes_a_critic_that_learns_as_it_does():
    net = tiny.model()
    net.requires_grad_(False)
    net.model.norm.weight.requires_grad_(True)
    learning = [name for name, p in Critic(net).named_parameters() if p.requires_grad]
    assert learning == ["decoder.norm.weight", "head.weight", "head.bias"]


@pytest.mark.parametrize(("loss", "gradient"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_a_step_that_is_not_finite_is_not_taken(loss, gradient):
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.full((2,), gradient)
    with pytest.raises(TrainingError, match="not finite; the last checkpoint is kept"):
        take_step(torch.optim.SGD([weight], lr=1.0), [weight], 1.0, loss)
    assert weight.tolist() == [1, 1]
    assert weight.grad is None


def test_a_step_clips_the_norm_and_reports_it_unclipped():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert take_step(torch.optim.SGD([weight], lr=1.0), [weight], 1.0, 0.0) == pytest.approx(5.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.6, -0.8]), atol=1e-5, rtol=0)
