"""Liger's kernels: put into one model on a GPU, refused elsewhere. A stand-in plays Liger: its kernels need a GPU."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from lengthwise.engine.liger_kernels import check_liger, put_liger
from lengthwise.engine.model_folders import load_policy
from lengthwise.errors import ConfigError, MissingExtraError
from lengthwise.lab.shipped_models import model_folder

NAME = "liger_kernel.transformers.monkey_patch"


def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32)
    )


@pytest.fixture
def liger(monkeypatch):
    """Liger, with a norm that says 0: as it does, it changes the model's modules and the class for later models."""
    module = ModuleType(NAME)
    module.asked = []

    def apply(model, **which):
        module.asked.append(which)
        modeling_llama.LlamaRMSNorm = type("Other", (), {})
        model.model.norm.forward = torch.zeros_like

    module.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    module._apply_liger_kernel_to_instance = apply
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, NAME, module)
    return module


def test_one_model_takes_the_kernels_and_those_loaded_later_do_not(liger):
    norm, net = modeling_llama.LlamaRMSNorm, small()
    put_liger(net)
    ids = torch.tensor([[3, 4]])
    assert not net(input_ids=ids).logits.any()
    assert modeling_llama.LlamaRMSNorm is norm
    assert small()(input_ids=ids).logits.any()


def test_positions_and_the_head_stay_ours(liger):
    put_liger(small())
    assert liger.asked == [{"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}]


def test_an_architecture_without_kernels_is_named(liger):
    net = small()
    net.config.model_type = "mamba"
    with pytest.raises(ConfigError, match="no kernels for 'mamba' models; leave --liger out"):
        put_liger(net)


def test_without_a_gpu_it_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="run on a GPU, not on cpu; leave --liger out"):
        load_policy(model_folder("lab:chains"), device="cpu", liger=True)
    check_liger(torch.device("cuda"))


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(MissingExtraError, match="liger"):
        put_liger(small())
