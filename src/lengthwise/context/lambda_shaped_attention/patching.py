"""`lambda_attention`: any rotary model of transformers reads and writes without end, in constant memory."""

from __future__ import annotations

import copy
import inspect
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, TypeGuard
from weakref import WeakSet

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.masking_utils import AttentionMaskInterface

from lengthwise.context.lambda_shaped_attention.attention_function import STATE, lambda_attend
from lengthwise.context.lambda_shaped_attention.evicting_cache import LambdaCache
from lengthwise.context.lambda_shaped_attention.forward_state import CACHE_NAMES, lambda_mask
from lengthwise.context.lambda_shaped_attention.frozen_rotary import Angles, Rotation
from lengthwise.context.lambda_shaped_attention.self_check import (
    plain_logits,
    proof_tokens,
    prove,
    quiet,
    refuse_config,
)
from lengthwise.context.lambda_shaped_attention.visible_keys import State
from lengthwise.context.lambda_shaped_attention.window_rules import Rule, TopK
from lengthwise.errors import ConfigError, InputError, LengthwiseWarning, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedConfig, PreTrainedModel

NAME = "lengthwise_lambda"
DEFAULT_GLOBAL = {"lambda": 10, "streaming": 4}
MOST_WINDOW, MOST_INSERT = 4096, 2048

AttentionInterface.register(NAME, lambda_attend)
AttentionMaskInterface.register(NAME, lambda_mask)


def lambda_attention(
    model: PreTrainedModel,
    *,
    n_global: int | None = None,
    window: int | None = None,
    ceiling: int | None = None,
    rule: str = "lambda",
    top_k: TopK | None = None,
) -> LambdaAttention:
    """A context in which `model` sees `n_global` start tokens and the last `window` tokens, for any length of text.

    Inside, `generate` and plain forwards use an evicting cache of their own: memory and time per token are constant.
    `rule` "lambda" is LM-Infinite, whose start tokens stand at distance `ceiling` (default: the window) once they left
    the window; "streaming" is StreamingLLM, whose start tokens stand directly before it. Defaults: 10 start tokens
    (4 for "streaming"), window = the trained context, at most 4096. `top_k` brings forgotten tokens back and keeps
    every key. Greedy search, sampling and beam search work; left padding, packed rows, cropping (assisted decoding)
    and models that cannot be served exactly are refused, see `Rule` and `self_check`. Weights are never
    touched, and leaving undoes everything.

    "LM-Infinite: Zero-Shot Extreme Length Generalization for Large Language Models", arXiv 2308.16137.
    Differs from the authors' code: their head revision keeps every key, this one evicts and keeps its distances; no
    model source is edited.

    Raises:
        ConfigError: a number out of range, an unknown rule, a ceiling with "streaming".
        UnsupportedModelError: on entering, when the model fails a check.
    """
    trained = getattr(model.config, "max_position_embeddings", None)
    wanted = rule_of(trained, n_global=n_global, window=window, ceiling=ceiling, rule=rule)
    if trained is not None and wanted.window > trained:
        warnings.warn(
            f"window is {window}, but the model was trained to {trained} tokens; distances beyond that are new to it",
            LengthwiseWarning,
            stacklevel=2,
        )
    return LambdaAttention(model, wanted, top_k)


def rule_of(
    trained: int | None,
    *,
    n_global: int | None = None,
    window: int | None = None,
    ceiling: int | None = None,
    rule: str = "lambda",
) -> Rule:
    """The rule that `lambda_attention` takes for a model that was trained to so many tokens (None: not known).

    Raises:
        ConfigError: as there.
    """
    if rule not in DEFAULT_GLOBAL:
        raise ConfigError(f"rule is {rule!r}; choose one of {', '.join(DEFAULT_GLOBAL)}")
    if rule == "streaming" and ceiling is not None:
        raise ConfigError(f"ceiling is {ceiling}; StreamingLLM has none, its start tokens stand before the window")
    if window is None:
        window = min(trained or MOST_WINDOW, MOST_WINDOW)
    if n_global is None:
        n_global = DEFAULT_GLOBAL[rule]
    return Rule(n_global, window, None if rule == "streaming" else window if ceiling is None else ceiling)


