"""Position schemes as pure functions: rotary frequencies, drawn positions and xPos decay, and chunks to train on.

"Giraffe: Adventures in Expanding Context Lengths in LLMs", arXiv 2308.10882; xPos: "A Length-Extrapolatable
Transformer", arXiv 2212.10554. Legend: d = ``head_dim``, the rotary dimension (even); i = 0 .. d/2-1 a pair;
f_i = base^(-2i/d) its frequency, radians per token; m a query's and s a key's position, in tokens.
Frequencies are float32 [d/2]. Identity settings (factor 1, power 0, a truncation length so large that every pair
keeps its frequency) give the default bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.errors import ConfigError

ZERO_DIVISOR, RHO_DIVISOR = 8.0, 16.0
XPOS_SCALE_BASE = 512.0
XPOS_START, XPOS_STEP, XPOS_LEAST = 8192.0, 8.0, 128.0


def number(name: str, value: object, least: float, *, above: bool = False) -> float:
    """The value as a float if it is a finite number of at least `least` (or `above` it); else `ConfigError`."""
    wanted = f"a finite number {'above' if above else 'of at least'} {least:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}; give {wanted}")
    if value < least or (above and value == least):
        raise ConfigError(f"{name} is {value!r}; give {wanted}")
    return float(value)


def default_inv_freq(head_dim: int, base: float = 10_000.0) -> Tensor:
    """f_i = base^(-2i/d): plain rotation, the same bits as transformers' default.

    Raises:
        ConfigError: an odd or non-positive ``head_dim``, a base that is not above 0.
    """
    if isinstance(head_dim, bool) or not isinstance(head_dim, int) or head_dim < 2 or head_dim % 2:
        raise ConfigError(f"head_dim is {head_dim!r}; give an even number of rotary dimensions, 2 or more")
    number("base", base, 0, above=True)
    return 1.0 / (base ** (torch.arange(0, head_dim, 2, dtype=torch.float) / head_dim))


def linear_inv_freq(head_dim: int, base: float = 10_000.0, *, factor: float) -> Tensor:
    """f_i / S: the same as positions divided by S. S = 1 is the default.

    Differs from the authors' code: S < 1 is refused, theirs ignores it.

    Raises:
        ConfigError: S < 1 or not finite.
    """
    return _linear(default_inv_freq(head_dim, base), factor)


def power_inv_freq(head_dim: int, base: float = 10_000.0, *, power: float) -> Tensor:
    """f_i (1 - i/(d/2))^p: pair 0 never changes, later pairs turn ever slower. p = 0 is the default.

    Raises:
        ConfigError: p < 0 or not finite.
    """
    return _power(default_inv_freq(head_dim, base), power)


def truncated_inv_freq(
    head_dim: int,
    base: float = 10_000.0,
    *,
    length: float,
    zero_divisor: float = ZERO_DIVISOR,
    rho_divisor: float = RHO_DIVISOR,
) -> Tensor:
    """Keep pairs that turn at least once within T tokens, slow the next ones to one value, stop the rest.

    With T = ``length``, b = 2 pi / T, a = b/8, rho = b/16: f >= b -> f; a <= f < b -> rho; f < a -> 0. rho lies
    below a: the middle band gets one shared value below the band itself. 8 and 16 are the authors' constants.

    Raises:
        ConfigError: T or a divisor that is not above 0, or not finite.
    """
    return _truncated(default_inv_freq(head_dim, base), length, zero_divisor, rho_divisor)


def composed_inv_freq(
    head_dim: int,
    base: float = 10_000.0,
    *,
    factor: float = 1.0,
    power: float = 0.0,
    truncate_length: float | None = None,
    zero_divisor: float = ZERO_DIVISOR,
    rho_divisor: float = RHO_DIVISOR,
) -> Tensor:
    """Linear, then power, then truncated, on one frequency vector; None leaves truncation out.

    Raises:
        ConfigError: see the single schemes.
    """
    found = _power(_linear(default_inv_freq(head_dim, base), factor), power)
    return found if truncate_length is None else _truncated(found, truncate_length, zero_divisor, rho_divisor)


def randomised_positions(draws: Tensor) -> Tensor:
    """Real-valued training positions from u ~ U(0, 1): t_j = 2 (u_0 + .. + u_j), then t *= n / max(t_{n-1}, n).

    ``draws`` float [..., n], one row per sequence. Positions rise strictly where no u is 0, lie in (0, n], and are
    not stretched where the last one is below n.

    Raises:
        ConfigError: no draw in a row, or draws that are no floating-point numbers.
    """
    if draws.ndim < 1 or not draws.shape[-1] or not draws.is_floating_point():
        raise ConfigError(f"draws has shape {tuple(draws.shape)} and {draws.dtype}; give uniform numbers [..., n]")
    n = draws.shape[-1]
    positions = 2 * draws.cumsum(-1)
    return (positions * (n / positions[..., -1:].clamp(min=n))).clamp(max=n)


def xpos_zeta(head_dim: int) -> Tensor:
    """zeta_i = (2i + 0.4 d) / (1.4 d), float32 [d/2] in [2/7, 1): how well a pair keeps its length per B tokens.

    Raises:
        ConfigError: an odd or non-positive ``head_dim``.
    """
    default_inv_freq(head_dim)
    return (torch.arange(0, head_dim, 2, dtype=torch.float) + 0.4 * head_dim) / (1.4 * head_dim)


def xpos_decay(head_dim: int, distance: Tensor | float, *, scale_base: float = XPOS_SCALE_BASE) -> Tensor:
    """zeta_i^((m-s)/B), float32 [..., d/2]: what each pair's part of a score is multiplied by.

    ``distance`` m - s in tokens, any shape; B = ``scale_base``. Only the distance matters, so q may be scaled by
    zeta^((m-c)/B) and k by zeta^((c-s)/B) with any common centre c. B to infinity is plain rotation.

    Raises:
        ConfigError: B not above 0 or not finite, an odd ``head_dim``.
    """
    number("xpos_scale_base", scale_base, 0, above=True)
    away = torch.as_tensor(distance, dtype=torch.float32)
    return xpos_zeta(head_dim).to(away.device) ** (away[..., None] / scale_base)


def xpos_base_at(step: int, *, start: float = XPOS_START) -> float:
    """B before optimiser step ``step`` (from 0) of the authors' runs: ``start``, less 8 a step while above 128."""
    number("step", step, 0)
    return max(min(start, XPOS_LEAST), start - XPOS_STEP * step)


