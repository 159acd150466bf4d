"""The attention function: blocks of queries for a prefill, one ring-buffer read for a single new token."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaLayer, holder
from lengthwise.context.lambda_shaped_attention.forward_state import Call
from lengthwise.context.lambda_shaped_attention.frozen_rotary import Angles
from lengthwise.context.lambda_shaped_attention.visible_keys import Columns, State
from lengthwise.context.lambda_shaped_attention.window_rules import Rule, TopK
from lengthwise.errors import InputError, UnsupportedModelError

CHANGES_SCORES = ("softcap", "s_aux", "sliding_window", "position_bias", "head_mask", "alibi")
"""Arguments of attention functions that change scores in a way that is not served."""
ROWS, ROWS_ACCELERATED = 512, 2048
"""Query rows of one attention call, times query heads per key head: enough for a fused kernel, few masked keys. An
accelerator wants more of them, because each call costs its launch."""
STATE = "lengthwise_lambda"
"""Name of the attribute that holds an attention module's `State`."""


def lambda_attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float | None = None,
    dropout: float = 0.0,
    **extras: Any,
) -> tuple[Tensor, None]:
    """The registered attention function; queries and keys come un-rotated.

    query [B, H, n, d]; key, value [B, H_kv, columns, d]: all columns of a plain cache, the new ones of an evicting
    cache (which rides on `key`). Returns [B, n, H, d] and None: weights are never made.

    Raises:
        InputError: a mask, a cache or position ids that are not understood.
        UnsupportedModelError: scores changed by a soft cap, sinks or a native window.
    """
    state: State = getattr(module, STATE)
    if not isinstance(attention_mask, Call):
        raise InputError(
            f"attention_mask is a {type(attention_mask).__name__} that was made elsewhere; under lambda_attention give "
            "a 2-D padding mask, or none"
        )
    for name in CHANGES_SCORES:
        if extras.get(name) is not None:
            raise UnsupportedModelError(f"the model's attention uses {name}; it cannot be served exactly")
    call, layer = attention_mask, holder(key)
    call.check_positions(extras.get("position_ids"))
    _check_columns(call, query, key, layer)
    state.reached.add(module.layer_idx)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if layer is not None and query.shape[2] == 1 and not dropout:
        out = decode(state, call, query, key, value, layer, scale)
    else:
        columns = Columns(state, call, key, value, layer)
        out = prefill(columns, query, scale, dropout)
        if state.top_k is not None and state.top_k.at(module.layer_idx):
            out = _with_top_k(columns, state.top_k, query, out, scale)
        if layer is not None:
            layer.padded |= call.real is not None
            layer.store(key, value, state.rotation)
    return out.transpose(1, 2).contiguous(), None


def _check_columns(call: Call, query: Tensor, key: Tensor, layer: LambdaLayer | None) -> None:
    held = key.shape[2] - query.shape[2] if layer is None else layer.seen
    if held != call.offset:
        raise InputError(
            f"past_key_values holds {held} tokens before this call where {call.offset} were seen; give a LambdaCache "
            "or a plain DynamicCache, and a new one after an interrupted forward"
        )
    if layer is not None and layer.padded and call.real is None:
        raise InputError("past_key_values ends in padding; nothing can follow it. Read each row alone")


def prefill(columns: Columns, query: Tensor, scale: float, dropout: float) -> Tensor:
    """Outputs [B, H, n, d] of any number of queries, in blocks that share a frame; O(n (W + G)) score entries."""
    rule, offset, outs = columns.rule, columns.call.offset, []
    lo, total = offset, columns.stop
    if offset == 0:
        # The first W queries see everything before them: ordinary causal attention.
        lo = min(total, rule.window)
        key, value = columns.local(0, lo, 0)
        near = columns.rotation.at(query[:, :, :lo], columns.angles(0, lo))
        groups = near.shape[1] // key.shape[1]
        if near.device.type != "cpu" and near.dtype == torch.float32:
            # Accelerators have no fused kernel for grouped heads in float32.
            key, value, groups = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), 1
        outs.append(
            F.scaled_dot_product_attention(
                near, key, value, is_causal=True, dropout_p=dropout, scale=scale, enable_gqa=groups > 1
            )
        )
    while lo < total:
        stop = min(total, rule.frame(lo) + 2 * rule.window - 1)
        outs.extend(_frame(columns, query[:, :, lo - offset : stop - offset], lo, stop, scale, dropout))
        lo = stop
    return torch.cat(outs, 2) if len(outs) > 1 else outs[0]


