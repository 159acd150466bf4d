"""T-PPO: PPO that learns from windows of responses that are still being written. arXiv 2506.15050.

Every step writes at most a window of tokens per response, learns from it with an advantage that needs no ending,
and lets what is not done go on under the new policy. `ppo` is the same with a window as long as the cap: the
synchronous baseline with the same critic.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import torch

from lengthwise.engine.ppo.windowed_trainer import Windowed, Windows
from lengthwise.methods._parts import surrogate, surrogate_normaliser
from lengthwise.objectives import constant_cap, whitened


def t_ppo(
    *,
    cap: int,
    window: int | None = None,
    gamma: float = 1.0,
    lam_floor: float = 0.95,
    alpha: float = 0.05,
    lam_critic: float = 1.0,
    tail_ignore: int = 0,
    critic_lr: float = 2.5,
    critic_warmup: int = 10,
    value_clip_low: float = 0.5,
    value_clip_high: float = 0.6,
    lm_weight: float = 0.1,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = 10.0,
) -> Windowed:
    """Truncated PPO with windows of a third of `cap` response tokens, or of `window`; reward 1 if right, else -1.

    `critic_lr` is the value model's rate in units of the policy's (2e-6 / 8e-7); the rest as in `Windows`. The
    paper's own settings were not available; these are those of public code (not the authors') and of T-PPO's
    ancestors VC-PPO, arXiv 2503.01491, and VAPO, arXiv 2504.05118. Differs from that code: all tokens of a window
    are learnt from (`tail_ignore` 8 there), and so is every response that is written.
    """
    windows = Windows(
        window=-(-cap // 3) if window is None else window, gamma=gamma, lam_floor=lam_floor, alpha=alpha,
        lam_critic=lam_critic, tail_ignore=tail_ignore, critic_lr=critic_lr, critic_warmup=critic_warmup,
        value_clip_low=value_clip_low, value_clip_high=value_clip_high, lm_weight=lm_weight,
    )  # fmt: skip
    clips = {"clip_low": clip_low, "clip_high": clip_high, "dual_clip": dual_clip}
    return Windowed(
        name="t-ppo",
        paper="Truncated Proximal Policy Optimization, arXiv 2506.15050",
        summary="PPO on windows of unfinished responses, extended GAE",
        options={"cap": cap, **asdict(windows), **clips},
        windows=windows,
        cap=lambda step, state: constant_cap(step, cap=cap),
        reward=lambda rollouts, state: torch.where(rollouts.correct, 1.0, -1.0),
        advantage=lambda credit, rollouts: whitened(credit, rollouts.train_mask),
        loss=partial(surrogate, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip, aggregate="token-mean",
                     cap=cap),
        normaliser=partial(surrogate_normaliser, aggregate="token-mean", cap=cap),
    )  # fmt: skip


def ppo(
    *,
    cap: int,
    lam_floor: float = 0.95,
    alpha: float = 0.05,
    lam_critic: float = 1.0,
    critic_lr: float = 2.5,
    critic_warmup: int = 10,
    lm_weight: float = 0.1,
) -> Windowed:
    """PPO with T-PPO's critic and length-adaptive lambda: every response is written to its end in one step."""
    options = {
        "lam_floor": lam_floor, "alpha": alpha, "lam_critic": lam_critic, "critic_lr": critic_lr,
        "critic_warmup": critic_warmup, "lm_weight": lm_weight,
    }  # fmt: skip
    method = t_ppo(cap=cap, window=cap, **options)  # type: ignore[arg-type]
    return replace(
        method,
        name="ppo",
        paper="Proximal Policy Optimization Algorithms, arXiv 1707.06347",
        summary="synchronous PPO with T-PPO's critic",
        options={"cap": cap, **options},
    )
