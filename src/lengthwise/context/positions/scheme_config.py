"""What a scheme writes into a model's config, and how a loaded model takes another one without touching weights."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

from lengthwise.config.commands import ExtendSettings
from lengthwise.context.positions.registered_schemes import OPTIONS, XPOS, check_parameters, rotary_dim
from lengthwise.context.positions.schemes import XPOS_SCALE_BASE, number
from lengthwise.errors import ConfigError, UnsupportedModelError
from lengthwise.pretrained import OWN_ROPE_TYPE as ROPE_TYPE

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

NOTE: Final = "lengthwise_context"
"""Config key that remembers the scheme, the trained context and base, and the factor of training."""
SHIPPED: dict[str, dict[str, object]] = {
    "linear": {},
    "ntk": {},
    "dynamic": {},
    "yarn": dict.fromkeys(("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")),
    "longrope": {"short_factor": None, "long_factor": None, "attention_factor": None},
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}  # fmt: skip
"""Schemes that load in any program of transformers' RoPE types, with their options; None: left out if not given."""
OWN: dict[str, dict[str, object]] = {
    "power": {"power": 0.5},
    "truncated": {"truncate_length": None},
    "xpos": {"xpos_scale_base": XPOS_SCALE_BASE},
    "randomised": {"randomised": True},
}
"""Schemes of `ROPE_TYPE`, with what each sets; all options of the type may be combined. None: the trained context."""
SCHEMES = (*SHIPPED, *OWN)
KEEPS_LENGTH = ("linear", "dynamic")
"""Types whose config keeps the trained context; programs multiply it by the factor themselves."""
NAMES_LENGTH = ("yarn", "longrope", "llama3")
"""Types that name the trained context in ``rope_parameters``."""


class Note(TypedDict):
    """What a config remembers of its scheme."""

    scheme: str
    factor: float
    trained_context: int
    trained_base: float
    trained_factor: float | None


class ConfigChanges(TypedDict):
    """The keys of a config that a scheme sets."""

    rope_parameters: dict[str, object]
    max_position_embeddings: int
    original_max_position_embeddings: NotRequired[int]
    lengthwise_context: NotRequired[Note]


