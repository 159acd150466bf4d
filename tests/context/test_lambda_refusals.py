"""What cannot be served is refused with its reason, the model is left as it was, and nothing is silently wrong."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import transformers
from lambda_tools import GROUPED, SIZE, chunked, logits, model, spread, tokens
from transformers import DynamicCache, StaticCache

import lengthwise.context
from lengthwise.context import LambdaCache, lambda_attention
from lengthwise.errors import InputError, UnsupportedModelError

HEAD = {**GROUPED, "head_dim": 8}
EXPERTS: dict[str, Any] = {
    "num_experts": 2,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
}
LATENT = {
    "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "n_routed_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 2, "n_shared_experts": 1,
}  # fmt: skip
HALF = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}


def build(kind: str, **options: Any) -> Any:
    """A tiny random model of any kind of transformers."""
    config = transformers.AutoConfig.for_model(kind, **{**SIZE, **options})
    torch.manual_seed(0)
    return spread(transformers.AutoModelForCausalLM.from_config(config))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma2: sliding layers and a soft cap": ("gemma2", HEAD, "layers of kind sliding_attention"),
    "gemma2: a soft cap alone": (
        "gemma2",
        {**HEAD, "layer_types": ["full_attention"] * 2},
        "caps its attention scores",
    ),
    "gemma3: rotation per layer type": ("gemma3_text", HEAD, "layers of kind sliding_attention|differently"),
    "cohere2: layers without rotation": ("cohere2", GROUPED, "layers of kind sliding_attention"),
    "gpt_oss: sinks": ("gpt_oss", {**HEAD, **EXPERTS}, "layers of kind sliding_attention"),
    "gpt_oss: sinks alone": (
        "gpt_oss",
        {**HEAD, **EXPERTS, "layer_types": ["full_attention"] * 2},
        "s_aux|self-check|cos",
    ),
    "exaone4: hybrid": ("exaone4", {**HEAD, "num_hidden_layers": 4, "sliding_window": 8}, "layers of kind|sliding"),
    "smollm3: every second layer": ("smollm3", {**GROUPED, "no_rope_layers": [1, 0]}, "layers without rotation"),
    "deepseek_v3: latent attention": ("deepseek_v3", LATENT, "latent attention"),
    "mistral: a native window": ("mistral", {**GROUPED, "sliding_window": 8}, "native sliding layers .window 8."),
    "falcon: no attention registry": ("falcon", {}, "self-check|apply_rotary_pos_emb"),
    "gpt2: learned positions": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, "0 modules named rotary_emb"),
    "mpt: ALiBi": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}, "0 modules named rotary_emb"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_transformers_hooks_9_refused_architectures(name):
    kind, options, says = REFUSED[name]
    net = build(kind, **options)
    before = logits(net, tokens(20))
    with pytest.raises(UnsupportedModelError, match=says) as refused, lambda_attention(net, n_global=3, window=8):
        pass
    assert kind in str(refused.value) or "native" in str(refused.value)
    assert torch.equal(logits(net, tokens(20)), before)
    assert not any("lengthwise" in str(key) for module in net.modules() for key in vars(module))


SERVED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_moe": ("qwen3_moe", {**HEAD, **EXPERTS}),
    "mixtral": ("mixtral", {**GROUPED, **EXPERTS}),
    "granite": ("granite", GROUPED),
    "starcoder2": ("starcoder2", {**GROUPED, "sliding_window": None}),
    "olmo": ("olmo", GROUPED),
    "olmo2": ("olmo2", GROUPED),
    "glm": ("glm", {**HEAD, **HALF}),
    "phi": ("phi", {**GROUPED, **HALF}),
    "stablelm": ("stablelm", {**GROUPED, **HALF}),
    "persimmon": ("persimmon", HALF),
    "nemotron": ("nemotron", {**GROUPED, **HALF}),
    "ernie4_5": ("ernie4_5", HEAD),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", HEAD),
    "smollm3": ("smollm3", {**GROUPED, "no_rope_layers": [1, 1]}),
}


@pytest.mark.parametrize("name", list(SERVED))
def test_transformers_hooks_9_other_architectures_that_work(name):
    kind, options = SERVED[name]
    net, ids = build(kind, **options), tokens(40)
    if kind == "nemotron" and sum(name.endswith("rotary_emb") for name, _ in net.named_modules()) > 1:
        pytest.skip("this release of transformers rotates nemotron in every layer by itself")
    with lambda_attention(net, n_global=3, window=8) as reader:
        whole = logits(net, ids)
        assert torch.allclose(chunked(net, ids, [20, *[1] * 10, 10], reader.new_cache()), whole, atol=2e-4)


@pytest.fixture
def net():
    return model()


def test_transformers_hooks_10_left_padding_is_refused(net):
    ids = tokens(20)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    with lambda_attention(net, n_global=3, window=8):
        for call in (net, lambda **options: net.generate(max_new_tokens=4, **options)):
            with pytest.raises(ValueError, match="padding before a real token"):
                call(input_ids=ids, attention_mask=mask)


@pytest.mark.parametrize("later_mask", [True, False])
def test_nothing_may_follow_padding_in_a_cache(net, later_mask):
    ids, mask = tokens(20), torch.ones(2, 20, dtype=torch.long)
    mask[1, 15:] = 0
    with lambda_attention(net, n_global=3, window=8) as reader, torch.no_grad():
        cache = reader.new_cache()
        net(input_ids=ids, attention_mask=mask, past_key_values=cache)
        more = {"attention_mask": torch.cat([mask, mask[:, :1]], 1)} if later_mask else {}
        with pytest.raises(InputError, match="padding before a real token|ends in padding"):
            net(input_ids=ids[:, :1], past_key_values=cache, **more)


def test_transformers_hooks_10_a_4d_mask_is_refused(net):
    with lambda_attention(net, n_global=3, window=8), pytest.raises(ValueError, match="2-D padding mask"):
        net(input_ids=tokens(5), attention_mask=torch.ones(2, 1, 5, 5, dtype=torch.bool))


def test_transformers_hooks_8_packed_rows_are_refused(net):
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
    with lambda_attention(net, n_global=3, window=8):
        with pytest.raises(InputError, match="Packed sequences"):
            net(input_ids=tokens(8, rows=1), position_ids=places, use_cache=False)
        with pytest.raises(InputError, match="position_ids are not the tokens' places"):
            net(input_ids=tokens(8, rows=1), position_ids=places, attention_mask=torch.ones(1, 8))


def test_real_valued_or_shifted_positions_are_refused(net):
    with lambda_attention(net, n_global=3, window=8), pytest.raises(InputError, match="position_ids"):
        net(input_ids=tokens(8, rows=1), position_ids=torch.arange(8)[None] / 4, attention_mask=torch.ones(1, 8))


def test_other_caches_are_refused(net):
    with lambda_attention(net, n_global=3, window=8):
        with pytest.raises(InputError, match="StaticCache"):
            net(input_ids=tokens(5), past_key_values=StaticCache(config=net.config, max_cache_len=20))
        with pytest.raises(ValueError, match="cache_implementation"):
            net.generate(tokens(5), cache_implementation="static", max_new_tokens=3)


def test_caches_do_not_cross_the_border(net):
    ids, outside, inside = tokens(10), DynamicCache(), DynamicCache()
    chunked(net, ids, [10], outside)
    with lambda_attention(net, n_global=3, window=8):
        with pytest.raises(InputError, match="filled outside this context"):
            chunked(net, ids, [10], outside)
        chunked(net, ids, [10], inside)
    with pytest.raises(InputError, match="filled under lambda_attention"):
        chunked(net, ids, [10], inside)


def test_an_interrupted_forward_leaves_a_cache_that_is_refused(net):
    class Stopped(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stopped

    ids = tokens(12)
    with lambda_attention(net, n_global=3, window=8) as reader:
        for place in (net.model.layers[1], net.model.layers[1].self_attn.o_proj):
            cache = reader.new_cache()
            chunked(net, ids, [12], cache)
            hook = place.register_forward_pre_hook(stop)
            with pytest.raises(Stopped):
                chunked(net, ids[:, :1], [1], cache)
            hook.remove()
            if place is net.model.layers[1]:  # otherwise every layer has stored the token
                with pytest.raises(InputError, match="interrupted forward"):
                    chunked(net, ids[:, :1], [1], cache)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_windows_beyond_frequencies_that_change_are_refused(kind):
    longrope = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 32}
    rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0, **(longrope if kind == "longrope" else {})}
    net, trained = model(rope_parameters=rope), 32 if kind == "longrope" else 64
    with lambda_attention(net, n_global=3, window=trained):
        pass
    for options in ({"window": 20, "ceiling": trained + 1}, {"window": trained, "rule": "streaming"}):
        with pytest.raises(UnsupportedModelError, match=f"changes beyond {trained} tokens"):
            lambda_attention(net, n_global=3, **options).enable()


def test_a_model_without_logits_is_refused(net):
    with pytest.raises(UnsupportedModelError, match="LlamaModel without logits"):
        lambda_attention(net.model, n_global=3, window=8).enable()


def test_a_wrong_rotation_is_found_by_the_proof(net, monkeypatch):
    from lengthwise.context.lambda_shaped_attention.frozen_rotary import Rotation

    monkeypatch.setattr(Rotation, "at", lambda self, x, angles: x)
    with pytest.raises(UnsupportedModelError, match="logits within the window"):
        lambda_attention(net, n_global=3, window=8).enable()


def test_a_rotation_of_another_part_of_the_head_is_found_by_the_proof(monkeypatch):
    # Latent attention joins a rotated part to one that is not: without its config's word the numbers give it away.
    monkeypatch.setattr("lengthwise.context.lambda_shaped_attention.patching.refuse_config", lambda *_: None)
    with pytest.raises(UnsupportedModelError, match="logits within the window"):
        lambda_attention(build("deepseek_v3", **LATENT), n_global=3, window=8).enable()


def test_a_cache_that_loses_its_layer_is_found_by_the_proof(net, monkeypatch):
    update = LambdaCache.update

    def copied(self: LambdaCache, key: torch.Tensor, value: torch.Tensor, *rest: Any) -> Any:
        return tuple(x.clone() for x in update(self, key, value, *rest))

    monkeypatch.setattr(LambdaCache, "update", copied)
    with pytest.raises(UnsupportedModelError, match="self-check"):
        lambda_attention(net, n_global=3, window=8).enable()


@pytest.mark.parametrize(
    ("version", "old"), [("4.57.1", True), ("5.4.0", True), ("5.5.0", False), ("5.23.0.dev0", False)]
)
def test_transformers_hooks_10_an_old_transformers_is_an_import_error(version, old, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    if old:
        with pytest.raises(ImportError, match="needs transformers 5.5"):
            lengthwise.context._check_transformers(version)
    else:
        lengthwise.context._check_transformers(version)
