"""Metrics for accuracy against length: pure functions of arrays, no tokenizer and no grader inside.

Shapes: P problems, S samples per problem. ``correct`` and ``finished`` bool [P,S], ``num_tokens`` int [P,S]
(response tokens, EOS included). S may differ between problems: pass a list of lists. Averages run over the
samples of a problem first, then over problems, so each problem has equal weight; with equal S this is the
plain mean. Metrics called *pooled* are ratios of sums over all samples instead.

A quantity over an empty subset is ``None``, never 0. No problem at all, or a problem without samples, is an
error. A response that was cut is wrong: pass ``correct = answer_correct & finished``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence, Sized
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lengthwise.errors import InputError, ShapeError

Scalar = TypeVar("Scalar", bound=np.generic)
Numbers: TypeAlias = NDArray[np.bool_] | NDArray[np.int64] | NDArray[np.float64]
Samples = Sequence[Sequence[bool | int | float]] | Sequence[NDArray[np.generic]] | NDArray[np.generic]
"""Values [P,S]; rows may differ in length."""
MAJORITY_SUBSETS = 1000
"""Votes looked at per problem: all of them where there are no more, else so many drawn at random."""


def check_flags(values: Samples, name: str) -> list[NDArray[np.bool_]]:
    """Read bool [P,S] (0 and 1 are taken for False and True) into one array per problem, or raise."""
    rows = _rows(values, name)
    if all(row.dtype.kind == "b" for row in rows):
        return [row.astype(bool, copy=False) for row in rows]
    for problem, row in enumerate(rows):
        if row.dtype.kind not in "biu" or ((row != 0) & (row != 1)).any():
            raise InputError(f"{name}[{problem}] is {row.tolist()}; pass one True or False per sample")
    return [row.astype(bool) for row in rows]


def check_token_counts(values: Samples, name: str = "num_tokens") -> list[NDArray[np.int64]]:
    """Read int [P,S], at least 0, into one array per problem, or raise."""
    rows = _rows(values, name)
    whole = [row.astype(np.int64, copy=False) for row in rows if row.dtype.kind in "iu"]
    if len(whole) < len(rows) or np.concatenate(whole).min() < 0:
        problem, row = next((i, r) for i, r in enumerate(rows) if r.dtype.kind not in "iu" or (whole[i] < 0).any())
        raise InputError(f"{name}[{problem}] is {row.tolist()}; pass one token count (integer >= 0) each")
    return whole


def check_same_samples(first: Sequence[Sized], first_name: str, second: Sequence[Sized], second_name: str) -> None:
    """Raise `ShapeError` unless both have the same problems and samples per problem."""
    if len(first) != len(second):
        raise ShapeError(
            f"{first_name} has {len(first)} problems but {second_name} has {len(second)}; pass the same ones"
        )
    for problem, (a, b) in enumerate(zip(first, second, strict=True)):
        if len(a) != len(b):
            raise ShapeError(
                f"problem {problem}: {first_name} has {len(a)} samples but {second_name} has {len(b)}; "
                "pass one value per sample"
            )


def accuracy(correct: Samples) -> float:
    """Share of correct answers (pass@1), mean over samples, then problems. Range [0, 1]."""
    right = check_flags(correct, "correct")
    return _mean_of_means(right, _flat(right))


def mean_tokens(num_tokens: Samples) -> float:
    """Mean response tokens, over samples, then problems; a cut response counts with the cap."""
    tokens = check_token_counts(num_tokens)
    return _mean_of_means(tokens, _flat(tokens))


def truncation_rate(finished: Samples) -> float:
    """Share of responses that were cut, ``1 - mean finished``. Range [0, 1]."""
    ended = check_flags(finished, "finished")
    # Not 1 - mean: one cut of twenty is to be .05 exactly, the limit of a warning.
    return _mean_of_means(ended, ~_flat(ended))


def subset_mean_tokens(num_tokens: Samples, subset: Samples) -> float | None:
    """Mean tokens over the samples in ``subset`` (bool [P,S]), pooled; ``None`` if there are none.

    With ``finished``, ``correct`` or ``~correct`` it gives the mean tokens finished, correct or wrong.
    """
    tokens, chosen = check_token_counts(num_tokens), check_flags(subset, "subset")
    check_same_samples(tokens, "num_tokens", chosen, "subset")
    pooled = _flat(tokens)[_flat(chosen)]
    return float(pooled.mean()) if len(pooled) else None


def accuracy_given_finished(
    correct: Samples, finished: Samples, *, allow_correct_when_cut: bool = False
) -> float | None:
    """Correct answers per finished response, ``sum correct / sum finished``, pooled; ``None`` if all cut.

    With equal S: ``accuracy = (1 - truncation_rate) * accuracy_given_finished``. A correct answer in a cut
    response is an error, unless ``allow_correct_when_cut``: then it is left out of the numerator.
    """
    right, ended = check_flags(correct, "correct"), check_flags(finished, "finished")
    check_same_samples(right, "correct", ended, "finished")
    for problem, (c, f) in enumerate(zip(right, ended, strict=True)):
        if (c & ~f).any() and not allow_correct_when_cut:
            raise InputError(
                f"correct[{problem}] has a correct answer that was cut; a cut response counts as wrong: "
                "pass answer_correct & finished, or allow_correct_when_cut=True"
            )
    right_and_ended = _flat(right) & _flat(ended)
    total = int(_flat(ended).sum())
    return float(right_and_ended.sum() / total) if total else None


def accuracy_at_budget(correct: Samples, num_tokens: Samples, budget: int, *, cap: int) -> float:
    """Accuracy had the same responses been cut after ``budget`` tokens: mean of ``correct & (n <= budget)``.

    This is a forced cut of outputs that exist; generating again under the smaller cap, or closing the
    thinking and asking for an answer, gives other numbers. Never falls in ``budget``; at ``cap`` it is the
    accuracy. ``budget > cap`` raises: nobody knows what the cut responses would have become.
    """
    right, tokens = check_flags(correct, "correct"), check_token_counts(num_tokens)
    check_same_samples(right, "correct", tokens, "num_tokens")
    check_budget(budget, cap)
    return _mean_of_means(right, _flat(right) & (_flat(tokens) <= budget))


def truncation_at_budget(num_tokens: Samples, finished: Samples, budget: int, *, cap: int) -> float:
    """Share of responses that are cut, or would be by a forced cut: mean of ``(n > budget) | ~finished``."""
    tokens, ended = check_token_counts(num_tokens), check_flags(finished, "finished")
    check_same_samples(tokens, "num_tokens", ended, "finished")
    check_budget(budget, cap)
    return _mean_of_means(tokens, (_flat(tokens) > budget) | ~_flat(ended))


def mean_tokens_at_budget(num_tokens: Samples, budget: int, *, cap: int) -> float:
    """Mean tokens after a forced cut: mean of ``min(n, budget)``."""
    check_budget(budget, cap)
    tokens = check_token_counts(num_tokens)
    return _mean_of_means(tokens, np.minimum(_flat(tokens), budget))


def token_efficiency(correct: Samples, num_tokens: Samples) -> float | None:
    """Correct answers per 1000 tokens, ``1000 * sum correct / sum num_tokens``, pooled.

    With equal S it is ``1000 * accuracy / mean_tokens``. No correct answer gives 0, no token ``None``.
    """
    right, tokens = check_flags(correct, "correct"), check_token_counts(num_tokens)
    check_same_samples(right, "correct", tokens, "num_tokens")
    total = int(_flat(tokens).sum())
    return float(1000.0 * _flat(right).sum() / total) if total else None


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that one or more of ``k`` of the ``n`` samples, ``c`` of them correct, is correct.

    ``1 - C(n-c,k)/C(n,k) = 1 - prod_{i=n-c+1..n} (1 - k/i)``; 1 if ``n - c < k``. Range [0, 1]. Needs
    ``0 <= c <= n`` and ``1 <= k <= n``. "Evaluating Large Language Models Trained on Code", arXiv 2107.03374.
    """
    if not 0 <= c <= n:
        raise InputError(f"c is {c} with n {n}; the correct samples must be between 0 and n")
    if not 1 <= k <= n:
        raise InputError(f"k is {k} but there are {n} samples; choose k between 1 and n, or draw more samples")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def mean_pass_at_k(correct: Samples, k: int) -> float:
    """Pass@k of each problem, averaged over problems; a problem with fewer than ``k`` samples raises."""
    right = check_flags(correct, "correct")
    _check_k(k, right)
    return float(np.mean([pass_at_k(len(row), int(row.sum()), k) for row in right]))


