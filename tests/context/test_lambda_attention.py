"""The attention function itself: hand-checked rows, edge cases and invariants of lm-infinite.md and its neighbours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lambda_tools import lambda_place, naive_attention, streaming_place
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from lengthwise.context import Rule, TopK
from lengthwise.context.lambda_shaped_attention.attention_function import STATE, lambda_attend
from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaLayer
from lengthwise.context.lambda_shaped_attention.forward_state import Call
from lengthwise.context.lambda_shaped_attention.frozen_rotary import Rotation
from lengthwise.context.lambda_shaped_attention.visible_keys import State


def rotation(d: int = 8) -> Rotation:
    """RoPE with frequencies 10000^(-2i/d); for d = 2 the only one is 1."""
    config = LlamaConfig(hidden_size=d, num_attention_heads=1, max_position_embeddings=64)
    return Rotation(LlamaRotaryEmbedding(config), apply_rotary_pos_emb)


def attend(
    rule: Rule,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    sizes: list[int] | None = None,
    top_k: TopK | None = None,
    layer: Any = None,
) -> Tensor:
    """Output [B, H, n, d_v] in one pass, or in calls of the given sizes with an evicting cache."""
    state = State(rule, rotation(q.shape[-1]), top_k)
    module: Any = SimpleNamespace(layer_idx=0, **{STATE: state})
    if sizes is None:
        call = Call(k.shape[2] - q.shape[2], q.shape[2], torch.device("cpu"), None)
        return lambda_attend(module, q, k, v, call)[0].transpose(1, 2)
    layer, outs = LambdaLayer(rule) if layer is None else layer, []
    for q1, k1, v1 in zip(q.split(sizes, 2), k.split(sizes, 2), v.split(sizes, 2), strict=True):
        call = Call(layer.seen, q1.shape[2], torch.device("cpu"), None)
        outs.append(lambda_attend(module, q1, *layer.update(k1.clone(), v1), call)[0].transpose(1, 2))
    return torch.cat(outs, 2)


def rotate(x: Tensor, position: int) -> Tensor:
    """R_position of one vector, by complex numbers: nothing is shared with the package."""
    half = x.shape[-1] // 2
    angle = position * 10_000.0 ** (-torch.arange(half) / half)
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half), angle)
    return torch.cat([turned.real, turned.imag])


def random(
    n: int, *, heads: int = 4, kv_heads: int = 2, d: int = 8, seed: int = 0, rows: int = 1
) -> tuple[Tensor, ...]:
    dice = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, h, n, d, generator=dice) for h in (heads, kv_heads, kv_heads))


def ones(n: int) -> tuple[Tensor, Tensor]:
    """Section 9's queries and keys: (1, 0) everywhere, with d = 2 and frequency 1."""
    return (torch.tensor([1.0, 0.0]).repeat(1, 1, n, 1),) * 2


def test_lm_infinite_9_row_5_and_6_weights():
    # Scores are cos(distance) / sqrt 2: start key at C = 2, -0.416147; distance 1, 0.540302; distance 0, 1.
    # exp(-0.294260, 0.382051, 0.707107) = 0.745081, 1.465287, 2.028115, sum 4.238483.
    q, k = ones(4)
    weights = attend(Rule(1, 2, 2), q, k, torch.eye(4)[None, None])[0, 0]
    wanted = [0.175790, 0.345710, 0.478500]
    assert weights[2, :3].tolist() == pytest.approx(wanted, abs=1e-6)
    assert weights[3, [0, 2, 3]].tolist() == pytest.approx(wanted, abs=1e-6)
    assert weights[3, 1] == 0


def test_lm_infinite_9_row_7_outputs():
    # v_s = s: 0; e^0.707107 / (e^0.382051 + e^0.707107) = 0.580556; 0.34571 + 2 * 0.4785; 2 * 0.34571 + 3 * 0.4785.
    q, k = ones(4)
    value = torch.arange(4.0)[None, None, :, None].expand(1, 1, 4, 2)
    out = attend(Rule(1, 2, 2), q, k, value)[0, 0, :, 0]
    assert out.tolist() == pytest.approx([0, 0.580556, 1.302710, 2.126920], abs=1e-6)


