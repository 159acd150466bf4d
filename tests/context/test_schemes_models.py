"""Schemes inside transformers' models: saved and loaded with the config, exact, and refused where they cannot be."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import lambda_tools as tools
import pytest
import torch
from lambda_tools import FAMILIES, logits, model, tokens
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from lengthwise.context.positions import schemes
from lengthwise.context.positions.registered_schemes import XPOS
from lengthwise.context.positions.scheme_config import SCHEMES, SHIPPED, extend
from lengthwise.context_length import reach
from lengthwise.errors import ConfigError, InputError, UnsupportedModelError

IDENTITY = [("linear", {}), ("power", {"power": 0.0}), ("truncated", {"truncate_length": 1e9}), ("randomised", {}),
            ("ntk", {}), ("dynamic", {}), ("yarn", {}), ("longrope", {}), ("llama3", {})]  # fmt: skip
NARROW = ("gpt_neox",)  # a quarter of 8 rotates: 2 dimensions, too few for the ntk formulas


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_settings_leave_the_logits_bit_for_bit(family: str) -> None:
    net, ids = model(family), tokens(40)
    before = logits(net, ids)
    for scheme, options in IDENTITY:
        if family in NARROW and scheme in ("ntk", "dynamic"):
            continue
        assert torch.equal(logits(extend(net, scheme, **options), ids), before), scheme


@pytest.mark.parametrize("family", FAMILIES)
def test_xpos_of_a_huge_base_is_plain_rotation(family: str) -> None:  # transformers-hooks 11 row 7
    net, ids = model(family), tokens(40)
    before = logits(net, ids)
    assert (logits(extend(net, "xpos", xpos_scale_base=1e9), ids) - before).abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_is_the_default_at_divided_positions(family: str) -> None:  # transformers-hooks 11 rows 1 and 2
    net, ids = model(family), tokens(50)
    divided = torch.arange(50)[None] / 4
    wanted = logits(net, ids, position_ids=divided, attention_mask=torch.ones_like(ids))
    packed = logits(net, ids, position_ids=divided)
    found = logits(extend(net, "linear", factor=4.0), ids)
    assert (found - wanted).abs().max() < 1e-4
    assert (found - packed).abs().max() > 1e-3  # the packing trap


@pytest.mark.parametrize("family", ["llama", "cohere", "phi3"])
def test_xpos_equals_the_pages_rule_as_a_loop(family: str) -> None:
    net, ids = model(family), tokens(24, rows=1)
    rotate, base = tools.rotate_of(net), 4.0
    rotated = 4 if family == "phi3" else 8
    zeta = schemes.xpos_zeta(rotated)
    pairs = zeta.repeat_interleave(2) if family == "cohere" else torch.cat([zeta, zeta])
    pairs = torch.cat([pairs, torch.ones(8 - rotated)])

    def attend(module, query, key, value, mask, scaling, **_):
        # queries and keys come rotated; the loop multiplies every pair's part of the score by zeta^((m-s)/B)
        out = torch.zeros_like(query)
        groups = query.shape[1] // key.shape[1]
        for h in range(query.shape[1]):
            for m in range(query.shape[2]):
                score = torch.stack([
                    scaling * (query[0, h, m] * key[0, h // groups, s] * pairs ** ((m - s) / base)).sum()
                    for s in range(m + 1)
                ])  # fmt: skip
                out[0, h, m] = torch.softmax(score, 0) @ value[0, h // groups, : m + 1]
        return out.transpose(1, 2), None

    from transformers import AttentionInterface

    assert rotate is not None
    AttentionInterface.register("lengthwise_test_loop", attend)
    plain = copy.deepcopy(net)
    plain.set_attn_implementation("lengthwise_test_loop")
    wanted = logits(plain, ids)
    # 8 B = 32 queries a block: B = 2 would cut 24 tokens in two blocks
    found = logits(extend(net, "xpos", xpos_scale_base=base), ids)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_xpos_blocks_chunks_padding_and_half_precision() -> None:
    net, ids = model(), tokens(60)
    extend(net, "xpos", xpos_scale_base=1.0)  # blocks of 8 queries
    whole = logits(net, ids)
    assert whole.isfinite().all()
    chunks = tools.chunked(net, ids, [17, 1, 1, 30, 11], DynamicCache())
    torch.testing.assert_close(chunks, whole, atol=1e-4, rtol=1e-4)
    pads = torch.full((2, 5), 0)
    mask = torch.cat([torch.zeros_like(pads), torch.ones_like(ids)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    padded = logits(net, torch.cat([pads, ids], 1), attention_mask=mask, position_ids=positions)[:, 5:]
    torch.testing.assert_close(padded, whole, atol=1e-4, rtol=1e-4)
    half = logits(net.to(torch.bfloat16), ids)
    assert half.dtype == torch.bfloat16 and half.isfinite().all()


def test_xpos_exponents_stay_bounded_far_beyond_the_trained_context() -> None:
    net = extend(model(), "xpos", xpos_scale_base=4.0)
    assert logits(net, tokens(3000, rows=1)).isfinite().all()  # (2/7)^(3000/4) underflows, (7/2)^750 would overflow


def test_xpos_refuses_what_it_cannot_serve() -> None:
    net, ids = extend(model(), "xpos"), tokens(10)
    with pytest.raises(InputError, match="dynamic cache"):
        net(ids, past_key_values=StaticCache(config=net.config, max_cache_len=32), use_cache=True)
    with pytest.raises(InputError, match="leave tokens out"):
        net(ids, position_ids=torch.arange(0, 20, 2)[None], attention_mask=torch.ones_like(ids))
    net.set_attn_implementation("sdpa")
    with pytest.raises(ConfigError, match="leaves xPos out"):
        net(ids)
    net.set_attn_implementation(XPOS)
    assert net(ids).logits.isfinite().all()


def test_randomised_positions_only_in_training_and_one_draw_per_row() -> None:
    net, ids = model(), tokens(30)
    before = logits(net, ids)
    extend(net, "randomised")
    state = torch.get_rng_state()
    assert torch.equal(logits(net, ids), before)
    assert torch.equal(torch.get_rng_state(), state)  # no randomness consumed
    seen = []
    handle = net.model.rotary_emb.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    net.train()
    torch.manual_seed(0)
    first = logits(net, ids)
    handle.remove()
    torch.manual_seed(0)
    wanted = schemes.randomised_positions(torch.rand(2, 30))
    assert len(seen) == 1 and torch.equal(seen[0], wanted)
    torch.manual_seed(0)
    assert torch.equal(logits(net, ids), first)
    assert not torch.equal(logits(net, ids), first)
    positions = wanted
    plain = logits(model(), ids, position_ids=positions, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-5)


def test_randomised_positions_with_a_filled_cache_are_refused() -> None:
    net, cache = extend(model(), "randomised"), DynamicCache()
    net(tokens(5), past_key_values=cache, use_cache=True)
    net.train()
    with pytest.raises(ValueError, match="past_key_values holds tokens"):
        net(tokens(5), past_key_values=cache, use_cache=True)
    net.eval()
    net(tokens(5), past_key_values=cache, use_cache=True)


def test_randomised_positions_train_with_checkpointing() -> None:
    net = extend(model(), "randomised").train()
    net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids = tokens(20)
    net(ids, labels=ids, use_cache=False).loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_saved_and_loaded_with_the_config(scheme: str, tmp_path: Path) -> None:
    net, ids = model(), tokens(100)
    before = copy.deepcopy(net.state_dict())
    extend(net, scheme, factor=2.0)
    wanted = logits(net, ids)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert reach(net.config) == 128
    net.save_pretrained(tmp_path)
    found = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(found, ids), wanted)
    # another factor on the loaded model is the same as that factor at once
    torch.testing.assert_close(
        logits(extend(found, scheme, factor=3.0), ids), logits(extend(model(), scheme, factor=3.0), ids)
    )


OUTSIDE = """
import sys
from pathlib import Path
from transformers import AutoModelForCausalLM as Auto
folder = Path(sys.argv[1])
Auto.from_pretrained(folder / "linear")
for scheme in ("truncated", "xpos", "randomised"):
    try:
        Auto.from_pretrained(folder / scheme)
        print("loaded", scheme)
    except KeyError as error:
        print(error)