class LambdaAttention:
    """One model under one rule: a context manager, or `enable` and `disable`."""

    def __init__(self, model: PreTrainedModel, rule: Rule, top_k: TopK | None = None) -> None:
        if top_k is not None and top_k.distance is None:
            top_k = replace(top_k, distance=min(MOST_INSERT, rule.window))
        self.model, self.rule, self.top_k = model, rule, top_k
        self._undo: ExitStack | None = None
        self._plain: WeakSet[DynamicCache] = WeakSet()

    def __enter__(self) -> Self:
        self.enable()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.disable()

    @property
    def enabled(self) -> bool:
        """Whether the model is under the rule now."""
        return self._undo is not None

    def new_cache(self) -> Cache:
        """An empty cache for this model and rule: an evicting one, or with `top_k` one that keeps every key."""
        if self.top_k is not None:
            return DynamicCache()
        layers = self.model.config.num_hidden_layers
        return LambdaCache(layers, n_global=self.rule.n_global, window=self.rule.window)

    def enable(self) -> None:
        """Switch the method on and prove it on the loaded model.

        Raises:
            ConfigError: it is on already, for this model.
            UnsupportedModelError: a check failed; the model is as it was.
        """
        if any(STATE in vars(module) for module in self.model.modules()):
            raise ConfigError("model is under lambda_attention already; leave that context first")
        refuse_config(self.model.config, self.rule)
        decoder, rotary = _rotary(self.model)
        attention = _attention_modules(decoder)
        state = State(self.rule, Rotation(rotary, _apply_of(attention)), self.top_k)
        with ExitStack() as undo, quiet(self.model):
            ids = proof_tokens(self.model)[:, : self.rule.window]
            before = plain_logits(self.model, ids)
            _own_configs(self.model, undo)
            self.model.set_attn_implementation(NAME)
            for module in attention:
                _set(undo, module, STATE, state)
            _set(undo, rotary, "forward", partial(_identity, state.rotation))
            hook = decoder.register_forward_pre_hook(partial(self._before, state), with_kwargs=True)
            undo.callback(hook.remove)
            if hasattr(self.model, "generate"):
                _set(undo, self.model, "generate", partial(self._generate, self.model.generate))
            prove(self.model, state, before, ids)
            self._undo = undo.pop_all()

    def disable(self) -> None:
        """Undo everything; where nothing is switched on, nothing happens."""
        if self._undo is not None:
            self._undo.close()
            self._undo = None
            for cache in self._plain:
                vars(cache)["update"] = _refuse_outside

    def _generate(self, generate: Callable[..., object], *args: object, **kwargs: object) -> object:
        """The model's own `generate`, with a cache of this rule where the caller gives none."""
        sources = (kwargs.get("generation_config"), self.model.generation_config)
        wanted = [kwargs.get("use_cache"), *(getattr(source, "use_cache", None) for source in sources)]
        none = all(kwargs.get(name) is None for name in CACHE_NAMES)
        if none and next((x for x in wanted if x is not None), True):
            kwargs["past_key_values"] = self.new_cache()
        return generate(*args, **kwargs)

    def _before(
        self, state: State, decoder: PreTrainedModel, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]] | None:
        """Check the cache of a forward, or give it one, before the decoder makes one that keeps everything."""
        # Positional arguments beyond the token ids are rare, and binding them costs as much as a small layer.
        given = kwargs if len(args) < 2 else inspect.signature(decoder.forward).bind_partial(*args, **kwargs).arguments
        name = next((n for n in CACHE_NAMES if given.get(n) is not None), _cache_name(decoder))
        cache, use = given.get(name), given.get("use_cache")
        if cache is None:
            if use is None:
                use = getattr(decoder.config, "use_cache", True)
            return (args, {**kwargs, name: self.new_cache()}) if use else None
        if isinstance(cache, LambdaCache):
            if state.top_k is not None:
                raise ConfigError(
                    "top_k needs every key, and an evicting cache forgets; give a DynamicCache, or no top_k"
                )
            kept, rule = cache.rule, state.rule
            if (kept.n_global, kept.window) != (rule.n_global, rule.window):
                raise ConfigError(
                    f"past_key_values keeps n_global {kept.n_global} and window {kept.window}; this context has "
                    f"{rule.n_global} and {rule.window}. Take one from its new_cache()"
                )
        elif not _keeps_everything(cache):
            raise InputError(
                f"past_key_values is a {type(cache).__name__}; under lambda_attention give a LambdaCache, a plain "
                "DynamicCache, or none"
            )
        elif cache not in self._plain:
            if cache.get_seq_length():
                raise InputError(
                    "past_key_values was filled outside this context, where keys are rotated; start with an empty cache"
                )
            self._plain.add(cache)
        return None


