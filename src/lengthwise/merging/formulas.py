"""The merge formulas on arrays: no names, no files, no state.

Shapes: n entries of a block, M models. ``base`` is [n], ``others`` and ``deltas`` = others − base are [M, n],
float32 or float64; results are [n] of the same type. Sums over models run in the models' order. Only elementwise
operations are used, so that results do not depend on how a tensor is cut into blocks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lengthwise.safetensors_io.dtypes import Floats

Mask = NDArray[np.bool_]
COLLINEAR = 0.9995
"""Cosine from which SLERP is linear, as in the page's source."""


def linear(base: Floats, others: Floats, weights: Sequence[float], *, normalize: bool) -> Floats:
    """Σ w_m W_m / Σ w_m over base and others; without ``normalize`` the sum alone. Model Soups, arXiv 2203.05482.

    ``weights`` has M + 1 entries, the base's first. With ``normalize``, entries on which all models agree are
    copied, so that identical models (and a single one) give their own bits.
    """
    total = _scaled(base, weights[0])
    for weight, other in zip(weights[1:], others, strict=True):
        total += _scaled(other, weight)
    if not normalize:
        return total
    total /= total.dtype.type(math.fsum(weights))
    bits = f"i{total.itemsize}"
    strayed = (total.view(bits) != base.view(bits)) & (others == base).all(0)
    total[strayed] = base[strayed]
    return total


def task_update(deltas: Floats, weights: Sequence[float], scale: float) -> Floats:
    """λ Σ w_m D_m. Editing Models with Task Arithmetic, arXiv 2212.04089."""
    total = _scaled(deltas[0], weights[0])
    for weight, delta in zip(weights[1:], deltas[1:], strict=True):
        total += _scaled(delta, weight)
    if scale != 1:
        total *= total.dtype.type(scale)
    return total


def ties_update(trimmed: Floats, weights: Sequence[float], scale: float, *, normalize: bool) -> Floats:
    """λ · the mean of the trimmed changes that agree with the elected sign. TIES-Merging, arXiv 2306.01708.

    e = +1 where Σ w_m T_m ≥ 0, else −1; the mean is Σ w_m T_m / Σ w_m over models with sign(w_m T_m) = e, 0
    where there is none, and not divided without ``normalize`` or where the agreeing weights sum to 0.
    """
    elected = task_update(trimmed, weights, 1.0) >= 0
    mixed = np.zeros(trimmed.shape[1], trimmed.dtype)
    divisor = np.zeros_like(mixed)
    for weight, change in zip(weights, trimmed, strict=True):
        part = _scaled(change, weight)
        agrees = ((part > 0) & elected) | ((part < 0) & ~elected)
        part *= agrees
        mixed += part
        divisor += agrees * mixed.dtype.type(weight)
    if normalize:
        divisor += divisor == 0
        mixed /= divisor
    return _scaled(mixed, scale)


def ties_authors_update(trimmed: Floats, majority: float, scale: float) -> Floats:
    """λ · the plain mean of the trimmed changes that agree with the elected sign, as in prateeky2806/ties-merging.

    e = sign(Σ T_m), and ``majority`` (−1, 0 or 1) where that is 0; with e ≤ 0 the negative entries agree.
    """
    ones = [1.0] * len(trimmed)
    sums = task_update(trimmed, ones, 1.0)
    elected = (sums > 0) | ((sums == 0) & (majority > 0))
    agrees = ((trimmed > 0) & elected) | ((trimmed < 0) & ~elected)
    mixed = task_update(trimmed * agrees, ones, 1.0)
    mixed /= np.maximum(agrees.sum(0), 1).astype(mixed.dtype)
    return _scaled(mixed, scale)


def selective_update(delta: Floats, keep: Mask, scale: float) -> Floats:
    """scale · (K ∘ D). DLER, arXiv 2510.15110."""
    update = _scaled(delta, scale)
    update *= keep
    return update


def slerp(first: Floats, second: Floats, weights: tuple[float, float]) -> Floats:
    """The weighted sum on the great circle, with the two weights of `slerp_weights`."""
    total = _scaled(first, weights[0])
    total += _scaled(second, weights[1])
    return total


def slerp_weights(dot: float, first: float, second: float, t: float) -> tuple[float, float]:
    """sin((1−t)θ)/sin θ and sin(tθ)/sin θ, cos θ = dot / √(first · second), ``first`` and ``second`` squared norms.

    1 − t and t where \\|cos θ\\| > 0.9995 or a norm is 0. Shoemake, Animating Rotation with Quaternion Curves, 1985.
    """
    norms = math.sqrt(first) * math.sqrt(second)
    cosine = dot / norms if norms else 1.0
    if abs(cosine) > COLLINEAR:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def bernoulli_mask(seed: int, model: int, name: str, start: int, stop: int, density: float) -> Mask:
    """Bool [stop − start], true with probability ``density``.

    Each bit depends on (seed, model, name, entry) alone: Philox is a counter, and entry i takes its i-th word.
    """
    key = hashlib.sha256(f"{seed}/{model}/{name}".encode()).digest()[:16]
    block, skipped = divmod(start, 4)  # Philox counts in blocks of four words
    counter = np.random.Philox(key=int.from_bytes(key, "little"), counter=block)
    words = counter.random_raw(stop - start + skipped)[skipped:]
    # 53 bits, as in a uniform number of [0, 1): exact for densities 0 and 1
    keep: Mask = (words >> np.uint64(11)) < density * 2.0**53
    return keep


def add_update(base: Floats, update: Floats) -> Floats:
    """B + update, with the base's own bits where the update is 0 (adding 0 would turn −0 into 0)."""
    merged = base + update
    zero = merged == 0
    if zero.any():
        merged[zero & (update == 0) & np.signbit(base)] = -0.0
    return merged


def _scaled(values: Floats, factor: float) -> Floats:
    # A Python float times a float32 array stays float32; the factor is rounded to it first.
    return values * values.dtype.type(factor)
