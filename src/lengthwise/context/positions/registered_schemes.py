"""The schemes that transformers does not know, registered through its public extension points.

One RoPE type, `ROPE_TYPE`, carries all of them in a config's ``rope_parameters``: ``factor``, ``power``,
``truncate_length`` (with ``zero_divisor``, ``rho_divisor``), ``randomised`` and ``xpos_scale_base``. Its name is the
module to import, so that a program without it fails on ``KeyError: 'lengthwise.context'`` instead of rotating plainly.
Importing `lengthwise.context` registers them, before or after transformers; `lengthwise.pretrained` imports it where a
folder's config names the type.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RotaryEmbeddingConfigMixin

from lengthwise.context.lambda_shaped_attention.forward_state import CACHE_NAMES
from lengthwise.context.positions.schemes import composed_inv_freq, number, randomised_positions, xpos_decay
from lengthwise.errors import ConfigError, InputError, UnsupportedModelError
from lengthwise.pretrained import OWN_ROPE_TYPE as ROPE_TYPE

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

XPOS = "lengthwise_xpos"
FREQUENCY_OPTIONS = ("factor", "power", "truncate_length", "zero_divisor", "rho_divisor")
OPTIONS = (*FREQUENCY_OPTIONS, "randomised", "xpos_scale_base")
XPOS_BLOCK = 8.0
"""Queries of one block span so many B: exponents stay below 8 ln(7/2) = 10."""


def rotary_dim(config: PreTrainedConfig) -> int:
    """The rotary dimensions of a head: head dimension times ``partial_rotary_factor``."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head_dim * (config.rope_parameters.get("partial_rotary_factor") or 1.0))


def frequencies(
    config: PreTrainedConfig,
    device: torch.device | str | None = None,
    seq_len: int | None = None,
    layer_type: str | None = None,
) -> tuple[Tensor, float]:
    """Inverse frequencies [d/2] and the attention scaling (1) of a config of `ROPE_TYPE`.

    Raises:
        UnsupportedModelError: rotation per layer type.
        ConfigError: an unknown option or one out of range.
    """
    if layer_type is not None:
        raise UnsupportedModelError(
            f"model_type {config.model_type!r} rotates differently in different kinds of layers; it cannot be extended"
        )
    parameters = config.rope_parameters
    check_parameters(parameters)
    chosen = {name: parameters[name] for name in FREQUENCY_OPTIONS if name in parameters}
    return composed_inv_freq(rotary_dim(config), parameters["rope_theta"], **chosen).to(device), 1.0


def check_parameters(parameters: dict[str, Any], ignore_keys: Iterable[str] | None = None) -> None:
    """Refuse options of `ROPE_TYPE` that do not exist, exclude each other or are out of range.

    Raises:
        ConfigError: naming the option.
    """
    known = {*OPTIONS, "rope_type", "type", "rope_theta", "partial_rotary_factor", *(ignore_keys or ())}
    unknown = sorted(parameters.keys() - known)
    if unknown:
        raise ConfigError(f"rope_parameters has {unknown[0]!r}; {ROPE_TYPE} knows {', '.join(OPTIONS)}")
    if not isinstance(parameters.get("randomised", False), bool):
        raise ConfigError(f"randomised is {parameters['randomised']!r}; give true or false")
    if "xpos_scale_base" in parameters:
        number("xpos_scale_base", parameters["xpos_scale_base"], 0, above=True)
        if parameters.get("randomised"):
            raise ConfigError(
                "randomised and xpos_scale_base exclude each other, for xPos decays with distances in tokens; "
                "leave one out"
            )
    chosen = {name: parameters[name] for name in FREQUENCY_OPTIONS if name in parameters}
    composed_inv_freq(2, **chosen)


def _validate(
    self: RotaryEmbeddingConfigMixin, rope_parameters: dict[str, Any], ignore_keys: Iterable[str] | None = None
) -> None:
    check_parameters(rope_parameters, ignore_keys)


def _attach(owner: PreTrainedModel, name: str, module: Any) -> None:
    """Where a model gets a rotary module of ours, give it what frequencies alone cannot do."""
    if name != "rotary_emb" or getattr(module, "rope_type", None) != ROPE_TYPE:
        return
    parameters = module.config.rope_parameters
    if parameters.get("randomised"):
        module.register_forward_pre_hook(_draw_positions, with_kwargs=True)
    if "xpos_scale_base" in parameters:
        if not hasattr(sys.modules[type(owner).__module__], "ALL_ATTENTION_FUNCTIONS"):
            raise UnsupportedModelError(
                f"model_type {module.config.model_type!r} does not use transformers' attention registry; xPos cannot "
                "be applied to it"
            )
        owner.config._attn_implementation = XPOS
    if not any(hook is _before_decoder for hook in owner._forward_pre_hooks.values()):
        owner.register_forward_pre_hook(_before_decoder, with_kwargs=True)


