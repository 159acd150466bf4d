"""The evicting cache: what it keeps, how many bytes that is, and what it refuses."""

from __future__ import annotations

import copy

import pytest
import torch
from lambda_tools import chunked, logits, model, tokens
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from lengthwise.context import LambdaCache, lambda_attention
from lengthwise.context.lambda_shaped_attention.attention_cost import Attention
from lengthwise.context.lambda_shaped_attention.frozen_rotary import Rotation
from lengthwise.errors import ConfigError, InputError

FED = [5, 1, 1, 20, 1, 13, 1, 1, 7]


@pytest.fixture(scope="module")
def net():
    return model()


def test_transformers_hooks_11_row_3_stored_after_each_call(net):
    ids = tokens(50)
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache, stored = reader.new_cache(), []
        for part in ids.split(FED, 1):
            chunked(net, part, [part.shape[1]], cache)
            stored.append({layer.stored for layer in cache.layers})
            assert {layer.keys.shape[2] >= layer.stored for layer in cache.layers} == {True}
    assert stored == [{5}, {6}, {7}, {10}, {10}, {10}, {10}, {10}, {10}]
    assert cache.get_seq_length() == 50


def test_transformers_hooks_11_row_4_angles_stay_small(net, monkeypatch):
    # W = 16: 2 W - 2 = 30 is the largest; the model was trained for 64 positions and reads 2030.
    seen = []
    angles = Rotation.angles

    def watched(self, positions):
        seen.append((int(positions.min()), int(positions.max())) if positions.numel() else (0, 0))
        return angles(self, positions)

    with lambda_attention(net, n_global=4, window=16) as reader:
        monkeypatch.setattr(Rotation, "angles", watched)
        out = chunked(net, tokens(2030, rows=1), [1000, *[1] * 30, 999, 1], reader.new_cache())
    assert torch.isfinite(out).all()
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 30


def test_transformers_hooks_11_row_5_tokens_of_the_columns(net):
    # G = 4, W = 16, offset 100: columns 0..3 are tokens 0..3, then the last 15 before the call; the new one is 100.
    with lambda_attention(net, n_global=4, window=16) as reader:
        cache = reader.new_cache()
        chunked(net, tokens(100, rows=1), [60, *[1] * 40], cache)
        layer = cache.layers[0]
        assert layer.stored == 19
        # Stamp each stored value with its token: start columns in place, the ring by its slots.
        stamp = torch.full_like(layer.values[0, 0, :, 0], -1)
        stamp[:4] = torch.arange(4)
        for token in range(85, 100):
            stamp[4 + (token - 4) % 15] = token
        layer.values[0, 0, :, 0] = stamp
        _, ring = layer.in_order()
        columns = [*layer.columns()[1][0, 0, :4, 0].tolist(), *ring[0, 0, :, 0].tolist(), 100]
    assert [columns[i] for i in (0, 3, 4, 18, 19)] == [0, 3, 85, 99, 100]


SMALL = {
    "max_position_embeddings": 1024,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,
}


@pytest.mark.parametrize("seen", [259, 400, 700])
def test_lm_infinite_9_row_11_and_transformers_hooks_11_row_6_measured_bytes(seen):
    # 2 layers, 2 key heads, d = 64, float32, G = 4, W = 256: 2 * 2 * 2 * 64 * 4 * 259 = 530432 bytes.
    net = model(**SMALL)
    with lambda_attention(net, n_global=4, window=256):
        ids = net.generate(tokens(seen, rows=1), max_new_tokens=1, return_dict_in_generate=True, eos_token_id=None)
    cache = ids.past_key_values
    assert isinstance(cache, LambdaCache)
    held = {id(x): x for layer in cache.layers for x in vars(layer).values() if isinstance(x, torch.Tensor)}
    assert sum(x.untyped_storage().nbytes() for x in held.values()) == cache.nbytes == 530_432


def test_a_full_cache_for_comparison_holds_every_key():
    net, cache = model(**SMALL), DynamicCache()
    chunked(net, tokens(1024, rows=1), [1024], cache)
    assert sum(x.untyped_storage().nbytes() for layer in cache.layers for x in (layer.keys, layer.values)) == 2_097_152


def test_a_plain_generate_keeps_the_formulas_bytes_at_every_length(net):
    rule_bytes = Attention.of(net.config, torch.float32)
    with lambda_attention(net, n_global=3, window=8) as reader:
        for prompt, new in ((2, 1), (5, 9), (30, 1), (30, 60), (1, 90)):
            out = net.generate(
                tokens(prompt, rows=1),
                max_new_tokens=new,
                do_sample=False,
                eos_token_id=None,
                return_dict_in_generate=True,
            )
            seen = prompt + new - 1  # the last token is drawn, never read
            formula = rule_bytes.cache_bytes(seen, reader.rule)
            # Columns in use are the formula's; while it fills, the cache doubles, so it may have allocated up to twice.
            in_use = sum(2 * layer.keys[:, :, : layer.stored].nbytes for layer in out.past_key_values.layers)
            assert in_use == formula
            assert formula <= out.past_key_values.nbytes <= min(2 * formula, rule_bytes.cache_bytes(10**9, reader.rule))


