from __future__ import annotations

import copy

import pytest
import tiny
import torch
from torch import nn

from lengthwise.engine.backends.decoding_model import DecodingModel, HalfLinear
from lengthwise.engine.backends.transformers_sampler import Sampler

HALF = torch.bfloat16
PROMPTS = [[5, 6, 7], [5, 6, 7], [9], [3, 4, 8, 10, 11, 12]]


def autocast():
    return torch.autocast("cpu", dtype=HALF)


def draw(sampler, **options):
    return sampler.generate(PROMPTS, caps=12, generator=tiny.generator(), **options)


def with_adapter(net):
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(net, peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)  # it begins at 0
    return adapted


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "gpt_neox"])
def test_its_logits_are_those_of_the_policy_under_autocast_to_the_bit(family):
    net = tiny.model(family)
    ids = torch.tensor([PROMPTS[3], [9, 8, 7, 6, 5, 4]])
    with torch.no_grad(), autocast():
        wanted = net(input_ids=ids).logits
        found = DecodingModel(net, HALF).ready()(input_ids=ids).logits
    assert torch.equal(found, wanted)


def test_an_adapter_counts_unmerged_to_the_bit():
    net = with_adapter(tiny.model().to(HALF))
    ids = torch.tensor([PROMPTS[3]])
    decoding = DecodingModel(net, HALF)
    with torch.no_grad(), autocast():
        assert torch.equal(decoding.ready()(input_ids=ids).logits, net(input_ids=ids).logits)
    # an adapter's parts are no layers of their own: 7 in each of 2 layers, and the head
    assert len(decoding.layers) == 15


def test_all_but_linear_weights_is_shared_with_the_policy():
    net = tiny.model()
    model = DecodingModel(net, HALF).ready()
    assert model.get_input_embeddings().weight is net.get_input_embeddings().weight
    assert isinstance(model.get_output_embeddings(), HalfLinear)
    assert type(net.get_output_embeddings()) is nn.Linear


def test_a_layer_with_a_hook_stays_with_its_hook():
    net, seen = tiny.model(), []
    net.get_output_embeddings().register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad(), autocast():
        DecodingModel(net, HALF).ready()(input_ids=torch.tensor([[5]]))
    assert seen == [1]


def test_after_a_sync_the_sampler_writes_with_the_new_weights():
    net, other = tiny.model(), tiny.model(seed=1)
    sampler = Sampler(net, eos_ids=tiny.EOS, pad_id=0)
    with autocast():
        before = draw(sampler)
        net.load_state_dict(other.state_dict())
        sampler.sync(net.named_parameters())
        found, wanted = draw(sampler), draw(Sampler(other, eos_ids=tiny.EOS, pad_id=0))
    assert not torch.equal(before.logp, found.logp)
    assert torch.equal(found.logp, wanted.logp)
    assert torch.equal(found.completion_ids, wanted.completion_ids)


@pytest.mark.parametrize("frozen", [True, False])
def test_half_precision_stays_near_float32(frozen):
    net = tiny.model(spread=1.5)
    kept = copy.deepcopy(net)
    with autocast() if not frozen else torch.no_grad():
        drawn = draw(Sampler(net.to(HALF) if frozen else net, eos_ids=tiny.EOS, pad_id=0))
    for row, prompt in enumerate(PROMPTS):
        plain = tiny.plain_logp(kept, prompt, drawn.response(row), 1.0)
        assert torch.allclose(drawn.logp[row, : len(plain)], plain, atol=0.05)


def test_float32_runs_the_policys_own_model():
    net = tiny.model()
    assert Sampler(net, eos_ids=tiny.EOS, pad_id=0).running() is net
