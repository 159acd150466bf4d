"""Losses beside the main one, on the first token after the bare prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lengthwise.engine.batches import Task
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import BarePrompts, ExtraLoss, Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError

Resolved = tuple[ExtraLoss, tuple[int, ...]]
"""An extra loss with the token ids of its words."""


def resolve_extras(method: Method, task: Task) -> list[Resolved]:
    """The method's extra losses with the ids of their words.

    Raises:
        ConfigError: a word that is not one token of this model.
    """
    found = []
    for extra in method.extra_losses:
        if extra.words and task.token_id is None:
            raise ConfigError(
                f"method {method.name!r} speaks of {list(extra.words)}, but this task knows no words; "
                "take problems of text"
            )
        ids = tuple(task.token_id(word) for word in extra.words) if task.token_id is not None else ()
        found.append((extra, ids))
    return found


def add_extras(
    scorer: Scorer, extras: Sequence[Resolved], mini: Rollouts, *, micro_batch_tokens: int
) -> tuple[float, dict[str, float]]:
    """Forward and backward of the extra losses over one mini-batch; returns their weighted sum and each one's value.

    Each prompt is read once. More than `micro_batch_tokens` prompt tokens are read in parts: their logits
    first, without a graph, then each part again with the gradient that its logits got.
    """
    prompts, rows = _once_each(mini)
    count = max(1, micro_batch_tokens // prompts.shape[1])
    parts = list(prompts.split(count))
    if len(parts) == 1:
        logits = scorer.first_logits(prompts)
    else:
        with torch.no_grad():
            logits = torch.cat([scorer.first_logits(part) for part in parts])
        logits.requires_grad_()
    total = logits.new_zeros(())
    values = {}
    for extra, ids in extras:
        value = extra.function(BarePrompts(logits, mini, rows, ids))
        total = total + extra.weight * value
        values[extra.name] = float(value.detach())
    if total.requires_grad:
        total.backward()
    if len(parts) > 1 and logits.grad is not None:
        for part, slope in zip(parts, logits.grad.split(count), strict=True):
            scorer.first_logits(part).backward(slope)
    return float(total.detach()), values


def _once_each(mini: Rollouts) -> tuple[Tensor, Tensor]:
    """The bare prompts int [P, Q] of a mini-batch's groups, each once, and the first row int [P] of each."""
    assert mini.bare_prompt_ids is not None, "a method with extra losses needs bare_prompt_ids"
    groups = mini.group_ids.unique()
    rows = (mini.group_ids[None] == groups[:, None]).int().argmax(1)
    return mini.bare_prompt_ids[rows], rows