def _cache_name(decoder: PreTrainedModel) -> str:
    """What this release's decoder calls its cache."""
    return next(
        name
        for name in reversed(CACHE_NAMES)
        if name in (*inspect.signature(decoder.forward).parameters, CACHE_NAMES[0])
    )


def _keeps_everything(cache: object) -> TypeGuard[DynamicCache]:
    """Whether a cache is a plain growing one; a cache of another kind may make its layers only when it is used."""
    layers = getattr(cache, "layers", None)
    plain = all(type(layer) is DynamicLayer for layer in layers or ())
    return plain and (bool(layers) or isinstance(cache, DynamicCache))


def _refuse_outside(*_: object, **__: object) -> NoReturn:
    raise InputError("past_key_values was filled under lambda_attention, where keys are not rotated; start a new cache")


def _rotary(model: PreTrainedModel) -> tuple[PreTrainedModel, nn.Module]:
    """The one module named rotary_emb, and the decoder that owns it."""
    found = [
        (owner, child) for owner in model.modules() for name, child in owner.named_children() if name == "rotary_emb"
    ]
    if len(found) != 1:
        kind = getattr(model.config, "model_type", type(model).__name__)
        raise UnsupportedModelError(
            f"model_type {kind!r} cannot be served: it has {len(found)} modules named rotary_emb, one is needed "
            "(models with ALiBi or learned positions have none)"
        )
    return found[0]


def _attention_modules(decoder: PreTrainedModel) -> list[nn.Module]:
    found = [m for m in decoder.modules() if hasattr(m, "layer_idx") and hasattr(_source(m), "apply_rotary_pos_emb")]
    if not found:
        raise UnsupportedModelError(
            f"{type(decoder).__name__} cannot be served: no attention module with a layer_idx beside an "
            "apply_rotary_pos_emb was found"
        )
    return found


def _source(module: nn.Module) -> ModuleType:
    return sys.modules[type(module).__module__]


def _apply_of(attention: list[nn.Module]) -> Callable[..., tuple[Tensor, Tensor]]:
    apply: Callable[..., tuple[Tensor, Tensor]] = _source(attention[0]).apply_rotary_pos_emb
    return apply


def _identity(rotation: Rotation, x: Tensor, position_ids: Tensor, *_: object, **__: object) -> Angles:
    return rotation.identity(x, position_ids)


def _set(undo: ExitStack, owner: object, name: str, value: object) -> None:
    """Set an attribute on the instance, and note how to undo it."""
    own = vars(owner)
    if name in own:
        undo.callback(own.__setitem__, name, own[name])
    else:
        undo.callback(own.__delitem__, name)
    own[name] = value


def _own_configs(model: PreTrainedModel, undo: ExitStack) -> None:
    """Give the model's modules copies of their configs: a model that shares a config object must not be switched."""
    copies: dict[int, PreTrainedConfig] = {}
    for module in model.modules():
        config = vars(module).get("config")
        if config is not None:
            _set(undo, module, "config", copies.setdefault(id(config), copy.copy(config)))