def _draw_positions(rotary: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In training, real-valued positions drawn anew for every row; there is one draw, because one rotary module."""
    if not rotary.training:
        return None
    hidden, rest = args[0], args[2:]
    positions = randomised_positions(torch.rand(hidden.shape[:2], device=hidden.device))
    return (hidden, *((positions, *rest) if len(args) > 1 else ())), (
        kwargs if len(args) > 1 else {**kwargs, "position_ids": positions}
    )


def _before_decoder(decoder: PreTrainedModel, args: tuple[object, ...], kwargs: dict[str, Any]) -> None:
    """Refuse forwards that the scheme cannot serve exactly."""
    rotary = decoder.rotary_emb
    if getattr(rotary, "rope_type", None) != ROPE_TYPE:
        return
    parameters = rotary.config.rope_parameters
    cache = next((kwargs[name] for name in CACHE_NAMES if kwargs.get(name) is not None), None)
    if parameters.get("randomised") and rotary.training and cache is not None and cache.get_seq_length():
        raise InputError(
            "past_key_values holds tokens while training with randomised positions; positions are drawn once per "
            "forward, so give whole sequences, or call model.eval() to generate"
        )
    if "xpos_scale_base" in parameters:
        if decoder.config._attn_implementation != XPOS:
            raise ConfigError(
                f"attn_implementation is {decoder.config._attn_implementation!r}, which leaves xPos out; call "
                f"model.set_attn_implementation({XPOS!r})"
            )
        positions = kwargs.get("position_ids")
        if positions is not None and (positions.is_floating_point() or bool((positions.diff(dim=-1) > 1).any())):
            raise InputError("position_ids leave tokens out; xPos counts distances in tokens. Leave position_ids out")


def xpos_mask(*, q_length: int, kv_length: int, q_offset: int | Tensor = 0, **options: object) -> Tensor | None:
    """The shipped boolean mask; refuses caches whose columns are not the tokens seen so far.

    Raises:
        InputError: a cache of fixed size.
    """
    if int(q_offset) + q_length != kv_length and options.get("local_size") is None:
        raise InputError(
            f"past_key_values has {kv_length} columns for {int(q_offset) + q_length} tokens; under xPos use a dynamic "
            "cache"
        )
    mask: Tensor | None = sdpa_mask(q_length=q_length, kv_length=kv_length, q_offset=int(q_offset), **options)
    return mask


def xpos_attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: object
) -> tuple[Tensor, None]:
    """Scores times zeta^((m-s)/B), in float32, then the shipped SDPA function; q and k [B, H, n, d] are rotated.

    Distances are those between columns, which padding on the left and packed rows do not change. Queries go in blocks
    centred on their first token, so no exponent grows with the text.
    """
    base = module.config.rope_parameters["xpos_scale_base"]
    queries, offset = query.shape[2], key.shape[2] - query.shape[2]
    size = max(1, int(XPOS_BLOCK * base))
    columns = torch.arange(key.shape[2], device=key.device)
    found = []
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        centre, end = offset + start, offset + stop
        mask = None if attention_mask is None else attention_mask[:, :, start:stop, :end]
        if mask is None and start > 0:
            mask = (columns[centre:end, None] >= columns[None, :end])[None, None]
        q = query[:, :, start:stop].float() * _scales(module, columns[centre:end] - centre, base, query.shape[-1])
        k = key[:, :, :end].float() * _scales(module, centre - columns[:end], base, key.shape[-1])
        found.append(sdpa_attention_forward(module, q, k, value[:, :, :end].float(), mask, **options)[0])
    return torch.cat(found, 1).to(query.dtype), None


def _scales(module: Any, away: Tensor, base: float, head_dim: int) -> Tensor:
    """zeta^(away/B) in the model's own order of pairs, [n, head_dim]; 1 where the head is not rotated."""
    rotated = rotary_dim(module.config)
    decay = xpos_decay(rotated, away, scale_base=base)
    if _interleaved(sys.modules[type(module).__module__].apply_rotary_pos_emb, rotated):
        scales = decay.repeat_interleave(2, -1)
    else:
        scales = torch.cat([decay, decay], -1)
    return torch.cat([scales, scales.new_ones(len(away), head_dim - rotated)], -1)


@functools.cache
def _interleaved(apply: Callable[..., tuple[Tensor, Tensor]], rotated: int) -> bool:
    """Whether a model's rotation pairs neighbours (0, 1), rather than the halves (0, d/2)."""
    first = torch.zeros(1, 1, 1, rotated)
    first[..., 0] = 1
    turned = apply(first, first, torch.zeros(1, 1, rotated), torch.ones(1, 1, rotated))[0]
    return int(turned.flatten().abs().argmax()) != rotated // 2


ROPE_INIT_FUNCTIONS[ROPE_TYPE] = frequencies
# What transformers calls for every config of the type, before it makes a model of it.
setattr(RotaryEmbeddingConfigMixin, f"_validate_{ROPE_TYPE}_rope_parameters", _validate)
AttentionInterface.register(XPOS, xpos_attend)
AttentionMaskInterface.register(XPOS, xpos_mask)
register_module_module_registration_hook(_attach)