def test_lm_infinite_9_row_8_without_a_ceiling_and_full_attention():
    # At p = 3 the true distance of token 0 is 3, which is what a ceiling of 3 gives; full attention is a window of 4.
    q, k = ones(4)
    value = torch.arange(4.0)[None, None, :, None].expand(1, 1, 4, 2)
    assert attend(Rule(1, 2, 3), q, k, value)[0, 0, 3, 0].item() == pytest.approx(2.259394, abs=1e-6)
    assert attend(Rule(0, 4, 4), q, k, value)[0, 0, 3, 0].item() == pytest.approx(2.061223, abs=1e-6)


CASES = [(3, 8, None), (0, 5, None), (6, 4, None), (3, 1, None), (1, 2, 7), (4, 6, 3), (20, 6, None), (50, 3, None)]


@pytest.mark.parametrize(("n_global", "window", "ceiling"), CASES)
def test_one_pass_equals_a_loop_over_queries(n_global, window, ceiling):
    q, k, v = random(33)
    rule = Rule(n_global, window, window if ceiling is None else ceiling)
    wanted = naive_attention(lambda_place(n_global, window, ceiling), rotate)(q, k, v, 8**-0.5)
    assert torch.allclose(attend(rule, q, k, v), wanted, atol=1e-5)


@pytest.mark.parametrize(("n_global", "window"), [(4, 8), (0, 5), (9, 3), (2, 1)])
def test_streaming_equals_a_loop_over_its_cache(n_global, window):
    q, k, v = random(33)
    wanted = naive_attention(streaming_place(n_global, window), rotate)(q, k, v, 8**-0.5)
    assert torch.allclose(attend(Rule(n_global, window, None), q, k, v), wanted, atol=1e-5)


SPLITS = [[33], [1] * 33, [5, 1, 1, 20, 1, 1, 4], [32, 1], [2] * 16 + [1], [1, 31, 1], [10, 10, 13], [3] * 11]


@pytest.mark.parametrize("sizes", SPLITS, ids=lambda s: "-".join(map(str, s[:4])))
@pytest.mark.parametrize(("n_global", "window", "ceiling"), [*CASES, (4, 8, 0), (9, 3, 0)])
def test_lm_infinite_8_chunks_of_any_sizes_equal_one_pass(n_global, window, ceiling, sizes):
    # A ceiling of 0 stands for StreamingLLM here, which has none.
    rule = Rule(n_global, window, None if ceiling == 0 else window if ceiling is None else ceiling)
    q, k, v = random(33, rows=2)
    assert torch.allclose(attend(rule, q, k, v, sizes=sizes), attend(rule, q, k, v), atol=2e-6)


def test_the_window_of_a_test_is_the_window_of_a_book():
    # Blocks of several frames and several row blocks each, with more start tokens than the head has dimensions.
    for rule in (Rule(3, 200, 200), Rule(12, 150, 90), Rule(7, 130, None)):
        q, k, v = random(700, heads=2, kv_heads=1)
        whole = attend(rule, q, k, v)
        assert torch.allclose(attend(rule, q, k, v, sizes=[333, 1, 1, 300, 65]), whole, atol=2e-6)
        for p in (0, 130, 149, 199, 200, 201, 398, 399, 400, 511, 699):
            place = lambda_place(rule.n_global, rule.window, rule.ceiling)
            if rule.ceiling is None:
                place = streaming_place(rule.n_global, rule.window)
            seen = [(s, place(p, s)) for s in range(p + 1)]
            scores = torch.stack([rotate(q[0, 1, p], at[0]) @ rotate(k[0, 0, s], at[1]) for s, at in seen if at])
            values = torch.stack([v[0, 0, s] for s, at in seen if at])
            wanted = torch.softmax(scores * 8**-0.5, 0) @ values
            assert torch.allclose(whole[0, 1, p], wanted, atol=1e-5), (rule, p)


def full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    def place(p: int, s: int) -> tuple[int, int]:
        return p, s

    return naive_attention(place, rotate)(q, k, v, q.shape[-1] ** -0.5)


