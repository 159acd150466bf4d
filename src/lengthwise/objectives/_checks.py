"""Input checks shared by the objectives: each names the argument, what it got and what to pass."""

from __future__ import annotations

import math

import torch

from lengthwise.errors import ConfigError, InputError, ShapeError

_INTEGERS = (torch.int64, torch.int32)
# Half precision is refused: one rounding of a log-probability there is larger than a clip range.
_FLOATS = (torch.float32, torch.float64)


def _tensor(name: str, value: object, ranks: tuple[int, ...], dtypes: tuple[torch.dtype, ...], wanted: str) -> None:
    if not isinstance(value, torch.Tensor):
        raise ShapeError(f"{name} is a {type(value).__name__}; pass {wanted} as a torch.Tensor")
    if value.dtype not in dtypes:
        raise ShapeError(f"{name} has dtype {value.dtype}; pass {wanted} (convert it explicitly)")
    if value.dim() not in ranks:
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; pass {wanted}")


def flags(name: str, value: torch.Tensor) -> None:
    """Accept bool [B]; raise ShapeError otherwise."""
    _tensor(name, value, (1,), (torch.bool,), "one bool per row, shape [B]")


def ids(name: str, value: torch.Tensor) -> None:
    """Accept integer [B]; raise ShapeError otherwise."""
    _tensor(name, value, (1,), _INTEGERS, "one integer per row, shape [B]")


def counts(name: str, value: torch.Tensor) -> None:
    """Accept integer [B] of at least 0; raise ShapeError for the type and InputError for a negative count."""
    _tensor(name, value, (1,), _INTEGERS, "one integer token count per row, shape [B]")
    negative = value < 0
    if negative.any():
        row = int(negative.nonzero()[0])
        raise InputError(f"{name}[{row}] is {int(value[row])}; pass a token count of at least 0")


def answers(correct: torch.Tensor, num_tokens: torch.Tensor) -> None:
    """Accept verdicts bool [B] and token counts int [B] of the same rows; raise as `flags` and `counts` do."""
    flags("correct", correct)
    counts("num_tokens", num_tokens)
    same_rows(correct=correct, num_tokens=num_tokens)


def grouped(correct: torch.Tensor, num_tokens: torch.Tensor, group_ids: torch.Tensor) -> None:
    """Accept what `answers` accepts beside group ids int [B]."""
    answers(correct, num_tokens)
    ids("group_ids", group_ids)
    same_rows(correct=correct, group_ids=group_ids)


def counted(value: torch.Tensor | None, num_tokens: torch.Tensor) -> None:
    """Accept None or bool [B] beside ``num_tokens``: the rows that enter a statistic."""
    if value is not None:
        flags("counted", value)
        same_rows(num_tokens=num_tokens, counted=value)


def kinds(name: str, value: torch.Tensor, weights: int | None) -> None:
    """Accept a tensor [K,B] with a row for each of the weights (None: any K above 0); raise ShapeError otherwise."""
    if not isinstance(value, torch.Tensor):
        raise ShapeError(f"{name} has type {type(value).__name__}; pass a torch.Tensor of shape [K,B]")
    if value.dim() != 2 or len(value) == 0 or weights not in (None, len(value)):
        wanted = "with K of at least 1" if weights is None else f"with one row for each of the weights ({weights})"
        raise ShapeError(f"{name} has shape {tuple(value.shape)}; pass a tensor [K,B] {wanted}")


def rewarded(
    rewards: torch.Tensor, lengths: torch.Tensor, group_ids: torch.Tensor, *, negative: bool, name: str = "num_tokens"
) -> None:
    """Accept finite rewards float [B], at least 0 unless ``negative``, lengths and group ids of the same rows."""
    row_values("rewards", rewards)
    counts(name, lengths)
    ids("group_ids", group_ids)
    same_rows(**{"rewards": rewards, name: lengths, "group_ids": group_ids})
    low = rewards < 0
    if low.any() and not negative:
        row = int(low.nonzero()[0])
        raise InputError(
            f"rewards[{row}] is {float(rewards[row])}; pass rewards of at least 0, because below 0 this length term "
            "turns round and pays wrong answers for it"
        )


