"""Read a prompt in chunks, then write token after token, in memory that does not grow with either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.errors import InputError

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer

CONTEXT, MOST_PENDING = 4, 16


@torch.no_grad()
def read(
    model: PreTrainedModel, ids: Sequence[int], *, cache: Cache, chunk: int = 2048, on_read: Callable[[int], None]
) -> Tensor:
    """Feed tokens to the cache, `chunk` at a time; returns the logits [V] after the last one.

    `on_read` hears after each chunk how many tokens it had.

    Raises:
        InputError: no token.
    """
    if not len(ids):
        raise InputError("the prompt has no tokens; give some text to go on from")
    logits: Tensor | None = None
    for first in range(0, len(ids), chunk):
        part = torch.tensor([list(ids[first : first + chunk])], device=model.device)
        logits = model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        on_read(part.shape[1])
    assert logits is not None
    return logits


@torch.no_grad()
def write(
    model: PreTrainedModel,
    logits: Tensor,
    *,
    cache: Cache,
    eos_ids: Sequence[int],
    generator: torch.Generator,
    max_tokens: int = 0,
    temperature: float = 0.0,
    top_p: float = 1.0,
    prompt: Sequence[int] = (),
    anew: int | None = None,
) -> Iterator[int]:
    """Yield tokens one by one, until one of `eos_ids` (which is yielded too) or `max_tokens`; 0: no bound.

    `logits` [V] are those of `read`. Temperature 0 takes the likeliest token. Where rotary factors switch beyond `anew`
    tokens, the whole text, which begins with `prompt`, is read again there: what the cache holds (one that makes its
    layers as it is filled) was rotated by others.

    Raises:
        InputError: logits that are NaN: the model's weights are broken.
    """
    text = list(prompt)
    for written in count(1):
        token = _draw(logits, generator, temperature, top_p)
        yield token
        if token in eos_ids or written == max_tokens:
            return
        if anew is not None:
            text.append(token)
            if len(text) == anew + 1:
                cache.layers.clear()
                logits = read(model, text, cache=cache, chunk=len(text), on_read=lambda _: None)
                continue
        out = model(input_ids=torch.tensor([[token]], device=model.device), past_key_values=cache, use_cache=True)
        logits = out.logits[0, -1]


def _draw(logits: Tensor, generator: torch.Generator, temperature: float, top_p: float) -> int:
    from transformers.generation import TopPLogitsWarper

    logits = logits.float()
    if bool(logits.isnan().any()):
        raise InputError("the model's logits are NaN; its weights are broken, or too large for this dtype")
    if temperature == 0:
        return int(logits.argmax())
    scores = logits[None] / temperature
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    return int(torch.multinomial(torch.softmax(scores[0], -1), 1, generator=generator))


class TextStream:
    """Turns tokens into text as they come; characters that need several tokens come whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = ""

    def _text(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def push(self, token: int) -> str:
        """The text that this token adds; empty while a character is unfinished."""
        self._ids.append(token)
        text = self._text()
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._ids) < MOST_PENDING:
            return ""
        added = text[len(self._shown) :]
        # A few tokens are kept as context: what a token adds (a space, say) can depend on those before it.
        self._ids = self._ids[-CONTEXT:]
        self._shown = self._text()
        return added

    def finish(self) -> str:
        """What is still unshown."""
        return self._text()[len(self._shown) :]
