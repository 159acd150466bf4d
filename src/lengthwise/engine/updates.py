"""One batch of rollouts becomes a few optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lengthwise.config.groups.training import Training
from lengthwise.engine.batches import micro_batches, mini_batches
from lengthwise.engine.extra_losses import Resolved, add_extras
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import LossInputs, Method
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import TrainingError
from lengthwise.objectives import kl_penalty

_WAY_OUT = "the last checkpoint is kept. Lower the learning rate, or train in float32"


@dataclass(frozen=True)
class UpdatePlan:
    """How a batch is learnt from: `updates` mini-batches, micro-batches of at most `micro_batch_tokens` padded tokens,
    gradient norm at most `grad_clip`, and, unless None, importance weights between sampler and trainer truncated
    at `truncate_importance`."""

    updates: int
    micro_batch_tokens: int
    grad_clip: float
    truncate_importance: float | None = None

    @classmethod
    def of(cls, config: Training) -> UpdatePlan:
        """That of a run's settings."""
        return cls(config.updates, config.micro_batch_tokens, config.grad_clip, config.truncate_importance)


@torch.no_grad()
def score_batch(scorer: Scorer, rollouts: Rollouts, rows: Tensor, micro_batch_tokens: int) -> Tensor:
    """Log-probabilities float32 [B, T] of the named rows under the scorer's weights; 0 elsewhere."""
    scores = torch.zeros_like(rollouts.logp)
    for part in micro_batches(rollouts, rows, max_tokens=micro_batch_tokens, whole_groups=False):
        sub = rollouts.select(part).trim()
        scores[part, : sub.mask.shape[1]] = scorer(sub, entropy=False)[0]
    return scores


def update_policy(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    parameters: list[Tensor],
    method: Method,
    rollouts: Rollouts,
    advantages: Tensor,
    plan: UpdatePlan,
    *,
    generator: torch.Generator,
    reference: Scorer | None = None,
    extras: Sequence[Resolved] = (),
) -> dict[str, float]:
    """Take `plan.updates` optimizer steps on one batch; returns statistics over all its trained tokens.

    Rows whose advantages are all 0 are skipped where nothing else pulls on them: they add exactly nothing.

    Raises:
        TrainingError: the loss or the gradient norm is not finite; the weights are left as they were before
            that optimizer step.
    """
    signal = advantages.abs().reshape(len(rollouts), -1).sum(1) > 0
    reads_them = method.takes_advantages or method.signal_alone
    silent_rows_add_nothing = method.kl_coef == 0 and method.coupling == "row" and reads_them
    needed = signal if silent_rows_add_nothing else torch.ones_like(signal)
    rows = needed.nonzero()[:, 0]
    # With a single update the policy is its own old policy: the first forward gives both.
    old = score_batch(scorer, rollouts, rows, plan.micro_batch_tokens) if plan.updates > 1 else None
    ref = score_batch(reference, rollouts, rows, plan.micro_batch_tokens) if reference is not None else None
    totals: dict[str, float] = {}
    norms, losses = [], []
    for mini in mini_batches(rollouts.group_ids, plan.updates, generator):
        optimizer.zero_grad(set_to_none=True)
        normaliser = method.normaliser(rollouts.select(mini))
        mini_tokens = float(rollouts.train_mask[mini].sum())
        loss = 0.0
        whole = method.coupling == "group"
        live = mini[needed[mini]]
        shared = _shared(scorer, method, rollouts, live, old, plan)
        for part in micro_batches(rollouts, live, max_tokens=plan.micro_batch_tokens, whole_groups=whole):
            loss += _accumulate(
                scorer, method, rollouts, advantages, part, old, ref, normaliser, shared, mini_tokens, plan, totals
            )
        if extras:
            more, values = add_extras(scorer, extras, rollouts.select(mini), micro_batch_tokens=plan.micro_batch_tokens)
            loss += more
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + value
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, plan.grad_clip))
        if not (torch.isfinite(torch.tensor(loss)) and torch.isfinite(torch.tensor(norm))):
            optimizer.zero_grad(set_to_none=True)
            raise TrainingError(f"loss {loss:.4g} or gradient norm {norm:.4g} is not finite; {_WAY_OUT}")
        optimizer.step()
        torch.clear_autocast_cache()  # or the next update would compute with casts of the weights before this one
        norms.append(norm)
        losses.append(loss)
    own = {extra.name: totals[extra.name] / len(norms) for extra, _ in extras}
    return _statistics(totals, losses, norms) | own


