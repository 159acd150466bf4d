"""The training loop: sample, grade, shape, credit, update, save."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.batches import (
    OBSERVE_STAGE,
    Collected,
    Task,
    check_needs,
    collect,
    nothing_kept,
    step_generator,
)
from lengthwise.engine.checkpoint import newest_checkpoint, restore, save_checkpoint
from lengthwise.engine.extra_losses import resolve_extras
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import Method, State, finite
from lengthwise.engine.metrics_log import RunLog
from lengthwise.engine.rollouts import Rollouts
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.step_warnings import Watch, schedule_warning
from lengthwise.engine.updates import UpdatePlan, update_policy
from lengthwise.errors import ConfigError, LengthwiseWarning, TrainingError
from lengthwise.objectives import round_half_up
from lengthwise.objectives._wide import wide

UPDATE_STAGE = 4_000
MOST_SKIPPED = 10
"""Steps in a row without a batch to learn from, after which a run ends."""


def check_method(method: Method, config: Training) -> None:
    """See that a method takes what a run's settings ask of its loss.

    Raises:
        ConfigError: importance weights for a loss that does not take advantages, through which they come.
    """
    if config.truncate_importance is not None and not method.takes_advantages:
        raise ConfigError(
            f"truncate_importance is {config.truncate_importance}, but the loss of method {method.name!r} takes no "
            "advantages, which importance weights multiply; leave it out, or take another method"
        )


class Trainer:
    """Carries a method out on one device; the same folder and config continue where a killed run stopped.

    `reference` is the frozen model that a method with a KL penalty is held to; a model with an adapter is held to
    itself without it, and needs none. `compute` makes the context (for
    example autocast) in which the model runs.
    """

    def __init__(
        self,
        model: Any,
        *,
        method: Method,
        task: Task,
        config: Training,
        folder: Path,
        eos_ids: list[int],
        pad_id: int,
        reference: Any = None,
        compute: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        own = reference is None and hasattr(model, "disable_adapter")
        if method.kl_coef > 0 and reference is None and not own:
            raise ConfigError(f"method {method.name!r} has kl_coef {method.kl_coef} but no reference model is given")
        check_needs(task, method, config.group_size)
        check_method(method, config)
        self.model, self.method, self.task, self.config = model, method, task, config
        self.extras = resolve_extras(method, task)
        self.folder, self.compute = folder, compute
        self.sampler = Sampler(model, eos_ids=eos_ids, pad_id=pad_id, max_rows=config.sample_rows)
        self.scorer = Scorer(model, temperature=config.temperature)
        self.reference = None
        if method.kl_coef > 0:
            self.reference = Scorer(model if own else reference, temperature=config.temperature, adapted=not own)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=config.weight_decay)
        self.plan = UpdatePlan(config.updates, config.micro_batch_tokens, config.grad_clip, config.truncate_importance)
        self.longest_prompt = max(len(prompt) for prompt in task.prompts)
        self.step, self.cursor, self.sampled_tokens, self.seconds = 0, 0, 0, 0.0
        self.state: State = method.initial_state()
        self.watch = Watch()
        self.skipped = 0  # steps in a row

    def train(self, on_step: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Run to `config.steps`, continuing from the newest sound checkpoint; `on_step` gets each step's metrics.

        A step whose batch holds nothing worth learning from is skipped with a warning.

        Raises:
            TrainingError: `MOST_SKIPPED` steps in a row were skipped, or all that there are, or a number is not finite.
                The same call goes on: after skipped steps with the problems that follow.
        """
        too_long = schedule_warning(self.method.options, self.config.steps)
        if too_long is not None:
            warnings.warn(too_long, LengthwiseWarning, stacklevel=2)
        self._continue()
        log = RunLog(self.folder, step=self.step)
        try:
            while not self._finished():
                metrics = self._one_step()
                for text in metrics["warnings"]:
                    warnings.warn(f"step {self.step}: {text}", LengthwiseWarning, stacklevel=2)
                log.write(metrics)
                why = self._gives_up(metrics)
                if why is not None:
                    self.skipped = 0  # in the checkpoint, so that the same call goes on behind these problems
                if why is not None or self.step % self.config.checkpoint_every == 0 or self._finished():
                    self._save()
                if on_step is not None:
                    on_step(metrics)
                if why is not None:
                    raise TrainingError(why)
        finally:
            log.close()

    def _gives_up(self, metrics: dict[str, Any]) -> str | None:
        """Why a run ends that only skips: `MOST_SKIPPED` steps in a row, or all that it has."""
        every = self._finished() and self.skipped == self.step
        if self.skipped < MOST_SKIPPED and not every:
            return None
        goes_on = "" if self._finished() else ". The same command goes on with the next problems"
        return f"{self.skipped} steps in a row had nothing to learn from. The last: {metrics['warnings'][0]}{goes_on}"

    def _finished(self) -> bool:
        budget = self.config.token_budget
        return self.step >= self.config.steps or (budget is not None and self.sampled_tokens >= budget)

    def _continue(self) -> None:
        found = newest_checkpoint(self.folder / "checkpoints")
        if found is None:
            return
        restore(found, self.model, self.optimizer)
        saved = found.state
        self.step, self.cursor, self.state = saved["step"], saved["cursor"], saved["method"]
        self.sampled_tokens, self.seconds = saved["sampled_tokens"], saved["seconds"]
        self.watch, self.skipped = Watch(saved["watch"]), saved.get("skipped", 0)

    def _save(self) -> None:
        state = {
            "cursor": self.cursor,
            "method": dict(self.state),
            "sampled_tokens": self.sampled_tokens,
            "seconds": self.seconds,
            "watch": self.watch.state,
            "skipped": self.skipped,
        }
        save_checkpoint(
            self.folder / "checkpoints",
            step=self.step,
            model=self.model,
            optimizer=self.optimizer,
            state=state,
        )

    def _one_step(self) -> dict[str, Any]:
        config, started = self.config, time.perf_counter()
        cap = round_half_up(self.method.cap(self.step, self.state))
        if cap < 1:
            raise ConfigError(f"the cap of step {self.step} is {cap}; a response has at least 1 token")
        check_learnable(self.sampler.model.config, self.longest_prompt + cap)
        self._observe(cap)
        batch = self._collect(self.method, cap, cursor=self.cursor, prompts=config.prompts, draws=config.max_draws)
        if not len(batch.kept):
            return self._skip(batch, cap, started)
        self.skipped, sampled = 0, time.perf_counter()
        rewards = finite(self.method.name, "reward", self.method.reward(batch.kept, self.state))
        advantages = finite(self.method.name, "advantage", self.method.advantage(rewards, batch.kept))
        before = _fingerprint(self.parameters)
        with self.compute():
            stats = self._update(batch, advantages)
        moved = sum(abs(a - b) for a, b in zip(before, _fingerprint(self.parameters), strict=True))
        ended = self._count(batch, started)
        metrics = {
            "step": self.step,
            "cap": cap,
            **_rollout_metrics(batch, rewards, advantages),
            **stats,
            "groups_wanted": config.prompts,
            "weights_moved": moved,
            "sampled_tokens": self.sampled_tokens,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds_sample": sampled - started,
            "seconds_update": ended - sampled,
            "seconds": self.seconds,
        }
        metrics["warnings"] = self.watch.look(metrics)
        return metrics

    def _count(self, batch: Collected, started: float) -> float:
        """Go on behind this batch; returns the time."""
        self.state = self.method.update_state(self.state, batch.drawn)
        self.cursor = batch.cursor
        self.sampled_tokens += int(batch.drawn.num_tokens.sum())
        self.step += 1
        ended = time.perf_counter()
        self.seconds += ended - started
        return ended

    def _skip(self, batch: Collected, cap: int, started: float) -> dict[str, Any]:
        """The metrics of a step that leaves the weights alone, because nothing in its batch was worth keeping."""
        self.skipped += 1
        ended = self._count(batch, started)
        return {
            "step": self.step,
            "cap": cap,
            "skipped": self.skipped,
            **_drawn_metrics(batch),
            "groups": 0,
            "groups_wanted": self.config.prompts,
            "updates": 0,
            "sampled_tokens": self.sampled_tokens,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds_sample": ended - started,
            "seconds_update": 0.0,
            "seconds": self.seconds,
            "warnings": [f"skipped, {nothing_kept(batch, cap)}"],
        }

    def _collect(self, method: Method, cap: int, *, cursor: int, prompts: int, draws: int, stage: int = 0) -> Collected:
        with self.compute():
            return collect(
                self.sampler, self.task, method, self.state,
                step=self.step, cap=cap, cursor=cursor, prompts=prompts, group_size=self.config.group_size,
                max_draws=draws, temperature=self.config.temperature, seed=self.config.seed, stage=stage,
            )  # fmt: skip

    def _observe(self, cap: int) -> None:
        watched = self.method.observe
        if watched is None or self.step % watched.every:
            return
        everything = dataclasses.replace(self.method, keep=None)
        seen = self._collect(everything, cap, cursor=0, prompts=watched.prompts, draws=1, stage=OBSERVE_STAGE)
        self.state = watched.update(self.state, seen.drawn)
        self.sampled_tokens += int(seen.drawn.num_tokens.sum())

    def _update(self, batch: Collected, advantages: Tensor) -> dict[str, float]:
        warm = self.config.warmup_steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * min(1.0, (self.step + 1) / warm) if warm else self.config.lr
        return update_policy(
            self.scorer, self.optimizer, self.parameters, self.method, batch.kept, advantages, self.plan,
            generator=step_generator(self.config.seed, self.step, UPDATE_STAGE, torch.device("cpu")),
            reference=self.reference, extras=self.extras,
        )  # fmt: skip


def _fingerprint(parameters: list[Tensor]) -> list[float]:
    with torch.no_grad():
        return [float(wide(p).abs().sum()) for p in parameters]


def _drawn_metrics(batch: Collected) -> dict[str, Any]:
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


def _rollout_metrics(batch: Collected, rewards: Tensor, advantages: Tensor) -> dict[str, Any]:
    kept = batch.kept
    flat = advantages if advantages.dim() == 1 else (advantages * kept.mask).sum(1) / kept.num_tokens
    # Token weighting can turn a wrong row's advantage positive (dler.md, section 8, row 4): worth watching.
    flipped = ((rewards <= 0) & (flat > 0)) | ((rewards > 0) & (flat < 0))
    return {
        **_drawn_metrics(batch),
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
