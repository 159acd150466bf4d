"""Refusals, and the proof on the loaded model: short inputs must come out as they did before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaCache
from lengthwise.context.lambda_shaped_attention.visible_keys import State
from lengthwise.context.lambda_shaped_attention.window_rules import Rule
from lengthwise.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS = 16
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


def refuse_config(config: PreTrainedConfig, rule: Rule) -> None:
    """Refuse what the config alone gives away, and windows beyond frequencies that change with the length.

    Raises:
        UnsupportedModelError: sliding, chunked or hybrid layers, layers without rotation, latent attention, rotation
            per layer type, soft-capped scores; a window or ceiling above the original context of dynamic or longrope
            rotation.
    """

    def no(reason: str) -> UnsupportedModelError:
        kind = getattr(config, "model_type", type(config).__name__)
        return UnsupportedModelError(f"model_type {kind!r} cannot be served: {reason}")

    others = sorted({kind for kind in getattr(config, "layer_types", None) or () if kind != "full_attention"})
    if others:
        raise no(f"it has layers of kind {', '.join(others)}; every layer must be full attention")
    if getattr(config, "attn_logit_softcapping", None) is not None:
        raise no("it caps its attention scores")
    if getattr(config, "qk_rope_head_dim", None):
        raise no("it rotates a part of each head before the parts are joined (latent attention)")
    if not all(getattr(config, "no_rope_layers", None) or (True,)):
        raise no("it has layers without rotation")
    rope = getattr(config, "rope_parameters", None) or {}
    if any(isinstance(value, dict) for value in rope.values()):
        raise no("it rotates differently in different kinds of layers")
    kind = rope.get("rope_type", "default")
    if "dynamic" in kind or kind == "longrope":
        trained = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        if max(rule.window, rule.ceiling or rule.capacity) > trained:
            raise no(
                f"its {kind} rotation changes beyond {trained} tokens; give a window (and ceiling) of at most {trained}"
            )


@contextmanager
def quiet(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Token ids [1, 16], the same in every run."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return torch.randint(vocabulary, (1, TOKENS), generator=torch.Generator().manual_seed(0)).to(model.device)


def plain_logits(model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits [B, n, V] in float32 without a cache."""
    out = model(input_ids=ids, attention_mask=mask, use_cache=False)
    if getattr(out, "logits", None) is None:
        raise UnsupportedModelError(f"model is a {type(model).__name__} without logits; give a causal language model")
    logits: Tensor = out.logits.float()
    return logits


def prove(model: PreTrainedModel, state: State, before: Tensor, ids: Tensor) -> None:
    """Prove on the loaded model that the method is exact here.

    Every decoder layer's attention is reached; a short input `ids` [1, n], n <= W, gives the logits of before
    (`before`); a row padded on the right agrees with itself unpadded; and past a small window one pass equals chunks
    with the evicting cache. Logits may differ by 1e-3 in float32 (at the largest), by 5 % in root mean square in half
    precision, both relative to their spread where that is above 1.

    Raises:
        UnsupportedModelError: one of these fails; the message says which.
    """
    half = model.dtype in (torch.bfloat16, torch.float16)
    refusal = f"model_type {getattr(model.config, 'model_type', type(model).__name__)!r} fails the self-check: {{}}"
    try:
        _check(plain_logits(model, ids), before, half, "logits within the window, with and without the method,")
        layers = model.config.num_hidden_layers
        if len(state.reached) != layers:
            raise InputError(f"{len(state.reached)} of {layers} layers use the attention registry")
        _check(*_padded_and_plain(model), half, "a padded and an unpadded row")
        with _small_window(state):
            stream, cache = proof_tokens(model)[:, :7], LambdaCache(layers, n_global=1, window=2)
            parts = [
                model(input_ids=part, past_key_values=cache, use_cache=True).logits.float()
                for part in stream.split([4, 1, 1, 1], 1)
            ]
            _check(
                torch.cat(parts, 1), plain_logits(model, stream), half, "chunks with the evicting cache and one pass"
            )
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        raise UnsupportedModelError(refusal.format(error)) from error


def _check(found: Tensor, wanted: Tensor, half: bool, what: str) -> None:
    gap, spread = found - wanted, wanted.std().clamp(min=1.0)
    # In half precision the worst of millions of logits is rounding: their mean tells a wrong method from a right one.
    worst, limit = (gap.pow(2).mean().sqrt(), HALF_TOLERANCE) if half else (gap.abs().max(), TOLERANCE)
    if not float(worst / spread) <= limit:
        raise InputError(f"{what} differ by {float(worst / spread):.3g} (allowed {limit:g})")


def _padded_and_plain(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Logits of a short row beside a longer one, padded on the right, and of the short row alone."""
    rows = proof_tokens(model).repeat(2, 1)
    length = rows.shape[1] // 2
    real = torch.ones_like(rows)
    real[1, length:] = 0
    return plain_logits(model, rows, real)[1, :length], plain_logits(model, rows[1:, :length])[0]


@contextmanager
def _small_window(state: State) -> Iterator[None]:
    """The same rule with one start token and a window of two, so that seven tokens evict; no token comes back."""
    rule, top_k = state.rule, state.top_k
    state.rule, state.top_k = replace(rule, n_global=1, window=2), None
    try:
        yield
    finally:
        state.rule, state.top_k = rule, top_k