def tokens(name: str, value: int | torch.Tensor, num_tokens: torch.Tensor) -> None:
    """Accept an int of at least 1, or an integer tensor [B] of such beside ``num_tokens``."""
    if not isinstance(value, torch.Tensor):
        whole(name, value, low=1)
        return
    ids(name, value)
    same_rows(num_tokens=num_tokens, **{name: value})
    small = value < 1
    if small.any():
        row = int(small.nonzero()[0])
        raise InputError(f"{name}[{row}] is {int(value[row])}; pass at least 1 token")


def row_values(name: str, value: torch.Tensor) -> None:
    """Accept finite float [B]; raise ShapeError for the type and InputError for NaN or infinity."""
    _tensor(name, value, (1,), _FLOATS, "one float32 or float64 number per row, shape [B]")
    bad = ~torch.isfinite(value)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(f"{name}[{row}] is {float(value[row])}; pass finite numbers")


def same_rows(**columns: torch.Tensor) -> None:
    """Accept columns with one entry per row on one device; raise ShapeError naming the first odd pair."""
    first, *others = columns
    reference = columns[first]
    for name in others:
        column = columns[name]
        if column.shape[0] != reference.shape[0]:
            raise ShapeError(
                f"{name} has {column.shape[0]} entries but {first} has {reference.shape[0]}; pass one per row"
            )
        if column.device != reference.device:
            raise ShapeError(
                f"{name} is on {column.device} but {first} is on {reference.device}; move them to one device"
            )


def token_mask(mask: torch.Tensor) -> None:
    """Accept bool [B,T]; raise ShapeError otherwise."""
    _tensor("mask", mask, (2,), (torch.bool,), "a bool mask of the response tokens, shape [B,T]")


def mask_tokens(mask: torch.Tensor) -> torch.Tensor:
    """Accept bool [B,T] with a token in every row and return the tokens per row, int [B]."""
    token_mask(mask)
    if mask.shape[0] == 0:
        raise InputError("mask has no row; skip an empty batch instead of passing it")
    # int32, because sum() first copies a bool tensor to the result's type: half the memory, a fifth of the time
    num_tokens: torch.Tensor = mask.sum(dim=1, dtype=torch.int32).long()
    empty = num_tokens == 0
    if empty.any():
        row = int(empty.nonzero()[0])
        raise InputError(f"mask row {row} has no token, but every response has at least its EOS; drop the row")
    return num_tokens


def token_values(mask: torch.Tensor, **columns: torch.Tensor) -> None:
    """Accept float [B,T] like ``mask``, of one dtype and on its device; raise ShapeError otherwise."""
    first = next(iter(columns))
    for name, value in columns.items():
        _tensor(name, value, (2,), _FLOATS, "one float32 or float64 number per token, shape [B,T]")
        if value.shape != mask.shape:
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)} but mask has {tuple(mask.shape)}; pass one per token"
            )
        if value.dtype != columns[first].dtype:
            raise ShapeError(f"{name} is {value.dtype} but {first} is {columns[first].dtype}; convert one of the two")
    same_rows(mask=mask, **columns)


def unbroken(mask: torch.Tensor) -> None:
    """Accept a mask [B,T] whose rows are one run of tokens from the first column on; else InputError."""
    holes = (mask[:, 1:] & ~mask[:, :-1]).any(dim=1)
    if holes.any():
        row = int(holes.nonzero()[0])
        raise InputError(f"mask row {row} has a token after padding; pass tokens from the first column on, no gaps")