def _shared(
    scorer: Scorer, method: Method, rollouts: Rollouts, rows: Tensor, old: Tensor | None, plan: UpdatePlan
) -> object:
    if method.shared is None or not len(rows):
        return None
    logp = score_batch(scorer, rollouts, rows, plan.micro_batch_tokens)[rows]
    return method.shared(logp, logp if old is None else old[rows], rollouts.train_mask[rows])


def _statistics(totals: dict[str, float], losses: list[float], norms: list[float]) -> dict[str, float]:
    """Means over a batch's updates and shares of its trained tokens."""
    tokens = max(totals.get("tokens", 0.0), 1.0)
    return {
        "loss": sum(losses) / len(losses),
        "grad_norm": sum(norms) / len(norms),
        "updates": len(norms),
        "trained_tokens": totals.get("tokens", 0.0),
        "approx_kl": totals.get("approx_kl_sum", 0.0) / tokens,
        "ratio_max": totals.get("ratio_max", 1.0),
        "entropy": totals.get("entropy_sum", 0.0) / tokens,
        "reference_kl": totals.get("reference_kl", 0.0) / len(norms),
        "sampler_gap": totals.get("sampler_gap_sum", 0.0) / tokens,
    } | _own_statistics(totals, tokens)


def _own_statistics(totals: dict[str, float], tokens: float) -> dict[str, float]:
    """What only some losses report: shares of clipped tokens; groups in which length hardly decides the weights."""
    found = {}
    if "clipped_high" in totals:
        for name, share in (("clipped_high", "clip_high"), ("clipped_low", "clip_low"), ("dual_clipped", "dual_clip")):
            found[f"{share}_share"] = totals.get(name, 0.0) / tokens
    if "unlike_questions" in totals:
        found["uniform_weights"] = totals["uniform_questions"] / max(totals["unlike_questions"], 1.0)
    return found


def _accumulate(
    scorer: Scorer,
    method: Method,
    rollouts: Rollouts,
    advantages: Tensor,
    part: Tensor,
    old: Tensor | None,
    ref: Tensor | None,
    normaliser: float,
    shared: object,
    mini_tokens: float,
    plan: UpdatePlan,
    totals: dict[str, float],
) -> float:
    """Forward and backward of one micro-batch; adds to the gradients and to `totals`, returns its loss."""
    sub = rollouts.select(part).trim()
    width = sub.mask.shape[1]
    logp, entropy = scorer(sub)
    if not bool(torch.isfinite(logp.detach()).all()):
        raise TrainingError(f"a log-probability is not finite; {_WAY_OUT}")
    old_logp = logp.detach() if old is None else old[part, :width]
    advantage = advantages[part] if advantages.dim() == 1 else advantages[part, :width]
    gap = (old_logp - sub.logp) * sub.train_mask
    if plan.truncate_importance is not None:
        weight = gap.exp().clamp(max=plan.truncate_importance)
        advantage = weight * (advantage if advantage.dim() == 2 else advantage[:, None])
    inputs = LossInputs(logp, old_logp, advantage, sub.train_mask, sub, normaliser, shared)
    loss, stats = method.loss(inputs)
    if ref is not None:
        penalty = kl_penalty(logp, ref[part, :width], sub.train_mask, kind=method.kl_kind, normaliser=mini_tokens)
        loss = loss + method.kl_coef * penalty
        stats = stats | {"reference_kl": penalty.detach()}
    loss.backward()
    stats = stats | {
        "entropy_sum": (entropy * sub.train_mask).sum(),
        "sampler_gap_sum": gap.abs().sum(),
    }
    for name, value in stats.items():
        number = float(value.detach())
        totals[name] = max(totals.get(name, number), number) if name == "ratio_max" else totals.get(name, 0.0) + number
    return float(loss.detach())