def chunk_starts(tokens: int, length: int) -> list[int]:
    """Starts 0, c/2, c, .. of the half-overlapping training chunks of a document, below max(1, N - c/2).

    N = ``tokens``, c = ``length`` (even). A document of at most c/2 tokens still gives one chunk; an empty one none.

    Raises:
        ConfigError: a length that is odd or below 2, a negative number of tokens.
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < 2 or length % 2:
        raise ConfigError(f"length is {length!r}; chunks overlap by half, so give an even number of tokens")
    number("tokens", tokens, 0)
    return list(range(0, max(1, tokens - length // 2), length // 2)) if tokens else []


def chunk(ids: list[int], length: int) -> list[tuple[list[int], list[int]]]:
    """A document's chunks as (ids, mask), each of ``length``: the last is padded on the right with id 0 and mask 0."""
    parts = [ids[start : start + length] for start in chunk_starts(len(ids), length)]
    return [(part + [0] * (length - len(part)), [1] * len(part) + [0] * (length - len(part))) for part in parts]


def _linear(frequencies: Tensor, factor: float) -> Tensor:
    return frequencies / number("factor", factor, 1)


def _power(frequencies: Tensor, power: float) -> Tensor:
    pairs = len(frequencies)
    return frequencies * (1 - torch.arange(pairs, dtype=torch.float) / pairs) ** number("power", power, 0)


def _truncated(frequencies: Tensor, length: float, zero_divisor: float, rho_divisor: float) -> Tensor:
    full = 2 * math.pi / number("truncate_length", length, 0, above=True)
    stopped = full / number("zero_divisor", zero_divisor, 0, above=True)
    slow = torch.full_like(frequencies, full / number("rho_divisor", rho_divisor, 0, above=True))
    kept = torch.where(frequencies >= full, frequencies, slow)
    return torch.where((frequencies < stopped) & (frequencies < full), torch.zeros_like(frequencies), kept)