class Shapes(TorchDispatchMode):
    """Collects the shape of every tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.found.add(tuple(x.shape))
        return out


def test_lm_infinite_10_no_tensor_of_a_decode_step_grows(net):
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache, shapes = reader.new_cache(), []
        chunked(net, tokens(64, rows=1), [64], cache)
        for _ in range(2):
            with Shapes() as seen:
                chunked(net, tokens(8 * 7, rows=1), [1] * 56, cache)  # whole rounds of the ring and of the frame
            shapes.append(seen.found)
    assert shapes[0] == shapes[1]


def test_a_step_rotates_one_query_one_key_and_the_start_keys(net, monkeypatch):
    rotated = []
    at = Rotation.at

    def watched(self, x, angles):
        rotated.append(x.shape[2])
        return at(self, x, angles)

    with lambda_attention(net, n_global=3, window=32) as reader:
        cache = reader.new_cache()
        chunked(net, tokens(100, rows=1), [100], cache)
        monkeypatch.setattr(Rotation, "at", watched)
        for _ in range(64):
            chunked(net, tokens(1, rows=1), [1], cache)
    steps = [rotated[i : i + 8] for i in range(0, 16, 8)]
    assert all(sorted(step) == [1, 1, 1, 1, 1, 1, 3, 3] for step in steps)  # two layers: q, far q, k; start keys
    # Once in W tokens the window moves its frame: 2 times in 64, by 31 keys in each of the two layers.
    assert sum(count for count in rotated if count == 31) == 2 * 2 * 31


def test_transformers_hooks_10_a_cache_after_reset_is_as_new(net):
    ids = tokens(40)
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache = reader.new_cache()
        first = chunked(net, ids, [20, 1, 19], cache)
        cache.reset()
        assert cache.get_seq_length() == 0
        assert cache.nbytes == 0
        assert torch.equal(chunked(net, ids, [20, 1, 19], cache), first)


def test_rows_are_selected_repeated_and_reordered(net):
    ids = tokens(30, rows=3)
    order = torch.tensor([2, 0])
    with lambda_attention(net, n_global=3, window=8) as reader:
        whole = logits(net, ids)
        for change, rows in (
            (lambda cache: cache.batch_select_indices(order), order),
            (lambda cache: cache.reorder_cache(order), order),
            (lambda cache: cache.batch_repeat_interleave(2), torch.tensor([0, 0, 1, 1, 2, 2])),
        ):
            cache = reader.new_cache()
            change(cache)  # an empty cache has no rows to change
            chunked(net, ids[:, :25], [25], cache)
            change(cache)
            rest = chunked(net, ids[rows, 25:], [1] * 5, cache)
            assert torch.allclose(rest, whole[rows, 25:], atol=1e-4)


def test_a_copied_cache_goes_its_own_way(net):
    ids = tokens(40)
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache = reader.new_cache()
        chunked(net, ids[:, :30], [30], cache)
        other = copy.deepcopy(cache)
        expected = chunked(net, ids[:, 30:], [1] * 10, cache)
        assert torch.equal(chunked(net, ids[:, 30:], [1] * 10, other), expected)


def test_lm_infinite_8_crop_and_rewind_are_refused(net):
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache = reader.new_cache()
        chunked(net, tokens(30), [30], cache)
        cache.crop(0)
        for removed in (-1, 5):
            with pytest.raises(InputError, match="cannot be cropped"):
                cache.crop(removed)
        with pytest.raises(ValueError, match="cannot be cropped|a cache that can be cropped"):  # ours, or transformers'
            net.generate(tokens(30, rows=1), prompt_lookup_num_tokens=3, max_new_tokens=5, eos_token_id=None)


def test_an_evicting_cache_outside_its_context_is_refused(net):
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache = reader.new_cache()
        chunked(net, tokens(30), [30], cache)
    with pytest.raises(InputError, match="outside its lambda_attention"):
        chunked(net, tokens(2), [1, 1], cache)


def test_a_cache_of_another_rule_is_refused(net):
    with lambda_attention(net, n_global=3, window=8), pytest.raises(ConfigError, match="n_global 4 and window 8"):
        chunked(net, tokens(5), [5], LambdaCache(2, n_global=4, window=8))


def test_other_rows_than_the_caches_are_refused(net):
    with lambda_attention(net, n_global=3, window=8) as reader:
        cache = reader.new_cache()
        chunked(net, tokens(5, rows=2), [5], cache)
        with pytest.raises(InputError, match="3 rows but the cache holds 2"):
            chunked(net, tokens(5, rows=3), [5], cache)


@pytest.mark.parametrize(("layers", "options"), [(0, {}), (2, {"window": 0}), (2, {"n_global": -1})])
def test_sizes_out_of_range_are_refused(layers, options):
    with pytest.raises(ConfigError, match="give a whole number"):
        LambdaCache(layers, **options)
