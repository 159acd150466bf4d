"""How far a config says that its model reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lengthwise.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

STRETCHED = ("linear", "dynamic", "yarn")
"""RoPE types that reach S L0 whether the config's length is L0 or S L0; all others reach the length as it is."""


def reach(config: PreTrainedConfig) -> int | None:
    """Tokens, prompt and response together, that a model may be given; None where its config names no bound.

    max_position_embeddings N. Where the rotation stretches a trained context L0 by a factor S (linear, dynamic, yarn)
    and the config keeps L0 as its length: floor(S L0). L0 is ``original_max_position_embeddings``, else N. A config of
    transformers 4 (``rope_scaling``) reads the same as one of 5 (``rope_parameters``). Where layers rotate in different
    ways (Gemma 3) and for longrope, llama3 and the schemes of `lengthwise.context`, N holds the whole reach already.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    length = getattr(text, "max_position_embeddings", None)
    if length is None:
        return None
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if kind not in STRETCHED or not factor:
        return int(length)
    if not isinstance(factor, (int, float)) or not math.isfinite(factor):
        raise InputError(f"the model's config says {kind} positions with factor {factor!r}; give a number there")
    named = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
    stretched = float(factor) * int(named or length)
    return max(int(length), math.floor(stretched))
