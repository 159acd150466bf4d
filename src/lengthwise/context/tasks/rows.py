"""One question about a long text: what every generator makes and every scorer reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lengthwise.context.lambda_shaped_attention.window_rules import whole
from lengthwise.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

Template = Callable[[str], str]
"""Wraps the text of a prompt, as a chat template does; `plain` leaves it as it is."""
NEW_TOKENS = {"lines": (5, 35), "freeform-qa": (1, 50), "altered-qa": (1, 50), "passkey": (1, 7)}
"""Least and most new tokens of an answer, greedy."""
LEAST_FILLED = 0.9
"""A row has at least this share of the wanted tokens, unless the text does not suffice."""


@dataclass(frozen=True)
class TaskRow:
    """A prompt with its answer.

    ``tokens`` of the whole prompt, template included; ``length``: the tokens that were asked for (None: a released
    row). ``place`` in [0, 1]: how much of the text comes before the evidence; None where it is not known. ``labels``:
    the row's conditions. ``short``: there was too little text for the length.
    """

    task: str
    prompt: str
    answer: str
    tokens: int
    length: int | None = None
    seed: int | None = None
    place: float | None = None
    labels: Mapping[str, object] = field(default_factory=dict)
    short: bool = False


def plain(text: str) -> str:
    """The template of models that are not asked in a conversation."""
    return text


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool = False) -> list[int]:
    """Tokens of each text, with `special` ones for a whole prompt; a fast tokenizer counts all at once."""
    if not texts:
        return []
    if not getattr(tokenizer, "is_fast", False):
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    # The same ids without their places in the text, which cost as much as the ids.
    return [len(found) for found in backend.encode_batch_fast(list(texts), add_special_tokens=special)]


def dice(*what: object) -> random.Random:
    """A generator of its own for what it decides: the same words give the same numbers everywhere."""
    return random.Random("/".join(map(str, what)))


def check_request(length: int, rows: int, seed: int) -> None:
    """Refuse lengths and numbers of rows below 1 and negative seeds.

    Raises:
        ConfigError: naming the argument.
    """
    whole("length", length, 1)
    whole("rows", rows, 1)
    whole("seed", seed, 0)


def too_short(length: int, least: int, task: str) -> InputError:
    """The error for a length in which not even the question fits."""
    return InputError(
        f"length is {length}; a {task} prompt needs at least {least} tokens with this tokenizer and template"
    )