print("ours", file=sys.stderr)
import lengthwise
print("lengthwise.context" in sys.modules)
from lengthwise.pretrained import load_model
print(*load_model(folder / "truncated", dtype="float32").model.rotary_emb.inv_freq.tolist())
print(Auto.from_pretrained(folder / "xpos").config._attn_implementation)
"""


def test_a_saved_scheme_is_an_error_that_names_its_module_until_that_or_our_loading_is_there(tmp_path: Path) -> None:
    for scheme in ("linear", "truncated", "xpos", "randomised"):
        extend(model(), scheme, factor=2.0).save_pretrained(tmp_path / scheme)
    done = subprocess.run([sys.executable, "-c", OUTSIDE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *refused, known, frequencies, attention = done.stdout.splitlines()
    assert refused == ["'lengthwise.context'"] * 3 and known == "False"
    wanted = extend(model(), "truncated", factor=2.0).model.rotary_emb.inv_freq
    torch.testing.assert_close(torch.tensor([float(x) for x in frequencies.split()]), wanted)
    assert attention == XPOS and "validation" not in done.stderr.split("ours\n")[1], done.stderr


def test_nothing_changes_for_other_models() -> None:
    plain, other = model("qwen2"), extend(model(), "xpos")
    assert not plain.model._forward_pre_hooks and not plain.model.rotary_emb._forward_pre_hooks
    assert plain.config._attn_implementation == "sdpa" and other.config._attn_implementation == XPOS
    for _ in range(3):
        extend(other, "xpos")
    assert len(other.model._forward_pre_hooks) == 1  # never two hooks
    ids = tokens(20)
    assert torch.equal(logits(extend(other, "linear"), ids), logits(model(), ids))


@pytest.mark.parametrize(
    ("scheme", "options", "says"),
    [
        ("liner", {}, "choose one of linear"),
        ("linear", {"factor": 0.5}, "factor is 0.5"),
        ("linear", {"power": 1.0}, "option 'power'"),
        ("power", {"power": -1.0}, "power is -1"),
        ("truncated", {"truncate_length": -3}, "truncate_length is -3"),
        ("xpos", {"xpos_scale_base": 0}, "xpos_scale_base is 0"),
        ("xpos", {"randomised": True}, "exclude each other"),
    ],
)
def test_bad_schemes_are_refused_and_change_nothing(scheme: str, options: dict, says: str) -> None:
    net, ids = model(), tokens(20)
    before, config = logits(net, ids), json.dumps(net.config.to_dict(), default=str)
    with pytest.raises(ConfigError, match=says):
        extend(net, scheme, **options)
    assert torch.equal(logits(net, ids), before) and json.dumps(net.config.to_dict(), default=str) == config


def test_models_without_one_rotation_are_refused() -> None:
    from transformers import Gemma3TextConfig, GPT2Config, GPT2LMHeadModel

    with pytest.raises(UnsupportedModelError, match="no rotary positions"):
        extend(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=10)), "linear")
    from lengthwise.context.positions.scheme_config import Scheme

    with pytest.raises(UnsupportedModelError, match="different kinds of layers"):
        Scheme("power").changes(Gemma3TextConfig(num_hidden_layers=2))


def test_longrope_and_ntk_are_written_as_transformers_writes_them() -> None:
    net = extend(model(), "longrope", factor=4.0)
    assert net.config.rope_parameters["long_factor"] == [4.0] * 4
    assert net.config.rope_parameters["original_max_position_embeddings"] == 64
    extend(net, "ntk", factor=4.0)
    assert net.config.rope_parameters["rope_type"] == "default"
    # 10000 * 4^(8/6)
    assert net.config.rope_parameters["rope_theta"] == pytest.approx(10_000 * 4 ** (8 / 6))
    assert set(SHIPPED) == {"linear", "ntk", "dynamic", "yarn", "longrope", "llama3"}
