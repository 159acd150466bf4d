"""DRPO: length decides among right answers only. arXiv 2510.04474. Its base without a length term: DisCO, 2505.12366.

Right answers are weighted among themselves, shorter ones heavier and never negative, and contrasted with the wrong
ones; a trust region takes the place of clipping.
"""

from __future__ import annotations

import math

import torch
from pydantic import field_validator
from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import LossInputs, Method
from lengthwise.errors import ConfigError
from lengthwise.methods.declaration import CAPS, Knob, Options, declare
from lengthwise.objectives import constant_cap, drpo_questions, drpo_weights, kl_penalty
from lengthwise.objectives import drpo as drpo_loss


class DiscoOptions(Options):
    """Options of DisCO."""

    tau: float = setting(10.0, gt=0, help="Temperature at which right answers are contrasted with wrong ones.")
    kl_limit: float = setting(1e-4, ge=0, help="KL of a mini-batch above which the trust region pulls back.")
    kl_coef: float = setting(1e3, ge=0, help="Strength of the trust region.")


class DrpoOptions(DiscoOptions):
    """Options of DRPO."""

    lam: float = setting(0.1, gt=0, help="How evenly right answers weigh: the smaller, the more the short ones.")

    @field_validator("lam", mode="before")
    @classmethod
    def _finite(cls, lam: object) -> object:
        if lam == math.inf:
            raise ConfigError("lam is inf, which is DisCO; take the method disco")
        return lam

    def check(self) -> None:
        """A lam under which lengths up to the cap weigh unlike."""
        super().check()
        drpo_weights(torch.tensor([True]), torch.tensor([1]), torch.tensor([0]), lam=self.lam, max_tokens=self.cap)


@declare(
    "drpo",
    DrpoOptions,
    paper="DRPO: Efficient Reasoning via Decoupled Reward Policy Optimization, arXiv 2510.04474",
    summary="shorter right answers weigh more among the right ones; wrong ones are contrasted",
    knob=Knob("lam", (0.1, 0.2, 0.5, 1.0)),
)
def drpo(options: DrpoOptions) -> Method:
    """Decoupled reward policy optimisation; `cap` is the C of its length reward.

    `kl_limit` and `kl_coef` are those of the trust region. The logged accuracy of a step is unaffected by `lam`.
    """
    return _decoupled(options, options.lam)


@declare(
    "disco",
    DiscoOptions,
    paper="DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained Optimization, arXiv 2505.12366",
    summary="right answers contrasted with wrong ones under a trust region, no length term",
    knob=CAPS,
)
def disco(options: DiscoOptions) -> Method:
    """DRPO without its length term: all right answers weigh alike."""
    return _decoupled(options, math.inf)


def _decoupled(options: DiscoOptions, lam: float) -> Method:
    cap = options.cap

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        r = inputs.rollouts
        return drpo_loss(
            inputs.logp, inputs.old_logp, inputs.mask, r.correct, r.num_tokens, r.group_ids,
            lam=lam, tau=options.tau, max_tokens=cap, kl_limit=options.kl_limit, kl_coef=options.kl_coef,
            normaliser=inputs.normaliser, batch_kl=inputs.shared,
        )  # fmt: skip

    return Method(
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
