"""T-PPO's learning: from windows of responses that are still being written, judged by a critic.

Truncated Proximal Policy Optimization, arXiv 2506.15050. Nobody waits for the longest response: a step costs at
most a window of decode steps. With a window as long as the cap it is synchronous PPO with the same critic.
Shapes: B rows (responses in a step), W tokens of the window, T response tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lengthwise.config.groups.training import Training
from lengthwise.engine.batches import Collected, Task, grade_rollouts, step_generator
from lengthwise.engine.groups import UPDATE_STAGE, Compute, warm_up
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import Loss, LossInputs, Method, finite
from lengthwise.engine.ppo.critic import Critic, estimate, update_critic
from lengthwise.engine.ppo.rollout_buffer import Response, as_rollouts, padded
from lengthwise.engine.ppo.window_collector import WindowBatch, decode_steps
from lengthwise.engine.rollout_metrics import fingerprint, rollout_metrics
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.training_state import Learnt, TrainingState
from lengthwise.engine.updates import UpdatePlan, update_policy
from lengthwise.objectives import (
    egae,
    explained_variance,
    gae,
    length_adaptive_lambda,
    positive_lm,
    returns_to_go,
    window_mask,
)

CRITIC_STAGE = 3_000


class WindowLearner:
    """Updates policy and critic on a step's windows; `model` is both together.

    `critic` is a value model to start from; by default it is made of the policy.
    """

    def __init__(
        self,
        scorer: Scorer,
        task: Task,
        method: Method,
        config: Training,
        compute: Compute,
        *,
        pad_id: int,
        critic: Critic | None = None,
        reference: Scorer | None = None,
    ) -> None:
        assert method.windows is not None, "the method has windows"
        self.windows, self.scorer, self.task, self.method = method.windows, scorer, task, method
        self.config, self.compute, self.pad_id, self.reference = config, compute, pad_id, reference
        policy = scorer.model
        self.device = policy.device
        self.critic = Critic(policy) if critic is None else critic
        self.model: torch.nn.Module = torch.nn.ModuleDict({"policy": policy, "critic": self.critic})
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.value_parameters: list[Tensor] = [p for p in self.critic.parameters() if p.requires_grad]
        # AdamW leaves parameters without a gradient alone, so each model's step moves that model only.
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            [{"params": self.parameters}, {"params": self.value_parameters}],
            lr=config.lr,
            weight_decay=config.weight_decay,
        )
        self.plan = UpdatePlan.of(config)

    def _rollouts(self, batch: Sequence[Response], first: Sequence[int] | None = None) -> Rollouts:
        return as_rollouts(batch, pad_id=self.pad_id, device=self.device, first=first)

    def learn(self, windows: WindowBatch, run: TrainingState) -> Learnt:
        """Score, credit and update on the windows of a step; without a done response there is nothing to judge."""
        batch = windows.responses
        metrics = {
            "cap": max(response.cap for response in batch),
            **self._learn(batch, run),
            "going_on": windows.going_on,
            "done": sum(response.done for response in batch),
            "decode_steps": decode_steps(windows.new, self.config.sample_rows),
        }
        # What is said of groups is not for a critic.
        of_groups = {"uniform_groups": 0.0, "groups": 0, "groups_wanted": 0, "draws": 1}
        return Learnt(metrics, judged=of_groups if metrics["done"] else None)

    def _learn(self, batch: list[Response], run: TrainingState) -> dict[str, object]:
        config, plan = self.config, self.windows
        warm = warm_up(config, run.step)
        for group, rate in zip(self.optimizer.param_groups, (1.0, plan.critic_lr), strict=True):
            group["lr"] = config.lr * warm * rate
        windows = self._rollouts(batch, [response.start for response in batch])
        with self.compute():
            values = estimate(self.critic, windows, config.micro_batch_tokens)
        for row, response in enumerate(batch):
            response.values += values[row, : int(windows.num_tokens[row])].tolist()
        answers = self._answers([response for response in batch if response.done])
        rewards = values.new_zeros(len(batch))
        if answers is not None:
            said = self.method.reward(answers, run.method)
            rewards[windows.done] = finite(self.method.name, "reward", said).to(values)
        windows, advantages = self._credit(batch, windows, values, rewards)
        policy_learns = run.step >= plan.critic_warmup
        watched = self.parameters if policy_learns else [*self.parameters, *self.value_parameters]
        before = fingerprint(watched)
        metrics: dict[str, object] = {"accuracy": None, "mean_tokens": None, "updates": 0, "trained_tokens": 0.0}
        with self.compute():
            if answers is not None:
                metrics |= self._update_critic([r for r in batch if r.done], answers, rewards[windows.done], run.step)
            if policy_learns:
                metrics |= self._update_policy(batch, windows, advantages, rewards > 0, run.step)
        metrics["weights_moved"] = sum(abs(a - b) for a, b in zip(before, fingerprint(watched), strict=True))
        if answers is not None:
            credit = (advantages.sum(1) / windows.num_tokens)[windows.done]
            seen = Collected(drawn=answers, kept=answers, draws=1, cursor=run.cursor)
            metrics |= rollout_metrics(seen, rewards[windows.done], credit)
            # Rows of one prompt are done in different steps, so a step's groups are no groups.
            for name in ("uniform_groups", "groups", "draws", "length_alone"):
                del metrics[name]
            run.method = self.method.update_state(run.method, answers)
        return metrics

    def _answers(self, done: list[Response]) -> Rollouts | None:
        """The graded done responses; None where there is none."""
        return grade_rollouts(self._rollouts(done), self.task) if done else None

    def _credit(
        self, batch: list[Response], windows: Rollouts, values: Tensor, rewards: Tensor
    ) -> tuple[Rollouts, Tensor]:
        """The windows with the policy's `train_mask`, and the advantages float [B, W] of their tokens."""
        plan, done = self.windows, windows.done
        total = windows.num_tokens.new_tensor([len(response.tokens) for response in batch])
        lam = length_adaptive_lambda(total, done, window=plan.window, alpha=plan.alpha, floor=plan.lam_floor)
        credit = egae(_at_the_end(rewards, windows), values, windows.mask, done, gamma=plan.gamma, lam=lam)
        learnt = window_mask(windows.mask, done, window=plan.window, tail_ignore=plan.tail_ignore)
        windows = windows.with_fields(train_mask=learnt & windows.train_mask)
        return windows, finite(self.method.name, "advantage", self.method.advantage(credit, windows))

    def _update_critic(self, done: list[Response], answers: Rollouts, rewards: Tensor, step: int) -> dict[str, object]:
        plan, config = self.windows, self.config
        old = padded([response.values for response in done], torch.float32, rewards.device)
        token_rewards = _at_the_end(rewards, answers)
        if plan.lam_critic == 1:
            returns = returns_to_go(token_rewards, answers.mask, gamma=plan.gamma)
        else:
            returns = old + gae(token_rewards, old, answers.mask, gamma=plan.gamma, lam=plan.lam_critic)
        stats = update_critic(
            self.critic, self.optimizer, self.value_parameters, _apart(answers), old, returns, self.plan,
            clip_low=plan.value_clip_low, clip_high=plan.value_clip_high,
            generator=step_generator(config.seed, step, CRITIC_STAGE, torch.device("cpu")),
        )  # fmt: skip
        return {**stats, "explained_variance": explained_variance(old, returns, answers.mask)}

    def _update_policy(
        self, batch: list[Response], windows: Rollouts, advantages: Tensor, rewarded: Tensor, step: int
    ) -> dict[str, float]:
        weight = self.windows.lm_weight
        imitated = rewarded if weight > 0 else torch.zeros_like(rewarded)
        # Only a response that is imitated needs more than its window scored; of the others the rest is context.
        first = [0 if whole else r.start for r, whole in zip(batch, imitated.tolist(), strict=True)]
        rows = _apart(self._rollouts(batch, first))
        written = rows.train_mask & imitated[:, None]
        offset = windows.num_tokens.new_tensor([r.start - at for r, at in zip(batch, first, strict=True)])
        in_window = rows.mask & (torch.arange(rows.mask.shape[1], device=offset.device) >= offset[:, None])
        rows = rows.with_fields(train_mask=_moved(windows.train_mask, windows.mask, in_window))
        advantages = _moved(advantages, windows.mask, in_window)
        useful = (rows.train_mask | written).any(1)
        if not bool(useful.any()):
            return {}  # the world wrote everything
        updates = min(self.plan.updates, int(useful.sum()))
        loss = partial(
            _loss, surrogate=self.method.loss, written=written, weight=weight,
            tokens=max(int(written.sum()), 1) / updates,
        )  # fmt: skip
        # Rows without an advantage may still be imitated, and a coupled loss is what keeps them in the update.
        method = replace(
            self.method, windows=None, loss=loss, normaliser=partial(_normaliser, own=self.method.normaliser),
            coupling="group",
        )  # fmt: skip
        return update_policy(
            self.scorer, self.optimizer, self.parameters, method, rows.select(useful), advantages[useful],
            self.plan,
            generator=step_generator(self.config.seed, step, UPDATE_STAGE, torch.device("cpu")),
            reference=self.reference,
        )  # fmt: skip


