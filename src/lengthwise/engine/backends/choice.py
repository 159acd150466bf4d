"""Which backend writes the tokens of a run, and why."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import torch

from lengthwise.config.groups.model import BackendName
from lengthwise.engine.backends.vllm_engine import import_vllm
from lengthwise.engine.rotary_switch import switch_of
from lengthwise.errors import MissingExtraError, UnsupportedModelError
from lengthwise.pretrained import OWN_ROPE_TYPE
from lengthwise.threads import SMALL, parameters_in

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes that vLLM's attention takes on a CPU (0.32)."""


@dataclass(frozen=True)
class Wanted:
    """What tokens are wanted of: a model's folder and config, on a device.

    `writes_in` names what writes into responses while they are drawn, if anything does; `endless`: the model is under
    Lambda attention.
    """

    folder: Path
    config: PretrainedConfig
    device: torch.device
    writes_in: str | None = None
    endless: bool = False


@dataclass(frozen=True)
class Choice:
    """Who writes the tokens, and why."""

    name: Literal["transformers", "vllm"]
    why: str

    @property
    def line(self) -> str:
        """It in one line."""
        return f"tokens are written by {self.name}: {self.why}"


def choose(asked: BackendName, wanted: Wanted) -> Choice:
    """Take the backend that was asked for; "auto" takes vLLM where it is installed and can serve what is wanted.

    Raises:
        UnsupportedModelError: vLLM was asked for, and cannot.
        MissingExtraError: it was asked for, and is not installed or cannot be imported.
    """
    if asked == "transformers":
        return Choice("transformers", "it was asked for")
    reason = _obstacle(wanted)
    if asked == "auto":
        reason = reason or _not_worth_it(wanted.folder)
        try:
            reason = reason or _not_served(wanted)
        except MissingExtraError as error:
            reason = str(error).partition(";")[0]
        if reason is not None:
            return Choice("transformers", reason)
        return Choice("vllm", "it is installed and serves this model")
    reason = reason or _not_served(wanted)
    if reason is not None:
        raise UnsupportedModelError(f"backend is 'vllm', but {reason}; give --backend transformers")
    return Choice("vllm", "it was asked for")


def _obstacle(wanted: Wanted) -> str | None:
    """What vLLM cannot do whatever its version."""
    if wanted.writes_in is not None:
        return f"{wanted.writes_in} into responses while they are drawn, which vLLM does not let anybody do"
    if wanted.endless:
        return "the model is read under Lambda attention, which vLLM does not have"
    if wanted.device.type not in ("cpu", "cuda") or (wanted.device.index or 0) > 0:
        return f"vLLM writes on a CPU or the first GPU, and the device is {str(wanted.device)!r}"
    switch = switch_of(wanted.config)
    if switch is not None:
        return f"the rotary factors ({switch.kind}) switch with a text's length, and vLLM takes one set for all"
    ropes = getattr(wanted.config, "rope_parameters", None) or {}
    if ropes.get("rope_type") == OWN_ROPE_TYPE:
        return f"the positions are of {OWN_ROPE_TYPE}, which vLLM does not know"
    return None


def _not_worth_it(folder: Path) -> str | None:
    """Why vLLM is not looked for by itself."""
    count = parameters_in(folder)
    if count is not None and count < SMALL:
        return f"the model has {count:,} parameters, below {SMALL:,} it is as fast by itself"
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:  # a folder of that name is no package
        return "vLLM is not installed"
    return None


class _Registry(Protocol):
    def get_supported_archs(self) -> Sequence[str]: ...


class _WithRegistry(Protocol):
    ModelRegistry: _Registry


def _not_served(wanted: Wanted) -> str | None:
    """What the installed vLLM does not serve."""
    module = cast(_WithRegistry, import_vllm())
    known, own = set(module.ModelRegistry.get_supported_archs()), list(wanted.config.architectures or [])
    if not known & set(own):
        return f"the model is a {' or '.join(own) or 'model of no named kind'}, which the installed vLLM does not serve"
    text = wanted.config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if wanted.device.type == "cpu" and size not in CPU_HEADS:
        return f"the model's heads have {size} dimensions, and vLLM on a CPU takes {', '.join(map(str, CPU_HEADS))}"
    return None