def majority_at_k(keys: Sequence[Sequence[str | None]], correct: Samples, k: int, *, rng: np.random.Generator) -> float:
    """Share of problems won by the most frequent answer among ``k`` of the samples (majority@k). Range [0, 1].

    ``keys`` [P,S] are the answers, equal text for equal answers; ``None`` is no answer and never wins. A vote
    earns the share of right ones among the samples whose answer is the most frequent: answers that tie count
    their share, a vote without any answer 0. Averaged over every choice of ``k`` samples of a problem where
    there are at most 1000 (so exactly at ``k = 1`` and at ``k = n``), else over 1000 random ones; then over
    problems. A problem with fewer than ``k`` samples raises. Majority@1 is the accuracy where every right
    sample has an answer.
    """
    right = check_flags(correct, "correct")
    check_same_samples(keys, "keys", right, "correct")
    for problem, row in enumerate(keys):
        if isinstance(row, str) or not all(key is None or isinstance(key, str) for key in row):
            raise InputError(f"keys[{problem}] is {row!r}; pass one answer per sample, as text, or None for no answer")
    _check_k(k, right)
    return float(np.mean([_majority(row, flags, k, rng) for row, flags in zip(keys, right, strict=True)]))


def _majority(keys: Sequence[str | None], right: NDArray[np.bool_], k: int, rng: np.random.Generator) -> float:
    answers = list(dict.fromkeys(key for key in keys if key is not None))
    if not answers:
        return 0.0
    votes = np.array([[key == answer for answer in answers] for key in keys])
    size = len(keys)
    if math.comb(size, k) <= MAJORITY_SUBSETS:
        chosen = np.array(list(itertools.combinations(range(size), k)))
    else:
        chosen = rng.random((MAJORITY_SUBSETS, size)).argsort(axis=1)[:, :k]
    counts = votes[chosen].sum(axis=1)  # [choices, answers]
    won = (votes & right[:, None])[chosen].sum(axis=1)
    top = (counts == counts.max(axis=1, keepdims=True)) & (counts > 0)
    # A vote without any answer has no top: 0 of 1.
    return float(((won * top).sum(axis=1) / np.maximum((counts * top).sum(axis=1), 1)).mean())


