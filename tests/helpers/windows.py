"""A windowed trainer on the tiny task, one that remembers what it did, and made-up responses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
import torch

from lengthwise.config.groups.training import Training
from lengthwise.engine.method import Method
from lengthwise.engine.ppo.critic import Critic
from lengthwise.engine.ppo.rollout_buffer import Response
from lengthwise.engine.ppo.window_collector import WindowCollector
from lengthwise.engine.ppo.window_learner import WindowLearner
from lengthwise.engine.trainer import Trainer
from lengthwise.methods.papers.t_ppo import t_ppo


class NotedCollector(WindowCollector):
    """Notes, step by step, what was taken from the pool."""

    batches: list[list[Response]]

    def _write(self, batch, step):
        super()._write(batch, step)
        self.batches.append([replace(response, values=list(response.values)) for response in batch])


class NotedLearner(WindowLearner):
    """Notes, step by step, what policy and critic were given."""

    policy: list[dict[int, tuple[int, list[bool], list[float]]]]
    critic_saw: list[dict[int, int]]

    def _update_policy(self, batch, windows, advantages, rewarded, step):
        seen = {}
        for row, response in enumerate(batch):
            n = int(windows.num_tokens[row])
            seen[response.serial] = (response.start, windows.train_mask[row, :n].tolist(), advantages[row, :n].tolist())
        self.policy.append(seen)
        return super()._update_policy(batch, windows, advantages, rewarded, step)

    def _update_critic(self, done, answers, rewards, step):
        self.critic_saw.append({response.serial: int(answers.mask[row].sum()) for row, response in enumerate(done)})
        return super()._update_critic(done, answers, rewards, step)


class Recorder(Trainer):
    """A trainer whose parts note what they do, with all that they hold at hand."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.collector, self.learner = self.parts.collector, self.parts.learner
        self.collector.__class__, self.learner.__class__ = NotedCollector, NotedLearner
        self.collector.batches, self.learner.policy, self.learner.critic_saw = [], [], []
        self.batches, self.seen_by_policy = self.collector.batches, self.learner.policy
        self.critic_saw, self.critic = self.learner.critic_saw, self.learner.critic
        self.parameters, self.value_parameters = self.learner.parameters, self.learner.value_parameters

    @property
    def pool(self):
        return self.collector.pool


def build(
    folder: Path, *, net: Any = None, method: Method | None = None, practice: Any = None,
    kind: type[Trainer] = Recorder, critic: Critic | None = None, reference: Any = None, **options: Any,
) -> Any:  # fmt: skip
    """A trainer of the tiny task that is on policy: one update a step, no warm-up of the critic."""
    settings: dict[str, Any] = {
        "steps": 3, "prompts": 4, "group_size": 4, "updates": 1, "lr": 1e-2, "checkpoint_every": 1, **options
    }  # fmt: skip
    return kind(
        tiny.model() if net is None else net,
        method=method or t_ppo(cap=9, critic_warmup=0),
        task=practice or tiny.task(),
        config=Training(**settings),
        folder=folder,
        eos_ids=tiny.EOS,
        pad_id=0,
        critic=critic,
        reference=reference,
    )


def run(folder: Path, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A trainer after its run, and its metrics."""
    made, seen = build(folder, **options), []
    made.train(on_step=seen.append)
    return made, seen


def response(serial: int, before: int, window: int, *, finished: bool, cap: int = 12, values: Any = ()) -> Response:
    """A response whose current window of `window` tokens follows `before` earlier ones; no EOS unless finished."""
    length = before + window
    tokens = [2 + (7 * serial + place) % 25 for place in range(length)]
    if finished:
        tokens[-1] = tiny.EOS[0]
    return Response(
        serial=serial, problem=serial % 12, group=serial, cap=cap, prompt=[2 + serial, 1], tokens=tokens,
        trained=[True] * length, logps=[-3.0] * length, versions=[0] * length, values=list(values), start=before,
        finished=finished,
    )  # fmt: skip


def weights(net: Any) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether two copies are equal bit for bit."""
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
