"""What the metrics of a step say of its rollouts, and whether weights moved."""

from __future__ import annotations

import torch
from torch import Tensor

from lengthwise.engine.batches import Collected
from lengthwise.engine.rollouts import Rollouts
from lengthwise.objectives._wide import wide


def fingerprint(parameters: list[Tensor]) -> list[float]:
    """The sum of absolute values of each parameter: two that differ are of unlike weights."""
    with torch.no_grad():
        return [float(wide(p).abs().sum()) for p in parameters]


def drawn_metrics(batch: Collected) -> dict[str, float]:
    """Of all that was drawn: accuracy, lengths, cut answers, uniform groups."""
    drawn = batch.drawn
    groups, index = drawn.group_ids.unique(return_inverse=True)
    share = torch.zeros(len(groups), device=index.device).index_add(0, index, drawn.answer_correct.float())
    sizes = torch.bincount(index, minlength=len(groups))
    uniform = ((share == 0) | (share == sizes)).float().mean()
    lengths = drawn.num_tokens.float()
    return {
        "accuracy": float(drawn.correct.float().mean()),
        "mean_tokens": float(lengths.mean()),
        "p95_tokens": float(lengths.quantile(0.95)),
        "cut_rate": float((~drawn.finished).float().mean()),
        "uniform_groups": float(uniform),
        "draws": batch.draws,
    }


def rollout_metrics(batch: Collected, rewards: Tensor, advantages: Tensor) -> dict[str, float]:
    """The same and what was made of the rows that were kept: rewards, advantages and their signs."""
    kept = batch.kept
    flat = advantages if advantages.dim() == 1 else (advantages * kept.mask).sum(1) / kept.num_tokens
    # Token weighting can turn a wrong row's advantage positive (dler.md, section 8, row 4): worth watching.
    flipped = ((rewards <= 0) & (flat > 0)) | ((rewards > 0) & (flat < 0))
    return {
        **drawn_metrics(batch),
        "groups": len(kept.group_ids.unique()),
        "reward_mean": float(rewards.mean()),
        # Exactly 0 for a constant reward, where the rounded mean of float32 0.1 would leave a trace.
        "reward_std": float(rewards.std(unbiased=False)) if rewards.max() > rewards.min() else 0.0,
        "kept_accuracy": float(kept.correct.float().mean()),
        "kept_tokens": float(kept.num_tokens.float().mean()),
        "sign_flips": float(flipped.float().mean()),
        "length_alone": _length_alone(kept, rewards),
    }


def _length_alone(kept: Rollouts, rewards: Tensor) -> float:
    """Share of groups whose answers are all right or all wrong and whose rewards differ nonetheless."""
    groups, index = kept.group_ids.unique(return_inverse=True)
    right = kept.correct.to(rewards)

    def spread(values: Tensor) -> Tensor:
        ends = [
            values.new_zeros(len(groups)).scatter_reduce(0, index, values, how, include_self=False)
            for how in ("amax", "amin")
        ]
        return ends[0] - ends[1]

    return float(((spread(right) == 0) & (spread(rewards) > 0)).float().mean())
