"""T-PPO: PPO that learns from windows of responses that are still being written. arXiv 2506.15050.

Every step writes at most a window of tokens per response, learns from it with an advantage that needs no ending,
and lets what is not done go on under the new policy. `ppo` is the same with a window as long as the cap: the
synchronous baseline with the same critic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial

import torch

from lengthwise.config.definition import again, setting
from lengthwise.engine.method import Method
from lengthwise.engine.ppo.windows import Windows
from lengthwise.methods._parts import Clips, DualClip, part_of, surrogate, surrogate_normaliser
from lengthwise.methods.declaration import CAPS, Options, declare
from lengthwise.objectives import constant_cap, whitened


class PpoOptions(Options):
    """Options of PPO with T-PPO's critic."""

    lam_floor: float = setting(0.95, ge=0, le=1, help="Least lambda of the policy's advantages.")
    alpha: float = setting(0.05, gt=0, help="The policy's lambda is 1 - 1 / (alpha * response tokens).")
    lam_critic: float = setting(1.0, ge=0, le=1, help="Lambda of the critic's targets; 1: what was earned.")
    critic_lr: float = setting(2.5, gt=0, help="Learning rate of the critic, in units of the policy's.")
    critic_warmup: int = setting(10, ge=0, help="First steps, in which the critic learns alone.")
    lm_weight: float = setting(0.1, ge=0, help="Weight of the likelihood of right responses.")


class TPpoOptions(PpoOptions, Clips, DualClip):
    """Options of T-PPO."""

    window: int = setting(
        ge=1, help="Most tokens that a response gets in a step.", default_text="a third of the cap",
        refusal="a window has at least 1 token",
    )  # fmt: skip
    gamma: float = setting(1.0, ge=0, le=1, help="Discount of what is earned later.")
    tail_ignore: int = setting(0, ge=0, help="Last tokens of an unfinished window that are not learnt from.")
    value_clip_low: float = setting(0.5, ge=0, help="How far a value may fall below the old one in a batch.")
    value_clip_high: float = setting(0.6, ge=0, help="How far a value may rise above the old one in a batch.")
    clip_high: float = again(Clips, "clip_high", 0.28)

    @classmethod
    def dependent_defaults(cls, given: Mapping[str, object]) -> dict[str, object]:
        """A window is a third of the cap."""
        return {"window": part_of(given["cap"], 3)}


@declare(
    "t-ppo",
    TPpoOptions,
    paper="Truncated Proximal Policy Optimization, arXiv 2506.15050",
    summary="PPO on windows of unfinished responses, extended GAE",
    knob=CAPS,
)
def t_ppo(options: TPpoOptions) -> Method:
    """Truncated PPO with windows of a third of `cap` response tokens, or of `window`; reward 1 if right, else -1.

    `critic_lr` is the value model's rate in units of the policy's (2e-6 / 8e-7); the rest as in `Windows`. The
    paper's own settings were not available; these are those of public code (not the authors') and of T-PPO's
    ancestors VC-PPO, arXiv 2503.01491, and VAPO, arXiv 2504.05118. Differs from that code: all tokens of a window
    are learnt from (`tail_ignore` 8 there), and so is every response that is written.
    """
    return _windowed(options)


@declare(
    "ppo",
    PpoOptions,
    paper="Proximal Policy Optimization Algorithms, arXiv 1707.06347",
    summary="synchronous PPO with T-PPO's critic",
    knob=CAPS,
)
def ppo(options: PpoOptions) -> Method:
    """PPO with T-PPO's critic and length-adaptive lambda: every response is written to its end in one step."""
    return _windowed(TPpoOptions.of(**options.flat(), window=options.cap))


def _windowed(options: TPpoOptions) -> Method:
    cap = options.cap
    windows = Windows(**{part.name: getattr(options, part.name) for part in fields(Windows)})
    return Method(
        windows=windows,
        cap=lambda step, state: constant_cap(step, cap=cap),
        reward=lambda rollouts, state: torch.where(rollouts.correct, 1.0, -1.0),
        advantage=lambda credit, rollouts: whitened(credit, rollouts.train_mask),
        loss=partial(
            surrogate, clip_low=options.clip_low, clip_high=options.clip_high, dual_clip=options.dual_clip,
            aggregate="token-mean", cap=cap,
        ),
        normaliser=partial(surrogate_normaliser, aggregate="token-mean", cap=cap),
    )  # fmt: skip