@pytest.mark.parametrize("n_global", [0, 2, 40])
@pytest.mark.parametrize("ceiling", [1, 20, 99])
def test_lm_infinite_8_within_the_window_it_is_full_attention(n_global, ceiling):
    q, k, v = random(20)
    assert torch.allclose(attend(Rule(n_global, 20, ceiling), q, k, v), full(q, k, v), atol=1e-5)


def test_lm_infinite_8_no_start_tokens_is_a_sliding_window():
    q, k, v = random(20)

    def place(p: int, s: int) -> tuple[int, int] | None:
        return (p, s) if s > p - 6 else None

    assert torch.allclose(attend(Rule(0, 6, 6), q, k, v), naive_attention(place, rotate)(q, k, v, 8**-0.5), atol=1e-5)


def test_lm_infinite_8_all_start_tokens_at_their_places_is_full_attention():
    # "G >= n, no ceiling": StreamingLLM's places are the true ones until something is evicted.
    q, k, v = random(20)
    assert torch.allclose(attend(Rule(20, 3, None), q, k, v), full(q, k, v), atol=1e-5)


def test_lm_infinite_8_a_window_of_one_sees_itself_and_older_start_tokens():
    q, k, _ = random(6)
    eye = torch.eye(6).expand(1, 2, 6, 6)
    weights = attend(Rule(2, 1, 1), q, k, eye)[0, 0]
    seen = [row.nonzero()[:, 0].tolist() for row in weights]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 1, 5]]


def test_lm_infinite_10_weights_sum_to_one():
    q, k, v = random(40)
    for sizes in (None, [20, 1, 1, 18]):
        out = attend(Rule(3, 8, 8), q, k, torch.ones_like(v), sizes=sizes)
        assert torch.allclose(out, torch.ones_like(out), atol=1e-6)


def test_lm_infinite_10_what_left_the_window_does_not_matter():
    q, k, v = random(40)
    before = attend(Rule(3, 8, 8), q, k, v)
    changed = torch.arange(3, 32)  # G <= s <= p - W at p = 39
    k[:, :, changed] += 1
    v[:, :, changed] -= 5
    after = attend(Rule(3, 8, 8), q, k, v)
    assert torch.equal(before[:, :, 39], after[:, :, 39])
    assert not torch.allclose(before[:, :, 38], after[:, :, 38])


def test_lm_infinite_10_start_tokens_may_change_places_under_the_ceiling_only():
    q, k, v = random(40)
    order = torch.cat([torch.tensor([2, 0, 1]), torch.arange(3, 40)])
    for rule, same in ((Rule(3, 8, 8), True), (Rule(3, 8, None), False)):
        before, after = attend(rule, q, k, v), attend(rule, q, k[:, :, order], v[:, :, order])
        # p >= G + W - 1 = 10: every start token has left the window.
        assert torch.allclose(before[:, :, 10:], after[:, :, 10:], atol=1e-6) is same


def test_lm_infinite_10_start_scores_do_not_depend_on_the_place():
    # Two streams with the same columns, one at p = W + 5 = 21, one further by a multiple of W (W-1) near 10^6.
    rule, (q, k, v) = Rule(3, 16, 16), random(22)
    here = attend(rule, q, k, v, sizes=[21, 1])[:, :, 21]
    layer = LambdaLayer(rule)
    attend(rule, q[:, :, :21], k[:, :, :21], v[:, :, :21], sizes=[21], layer=layer)
    layer.seen += 16 * 15 * 4167
    assert layer.seen > 10**6
    late = attend(rule, q[:, :, 21:], k[:, :, 21:], v[:, :, 21:], sizes=[1], layer=layer)[:, :, 0]
    assert torch.equal(here, late)


def test_lm_infinite_10_grouped_queries_equal_expanded_heads():
    q, k, v = random(40)
    for sizes in (None, [20, 1, 1, 18]):
        assert torch.allclose(
            attend(Rule(3, 8, 8), q, k, v, sizes=sizes),
            attend(Rule(3, 8, 8), q, *(x.repeat_interleave(2, 1) for x in (k, v)), sizes=sizes),
            atol=1e-6,
        )


