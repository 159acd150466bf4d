"""Lambda attention on whole models: every family, any split, generation, undo; both spec pages' model-level rows."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from lambda_tools import (
    FAMILIES,
    chunked,
    lambda_place,
    logits,
    model,
    naive_attention,
    rotate_of,
    streaming_place,
    tokens,
)
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, LlamaForCausalLM

from lengthwise.context import LambdaAttention, LambdaCache, TopK, lambda_attention
from lengthwise.context.lambda_shaped_attention.patching import NAME
from lengthwise.errors import ConfigError, LengthwiseWarning

RULES: list[dict[str, Any]] = [
    {"n_global": 3, "window": 8},
    {"n_global": 6, "window": 4, "ceiling": 9},
    {"n_global": 2, "window": 1},
    {"n_global": 3, "window": 8, "rule": "streaming"},
]
SPLITS = [[40], [1] * 40, [5, 1, 1, 12, 1, 8, 1, 1, 10], [39, 1], [2] * 20, [7] * 5 + [5]]


@pytest.fixture(scope="module", params=list(FAMILIES))
def net(request):
    return model(request.param)


@pytest.fixture(scope="module")
def llama():
    return model()


def name_of(rule: dict[str, Any]) -> str:
    return "-".join(map(str, rule.values()))


@pytest.mark.parametrize("options", RULES, ids=name_of)
def test_chunked_decoding_of_any_split_equals_one_pass(net, options):
    ids = tokens(40)
    with lambda_attention(net, **options) as reader:
        whole = logits(net, ids)
        # What differs between families does not depend on the split: the two that hold most kinds of steps.
        for sizes in SPLITS if net.config.model_type == "llama" else SPLITS[1:3]:
            assert torch.allclose(chunked(net, ids, sizes, reader.new_cache()), whole, atol=2e-4), sizes
        # A plain cache keeps every key; the result is the same.
        assert torch.allclose(chunked(net, ids, SPLITS[2], DynamicCache()), whole, atol=2e-4)


@pytest.mark.parametrize("options", [RULES[0], RULES[3]], ids=name_of)
def test_one_pass_equals_a_model_whose_attention_is_a_loop(net, options, monkeypatch):
    place = (streaming_place if "rule" in options else lambda_place)(options["n_global"], options["window"])
    attend, ids = naive_attention(place, rotate_of(net)), tokens(24, rows=1)

    def slow(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **_: Any) -> tuple[Tensor, None]:
        return attend(q, k, v, scaling).transpose(1, 2), None

    with lambda_attention(net, **options):
        found = logits(net, ids)
        monkeypatch.setitem(AttentionInterface._global_mapping, NAME, slow)
        assert torch.allclose(found, logits(net, ids), atol=1e-4)


def test_lm_infinite_8_within_the_window_it_is_the_unmodified_model(net):
    ids = tokens(40)
    before = logits(net, ids)
    with lambda_attention(net, n_global=3, window=8):
        inside = logits(net, ids)
    with lambda_attention(net, n_global=3, window=40, ceiling=2):
        assert torch.allclose(logits(net, ids), before, atol=1e-4)
    assert torch.allclose(inside[:, :8], before[:, :8], atol=1e-4)
    assert not torch.allclose(inside[:, 12:], before[:, 12:], atol=1e-2)  # else the test would show nothing


def test_lm_infinite_10_leaving_restores_everything_bit_by_bit(net):
    ids = tokens(40)
    before, attributes = logits(net, ids), [dict(vars(module)) for module in net.modules()]
    settings, weights = net.config.to_dict(), {name: x.clone() for name, x in net.state_dict().items()}
    for _ in range(2):
        with lambda_attention(net, n_global=3, window=8):
            net.generate(ids, max_new_tokens=4, eos_token_id=None)
            assert net.config._attn_implementation == NAME
        assert torch.equal(logits(net, ids), before)
    assert net.config.to_dict() == settings
    assert all(torch.equal(x, weights[name]) for name, x in net.state_dict().items())
    for module, old in zip(net.modules(), attributes, strict=True):
        assert vars(module).keys() == old.keys()
        assert all(vars(module)[key] is old[key] for key in ("config", "forward", "training") if key in old)
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("options", [RULES[0], RULES[3]], ids=name_of)
@pytest.mark.parametrize("search", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_lm_infinite_10_generation_with_the_cache_equals_without(net, options, search):
    ids = tokens(20)
    common = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **search}
    with lambda_attention(net, **options):
        cached = net.generate(ids, return_dict_in_generate=True, **common)
        assert isinstance(cached.past_key_values, LambdaCache)
        plain = net.generate(ids, use_cache=False, **common)
    assert torch.equal(cached.sequences, plain)


def test_sampling_draws_the_same_with_and_without_the_cache(llama):
    drawn = []
    with lambda_attention(llama, n_global=3, window=8):
        for use_cache in (True, False):
            torch.manual_seed(5)
            options = {"max_new_tokens": 25, "do_sample": True, "eos_token_id": None, "use_cache": use_cache}
            drawn.append(llama.generate(tokens(20), **options))
    assert torch.equal(*drawn)


def test_generation_goes_on_from_a_cache(llama):
    ids = tokens(30, rows=1)
    with lambda_attention(llama, n_global=3, window=8) as reader:
        options = {"do_sample": False, "eos_token_id": None}
        whole = llama.generate(ids, max_new_tokens=20, **options)
        cache = reader.new_cache()
        first = llama.generate(ids, max_new_tokens=10, past_key_values=cache, **options)
        assert cache.get_seq_length() == 39
        assert torch.equal(llama.generate(first, max_new_tokens=10, past_key_values=cache, **options), whole)
        chunks = llama.generate(ids, max_new_tokens=20, prefill_chunk_size=7, **options)
    assert torch.equal(chunks, whole)


def test_a_plain_forward_gets_the_evicting_cache(llama):
    ids = tokens(30)
    with lambda_attention(llama, n_global=3, window=8), torch.no_grad():
        out = llama(ids)
        assert isinstance(out.past_key_values, LambdaCache)
        assert out.past_key_values.layers[0].stored == 10
        assert llama(ids, use_cache=False).past_key_values is None
        assert isinstance(llama.model(ids).past_key_values, LambdaCache)  # the decoder without its head too


def test_transformers_hooks_10_right_padded_rows_are_unchanged(net):
    ids, real = tokens(30, rows=3), torch.tensor([30, 17, 9])
    mask = (torch.arange(30) < real[:, None]).long()
    with lambda_attention(net, n_global=3, window=8), torch.no_grad():
        for use_cache in (False, True):
            padded = net(input_ids=ids, attention_mask=mask, use_cache=use_cache).logits
            for row, length in enumerate(real.tolist()):
                alone = logits(net, ids[row : row + 1, :length])
                assert torch.allclose(padded[row, :length], alone[0], atol=1e-4)


def test_transformers_hooks_10_two_models_do_not_touch_each_other(llama):
    ids, other = tokens(40), model("qwen2")
    apart = []
    for net, options in ((llama, RULES[0]), (other, RULES[1])):
        with lambda_attention(net, **options):
            apart.append(logits(net, ids))
    with lambda_attention(llama, **RULES[0]), lambda_attention(other, **RULES[1]):
        assert torch.equal(logits(llama, ids), apart[0])
        assert torch.equal(logits(other, ids), apart[1])


def test_transformers_hooks_12_a_model_that_shares_the_config_is_not_switched(llama):
    twin = LlamaForCausalLM(llama.config).eval()
    assert twin.config is llama.config
    twin.load_state_dict(llama.state_dict())
    ids = tokens(40)
    before = logits(twin, ids)
    with lambda_attention(llama, n_global=3, window=8):
        assert torch.equal(logits(twin, ids), before)
    assert twin.config is llama.config


def test_transformers_hooks_10_enabling_twice_and_disabling_when_off(llama):
    before = logits(llama, tokens(20))
    reader = lambda_attention(llama, n_global=3, window=8)
    reader.disable()
    assert not reader.enabled
    with reader:
        assert reader.enabled
        with pytest.raises(ValueError, match="already"):
            lambda_attention(llama, n_global=3, window=8).enable()
        assert reader.enabled
    reader.disable()
    assert torch.equal(logits(llama, tokens(20)), before)


def test_an_error_inside_leaves_the_model_as_it_was(llama):
    before = logits(llama, tokens(20))
    with pytest.raises(RuntimeError, match="on purpose"), lambda_attention(llama, n_global=3, window=8):
        raise RuntimeError("on purpose")
    assert torch.equal(logits(llama, tokens(20)), before)


def test_transformers_hooks_10_attention_weights_are_none_never_wrong(llama):
    with lambda_attention(llama, n_global=3, window=8), torch.no_grad():
        out = llama(tokens(20), output_attentions=True)
    assert not any(x is not None for x in out.attentions or ())


def test_transformers_hooks_11_row_10_identity_rotation():
    net = model()
    q = torch.randn(1, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    with lambda_attention(net, n_global=3, window=8):
        rotary = net.model.rotary_emb
        cos, sin = rotary(q, torch.arange(5)[None])
        turned = torch.cat([q[..., 4:], q[..., :4]], -1)
        assert torch.equal(q * cos[:, None] + turned * sin[:, None], q)


@pytest.mark.parametrize("options", [{"n_global": 3, "window": 20}, {"n_global": 3, "window": 20, "rule": "streaming"}])
def test_transformers_hooks_11_row_11_half_precision(options):
    # "bf16, n <= W, Lambda vs original: about 4e-3": relative to logits with a spread of one.
    net = model().bfloat16()
    before = logits(net, tokens(20)).float()
    with lambda_attention(net, **options):
        gap = logits(net, tokens(20)).float() - before
    assert gap.pow(2).mean().sqrt() / before.std() < 0.03


ROPE: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "longrope": {
        "rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0],
        "original_max_position_embeddings": 32, "factor": 2.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", list(ROPE))
def test_transformers_hooks_12_every_rope_type(kind):
    net = model(rope_parameters={"rope_theta": 1e4, **ROPE[kind]})
    ids = tokens(200)
    twin, before = copy.deepcopy(net), logits(net, ids[:, :30])
    with lambda_attention(net, n_global=3, window=30) as reader:
        whole = logits(net, ids)
        assert torch.allclose(whole[:, :30], before, atol=1e-4)
        assert torch.allclose(chunked(net, ids, [100, *[1] * 60, 40], reader.new_cache()), whole, atol=3e-4)
    # The rotary module has seen none of it: what it remembers of longer inputs comes from outside alone.
    for _ in range(2):
        assert torch.equal(logits(net, ids[:, :30]), logits(twin, ids[:, :30]))
        assert torch.equal(logits(net, ids), logits(twin, ids))


def test_lm_infinite_1_the_ropes_own_scaling_applies_at_position_zero_too(monkeypatch):
    net, ids = model(rope_parameters={"rope_theta": 1e4, **ROPE["yarn"]}), tokens(24, rows=1)
    assert net.model.rotary_emb.attention_scaling == pytest.approx(0.1 * math.log(4) + 1)
    attend = naive_attention(lambda_place(3, 8), rotate_of(net))

    def slow(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **_: Any) -> tuple[Tensor, None]:
        return attend(q, k, v, scaling).transpose(1, 2), None

    with lambda_attention(net, n_global=3, window=8) as reader:
        found = chunked(net, ids, [10, *[1] * 14], reader.new_cache())
        monkeypatch.setitem(AttentionInterface._global_mapping, NAME, slow)
        assert torch.allclose(found, logits(net, ids), atol=1e-4)


def test_lm_infinite_10_influence_travels_one_window_a_layer():
    # Two layers, W = 6, no start tokens: token s reaches p if p - s <= 2 * (W - 1) = 10, and no further.
    net, ids = model(), tokens(40, rows=1)
    changed = ids.clone()
    changed[0, 20] = 3 + (int(ids[0, 20]) - 2) % 50
    with lambda_attention(net, n_global=0, window=6):
        gap = (logits(net, ids) - logits(net, changed)).abs().amax((0, 2))
    assert gap.nonzero()[:, 0].tolist() == list(range(20, 31))


def test_top_k_keeps_every_key_and_finds_what_left_the_window(llama):
    ids, options = tokens(40), {"n_global": 3, "window": 8, "top_k": TopK(2, first_layer=1, distance=6)}
    with lambda_attention(llama, **options) as reader:
        cache = reader.new_cache()
        with_k = chunked(llama, ids, [20, *[1] * 20], cache)
        assert cache.layers[0].keys.shape[2] == 40
        out = llama.generate(ids, max_new_tokens=5, eos_token_id=None, return_dict_in_generate=True)
        assert out.past_key_values.layers[1].keys.shape[2] == 44
    with lambda_attention(llama, n_global=3, window=8) as reader:
        plain = chunked(llama, ids, [20, *[1] * 20], reader.new_cache())
    # The first chunk's last query (token 19) has 19 - 8 + 1 - 3 = 9 middle tokens already.
    assert torch.equal(with_k[:, :19], plain[:, :19])
    assert not torch.allclose(with_k[:, 19:], plain[:, 19:], atol=1e-3)


def test_lm_infinite_6_top_k_with_an_evicting_cache_is_refused(llama):
    with (
        lambda_attention(llama, n_global=3, window=8, top_k=TopK()),
        pytest.raises(ConfigError, match="top_k needs every key"),
    ):
        chunked(llama, tokens(5), [5], LambdaCache(2, n_global=3, window=8))


def test_training_inside_gives_the_gradients_of_full_attention_within_the_window():
    net, ids = model().train(), tokens(20)
    found = []
    for context in (None, lambda_attention(net, n_global=3, window=20)):
        for checkpointing in (False, True):
            if checkpointing:
                net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            else:
                net.gradient_checkpointing_disable()
            net.zero_grad()
            if context is None:
                net(ids, labels=ids).loss.backward()
            else:
                with context:
                    assert net.training
                    net(ids, labels=ids).loss.backward()
            found.append(net.model.layers[0].self_attn.k_proj.weight.grad.clone())
    assert all(torch.allclose(grad, found[0], atol=1e-4) for grad in found[1:])


def test_defaults():
    net = model()
    rules = [lambda_attention(net).rule, lambda_attention(net, rule="streaming").rule]
    assert [(r.n_global, r.window, r.ceiling) for r in rules] == [(10, 64, 64), (4, 64, None)]
    wide = model(max_position_embeddings=8192)
    assert lambda_attention(wide).rule.window == 4096
    assert lambda_attention(wide, window=512).rule.ceiling == 512
    with pytest.warns(LengthwiseWarning, match="trained to 64 tokens"):
        lambda_attention(net, window=65)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": 0}, "window is 0"),
        ({"n_global": -1}, "n_global is -1"),
        ({"n_global": 2.0}, "n_global is 2.0"),
        ({"ceiling": 0}, "ceiling is 0"),
        ({"rule": "lamda"}, "choose one of lambda, streaming"),
        ({"rule": "streaming", "ceiling": 5}, "StreamingLLM has none"),
    ],
)
def test_lm_infinite_8_impossible_numbers_are_value_errors(llama, options, says):
    with pytest.raises(ValueError, match=says):
        lambda_attention(llama, **options)


def test_a_deep_copy_of_a_model_outside_is_untouched(llama):
    with lambda_attention(llama, n_global=3, window=8):
        pass
    twin = copy.deepcopy(llama)
    assert torch.equal(logits(twin, tokens(20)), logits(llama, tokens(20)))
    assert isinstance(lambda_attention(twin), LambdaAttention)