def _frame(columns: Columns, query: Tensor, lo: int, stop: int, scale: float, dropout: float) -> Iterator[Tensor]:
    """Outputs of the queries lo .. stop-1, all of one frame, a few rows at a time.

    Both branches in one call, by concatenation along the head dimension: a local key is [R_s k ; 0], a start key
    [0 ; R_b k], a query [R_p q ; R_a q].
    """
    rule, d = columns.rule, query.shape[-1]
    frame, first = rule.frame(lo), max(0, lo - rule.window + 1)
    key, value = columns.local(first, stop, frame)
    near = columns.rotation.at(query, columns.angles(lo - frame, stop - frame))
    far = rule.far(stop - 1)
    start_key, start_value = columns.start(far)
    if far:
        extra, start_key = _start_branch(columns.far_query(query, lo), start_key)
        if near.device.type != "cpu":
            # Fused kernels want a head dimension in whole eights.
            missing = (0, -(d + extra.shape[-1]) % 8)
            extra, start_key = F.pad(extra, missing), F.pad(start_key, missing)
        near = torch.cat([near, extra], -1)
        key, start_key = F.pad(key, (0, extra.shape[-1])), F.pad(start_key, (d, 0))
    if near.device.type == "cpu" and near.shape[-1] > value.shape[-1]:
        # The CPU's fused kernel wants one head dimension for all three.
        wider = (0, near.shape[-1] - value.shape[-1])
        value, start_value = F.pad(value, wider), F.pad(start_value, wider)
    groups = query.shape[1] // key.shape[1]
    most = ROWS if near.device.type == "cpu" else ROWS_ACCELERATED
    rows = max(16, min(most // groups, rule.window // 4))
    for begin in range(lo, stop, rows):
        end, oldest = min(stop, begin + rows), max(0, begin - rule.window + 1)
        seen = slice(oldest - first, end - first)
        mask = _mask(columns.call, rule, (begin, end, oldest, far), groups, near.dtype)
        out = F.scaled_dot_product_attention(
            # Query heads that share a key head are folded into rows, so that no key is repeated.
            near[:, :, begin - lo : end - lo].reshape(near.shape[0], key.shape[1], -1, near.shape[-1]),
            torch.cat([start_key, key[:, :, seen]], 2),
            torch.cat([start_value, value[:, :, seen]], 2),
            attn_mask=mask,
            dropout_p=dropout,
            scale=scale,
        )
        yield out.reshape(*near.shape[:2], end - begin, -1)[..., : columns.value.shape[-1]]


def _start_branch(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """What the start branch adds to the head dimension of queries [B, H, n, .] and of start keys [B, H_kv, G, .].

    That is R_a q and R_b k, d numbers; where fewer than d start tokens are seen, their G products and unit vectors
    say the same in less. Not in half precision, where a product would be rounded before the softmax.
    """
    count, d = key.shape[2:]
    if count >= d or query.dtype != torch.float32:
        return query, key
    grouped = query.reshape(*key.shape[:2], -1, d) @ key.transpose(2, 3)
    units = torch.eye(count, dtype=key.dtype, device=key.device).expand(*key.shape[:2], count, count)
    return grouped.reshape(*query.shape[:3], count), units


def _mask(call: Call, rule: Rule, block: tuple[int, int, int, int], groups: int, dtype: torch.dtype) -> Tensor:
    """Additive mask [groups * rows, far + columns] of the queries begin .. end-1 over start and local columns."""
    begin, end, oldest, far = block
    # Blocks that are shifted copies of one another share their mask.
    started = min(begin - rule.window + 1, far)

    def make() -> Tensor:
        rows, local, start = call.arange(begin, end)[:, None], call.arange(oldest, end), call.arange(0, far)
        seen = torch.cat([rows - start >= rule.window, (local <= rows) & (rows - local < rule.window)], 1)
        return torch.zeros(seen.shape, dtype=dtype, device=call.device).masked_fill_(~seen, -math.inf).repeat(groups, 1)

    return call.shared(("mask", end - begin, begin - oldest, far, started, groups), make)


def decode(
    state: State, call: Call, query: Tensor, key: Tensor, value: Tensor, layer: LambdaLayer, scale: float
) -> Tensor:
    """Output [B, H, 1, d] of one new token over the ring buffer; nothing of the window is copied or rotated."""
    rule, rotation, place = state.rule, state.rotation, layer.seen
    frame, far, start = rule.frame(place), rule.far(place), min(rule.n_global, place)
    near_angles, far_angles, start_angles = call.shared("one", lambda: _angles_of_one(state, call, frame, far, start))
    rows = (query.shape[0], key.shape[1], -1, query.shape[-1])
    near, placed = rotation.at(query, near_angles).reshape(rows), rotation.at(key, near_angles)
    held, values = layer.columns()
    scores = []
    if start:
        starts = rotation.at(held[:, :, :start], start_angles)
        if far:
            scores.append(rotation.at(query, far_angles).reshape(rows) @ starts[:, :, :far].transpose(2, 3))
        scores.append(near @ starts[:, :, far:].transpose(2, 3))
    scores += [near @ held[:, :, start:].transpose(2, 3), near @ placed.transpose(2, 3)]
    weights = torch.softmax(torch.cat(scores, -1) * scale, -1, dtype=torch.float32).to(value.dtype)
    out = weights[..., :-1] @ values + weights[..., -1:] * value
    layer.store(key, value, rotation, placed)
    return out.reshape(*query.shape[:3], -1)


def _angles_of_one(state: State, call: Call, frame: int, far: int, start: int) -> tuple[Angles, Angles, Angles]:
    """Angles of one new token: its own, its start branch's, and those of the start keys (far ones first)."""
    place = call.arange(call.offset, call.offset + 1)
    starts = call.arange(0, start)
    starts = torch.cat([state.rule.far_keys(starts[:far]), starts[far:] - frame])
    angles = state.rotation.angles
    return angles(place - frame), angles(state.rule.far_query(place)), angles(starts)


def _with_top_k(columns: Columns, top_k: TopK, query: Tensor, out: Tensor, scale: float) -> Tensor:
    """`out` with its last row replaced by one that also sees the k best of the tokens that left the window."""
    rule, last = columns.rule, columns.stop - 1
    middle = slice(rule.n_global, last - rule.window + 1)
    if middle.stop - middle.start < top_k.k:
        return out
    rotation, frame, query = columns.rotation, rule.frame(last), query[:, :, -1:]
    rows = (query.shape[0], columns.key.shape[1], -1, query.shape[-1])
    here = columns.call.arange(last, last + 1)

    def scores(positions: Tensor, keys: Tensor) -> Tensor:
        return rotation.at(query, rotation.angles(positions)).reshape(rows) @ keys.transpose(2, 3)

    start_key, start_value = columns.start(rule.far(last))
    near_key, near_value = columns.local(max(0, last - rule.window + 1), last + 1, frame)
    middle_key, middle_value = columns.key[:, :, middle], columns.value[:, :, middle]
    still = rotation.angles(here * 0)
    found = scores(torch.full_like(here, top_k.distance or rule.window), rotation.at(middle_key, still))
    index = _highest(found, top_k.k)
    every = torch.cat(
        [scores(rule.far_query(here), start_key), scores(here - frame, near_key), found.gather(-1, index)], -1
    )
    weights = torch.softmax(every * scale, -1, dtype=torch.float32).to(out.dtype)
    picked = middle_value[:, :, None].expand(*found.shape[:3], *middle_value.shape[2:])
    picked = picked.gather(3, index[..., None].expand(*index.shape, middle_value.shape[-1]))
    outside = weights.shape[-1] - top_k.k
    row = weights[..., :outside] @ torch.cat([start_value, near_value], 2)
    row = row + (weights[..., outside:, None] * picked).sum(3)
    return torch.cat([out[:, :, :-1], row.reshape(*query.shape[:3], -1)], 2)


def _highest(scores: Tensor, k: int) -> Tensor:
    """Indices of the k highest scores of each row, in order of index; ties take the lowest index."""
    least = scores.topk(k, -1).values[..., -1:]
    above, equal = scores > least, scores == least
    chosen = above | (equal & (equal.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    return chosen.nonzero()[:, -1].view(*scores.shape[:-1], k)
