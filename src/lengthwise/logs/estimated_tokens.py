"""Pieces of text in place of tokens, for logs without token counts while no tokenizer is given."""

from __future__ import annotations

import functools
from itertools import islice

from lengthwise.logs.readers import Log, LogRow
from lengthwise.logs.token_breakdown import Words

NAME = "estimated from the text"
PIECE = r"\p{L}+|\p{N}{1,3}|[^\s\p{L}\p{N}]"
"""A word, up to three digits, or a mark: what tokenizers split text into before they make tokens of it."""
PATTERN = r"[^\W\d_]+|\d{1,3}|[^\s\w]|_"
"""The same for `re`."""
FIRST = 64
"""Responses by which a log tells whether it has counts."""


def has_counts(log: Log) -> bool:
    """Whether one of the first responses of a log has a token count."""
    return any(isinstance(row, LogRow) and row.num_tokens is not None for _, row in islice(log.rows(), FIRST))


@functools.cache
def pieces() -> Words:
    """A tokenizer whose tokens are such pieces."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel({"piece": 0}, unk_token="piece"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "removed", invert=True)
    return Words(NAME, core.to_str(), frozenset(), PATTERN)
