"""The sampler's proof on the loaded model: padding, the cache and a row's company must not change its logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lengthwise.context_length import reach
from lengthwise.engine.rotary_switch import Switch, forget
from lengthwise.errors import UnsupportedModelError

Prefill = Callable[[list[list[int]]], tuple[Tensor, Any, Tensor, Tensor]]
"""Contexts -> next logits, cache, mask and last position, as `Sampler.prefill`."""
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2
PROBE = 4
"""Tokens of the rows that are set to far positions: any few do."""
BROKEN = (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError)
"""What models that cannot be decoded in a padded batch raise."""


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run in evaluation mode: in training mode gradient checkpointing switches the KV cache off.

    Every module's own mode comes back.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def check(model: Any, prefill: Prefill, switch: Switch | None) -> None:
    """Prove that padded, cached decoding in company equals a plain forward of each row alone.

    Three rows, two of them equal, are decoded together from short inputs of unlike length, and one is dropped
    on the way. Then a row is read beside one at far positions, as far as the model reaches, and where rotary factors
    `switch` on either side of it. The logits must equal those of the row alone without padding or cache, within 1e-3
    in float32 and 5e-2 otherwise, relative to the logits' spread where that is above 1.

    Raises:
        UnsupportedModelError: they differ or are NaN, or the model cannot be decoded in a padded batch at all.
    """
    kind = getattr(model.config, "model_type", type(model).__name__)
    refusal = (
        f"model_type {kind!r} fails the padding self-check: {{}}; batched sampling would be silently wrong. "
        "Use a decoder with ordinary attention layers"
    )
    limit = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    try:
        with evaluating(model):
            gaps = {
                "padded and unpadded logits": padding_gap(model, prefill),
                "logits of a row alone and beside a row at far positions": company_gap(model, switch),
            }
    except BROKEN as error:
        raise UnsupportedModelError(refusal.format(f"{type(error).__name__}: {error}")) from error
    for what, gap in gaps.items():
        if not gap <= limit:  # so that NaN is refused too
            raise UnsupportedModelError(refusal.format(f"{what} differ by {gap:.3g} (allowed {limit:g})"))


def logit_gap(found: Tensor, wanted: Tensor) -> Tensor:
    """The largest difference of two rows of logits relative to their spread; NaN where one is NaN.

    Equal infinities, of tokens that can never be drawn, are no difference.
    """
    found, wanted = found.float(), wanted.float()
    gap = torch.where(found == wanted, 0.0, (found - wanted).abs()).max()
    spread = wanted[wanted.isfinite()]
    return gap / (spread.std().clamp(min=1.0) if len(spread) > 1 else 1.0)


def padding_gap(model: Any, prefill: Prefill, *, steps: int = 3) -> float:
    """The largest `logit_gap` of padded and cached decoding, over the steps and rows."""
    size = model.get_input_embeddings().weight.shape[0]
    short, long = [(7 * k + 3) % size for k in range(4)], [(11 * k + 5) % size for k in range(9)]
    logits, cache, mask, position = prefill([short, short, long])
    rows, gaps = [list(short), list(short), list(long)], []
    for step in range(steps + 1):
        for row, tokens in enumerate(rows):
            ids = torch.tensor([tokens], device=model.device)
            gaps.append(logit_gap(logits[row], model(input_ids=ids, use_cache=False).logits[0, -1]))
        if step == steps:
            break
        if step == 1:
            index = torch.tensor([0, 2], device=model.device)
            rows, mask, position = [rows[0], rows[2]], mask[index], position[index]
            cache.batch_select_indices(index)
        token = torch.tensor([(tokens[step] + row + 1) % size for row, tokens in enumerate(rows)])
        for row, tokens in enumerate(rows):
            tokens.append(int(token[row]))
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        position = position + 1
        out = model(
            input_ids=token[:, None].to(model.device),
            attention_mask=mask,
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        logits, cache = out.logits[:, -1], out.past_key_values
    return float(torch.stack(gaps).max())


def company_gap(model: Any, switch: Switch | None) -> float:
    """The largest `logit_gap` of a row alone and the same row beside one at far positions, over the switch's sides.

    Far rows need no long text: a few tokens at far positions choose the factors of everything in their batch. On each
    side the row itself stands at the near end and its company at the far one, so a switch between them is seen
    wherever it is.
    """
    forget(model, switch)
    gaps = [_beside(model, near, far) for near, far in _ends(reach(model.config), switch)]
    return max(gaps, default=0.0, key=lambda gap: (gap != gap, gap))


def _ends(longest: int | None, switch: Switch | None) -> Iterator[tuple[int, int]]:
    """The last positions of a near and of a far row on each side that is decoded in one batch."""
    if longest is None:
        return
    first = longest if switch is None else min(switch.length, longest)
    if first > PROBE:
        yield PROBE - 1, first - 1
    if switch is not None and switch.steady and longest > first:
        yield max(first, PROBE - 1), longest - 1


def _beside(model: Any, near: int, far: int) -> float:
    """`logit_gap` of a short row that ends at position `near`, alone and beside one that ends at `far`."""
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[(13 * k + 2) % size for k in range(PROBE)]] * 2, device=model.device)
    ends = torch.tensor([[near], [far]], device=model.device)
    positions = ends - torch.arange(PROBE - 1, -1, -1, device=model.device)
    found = [
        model(
            input_ids=ids[:rows], attention_mask=torch.ones_like(ids[:rows]), position_ids=positions[:rows],
            use_cache=False,
        ).logits[0, -1]
        for rows in (2, 1)
    ]  # fmt: skip
    return float(logit_gap(*found))
