"""Scores of the tasks exactly as their pages define them, and perplexity from losses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from torch import Tensor

from lengthwise.context.lambda_shaped_attention.window_rules import whole
from lengthwise.context.tasks.rows import TaskRow
from lengthwise.errors import InputError

_DIGITS = re.compile(r"[0-9]+")


def first_number(text: str) -> int | None:
    """The first run of digits as an integer; None without one. "1,7" is 1, "17th" is 17."""
    found = _DIGITS.search(text)
    # Python refuses to read more than 4300 digits; so long a run is no number that a task asks for.
    return None if found is None or len(found[0]) > 4000 else int(found[0])


def number_is_right(text: str, answer: str) -> bool:
    """Lines and passkey: the first run of digits equals the answer, as integers. No digits: wrong.

    Raises:
        InputError: an answer that is no number.
    """
    if not _DIGITS.fullmatch(answer.strip()):
        raise InputError(f"answer is {answer!r}; lines and passkey ask for a plain number")
    return first_number(text) == int(answer)


def presence_is_right(text: str, answer: str) -> bool:
    """Both QA tasks: the stripped reference is a part of the text, case and all. "9" is in "1990".

    Raises:
        InputError: a blank reference, which would be in every text.
    """
    if not answer.strip():
        raise InputError(f"answer is {answer!r}; a blank reference would be found in every text. Remove the row")
    return answer.strip() in text


SCORERS = {
    "lines": number_is_right,
    "passkey": number_is_right,
    "freeform-qa": presence_is_right,
    "altered-qa": presence_is_right,
}


def score_rows(rows: Sequence[TaskRow], texts: Sequence[str]) -> list[bool]:
    """Whether each row's answer is right, by its task's rule; accuracy is the mean.

    Raises:
        InputError: no rows, or another number of texts.
    """
    if not rows:
        raise InputError("rows is empty; there is nothing to score")
    if len(rows) != len(texts):
        raise InputError(f"texts has {len(texts)} entries for {len(rows)} rows; give one answer per row")
    return [SCORERS[row.task](text, row.answer) for row, text in zip(rows, texts, strict=True)]


def perplexity(losses: Sequence[Tensor]) -> float:
    """exp(sum of NLL / predicted tokens), pooled over documents; ``losses`` float [n-1] per document of n tokens.

    A document of one token has none and contributes nothing.

    Raises:
        InputError: no predicted token at all.
    """
    tokens = sum(len(one) for one in losses)
    if not tokens:
        raise InputError("losses holds no predicted token; give documents of at least 2 tokens")
    mean = math.fsum(float(one.double().sum()) for one in losses) / tokens
    return math.exp(mean) if mean < 700 else math.inf


def loss_by_position(losses: Sequence[Tensor], *, bucket: int) -> list[tuple[int, float, int]]:
    """Mean NLL of the predicted tokens 1 .. bucket, bucket+1 .. 2 bucket, ..: (last position, mean, tokens).

    Raises:
        ConfigError: a bucket below 1.
        InputError: no predicted token at all.
    """
    whole("bucket", bucket, 1)
    longest = max((len(one) for one in losses), default=0)
    if not longest:
        raise InputError("losses holds no predicted token; give documents of at least 2 tokens")
    found = []
    for first in range(0, longest, bucket):
        parts = [one[first : first + bucket].double() for one in losses if len(one) > first]
        tokens = sum(len(part) for part in parts)
        found.append((first + bucket, math.fsum(float(part.sum()) for part in parts) / tokens, tokens))
    return found
