from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from lengthwise.engine.backends.growing_cache import SPARE, GrowingLayer, grow_in_place, takes_rows_in


def filled(rows: int, tokens: int, *, dtype: torch.dtype = torch.float32) -> DynamicLayer:
    layer = DynamicLayer()
    layer.update(torch.randn(rows, 2, tokens, 4, dtype=dtype), torch.randn(rows, 2, tokens, 4, dtype=dtype))
    return layer


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whatever_is_asked_of_it_it_holds_what_transformers_layer_holds(seed, dtype):
    torch.manual_seed(seed)
    plain = filled(12, 5, dtype=dtype)
    ours = GrowingLayer(plain)
    for _ in range(60):
        rows = len(plain.keys)
        kind = int(torch.randint(5, ()))
        if kind < 3 or rows < 2:
            new = torch.randn(2, rows, 2, 1 + 40 * (kind == 0), 4, dtype=dtype)
            for found, wanted in zip(ours.update(*new), plain.update(*new), strict=True):
                assert torch.equal(found, wanted)
        else:
            fewer = torch.randperm(rows)[: rows - 1]
            index = fewer.sort().values if kind == 3 else torch.cat([fewer, fewer[:1]])
            ours.batch_select_indices(index)
            plain.batch_select_indices(index)
        assert torch.equal(ours.keys, plain.keys)
        assert torch.equal(ours.values, plain.values)
        assert ours.get_seq_length() == plain.get_seq_length()
        assert ours.get_mask_sizes(1) == plain.get_mask_sizes(1)


def test_a_token_is_written_to_its_place_and_rows_that_end_take_no_new_buffer():
    layer = GrowingLayer(filled(8, 5))
    before = layer.keys.data_ptr()
    for _ in range(SPARE):
        layer.update(torch.randn(8, 2, 1, 4), torch.randn(8, 2, 1, 4))
    layer.batch_select_indices(torch.tensor([0, 2, 3, 7]))
    assert layer.keys.data_ptr() == before
    layer.update(torch.randn(4, 2, 1, 4), torch.randn(4, 2, 1, 4))  # one more than there was room for
    assert layer.keys.data_ptr() != before


@pytest.mark.parametrize("tokens", [2, 5, 9, 300])
def test_rows_that_come_later_end_where_the_others_end(tokens):
    held, late = filled(3, 5), filled(2, tokens)
    layer = GrowingLayer(held, most_rows=5)
    for buffer in (layer._keys, layer._values):
        buffer[:, :, 5:] = torch.nan  # what nobody has written may be anything
        buffer[3:] = torch.nan
    layer.take_in(late.keys, late.values)
    width = max(tokens, 5)
    for found, rows, new in ((layer.keys, held.keys, late.keys), (layer.values, held.values, late.values)):
        assert found.shape == (5, 2, width, 4)
        assert torch.equal(found[:3, :, -5:], rows) and torch.equal(found[3:, :, -tokens:], new)
        assert not found[:3, :, :-5].any() and not found[3:, :, :-tokens].any()
    before = layer.keys[:, :, 1:].clone()
    layer.forget_first(1)
    new = torch.randn(2, 5, 2, 1, 4)
    layer.update(*new)
    assert torch.equal(layer.keys, torch.cat([before, new[0]], 2))


def test_rows_come_and_go_within_the_same_buffers():
    layer = GrowingLayer(filled(4, 50), most_rows=4)
    before = layer._keys.data_ptr()
    for _ in range(20):
        layer.batch_select_indices(torch.tensor([1, 3]))
        layer.take_in(*torch.randn(2, 2, 2, 30, 4))
        layer.update(*torch.randn(2, 4, 2, 1, 4))
    assert layer._keys.data_ptr() == before and takes_rows_in([layer]) and not takes_rows_in([layer, filled(1, 1)])


def test_tokens_are_forgotten_as_transformers_layer_forgets_them():
    plain = filled(2, 5)
    ours = GrowingLayer(plain)
    for layer in (plain, ours):
        layer.crop(-2)
    assert torch.equal(ours.keys, plain.keys)


def test_layers_of_another_kind_and_empty_ones_stay():
    cache = DynamicCache()
    sliding = DynamicSlidingWindowLayer(sliding_window=4)
    cache.layers = [filled(2, 3), sliding, DynamicLayer()]
    grow_in_place(cache)
    assert [type(layer) for layer in cache.layers] == [GrowingLayer, DynamicSlidingWindowLayer, DynamicLayer]
    grow_in_place(object())  # a model's own kind of cache
