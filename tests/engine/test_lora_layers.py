"""LoRA layers that compute in one step: what peft computes, forward and backward."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("peft", reason="LoRA comes with the extra trl")

import peft
import tiny
import torch
from torch import nn

from lengthwise.engine.lora_layers import HalfLoraLinear, hasten
from lengthwise.engine.model_folders import load_policy
from lengthwise.lab.reasoner import shipped_reasoner

IDS = torch.tensor([[5, 6, 7, 3], [9, 8, 7, 6]])


def adapted(family="llama", dtype=torch.bfloat16):
    net = peft.get_peft_model(
        tiny.model(family).to(dtype), peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear")
    )
    torch.manual_seed(0)
    for name, parameter in net.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape) * 0.3
    return net


def gradients(net):
    net.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(input_ids=IDS).logits
        logits.float().square().mean().backward()
    return logits.detach(), {name: p.grad for name, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma"])
def test_outputs_are_peft_s_to_the_bit_and_gradients_are_as_near_to_the_exact_ones(family):
    net = adapted(family)
    wanted, theirs = gradients(net)
    exact = copy.deepcopy(net).float()
    exact(input_ids=IDS).logits.square().mean().backward()
    assert hasten(net) == sum(type(module) is HalfLoraLinear for module in net.modules()) > 0
    found, ours = gradients(net)
    assert torch.equal(found, wanted)
    for name, parameter in exact.named_parameters():
        if parameter.requires_grad:
            scale = parameter.grad.norm()
            off = [float((one[name] - parameter.grad).norm() / scale) for one in (ours, theirs)]
            assert ours[name].dtype == torch.float32 and off[0] < max(1.5 * off[1], 0.03), (name, off)


def test_switched_off_merged_or_copied_a_layer_is_as_before():
    net = adapted()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with net.disable_adapter():
            base = net(input_ids=IDS).logits
        whole = net(input_ids=IDS).logits
        hasten(net)
        with net.disable_adapter():
            assert torch.equal(net(input_ids=IDS).logits, base)
        other = copy.deepcopy(net)
        next(p for n, p in other.named_parameters() if "lora_B" in n).zero_()
        assert torch.equal(net(input_ids=IDS).logits, whole) and not torch.equal(other(input_ids=IDS).logits, whole)
        merged = net.merge_and_unload()
        assert not any(isinstance(module, HalfLoraLinear) for module in merged.modules())
        assert (merged(input_ids=IDS).logits - whole).abs().max() < 0.2 * whole.abs().max()


def test_float32_and_layers_with_more_than_lora_stay_peft_s():
    assert hasten(adapted(dtype=torch.float32)) == 0
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    assert hasten(peft.get_peft_model(tiny.model().to(torch.bfloat16), config)) == 0
    net = load_policy(shipped_reasoner(), device="cpu", lora_rank=2, dtype="bfloat16").model
    layers = [module for module in net.modules() if isinstance(module, HalfLoraLinear)]
    assert len(layers) == 7 * net.config.num_hidden_layers
    assert all(isinstance(layer.base_layer, nn.Linear) for layer in layers)