def overthinking_area(correct: Samples, num_tokens: Samples, *, t_max: int) -> float:
    """Area under accuracy over budgets up to ``t_max``: mean of ``correct * max(0, t_max - n) / t_max``.

    Range [0, 1]; higher is right sooner. OptimalThinkingBench (facebookresearch/RAM).
    """
    right, tokens = check_flags(correct, "correct"), check_token_counts(num_tokens)
    check_same_samples(right, "correct", tokens, "num_tokens")
    if t_max < 1:
        raise InputError(f"t_max is {t_max}; give the largest budget of the area, at least 1 token")
    return _mean_of_means(right, _flat(right) * np.maximum(0, t_max - _flat(tokens)) / t_max)


def control_error(num_tokens: Samples, target: int | Sequence[int]) -> float:
    """Mean relative distance to the asked length, ``|n - target| / target``; one target, or one each [P]."""
    tokens = check_token_counts(num_tokens)
    targets = _targets(target, tokens)
    return _mean_of_means(tokens, np.abs(_flat(tokens) - targets) / targets)


def violation_rate(num_tokens: Samples, target: int | Sequence[int]) -> float:
    """Share of responses longer than the asked length, ``n > target``; one target, or one each [P]."""
    tokens = check_token_counts(num_tokens)
    return _mean_of_means(tokens, _flat(tokens) > _targets(target, tokens))


def removable_share(base: float, after: float, oracle: float) -> float:
    """Share of the removable tokens that were removed: ``(L_base - L) / (L_base - L_oracle)``.

    Mean tokens of the model before and after and of the shortest sound answers. 0 = nothing removed, 1 = all
    of it; negative when longer than before, above 1 when shorter than the oracle. ``base <= oracle`` raises:
    there is nothing to remove.
    """
    values = {"base": base, "after": after, "oracle": oracle}
    for name, value in values.items():
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} is {value}; give mean tokens, a finite number >= 0")
    if base <= oracle:
        raise InputError(f"base is {base} and oracle {oracle}: nothing is removable; the share needs base > oracle")
    return (base - after) / (base - oracle)


def check_budget(budget: int, cap: int) -> None:
    """Raise unless ``0 <= budget <= cap``."""
    if budget < 0 or budget > cap:
        raise InputError(
            f"budget is {budget} but the responses were drawn under a cap of {cap}; "
            "choose a budget from 0 to the cap, or generate again with a larger cap"
        )


def _check_k(k: int, samples: Sequence[Sized]) -> None:
    if k < 1:
        raise InputError(f"k is {k}; choose at least 1 sample")
    for problem, row in enumerate(samples):
        if k > len(row):
            raise InputError(f"k is {k} but problem {problem} has {len(row)} samples; choose a smaller k")


def _rows(values: Samples, name: str) -> list[NDArray[np.generic]]:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str):
        raise InputError(f"{name} is {values!r}; pass one list of samples per problem")
    if len(values) == 0:
        raise InputError(f"{name} has no problem; pass at least one")
    try:
        rows = [np.asarray(row) for row in values]
    except ValueError as error:  # lists of unlike lengths inside a problem
        raise ShapeError(f"{name} is nested too deep; pass [problems][samples]") from error
    for problem, row in enumerate(rows):
        if row.ndim != 1 or row.dtype.kind not in "biuf":
            raise ShapeError(
                f"{name}[{problem}] is {values[problem]!r}; pass [problems][samples], a flat list per problem"
            )
        if row.size == 0:
            raise InputError(f"{name}[{problem}] has no sample; leave the problem out or sample it")
    return rows


def _flat(rows: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    return np.concatenate(rows)


def _mean_of_means(rows: Sequence[Sized], values: Numbers) -> float:
    """Mean over the samples of each problem of ``rows``, then over problems, of pooled ``values`` [sum of S]."""
    sizes = np.array([len(row) for row in rows])
    sums = np.add.reduceat(values.astype(np.float64), sizes.cumsum() - sizes)
    return float((sums / sizes).mean())


def _targets(target: int | Sequence[int], tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The asked length of every sample [sum of S]."""
    targets = list(target) if isinstance(target, Sequence | np.ndarray) else [target] * len(tokens)
    if len(targets) != len(tokens):
        raise ShapeError(f"target has {len(targets)} values for {len(tokens)} problems; pass one, or one each")
    if min(targets) < 1:
        raise InputError(f"target is {min(targets)}; an asked length is at least 1 token")
    return np.repeat(targets, [len(row) for row in tokens])
