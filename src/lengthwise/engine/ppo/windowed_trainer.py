"""T-PPO's training loop: write a window, learn from it at once, and let what is not done go on in the next step.

Truncated Proximal Policy Optimization, arXiv 2506.15050. Nobody waits for the longest response: a step costs at
most a window of decode steps. With a window as long as the cap it is synchronous PPO with the same critic.
Shapes: B rows (responses in a step), W tokens of the window, T response tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.transformers_sampler import World
from lengthwise.engine.batches import (
    Collected,
    ask_problem,
    grade_rollouts,
    problem_at,
    step_generator,
    world_generator,
)
from lengthwise.engine.method import Loss, LossInputs, Method, finite
from lengthwise.engine.ppo.critic import Critic, estimate, update_critic
from lengthwise.engine.ppo.rollout_buffer import Pool, Response, as_rollouts, padded
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.trainer import UPDATE_STAGE, Trainer, _fingerprint, _rollout_metrics
from lengthwise.engine.updates import update_policy
from lengthwise.objectives import (
    egae,
    explained_variance,
    gae,
    length_adaptive_lambda,
    positive_lm,
    returns_to_go,
    round_half_up,
    window_mask,
)

CRITIC_STAGE = 3_000


class WindowedTrainer(Trainer):
    """Carries a method with windows out; folder, config and checkpoints are those of `Trainer`, its pool among them.

    A step writes `prompts * group_size` windows: responses that go on first, then new ones. `critic` is a value
    model to start from; by default it is made of the policy. `model` is policy and critic together.
    """

    def __init__(
        self, model: Any, *, method: Method, config: Training, critic: Critic | None = None, **options: Any
    ) -> None:
        super().__init__(model, method=method, config=config, **options)
        assert method.windows is not None, "the method has windows"
        self.windows = method.windows
        self.critic = Critic(model) if critic is None else critic
        self.model = torch.nn.ModuleDict({"policy": model, "critic": self.critic})
        self.value_parameters: list[Tensor] = [p for p in self.critic.parameters() if p.requires_grad]
        # AdamW leaves parameters without a gradient alone, so each model's step moves that model only.
        self.optimizer = torch.optim.AdamW(
            [{"params": self.parameters}, {"params": self.value_parameters}],
            lr=config.lr,
            weight_decay=config.weight_decay,
        )
        self.pool = Pool()
        self.state = {"method": method.initial_state(), "pool": self.pool.state}

    def _continue(self) -> None:
        super()._continue()
        self.pool = Pool.from_state(self.state["pool"])

    def _one_step(self) -> dict[str, Any]:
        config, started = self.config, time.perf_counter()
        batch = self.pool.take(config.prompts * config.group_size, self._begin)
        going_on = sum(bool(response.tokens) for response in batch)
        with self.compute():
            self._write(batch)
        sampled = time.perf_counter()
        new = [len(response.tokens) - response.start for response in batch]
        metrics = {
            "step": self.step + 1,
            "cap": max(response.cap for response in batch),
            **self._learn(batch),
            "going_on": going_on,
            "done": sum(response.done for response in batch),
            "decode_steps": decode_steps(new, config.sample_rows),
        }
        self.pool.requeue(batch)
        self.state = {"method": self.state["method"], "pool": self.pool.state}
        self.sampled_tokens += sum(new)
        self.step += 1
        ended = time.perf_counter()
        self.seconds += ended - started
        metrics |= {
            "sampled_tokens": self.sampled_tokens,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds_sample": sampled - started,
            "seconds_update": ended - sampled,
            "seconds": self.seconds,
        }
        # Without a done response there is nothing to judge a step by. What is said of groups is not for a critic.
        of_groups = {"uniform_groups": 0.0, "groups": 0, "groups_wanted": 0, "draws": 1}
        metrics["warnings"] = self.watch.look(metrics | of_groups) if metrics["done"] else []
        return metrics

    def _begin(self, count: int) -> list[Response]:
        """New responses, problem by problem: a group whose slots are not all free goes on in the next step."""
        size, seed, begun = self.config.group_size, self.config.seed, []
        cap = round_half_up(self.method.cap(self.step, self.state["method"]))
        check_learnable(self.sampler.model.config, self.longest_prompt + cap)
        for serial in range(self.cursor, self.cursor + count):
            group, sample = divmod(serial, size)
            problem = problem_at(group, len(self.task.prompts), seed)
            prompt = ask_problem(self.task, self.method, problem, size)[sample].prompt
            begun.append(Response(serial=serial, problem=problem, group=group, cap=cap, prompt=prompt))
        self.cursor += count
        return begun

    def _write(self, batch: list[Response]) -> None:
        """Let the policy write the next window of every response."""
        config, window = self.config, self.windows.window
        written = self.sampler.resume(
            self._rollouts(batch),
            caps=[min(len(response.tokens) + window, response.cap) for response in batch],
            generator=step_generator(config.seed, self.step, 0, self.sampler.model.device),
            temperature=config.temperature,
            policy_version=self.step,
            world=self._world(batch),
        )
        for row, response in enumerate(batch):
            response.extend(written, row)

    def _world(self, batch: list[Response]) -> World | None:
        """One world for each response, from numbers of its own: what it says is the same in every window."""
        if self.task.world is None:
            return None
        seed, make = self.config.seed, self.task.world
        worlds = [make([response.problem], world_generator(seed, response.serial, 0)) for response in batch]
        if all(world is None for world in worlds):
            return None

        def write(row: int, tokens: Sequence[int]) -> int | None:
            world = worlds[row]
            return None if world is None else world(0, tokens)

        return write

    def _rollouts(self, batch: Sequence[Response], first: Sequence[int] | None = None) -> Rollouts:
        return as_rollouts(batch, pad_id=self.sampler.pad_id, device=self.sampler.model.device, first=first)

    def _learn(self, batch: list[Response]) -> dict[str, Any]:
        """Score, credit and update on one batch of windows; returns their metrics."""
        config, plan = self.config, self.windows
        warm = min(1.0, (self.step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
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
            said = self.method.reward(answers, self.state["method"])
            rewards[windows.done] = finite(self.method.name, "reward", said).to(values)
        windows, advantages = self._credit(batch, windows, values, rewards)
        policy_learns = self.step >= plan.critic_warmup
        watched = self.parameters if policy_learns else [*self.parameters, *self.value_parameters]
        before = _fingerprint(watched)
        metrics: dict[str, Any] = {"accuracy": None, "mean_tokens": None, "updates": 0, "trained_tokens": 0.0}
        with self.compute():
            if answers is not None:
                metrics |= self._update_critic([r for r in batch if r.done], answers, rewards[windows.done])
            if policy_learns:
                metrics |= self._update_policy(batch, windows, advantages, rewards > 0)
        metrics["weights_moved"] = sum(abs(a - b) for a, b in zip(before, _fingerprint(watched), strict=True))
        if answers is not None:
            credit = (advantages.sum(1) / windows.num_tokens)[windows.done]
            seen = Collected(drawn=answers, kept=answers, draws=1, cursor=self.cursor)
            metrics |= _rollout_metrics(seen, rewards[windows.done], credit)
            # Rows of one prompt are done in different steps, so a step's groups are no groups.
            for name in ("uniform_groups", "groups", "draws", "length_alone"):
                del metrics[name]
            inner = self.method.update_state(self.state["method"], answers)
            self.state = {**self.state, "method": inner}
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

    def _update_critic(self, done: list[Response], answers: Rollouts, rewards: Tensor) -> dict[str, Any]:
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
            generator=step_generator(config.seed, self.step, CRITIC_STAGE, torch.device("cpu")),
        )  # fmt: skip
        return {**stats, "explained_variance": explained_variance(old, returns, answers.mask)}

    def _update_policy(
        self, batch: list[Response], windows: Rollouts, advantages: Tensor, rewarded: Tensor
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
            generator=step_generator(self.config.seed, self.step, UPDATE_STAGE, torch.device("cpu")),
            reference=self.reference,
        )  # fmt: skip


def decode_steps(new: Sequence[int], max_rows: int) -> int:
    """Decode steps that write `new[i]` tokens in row i, at most `max_rows` rows at a time (0: all at once)."""
    rows = max_rows or len(new)
    return sum(max(new[at : at + rows]) for at in range(0, len(new), rows))


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
