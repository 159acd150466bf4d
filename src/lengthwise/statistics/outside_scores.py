"""Scores that outside benchmarks print: OptimalThinkingBench's area and F1, OckScore, the first-right ratio.

Where a paper and its code disagree, docs/papers-vs-code.md says which is here. Shapes as in `metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise.errors import InputError, ShapeError
from lengthwise.statistics.json_form import Result
from lengthwise.statistics.metrics import Samples, check_flags, check_same_samples, check_token_counts

OCK_SCALE = 10_000


@dataclass(frozen=True)
class FirstRight(Result):
    """How much of the thinking came before the right answer was first there; see `first_right_ratio`.

    ``left_out``: responses without thinking, whose ratio is undefined. All None where nothing is left.
    """

    mean: float | None
    pooled: float | None
    found_only: float | None
    left_out: int


def area_as_code(correct: Samples, thinking_tokens: Samples, *, t_max: int) -> float:
    """OptimalThinkingBench's area as its code has it: a product of means per question, not a mean of products.

    ``mean_q max(0, t_max - mean_j k) / t_max * mean_j c``. Equal to `metrics.overthinking_area` with one response a
    question. Range [0, 1].

    Raises:
        InputError: ``t_max`` below 1.
    """
    right, tokens = check_flags(correct, "correct"), check_token_counts(thinking_tokens, "thinking_tokens")
    check_same_samples(right, "correct", tokens, "thinking_tokens")
    check_t_max(t_max)
    parts = [max(0.0, t_max - k.mean()) / t_max * c.mean() for c, k in zip(right, tokens, strict=True)]
    return float(sum(parts) / len(parts))


def check_t_max(t_max: int) -> None:
    """Raise unless the limit of an area is at least 1 token."""
    if t_max < 1:
        raise InputError(f"t_max is {t_max}; give the largest budget of the area, at least 1 token")


def overthinking_f1(simple_area: float | None, hard_accuracy: float | None) -> float | None:
    """OptimalThinkingBench's F1, ``2 a u / (a + u)``, of the area on simple and the accuracy on hard questions.

    None where one half is missing, 0 where both are 0. Range [0, 1].

    Raises:
        InputError: a half outside of [0, 1].
    """
    if simple_area is None or hard_accuracy is None:
        return None
    for name, value in (("simple_area", simple_area), ("hard_accuracy", hard_accuracy)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}; give a share from 0 to 1")
    total = simple_area + hard_accuracy
    return 2 * simple_area * hard_accuracy / total if total else 0.0


def ock_score(accuracy: float, mean_tokens: float) -> float:
    """OckScore, ``100 accuracy - 10 ln(tokens / 10000 + 1)``: accuracy in percent less a price of tokens.

    ``accuracy``: a share from 0 to 1, never percent. ``mean_tokens``: total tokens a problem, prompt included, in their
    tables; of response tokens it is a little higher.

    Raises:
        InputError: an accuracy outside of [0, 1], or tokens that are negative or not finite.
    """
    if not 0 <= accuracy <= 1:
        raise InputError(f"accuracy is {accuracy}; give a share from 0 to 1 (60 % is 0.6)")
    if not math.isfinite(mean_tokens) or mean_tokens < 0:
        raise InputError(f"mean_tokens is {mean_tokens}; give a finite number >= 0")
    return 100 * accuracy - 10 * math.log(mean_tokens / OCK_SCALE + 1)


def first_right_ratio(useful: Sequence[int | None], thinking_tokens: Sequence[int]) -> FirstRight:
    """Mean over responses of ``useful / thinking``: tokens before the first right answer, of those of the thinking.

    ``useful`` None: the right answer is never there; its ratio is 0. A response without thinking is left out and
    counted. ``pooled``: sums over sums; ``found_only``: where the right answer is there.

    Raises:
        ShapeError: unlike lengths.
        InputError: a negative count, or more useful tokens than thinking ones.
    """
    if len(useful) != len(thinking_tokens):
        raise ShapeError(f"useful has {len(useful)} values and thinking_tokens {len(thinking_tokens)}; give as many")
    for before, total in zip(useful, thinking_tokens, strict=True):
        if total < 0 or (before is not None and not 0 <= before <= total):
            raise InputError(f"useful is {before} of {total} thinking tokens; give 0 <= useful <= thinking")
    known = [(before, total) for before, total in zip(useful, thinking_tokens, strict=True) if total]
    left_out = len(useful) - len(known)
    if not known:
        return FirstRight(None, None, None, left_out)
    ratios = [(before or 0) / total for before, total in known]
    found = [ratio for ratio, (before, _) in zip(ratios, known, strict=True) if before is not None]
    return FirstRight(
        mean=sum(ratios) / len(ratios),
        pooled=sum(before or 0 for before, _ in known) / sum(total for _, total in known),
        found_only=sum(found) / len(found) if found else None,
        left_out=left_out,
    )
