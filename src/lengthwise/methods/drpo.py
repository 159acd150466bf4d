"""DRPO: length decides among right answers only. arXiv 2510.04474. Its base without a length term: DisCO, 2505.12366.

Right answers are weighted among themselves, shorter ones heavier and never negative, and contrasted with the wrong
ones; a trust region takes the place of clipping.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lengthwise.engine.method import LossInputs, Method
from lengthwise.errors import ConfigError
from lengthwise.objectives import constant_cap, drpo_questions, drpo_weights, kl_penalty
from lengthwise.objectives import drpo as drpo_loss


def drpo(*, cap: int, lam: float = 0.1, tau: float = 10.0, kl_limit: float = 1e-4, kl_coef: float = 1e3) -> Method:
    """Decoupled reward policy optimisation; `cap` is the C of its length reward.

    `kl_limit` and `kl_coef` are those of the trust region. The logged accuracy of a step is unaffected by `lam`.
    """
    if math.isinf(lam):
        raise ConfigError("lam is inf, which is DisCO; take the method disco")
    # Refuses a lam under which no lengths up to the cap would weigh unlike, before anything is sampled.
    drpo_weights(torch.tensor([True]), torch.tensor([1]), torch.tensor([0]), lam=lam, max_tokens=cap)
    return _decoupled(
        "drpo",
        "DRPO: Efficient Reasoning via Decoupled Reward Policy Optimization, arXiv 2510.04474",
        "shorter right answers weigh more among the right ones; wrong ones are contrasted",
        cap, lam, tau, kl_limit, kl_coef,
    )  # fmt: skip


def disco(*, cap: int, tau: float = 10.0, kl_limit: float = 1e-4, kl_coef: float = 1e3) -> Method:
    """DRPO without its length term: all right answers weigh alike."""
    return _decoupled(
        "disco",
        "DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained Optimization, arXiv 2505.12366",
        "right answers contrasted with wrong ones under a trust region, no length term",
        cap, math.inf, tau, kl_limit, kl_coef,
    )  # fmt: skip


def _decoupled(
    name: str, paper: str, summary: str, cap: int, lam: float, tau: float, kl_limit: float, kl_coef: float
) -> Method:
    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        r = inputs.rollouts
        return drpo_loss(
            inputs.logp, inputs.old_logp, inputs.mask, r.correct, r.num_tokens, r.group_ids,
            lam=lam, tau=tau, max_tokens=cap, kl_limit=kl_limit, kl_coef=kl_coef,
            normaliser=inputs.normaliser, batch_kl=inputs.shared,
        )  # fmt: skip

    options = {"cap": cap, "tau": tau, "kl_limit": kl_limit, "kl_coef": kl_coef}
    return Method(
        name=name,
        paper=paper,
        summary=summary,
        options=options if math.isinf(lam) else options | {"lam": lam},
        cap=lambda step, state: constant_cap(step, cap=cap),
        reward=lambda r, state: r.correct.float(),
        # The loss takes correctness and length itself; the sign alone is shown in the metrics.
        advantage=lambda rewards, r: torch.where(r.correct, 1.0, -1.0),
        loss=loss,
        normaliser=lambda r: drpo_questions(r.correct, r.group_ids),
        # The trust region is over all tokens of a mini-batch, whatever parts it is worked in.
        shared=lambda logp, old_logp, mask: (float(kl_penalty(old_logp, logp, mask, kind="k1")), int(mask.sum())),
        coupling="group",
        takes_advantages=False,
    )