def masked(name: str, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return a constant copy of ``value`` [B,T] with 0 in the padding; raise InputError if not finite elsewhere."""
    kept = torch.where(mask, value.detach(), 0.0)
    if kept.numel():
        # two numbers instead of a [B,T] test; both carry NaN
        low, high = torch.aminmax(kept)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            row = int((~torch.isfinite(kept)).any(dim=1).nonzero()[0])
            raise InputError(f"{name} row {row} is NaN or infinite inside the mask; pass finite numbers")
    return kept


def logits(name: str, value: torch.Tensor) -> None:
    """Accept float [P,V]; raise ShapeError otherwise."""
    _tensor(name, value, (2,), _FLOATS, "float32 or float64 logits, one row per prompt, shape [P,V]")


def vocabulary(name: str, value: torch.Tensor, mask: torch.Tensor, entries: str) -> None:
    """Accept float [B,T,V] (or k, by ``entries``) beside ``mask``; raise ShapeError otherwise."""
    _tensor(name, value, (3,), _FLOATS, f"float32 or float64 log-probabilities, shape [B,T,{entries}]")
    if value.shape[:2] != mask.shape or value.shape[2] == 0:
        raise ShapeError(
            f"{name} has shape {tuple(value.shape)} but mask has {tuple(mask.shape)}; pass [B,T,{entries}]"
        )
    same_rows(mask=mask, **{name: value})


def output_layer(name: str, states: torch.Tensor, head: torch.Tensor, mask: torch.Tensor) -> None:
    """Accept hidden states [B,T,H] beside ``mask`` and an output weight [V,H] of their dtype, half precision too."""
    floats = (*_FLOATS, torch.bfloat16, torch.float16)
    _tensor(f"{name}_states", states, (3,), floats, "hidden states, shape [B,T,H]")
    _tensor(f"{name}_head", head, (2,), floats, "the output layer's weight, shape [V,H]")
    if states.shape[:2] != mask.shape:
        raise ShapeError(
            f"{name}_states has shape {tuple(states.shape)} but mask has {tuple(mask.shape)}; pass [B,T,H] beside [B,T]"
        )
    if head.shape[1] != states.shape[2] or head.dtype != states.dtype or head.device != states.device:
        raise ShapeError(
            f"{name}_head is {head.dtype} {tuple(head.shape)} on {head.device} but {name}_states is {states.dtype} "
            f"{tuple(states.shape)} on {states.device}; pass [V,H] in the dtype and on the device of the states"
        )
    same_rows(mask=mask, **{f"{name}_states": states})


def credit(advantages: torch.Tensor, mask: torch.Tensor) -> None:
    """Accept advantages as float [B] or [B,T] beside ``mask``; values are checked by the caller."""
    _tensor("advantages", advantages, (1, 2), _FLOATS, "float32 or float64 advantages, shape [B] or [B,T]")
    if advantages.dim() == 2 and advantages.shape != mask.shape:
        raise ShapeError(
            f"advantages has shape {tuple(advantages.shape)} but mask has {tuple(mask.shape)}; "
            "pass one per row, [B], or one per token, [B,T]"
        )
    same_rows(mask=mask, advantages=advantages)


def number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Accept a finite int or float with ``low <= value <= high`` and ``above < value < below``; else ConfigError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name} is {value!r}; pass an int or a float")
    if not math.isfinite(value) or not low <= value <= high or not above < value < below:
        bounds = f"from {low} to {high}" if above == -math.inf else f"above {above}"
        if below < math.inf:
            bounds = f"from {low} to below {below}"
        raise ConfigError(f"{name} is {value}; pass a finite number {bounds}")


def positive(name: str, value: object) -> None:
    """Accept an int or float above 0, infinity included; raise ConfigError otherwise."""
    if value != math.inf:
        number(name, value, above=0.0)


def pair(name: str, value: object) -> None:
    """Accept a tuple or list of two finite numbers; raise ConfigError otherwise."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigError(f"{name} is {value!r}; pass two numbers")
    for position, entry in enumerate(value):
        number(f"{name}[{position}]", entry)


def whole(name: str, value: object, *, low: int) -> None:
    """Accept an int of at least ``low``; raise ConfigError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} is {value!r}; pass an integer of at least {low}")


def choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Accept one of the allowed words; raise ConfigError that lists them otherwise."""
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
