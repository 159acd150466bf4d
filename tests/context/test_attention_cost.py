"""Rules, costs and distances: the numbers of lm-infinite.md section 9 and of transformers-hooks.md section 11."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig

from lengthwise.context.lambda_shaped_attention.attention_cost import Attention, visible_keys, visible_pairs
from lengthwise.context.lambda_shaped_attention.window_rules import Rule, TopK
from lengthwise.context.positions.training_free_distances import (
    dual_chunk_distance,
    self_extend_distance,
    self_extend_length,
)
from lengthwise.errors import ConfigError

LLAMA2 = Attention(layers=32, heads=32, kv_heads=32, head_dim=128, element_size=2)
LONG = Rule(10, 4096, 4096)


def test_lm_infinite_9_row_1_visible_keys():
    # min(p+1, 16) + min(4, max(0, p-15))
    found = [visible_keys(p, Rule(4, 16, 16)) for p in (0, 15, 16, 19, 40, 1000)]
    assert found == [1, 16, 17, 20, 20, 20]


def test_lm_infinite_9_row_2_visible_keys_and_their_sum():
    rule = Rule(2, 4, 4)
    assert [visible_keys(p, rule) for p in range(10)] == [1, 2, 3, 4, 5, 6, 6, 6, 6, 6]
    assert visible_pairs(10, rule) == 45


def test_lm_infinite_9_row_3_which_keys():
    rule = Rule(3, 8, 8)
    assert [s for s in range(101) if rule.distance(100, s) is not None] == [0, 1, 2, *range(93, 101)]


def test_lm_infinite_9_row_4_visible_pairs():
    # 32768 * 32769 / 2; W(W+1)/2 + (n-W)W + G(G+1)/2 + (n-W-G)G = 8390656 + 117440512 + 55 + 286620.
    assert visible_pairs(32768, None) == 536_887_296
    assert visible_pairs(32768, LONG) == 126_117_843


def test_lm_infinite_9_row_9_cache_bytes():
    # 2 * 32 * 32 * 128 * 2 = 524288 a column; 32768 columns, or 10 + 4095.
    assert LLAMA2.cache_bytes(32768, None) == 17_179_869_184
    assert LLAMA2.cache_bytes(32768, LONG) == 2_152_202_240
    assert round(17_179_869_184 / 2_152_202_240, 2) == 7.98


def test_lm_infinite_9_row_10_decode_operations():
    # 4 * 32 * 32 * 128 = 524288 a column; M = 32768, or 10 + 4096.
    assert LLAMA2.decode_flops(32768, None) == 17_179_869_184
    assert LLAMA2.decode_flops(32768, LONG) == 2_152_726_528
    assert LLAMA2.decode_bytes(32768, LONG, 7) == 524_288 * 4106 + 7


def test_lm_infinite_9_row_11_constant_bytes():
    # 2 * 2 * 2 * 64 * 4 = 2048 a column, 4 + 255 columns; transformers-hooks 11 row 6: 1024 columns of a full cache.
    small = Attention(layers=2, heads=2, kv_heads=2, head_dim=64, element_size=4)
    assert {small.cache_bytes(t, Rule(4, 256, 256)) for t in (259, 1024, 10**9)} == {530_432}
    assert small.cache_bytes(1024, None) == 2_097_152


def test_lm_infinite_9_row_12_self_extend():
    # floor(16383/8) + 1024 - 1024/8 - 0 = 2047 + 896; (4096 - 1024) * 8 + 1024.
    assert self_extend_distance(16383, 0, group=8, window=1024) == 2943
    assert self_extend_length(4096, group=8, window=1024) == 25_600
    assert self_extend_distance(1023, 0) == 1023  # near: the true distance


def test_lm_infinite_9_row_13_dual_chunk():
    # K = 3072, c = 2560. Chunks 1 and 0: min(40 + 2560, K) - 2500 = 100, min(2559 + 2560, K) - 2559 = 513.
    # Chunks 3 and 0: K - 100 = 2972.
    pairs = [(2600, 2500), (5119, 2559), (8000, 100)]
    assert [dual_chunk_distance(p, s, trained=4096) for p, s in pairs] == [100, 513, 2972]
    assert dual_chunk_distance(2559, 3, trained=4096) == 2556  # one chunk: the true distance


def test_transformers_hooks_11_row_9_overlay():
    rule = Rule(2, 3, 3)
    assert [s for s in range(7) if rule.distance(6, s) is not None] == [0, 1, 4, 5, 6]


def test_lm_infinite_8_more_start_tokens_than_the_window_holds():
    # G = 6, W = 4, C = 9: a start token is at its true distance until it leaves the window, then at C.
    rule = Rule(6, 4, 9)
    assert [rule.distance(5, s) for s in range(6)] == [9, 9, 3, 2, 1, 0]
    assert [rule.distance(12, s) for s in range(13)] == [9, 9, 9, 9, 9, 9, None, None, None, 3, 2, 1, 0]


@pytest.mark.parametrize("rule", [Rule(3, 8, 8), Rule(6, 2, 9), Rule(0, 4, 4), Rule(4, 1, None), Rule(9, 3, None)])
def test_closed_forms_equal_counting(rule):
    for n in (0, 1, 5, 9, 40):
        seen = [[s for s in range(p + 1) if rule.distance(p, s) is not None] for p in range(n)]
        assert [len(row) for row in seen] == [visible_keys(p, rule) for p in range(n)]
        assert sum(map(len, seen)) == visible_pairs(n, rule)


def test_prefill_operations():
    sizes = Attention(layers=1, heads=2, kv_heads=1, head_dim=4, element_size=4)
    # 4 * 1 * 2 * 4 = 32 a pair, 45 pairs (row 2); blocked 6 * 1 * 2 * 4 = 48 for each of 10 * (2 + 2*4 - 1) entries.
    assert sizes.prefill_flops(10, Rule(2, 4, 4)) == 32 * 45
    assert sizes.blocked_prefill_flops(10, Rule(2, 4, 4)) == 48 * 90
    assert sizes.prefill_flops(10, None) == 32 * 55


def test_sizes_of_a_config():
    config = LlamaConfig(hidden_size=64, num_attention_heads=8, num_key_value_heads=2, num_hidden_layers=3)
    assert Attention.of(config, torch.bfloat16) == Attention(3, 8, 2, 8, 2)


def test_frames_hold_the_window_and_their_positions_stay_small():
    for window in (1, 2, 7, 16):
        rule = Rule(0, window, window)
        for p in range(200):
            frame = rule.frame(p)
            assert frame % window == 0
            assert frame <= max(0, p - window + 1)  # the window's first key is not before the frame
            assert 0 <= p - frame <= max(0, 2 * window - 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-1, 8, 8), "n_global is -1"),
        ((1.5, 8, 8), "n_global is 1.5"),
        ((3, 0, 8), "window is 0"),
        ((3, 8.0, 8), "window is 8.0"),
        ((3, True, 8), "window is True"),
        ((3, 8, 0), "ceiling is 0"),
        ((3, 8, "far"), "ceiling is 'far'"),
    ],
)
def test_lm_infinite_8_numbers_out_of_range_are_value_errors(arguments, says):
    with pytest.raises(ValueError, match=says):
        Rule(*arguments)


@pytest.mark.parametrize(
    "call",
    [
        lambda: TopK(0),
        lambda: TopK(distance=0),
        lambda: TopK(first_layer=-1),
        lambda: TopK(first_layer=4, last_layer=4),
        lambda: self_extend_distance(3, 4),
        lambda: self_extend_distance(3, 1, group=7, window=1024),
        lambda: self_extend_length(512),
        lambda: dual_chunk_distance(3, 1, trained=12),
        lambda: dual_chunk_distance(1, 3, trained=4096),
        lambda: visible_keys(-1, None),
        lambda: visible_pairs(1.0, None),  # type: ignore[arg-type]
    ],
)
def test_numbers_out_of_range_are_config_errors(call):
    with pytest.raises(ConfigError, match="give|must|sees"):
        call()
