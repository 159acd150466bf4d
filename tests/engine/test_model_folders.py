"""Loading, checking and saving model folders."""

from __future__ import annotations

import hashlib
import struct
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lengthwise.engine import model_folders
from lengthwise.engine.model_folders import load_policy, resolve_device, save_policy, weights_sha
from lengthwise.errors import ConfigError, InputError, MissingExtraError, TrainingError
from lengthwise.lab import chains, reasoner
from lengthwise.lab.lessons import chains_lesson
from lengthwise.pretrained import load_tokenizer, read_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    net = reasoner.build_model(chains_lesson(), seed=0, layers=1, hidden=32)
    net.config.attention_dropout = 0.1
    net.save_pretrained(path)
    reasoner.build_tokenizer(chains.VOCABULARY).save_pretrained(path)
    return path


def test_a_policy_is_loaded_in_float32_without_dropout(folder):
    policy = load_policy(folder, device="cpu")
    assert policy.device == torch.device("cpu") and policy.pad_id == 0 and policy.lora_rank == 0
    assert not policy.model.training and policy.model.dtype == torch.float32
    assert all(getattr(m, "attention_dropout", 0.0) == 0 for m in policy.model.modules())
    ids = torch.tensor([[9, 10, 11]])
    with policy.compute():
        assert policy.model(input_ids=ids).logits.dtype == torch.float32


def test_half_precision_computes_under_autocast_and_keeps_float32_weights(folder):
    policy = load_policy(folder, device="cpu", dtype="bfloat16")
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    with policy.compute():
        assert policy.model(input_ids=torch.tensor([[9, 10]])).logits.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_gives_the_same_gradients(folder):
    gradients = []
    for on in (False, True):
        net = load_policy(folder, device="cpu", gradient_checkpointing=on).model
        assert any(module.training for module in net.modules()) == on
        net(input_ids=torch.tensor([[9, 10, 11, 12]])).logits.square().mean().backward()
        gradients.append([p.grad for p in net.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_a_saved_policy_is_an_ordinary_folder(folder, tmp_path):
    policy = load_policy(folder, device="cpu")
    with torch.no_grad():
        next(policy.model.parameters()).add_(0.5)
    save_policy(policy, tmp_path / "out")
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir() if "model" in p.name) == [".safetensors"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert weights_sha(loaded) == weights_sha(policy.model) != weights_sha(load_policy(folder, device="cpu").model)
    words = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words("7+5?")["input_ids"] == policy.tokenizer("7+5?")["input_ids"]
    assert not [p for p in tmp_path.iterdir() if p.name != "out"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_saved(folder, tmp_path, number):
    policy = load_policy(folder, device="cpu")
    name, last = list(policy.model.named_parameters())[-1]
    with torch.no_grad():
        last[0] = number
    with pytest.raises(TrainingError, match=f"training left NaN or infinity in 1 weights, first {name}"):
        save_policy(policy, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_without_padding_still_has_a_pad_id(folder):
    policy = load_policy(folder, device="cpu")
    policy.tokenizer.pad_token = None
    assert policy.pad_id == 0


def test_the_config_is_read_without_weights(folder):
    assert read_config(folder).model_type == "qwen2"


def test_lora_needs_its_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r'pip install "lengthwise\[trl\]"'):
        load_policy(folder, device="cpu", lora_rank=4)


@pytest.mark.parametrize("device", ["all", "cuda:all", "cuda:0,cuda:1"])
def test_more_than_one_device_is_refused_with_the_way(device):
    with pytest.raises(ConfigError, match=r"the engine runs on one device.*TRL .*verl"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "gpu"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ConfigError, match=f"device is '{device}', which this machine does not have"):
        resolve_device(device)


def test_auto_takes_what_there_is():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"dtype": "int8"}, "dtype is 'int8'; choose one of auto, float32"), ({"lora_rank": -1}, "lora is -1")],
)
def test_impossible_options_are_named(folder, options, words):
    with pytest.raises(ConfigError, match=words):
        load_policy(folder, device="cpu", **options)


def test_what_is_not_a_model_folder_is_said(tmp_path, folder):
    with pytest.raises(InputError, match="no such folder"):
        model_folders.check_folder(tmp_path / "none")
    with pytest.raises(InputError, match=r"no config\.json"):
        model_folders.check_folder(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(InputError, match="pickled weights are not read"):
        model_folders.check_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    # transformers would make up an empty tokenizer here
    with pytest.raises(InputError, match="tokenizer has no words"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text())
    with pytest.raises(InputError, match="tokenizer has no words"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "NoSuchTokenizer"}')
    with pytest.raises(InputError, match="tokenizer cannot be loaded|tokenizer has no words"):
        load_tokenizer(tmp_path)


def test_a_model_that_transformers_cannot_load_is_an_input_error(tmp_path, folder):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_policy(tmp_path, device="cpu")


@pytest.mark.parametrize("cut", [20, 5000])
def test_damaged_weights_are_an_input_error(tmp_path, folder, cut):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:cut])
    with pytest.raises(InputError, match="transformers cannot load it"):
        load_policy(tmp_path, device="cpu")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_adapters_alone_and_is_merged_when_saved(folder, tmp_path, checkpointing):
    pytest.importorskip("peft", reason="LoRA comes with the extra trl")
    policy = load_policy(folder, device="cpu", lora_rank=2, gradient_checkpointing=checkpointing)
    learning = {n: p for n, p in policy.model.named_parameters() if p.requires_grad}
    assert learning and all("lora_" in name for name in learning)
    with torch.no_grad():
        for parameter in learning.values():
            parameter.add_(0.05)
    ids = torch.tensor([[9, 10, 11]])
    wanted = policy.model(input_ids=ids).logits.detach()
    save_policy(policy, tmp_path / "out")
    assert (tmp_path / "out" / "adapter" / "adapter_config.json").is_file()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(merged(input_ids=ids).logits, wanted, atol=1e-4)


def test_the_frozen_base_of_lora_is_held_in_its_dtype(folder):
    pytest.importorskip("peft", reason="LoRA comes with the extra trl")
    net = load_policy(folder, device="cpu", lora_rank=2, dtype="bfloat16").model
    assert {p.dtype for p in net.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in net.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_a_parameter_that_is_one_number_counts_in_a_model_s_identity():
    net = torch.nn.Linear(3, 2)
    torch.nn.init.ones_(net.weight), torch.nn.init.zeros_(net.bias)
    digest = hashlib.sha256()
    for name, values in (("bias", [0.0] * 2), ("weight", [1.0] * 6)):
        digest.update(name.encode() + struct.pack(f"{len(values)}f", *values))
    assert weights_sha(net) == digest.hexdigest()
    net.scale = torch.nn.Parameter(torch.tensor(2.0))
    one = weights_sha(net)
    with torch.no_grad():
        net.scale.fill_(3.0)
    assert weights_sha(net) != one
    net.empty = torch.nn.Parameter(torch.zeros(0, 4))
    weights_sha(net)


def test_an_adapter_is_drawn_from_its_seed_alone(folder):
    pytest.importorskip("peft", reason="LoRA comes with the extra trl")
    shas = []
    for seed, before in ((5, 0), (5, 1), (6, 1)):
        torch.manual_seed(before)
        shas.append(weights_sha(load_policy(folder, device="cpu", lora_rank=2, seed=seed).model))
        drawn = torch.rand(1)
        torch.manual_seed(before)
        assert torch.rand(1) == drawn  # and takes nothing from anybody else's numbers
    assert shas[0] == shas[1] != shas[2]
