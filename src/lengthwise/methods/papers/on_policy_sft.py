"""On-Policy SFT: likelihood of the model's own right and short enough answers, and nothing else. arXiv 2602.13407.

Read through a detailed secondary account; facts of its code are from the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lengthwise.config.definition import setting
from lengthwise.engine.method import LossInputs, Method, State
from lengthwise.engine.rollouts import Rollouts
from lengthwise.methods.declaration import CAPS, Options, declare
from lengthwise.objectives import constant_cap, filtered_likelihood, filtered_normaliser
from lengthwise.objectives._wide import wide


class OnPolicySftOptions(Options):
    """Options of On-Policy SFT."""

    divisor: Literal["longest", "token-mean", "row"] = setting(
        "longest",
        help="What likelihoods are divided by: the longest kept response for all, all kept tokens, or each row's own.",
    )


@declare(
    "on-policy-sft",
    OnPolicySftOptions,
    paper="On-Policy Supervised Fine-Tuning for Efficient Reasoning, arXiv 2602.13407",
    summary="likelihood of fresh answers that are right and finished within the cap; no reward, no baseline",
    knob=CAPS,
)
def on_policy_sft(options: OnPolicySftOptions) -> Method:
    """Maximum likelihood of the answers that are right and finished within `cap`; all others change nothing.

    Groups do not enter. The paper's own divisor is ``longest``; with ``row`` it collapses. Take `--updates 1`: later
    updates of a batch are off-policy without a ratio. Differs from the authors' code, which keeps right answers that
    were cut and takes the mean of means of micro-batches.
    """

    def loss(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        found = kept(inputs.rollouts)
        value = filtered_likelihood(
            inputs.logp, inputs.mask, found, divisor=options.divisor, normaliser=inputs.normaliser
        )
        return value, {"tokens": (inputs.mask & found[:, None]).sum()}

    return Method(
        cap=lambda step, state: constant_cap(step, cap=options.cap),
        reward=lambda r, state: wide(kept(r)),
        advantage=lambda rewards, r: rewards,
        loss=loss,
        normaliser=partial(_normaliser, divisor=options.divisor),
        takes_advantages=False,
        signal_alone=True,
        temperature=1.0,
        measure=_measured,
    )


def kept(rollouts: Rollouts) -> Tensor:
    """The rows that are learnt from, bool [B]."""
    return rollouts.correct & (rollouts.num_tokens <= rollouts.cap)


def _normaliser(rollouts: Rollouts, *, divisor: str) -> float:
    return filtered_normaliser(rollouts.train_mask, kept(rollouts), divisor=divisor)


def _measured(rollouts: Rollouts, state: State, advantages: Tensor) -> Mapping[str, float]:
    """Shares of kept rows and of prompts without one, and the longest kept response, which every step is divided by."""
    found = kept(rollouts)
    without = set(rollouts.group_ids.tolist()) - set(rollouts.group_ids[found].tolist())
    return {
        "kept_share": float(wide(found).mean()),
        "prompts_without": len(without) / len(rollouts.group_ids.unique()),
        "longest_kept": float(torch.where(found, rollouts.num_tokens, 0).max()),
    }
