"""When thinking has settled, for exits without training: pure functions of what the model says at its checkpoints.

Shapes: P checkpoints of one thinking (paragraph breaks), K tokens of one trial answer.
"""

from __future__ import annotations

import torch

from lengthwise.errors import InputError, ShapeError
from lengthwise.objectives import _checks as checks
from lengthwise.objectives._wide import wide


def entropy_exit(entropies: torch.Tensor, *, rate: float, warm_up: int, threshold: float) -> int | None:
    """The first paragraph at which the entropy of the next token, were thinking closed, has stopped moving (EAT).

    m_0 = x_0, v_0 = 0;  m_i = a·x_i + (1 − a)·m_{i−1},  v_i = a·(x_i − m_i)² + (1 − a)·v_{i−1};  the first
    i ≥ warm_up with v_i < threshold. The variance rises before it falls, so a warm-up is needed.

    EAT, arXiv 2509.26522 (warm-up 25 or about 4/a; 2^-10 in a notebook). Differs from the authors' code: the index is
    the paragraph's; theirs is one less, and −1 for never.

    Args:
        entropies: float [P], x, in nats, each at least 0.
        rate: a, above 0 and at most 1.
        warm_up: paragraphs before the first exit, counted from 0, at least 1.
        threshold: above 0.

    Returns:
        The paragraph, from 0, or None if there is no exit: also for a series that is shorter than the warm-up, with
        one paragraph, or empty. Constant entropy leaves at the warm-up. No verdict and no group enters, so
        all-correct, all-wrong and a group of one are nothing special.

    Raises:
        ShapeError: wrong type, rank or dtype.
        InputError: an entropy below 0 or not finite.
        ConfigError: an option out of range.
    """
    _check_series("entropies", entropies, high=None)
    checks.number("rate", rate, above=0.0, low=0.0, high=1.0)
    checks.whole("warm_up", warm_up, low=1)
    checks.number("threshold", threshold, above=0.0)

    mean, variance = 0.0, 0.0
    for place, entropy in enumerate(wide(entropies).tolist()):
        mean = entropy if place == 0 else rate * entropy + (1 - rate) * mean
        variance = rate * (entropy - mean) ** 2 + (1 - rate) * variance
        if place >= warm_up and variance < threshold:
            return place
    return None


def trial_confidence(probabilities: torch.Tensor, *, mean: str = "geometric") -> float:
    """How sure the model is of a trial answer: the mean probability of its tokens from the second on (DEER).

    ``geometric``: exp of the mean logarithm;  ``arithmetic``: the mean. Thinking stops above a threshold (.95 there).

    DEER, arXiv 2504.15895: arithmetic in its code, geometric for Qwen3. Differs from it: a trial of one token, which
    divides by 0 there, has no confidence.

    Args:
        probabilities: float [K], of the tokens drawn greedily after the lead-in, each in [0, 1].
        mean: ``geometric`` or ``arithmetic``.

    Returns:
        A float in [0, 1]; 0 for a trial of one token or of none. No verdict and no group enters, so all-correct,
        all-wrong and a group of one are nothing special.

    Raises:
        ShapeError: wrong type, rank or dtype.
        InputError: a probability outside [0, 1] or not finite.
        ConfigError: an unknown ``mean``.
    """
    _check_series("probabilities", probabilities, high=1.0)
    checks.choice("mean", mean, ("geometric", "arithmetic"))

    later = wide(probabilities)[1:]
    if len(later) == 0:
        return 0.0
    return float(later.mean() if mean == "arithmetic" else later.log().mean().exp())


def _check_series(name: str, value: torch.Tensor, high: float | None) -> None:
    if not isinstance(value, torch.Tensor) or value.dim() != 1:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ShapeError(f"{name} is {got}; pass a torch.Tensor with one number for each place")
    checks.row_values(name, value)
    outside = value < 0 if high is None else (value < 0) | (value > high)
    if outside.any():
        place = int(outside.nonzero()[0])
        wanted = "at least 0" if high is None else f"a number in [0, {high:g}]"
        raise InputError(f"{name}[{place}] is {float(value[place])}; pass {wanted}")
