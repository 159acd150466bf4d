"""The usual step: whole groups are sampled, rewarded against each other and learnt from at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.protocol import Backend
from lengthwise.engine.batches import OBSERVE_STAGE, Collected, Task, collect, nothing_kept, step_generator
from lengthwise.engine.extra_losses import Resolved
from lengthwise.engine.gates import own_metrics
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import Method, finite
from lengthwise.engine.rollout_metrics import drawn_metrics, fingerprint, rollout_metrics
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.training_state import Learnt, TrainingState
from lengthwise.engine.updates import UpdatePlan, update_policy
from lengthwise.errors import ConfigError
from lengthwise.objectives import round_half_up

UPDATE_STAGE = 4_000
Compute = Callable[[], AbstractContextManager[Any]]
"""Makes the context (for example autocast) in which the model runs."""


@dataclass(frozen=True)
class GroupBatch:
    """What one step drew, under which cap."""

    rollouts: Collected
    cap: int


class GroupCollector:
    """Samples whole groups under the method's cap, watched problems before them."""

    def __init__(
        self, backend: Backend, task: Task, method: Method, config: Training, compute: Compute, model_config: Any
    ) -> None:
        self.backend, self.task, self.method, self.config, self.compute = backend, task, method, config, compute
        self.longest_prompt = max(len(prompt) for prompt in task.prompts)
        self.model_config = model_config

    @property
    def state(self) -> None:
        """Nothing is held between steps."""
        return None

    def load_state(self, state: list[dict[str, Any]]) -> None:
        """Nothing is held between steps."""

    def collect(self, run: TrainingState) -> GroupBatch:
        """The next batch; perhaps none of its groups is worth keeping.

        Raises:
            ConfigError: the method's cap is below 1.
            UnsupportedModelError: rotary factors under which so long responses cannot be scored as they were drawn.
        """
        cap = round_half_up(self.method.cap(run.step, run.method))
        if cap < 1:
            raise ConfigError(f"the cap of step {run.step} is {cap}; a response has at least 1 token")
        check_learnable(self.model_config, self.longest_prompt + cap)
        self._observe(run, cap)
        config = self.config
        batch = self._collect(
            run, self.method, cap, cursor=run.cursor, prompts=config.prompts, draws=config.max_draws
        )  # fmt: skip
        run.cursor = batch.cursor
        # rows that share a thinking learn it once, where it was drawn
        once = batch.drawn.num_tokens if self.method.cuts is None else batch.drawn.train_mask
        run.sampled_tokens += int(once.sum())
        return GroupBatch(batch, cap)

    def _collect(
        self, run: TrainingState, method: Method, cap: int, *, cursor: int, prompts: int, draws: int, stage: int = 0
    ) -> Collected:
        config = self.config
        with self.compute():
            return collect(
                self.backend, self.task, method, run.method,
                step=run.step, cap=cap, cursor=cursor, prompts=prompts, group_size=config.group_size,
                max_draws=draws, temperature=config.temperature, seed=config.seed, stage=stage,
            )  # fmt: skip

    def _observe(self, run: TrainingState, cap: int) -> None:
        watched = self.method.observe
        if watched is None or run.step % watched.every:
            return
        everything = dataclasses.replace(self.method, keep=None)
        seen = self._collect(run, everything, cap, cursor=0, prompts=watched.prompts, draws=1, stage=OBSERVE_STAGE)
        run.method = watched.update(run.method, seen.drawn)
        run.sampled_tokens += int(seen.drawn.num_tokens.sum())


class GroupLearner:
    """Rewards, credits and updates on a batch of groups."""

    def __init__(
        self,
        scorer: Scorer,
        method: Method,
        config: Training,
        compute: Compute,
        *,
        reference: Scorer | None = None,
        extras: Sequence[Resolved] = (),
    ) -> None:
        self.scorer, self.method, self.config, self.compute = scorer, method, config, compute
        self.reference, self.extras = reference, extras
        self.model = scorer.model
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            self.parameters, lr=config.lr, weight_decay=config.weight_decay
        )
        self.plan = UpdatePlan.of(config)

    def learn(self, batch: GroupBatch, run: TrainingState) -> Learnt:
        """Learn from what was kept; without a group that was, leave the weights alone and say so."""
        found, method = batch.rollouts, self.method
        if not len(found.kept):
            return self._skip(batch, run, nothing_kept(batch.rollouts, batch.cap))
        run.skipped = 0
        rewards = finite(method.name, "reward", method.reward(found.kept, run.method))
        advantages = finite(method.name, "advantage", method.advantage(rewards, found.kept))
        before = fingerprint(self.parameters)
        with self.compute():
            stats = self._update(found, advantages, run)
        moved = sum(abs(a - b) for a, b in zip(before, fingerprint(self.parameters), strict=True))
        metrics: dict[str, object] = {
            "cap": batch.cap,
            **rollout_metrics(found, rewards, advantages),
            **own_metrics(method, found.kept, run.method, advantages),
            **stats,
            "groups_wanted": self.config.prompts,
            "weights_moved": moved,
        }
        run.method = method.update_state(run.method, found.drawn)
        return Learnt(metrics, judged={})

    def _skip(self, batch: GroupBatch, run: TrainingState, why: str) -> Learnt:
        run.skipped += 1
        run.method = self.method.update_state(run.method, batch.rollouts.drawn)
        metrics: dict[str, object] = {
            "cap": batch.cap,
            "skipped": run.skipped,
            **drawn_metrics(batch.rollouts),
            "groups": 0,
            "groups_wanted": self.config.prompts,
            "updates": 0,
        }
        return Learnt(metrics, judged=None, said=(f"skipped, {why}",))

    def _update(self, batch: Collected, advantages: Tensor, run: TrainingState) -> dict[str, float]:
        self._warm(run.step)
        return update_policy(
            self.scorer, self.optimizer, self.parameters, self.method, batch.kept, advantages, self.plan,
            generator=step_generator(self.config.seed, run.step, UPDATE_STAGE, torch.device("cpu")),
            reference=self.reference, extras=self.extras,
        )  # fmt: skip

    def _warm(self, step: int) -> None:
        """Set the learning rate of a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * warm_up(self.config, step)


def warm_up(config: Training, step: int) -> float:
    """The share of the learning rate that a step learns at."""
    return min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