@pytest.mark.parametrize("rule", [Rule(2, 5, 5), Rule(2, 5, None)])
def test_half_precision_equals_float32(rule):
    # Products of half-precision numbers are summed in float32 by both paths; only in- and outputs are rounded.
    q, k, v = (x.bfloat16().float() for x in random(30))
    wanted = attend(rule, q, k, v)
    for sizes in (None, [10, 1, 1, 18]):
        found = attend(rule, q.bfloat16(), k.bfloat16(), v.bfloat16(), sizes=sizes)
        assert found.dtype == torch.bfloat16
        assert (found.float() - wanted).abs().max() < 0.05


def test_gradients_flow_as_through_the_loop():
    q, k, v = (x.requires_grad_() for x in random(14))
    wanted = torch.autograd.grad(
        naive_attention(lambda_place(2, 4), rotate)(q, k, v, 8**-0.5).square().sum(), (q, k, v)
    )
    found = torch.autograd.grad(attend(Rule(2, 4, 4), q, k, v).square().sum(), (q, k, v))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, wanted, strict=True))


# --- top-k re-introduction (section 6)

FROM_FIRST = {"first_layer": 0}


def last_row_with(q: Tensor, k: Tensor, v: Tensor, rule: Rule, chosen: list[list[int]], distance: int) -> Tensor:
    """The last query's output where head h also sees the tokens chosen[h] at `distance`, by a loop."""
    p, place = q.shape[2] - 1, lambda_place(rule.n_global, rule.window, rule.ceiling)
    rows = []
    for h in range(q.shape[1]):
        seen = [(s, at) for s in range(p + 1) if (at := place(p, s)) is not None]
        seen += [(s, (distance, 0)) for s in chosen[h]]
        keys = k[0, h // (q.shape[1] // k.shape[1])]
        values = v[0, h // (q.shape[1] // k.shape[1])]
        scores = torch.stack([8**-0.5 * (rotate(q[0, h, p], a) @ rotate(keys[s], b)) for s, (a, b) in seen])
        rows.append(torch.softmax(scores, 0) @ torch.stack([values[s] for s, _ in seen]))
    return torch.stack(rows)


@pytest.mark.parametrize("k_best", [1, 3, 11])
def test_lm_infinite_6_top_k_joins_the_best_middle_tokens_at_the_insert_distance(k_best):
    # n = 22, G = 3, W = 8: the middle is 3 .. 13, eleven tokens; k = 11 is dense attention with all of them.
    rule, (q, k, v) = Rule(3, 8, 8), random(22)
    chosen = []
    for h in range(4):
        scores = [float(rotate(q[0, h, 21], 6) @ rotate(k[0, h // 2, s], 0)) for s in range(3, 14)]
        best = sorted(range(11), key=lambda i: -scores[i])[:k_best]
        chosen.append([3 + i for i in best])
    out = attend(rule, q, k, v, top_k=TopK(k_best, distance=6, **FROM_FIRST))
    assert torch.allclose(out[0, :, 21], last_row_with(q, k, v, rule, chosen, 6), atol=1e-5)
    assert torch.equal(out[:, :, :21], attend(rule, q, k, v)[:, :, :21])  # only the last query of a call


def test_lm_infinite_10_top_k_larger_than_the_middle_is_plain():
    rule, (q, k, v) = Rule(3, 8, 8), random(22)
    assert torch.equal(attend(rule, q, k, v, top_k=TopK(12, **FROM_FIRST)), attend(rule, q, k, v))


def test_lm_infinite_6_top_k_applies_to_its_layers_only():
    rule, (q, k, v) = Rule(3, 8, 8), random(22)
    assert torch.equal(attend(rule, q, k, v, top_k=TopK(3)), attend(rule, q, k, v))  # layer 0, first_layer 4
    assert [TopK(first_layer=1, last_layer=3).at(layer) for layer in range(4)] == [False, True, True, False]


def test_lm_infinite_6_top_k_ties_take_the_lowest_index():
    rule, (q, k, v) = Rule(1, 4, 4), random(12)
    k[:, :, 1:8] = k[:, :, 1:2]  # the middle is 1 .. 7 and all its scores are equal
    out = attend(rule, q, k, v, top_k=TopK(3, distance=4, **FROM_FIRST))
    assert torch.allclose(out[0, :, 11], last_row_with(q, k, v, rule, [[1, 2, 3]] * 4, 4), atol=1e-5)