@dataclass(frozen=True)
class Scheme:
    """A position scheme by name: ``factor`` S >= 1 times the trained context, and `options` of its type.

    For ``power``, ``truncated``, ``xpos`` and ``randomised`` the factor is a linear one composed before them.

    Raises:
        ConfigError: an unknown scheme or option, a value out of range.
    """

    name: str
    factor: float = 1.0
    options: tuple[tuple[str, object], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in SCHEMES:
            raise ConfigError(f"scheme is {self.name!r}; choose one of {', '.join(SCHEMES)}")
        number("factor", self.factor, 1)
        known = SHIPPED.get(self.name, OPTIONS)
        for name, _ in self.options:
            if name not in known or name == "factor":
                listed = ", ".join(known) or "none"
                raise ConfigError(f"option {name!r} is not one of scheme {self.name!r}; it knows {listed}")
        for name, value in self.options if self.name in SHIPPED else ():
            _check_option(name, value)
        if self.name in OWN:
            check_parameters({**OWN[self.name], **dict(self.options), "truncate_length": self._length(1)})

    def _length(self, trained: int) -> object:
        given = dict(self.options).get("truncate_length")
        return trained if given is None else given

    def parameters(self, config: PreTrainedConfig) -> dict[str, object]:
        """``rope_parameters`` [..] of this scheme for a config, from its trained context L0 and base.

        ntk: base S^(d/(d-2)), a plain type. longrope without tables: 1 up to L0 and S beyond.
        """
        trained, base = trained_context(config), trained_base(config)
        found: dict[str, object] = {"rope_type": self.name, "rope_theta": base}
        partial = config.rope_parameters.get("partial_rotary_factor")
        if partial is not None:
            found["partial_rotary_factor"] = partial
        dim, given = rotary_dim(config), dict(self.options)
        if self.name in ("ntk", "dynamic") and dim < 4:
            raise ConfigError(f"scheme {self.name!r} needs at least 4 rotary dimensions; the model has {dim}")
        if self.name == "ntk":
            return {**found, "rope_type": "default", "rope_theta": base * self.factor ** (dim / (dim - 2))}
        found["factor"] = float(self.factor)
        if self.name in OWN:
            found |= {"rope_type": ROPE_TYPE, **OWN[self.name], **given}
            if "truncate_length" in found:
                found["truncate_length"] = self._length(trained)
            return found
        if self.name in NAMES_LENGTH:
            found["original_max_position_embeddings"] = trained
        if self.name == "longrope":
            found |= {"short_factor": [1.0] * (dim // 2), "long_factor": [float(self.factor)] * (dim // 2)}
        found |= {k: v for k, v in SHIPPED[self.name].items() if v is not None} | given
        for name in ("short_factor", "long_factor"):
            table = found.get(name)
            if isinstance(table, Sized) and len(table) != dim // 2:
                raise ConfigError(f"option {name} has {len(table)} numbers, but the model has {dim // 2} pairs")
        if self.name == "llama3" and number("low_freq_factor", found["low_freq_factor"], 0) >= number(
            "high_freq_factor", found["high_freq_factor"], 0
        ):
            raise ConfigError(
                f"low_freq_factor is {found['low_freq_factor']} and high_freq_factor {found['high_freq_factor']}; the "
                "second has to be larger"
            )
        return found

    def changes(self, config: PreTrainedConfig) -> ConfigChanges:
        """Every key of the config that the scheme sets, with its value."""
        check_config(config)
        trained = trained_context(config)
        length = trained if self.name in KEEPS_LENGTH else math.floor(trained * self.factor)
        trained_factor = (getattr(config, NOTE, None) or {}).get("trained_factor")
        note: Note = {
            "scheme": self.name, "factor": float(self.factor), "trained_context": trained,
            "trained_base": trained_base(config), "trained_factor": trained_factor,
        }  # fmt: skip
        found: ConfigChanges = {"rope_parameters": self.parameters(config), "max_position_embeddings": length}
        if self.name in NAMES_LENGTH and hasattr(config, "original_max_position_embeddings"):
            found["original_max_position_embeddings"] = trained
        found[NOTE] = note
        return found


def asked_scheme(settings: ExtendSettings) -> Scheme:
    """The scheme that settings name, with the factor of training.

    Raises:
        ConfigError: what `Scheme` raises, an option that is given twice or is no NAME=JSON.
    """
    asked = settings.position
    named = {name: getattr(asked, name) for name in ("power", "truncate_length", "xpos_scale_base")}
    options = {name: value for name, value in named.items() if value is not None} | _options(settings.option)
    return Scheme(asked.scheme, 1.0 if asked.factor is None else asked.factor, tuple(options.items()))


def _options(given: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name in found:
            raise ConfigError(f"option names {name} twice; give it once")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"option is {text!r}; write NAME=JSON, for example beta_fast=64") from error
        if not equals:
            raise ConfigError(f"option is {text!r}; write NAME=JSON, for example beta_fast=64")
    return found


def _check_option(name: str, value: object) -> None:
    """Refuse an option of another type than transformers takes, or with a value that it would divide by zero for."""
    if name == "truncate":
        if not isinstance(value, bool):
            raise ConfigError(f"option truncate is {value!r}; give true or false")
        return
    if name not in ("short_factor", "long_factor"):
        number(f"option {name}", value, 0, above=name in ("low_freq_factor", "high_freq_factor"))
        return
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"option {name} is {value!r}; give a list, one number for every pair of dimensions")
    for one in value:
        number(f"an entry of {name}", one, 0, above=True)


def check_reach(scheme: Scheme) -> None:
    """Refuse a scheme that would leave the model as it is.

    Raises:
        ConfigError: a factor of 1 for a scheme that does nothing else.
    """
    given = dict(scheme.options)
    nothing = (scheme.name in SHIPPED and not scheme.options) or (scheme.name == "power" and given.get("power") == 0)
    if nothing and scheme.factor == 1:
        raise ConfigError(f"scheme {scheme.name!r} with factor 1 changes nothing; give a factor above 1, as in 4")


def check_config(config: PreTrainedConfig) -> None:
    """Refuse a model whose rotation is not one vector of frequencies for all layers.

    Raises:
        UnsupportedModelError: no rotation, rotation per layer type, latent attention.
        ConfigError: a model that carries a scheme of unknown origin.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    rope = getattr(config, "rope_parameters", None)
    if not rope or not hasattr(config, "max_position_embeddings"):
        raise UnsupportedModelError(
            f"model_type {kind!r} cannot be extended: it has no rotary positions; take a model that has them"
        )
    if any(isinstance(value, dict) for value in rope.values()):
        raise UnsupportedModelError(
            f"model_type {kind!r} cannot be extended: it rotates differently in different kinds of layers"
        )
    if getattr(config, "qk_rope_head_dim", None):
        raise UnsupportedModelError(f"model_type {kind!r} cannot be extended: it rotates a part of each head (latent)")
    known = ("default", ROPE_TYPE, *SHIPPED)
    if rope["rope_type"] not in known:
        raise ConfigError(f"rope_type is {rope['rope_type']!r}; only models with {', '.join(known)} can be extended")


def trained_context(config: PreTrainedConfig) -> int:
    """The context L0 that a model was trained to before any scheme, tokens."""
    note = getattr(config, NOTE, None)
    if note:
        return int(note["trained_context"])
    named = config.rope_parameters.get("original_max_position_embeddings")
    return int(named or config.max_position_embeddings)


def trained_base(config: PreTrainedConfig) -> float:
    """The base of the frequencies before any scheme."""
    note = getattr(config, NOTE, None)
    return float(note["trained_base"] if note else config.rope_parameters["rope_theta"])


def extend(model: PreTrainedModel, scheme: str, *, factor: float = 1.0, **options: object) -> PreTrainedModel:
    """Give a loaded model another position scheme; weights are not touched. Returns the model.

    ``scheme``: linear, power, truncated, xpos, randomised, or as transformers knows them ntk, dynamic, yarn, longrope,
    llama3; ``factor`` and `options` see `Scheme`. Scheme and factor may be changed as often as wanted; frequencies
    always start from the trained base. It is saved and loaded with the config.

    "Giraffe: Adventures in Expanding Context Lengths in LLMs", arXiv 2308.10882.

    Raises:
        ConfigError: an unknown scheme or option, a value out of range.
        UnsupportedModelError: a model without one rotary module; it is as it was.
    """
    changes = Scheme(scheme, factor, tuple(options.items())).changes(model.config)
    owner, rotary = the_rotary(model)
    before = {name: copy.deepcopy(getattr(model.config, name, None)) for name in changes}
    attention = model.config._attn_implementation
    try:
        set_config(model.config, changes)
        made = type(rotary)(config=model.config).to(next(model.parameters()).device)
        made.train(rotary.training)
        if attention == XPOS and "xpos_scale_base" not in changes["rope_parameters"]:
            model.set_attn_implementation("sdpa")
        owner.rotary_emb = made
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        set_config(model.config, before)
        model.config._attn_implementation = attention
        if isinstance(error, ConfigError):
            raise
        raise UnsupportedModelError(f"model_type {model.config.model_type!r} cannot be extended: {error}") from error
    return model


def set_config(config: PreTrainedConfig, changes: Mapping[str, object]) -> None:
    """Set every key of `Scheme.changes` on a config."""
    for name, value in changes.items():
        setattr(config, name, value)


def the_rotary(model: PreTrainedModel) -> tuple[PreTrainedModel, nn.Module]:
    """The one module named ``rotary_emb``, after the module that owns it.

    Raises:
        UnsupportedModelError: none, or several.
    """
    found = [
        (owner, child) for owner in model.modules() for name, child in owner.named_children() if name == "rotary_emb"
    ]
    if len(found) != 1:
        raise UnsupportedModelError(
            f"model_type {model.config.model_type!r} cannot be extended: it has {len(found)} modules named rotary_emb, "
            "one is needed"
        )
    return found[0]