def _at_the_end(rewards: Tensor, rollouts: Rollouts) -> Tensor:
    """Float [B, T]: each row's reward on its last token, 0 before it."""
    blank = rewards.new_zeros(rollouts.mask.shape)
    return blank.scatter(1, (rollouts.num_tokens - 1)[:, None], rewards[:, None])


def _apart(rollouts: Rollouts) -> Rollouts:
    """The same rows, each a group of its own: with a critic rows do not depend on each other."""
    return rollouts.with_fields(group_ids=torch.arange(len(rollouts), device=rollouts.group_ids.device))


def _moved(values: Tensor, mask: Tensor, place: Tensor) -> Tensor:
    """Put the values at `mask` [B, W] to `place` [B, T], which marks as many tokens in each row; 0 elsewhere."""
    return values.new_zeros(place.shape).masked_scatter(place, values[mask])


def _normaliser(rollouts: Rollouts, *, own: Callable[[Rollouts], float]) -> float:
    """A mini-batch's own denominator, over the rows that the surrogate sees."""
    live = rollouts.train_mask.any(1)
    return own(rollouts.select(live)) if bool(live.any()) else 1.0


def _loss(
    inputs: LossInputs, *, surrogate: Loss, written: Tensor, weight: float, tokens: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The surrogate over rows with a token to learn from, and the likelihood of what is imitated.

    `written` bool [all rows of the step, T] marks the imitated tokens; `tokens` are theirs per mini-batch, on
    average, so that a mini-batch with one such response does not pull as hard as one with many.
    """
    rows = inputs.rollouts.group_ids
    chosen = written[rows, : inputs.mask.shape[1]]
    everything = torch.ones_like(rows, dtype=torch.bool)
    loss = weight * positive_lm(inputs.logp, chosen, everything, normaliser=tokens)
    live = inputs.mask.any(1)
    if not bool(live.any()):
        return loss, {}
    if not bool(live.all()):
        inputs = inputs._replace(
            logp=inputs.logp[live], old_logp=inputs.old_logp[live], advantages=inputs.advantages[live],
            mask=inputs.mask[live], rollouts=inputs.rollouts.select(live),
        )  # fmt: skip
    value, stats = surrogate(inputs)
    return value + loss, stats
