"""The training loop: collect, learn, checkpoint. What the three do is in the parts that a trainer is given."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.protocol import PROOF_TOKENS, Backend, Proof, prove
from lengthwise.engine.backends.transformers_sampler import Sampler
from lengthwise.engine.batches import Task, check_needs
from lengthwise.engine.checkpoint import Checkpoints
from lengthwise.engine.distillation import DistillationLearner
from lengthwise.engine.extra_losses import resolve_extras
from lengthwise.engine.gates import order_warning
from lengthwise.engine.groups import Compute, GroupCollector, GroupLearner
from lengthwise.engine.log_probabilities import Scorer
from lengthwise.engine.method import Method
from lengthwise.engine.metrics_log import RunLog
from lengthwise.engine.ppo.critic import Critic
from lengthwise.engine.ppo.window_collector import WindowCollector
from lengthwise.engine.ppo.window_learner import WindowLearner
from lengthwise.engine.step_warnings import schedule_warning
from lengthwise.engine.training_state import CheckpointKeeper, Parts, TrainingState
from lengthwise.errors import ConfigError, LengthwiseWarning, TrainingError
from lengthwise.files import atomic_write_json
from lengthwise.objectives import round_half_up

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

MOST_SKIPPED = 10
"""Steps in a row without a batch to learn from, after which a run ends."""
PROOF, PROOF_PROMPTS = "backend.json", 8
"""Where the proof of what writes the tokens is kept in the run's folder, and how many prompts it is made on."""


def check_method(method: Method, config: Training) -> None:
    """See that a method takes what a run's settings ask of its loss.

    Raises:
        ConfigError: importance weights for a loss that does not take advantages, through which they come, or a sampling
            temperature that its loss is not meant for.
    """
    check_temperature(method, config.temperature)
    if config.truncate_importance is not None and not method.takes_advantages:
        raise ConfigError(
            f"truncate_importance is {config.truncate_importance}, but the loss of method {method.name!r} takes no "
            "advantages, which importance weights multiply; leave it out, or take another method"
        )


def check_temperature(method: Method, temperature: float) -> None:
    """See that a method's loss is meant for answers drawn at a temperature.

    Raises:
        ConfigError: it is meant for another one.
    """
    if method.temperature not in (None, temperature):
        raise ConfigError(
            f"temperature is {temperature:g}, but method {method.name!r} learns the likelihood of answers drawn at "
            f"{method.temperature:g}; leave it at {method.temperature:g}"
        )


def reference_scorer(
    method: Method, model: PreTrainedModel, reference: PreTrainedModel | None, temperature: float
) -> Scorer | None:
    """What scores under the weights that a method with a KL penalty is held to; None without the penalty.

    A model with an adapter is held to itself without it.

    Raises:
        ConfigError: no reference, and no adapter that could be switched off.
    """
    if method.kl_coef == 0:
        return None
    own = reference is None and hasattr(model, "disable_adapter")
    if reference is None and not own:
        raise ConfigError(
            f"method {method.name!r} has kl_coef {method.kl_coef} but no reference model is given; "
            "give one, or kl_coef 0"
        )
    return Scorer(model if own else reference, temperature=temperature, adapted=not own)


def usual_parts(
    backend: Backend,
    scorer: Scorer,
    task: Task,
    method: Method,
    config: Training,
    *,
    reference: Scorer | None,
    compute: Compute,
    critic: Critic | None = None,
) -> Parts[Any]:
    """The collector and learner that a method wants: windows with a critic, whole groups, or these with a teacher."""
    model_config = scorer.model.config
    if method.windows is not None:
        return Parts(
            WindowCollector(backend, task, method, config, compute, model_config),
            WindowLearner(
                scorer, task, method, config, compute, pad_id=backend.pad_id, critic=critic, reference=reference
            ),
        )
    learner = (
        DistillationLearner(scorer, task, method, config, compute)
        if method.teacher is not None
        else GroupLearner(scorer, method, config, compute, reference=reference, extras=resolve_extras(method, task))
    )
    return Parts(GroupCollector(backend, task, method, config, compute, model_config), learner)


def _texts(metrics: Mapping[str, object]) -> list[str]:
    """The warnings of a step."""
    found = metrics["warnings"]
    assert isinstance(found, list), "one_step puts a list there"
    return found


class Trainer:
    """Carries a method out on one device; the same folder and config continue where a killed run stopped.

    `reference` is the frozen model that a method with a KL penalty is held to; a model with an adapter is held to
    itself without it, and needs none. `compute` makes the context (for example autocast) in which the model runs.
    `backend` writes the tokens, by default the model itself. `parts` collect and learn; by default the method's own
    (`usual_parts`), in which `critic` is what a method with windows starts its value model from. `checkpoints` keep the
    run, by default in the folder.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        method: Method,
        task: Task,
        config: Training,
        folder: Path,
        eos_ids: list[int],
        pad_id: int,
        reference: PreTrainedModel | None = None,
        compute: Compute = nullcontext,
        backend: Backend | None = None,
        critic: Critic | None = None,
        parts: Parts[Any] | None = None,
        checkpoints: CheckpointKeeper | None = None,
    ) -> None:
        held = reference_scorer(method, model, reference, config.temperature)
        check_needs(task, method, config.group_size)
        check_method(method, config)
        self.method, self.task, self.config, self.folder, self.compute = method, task, config, folder, compute
        self.policy = model
        self.backend: Backend = backend or Sampler(
            model, eos_ids=eos_ids, pad_id=pad_id, max_rows=config.sample_rows
        )  # fmt: skip
        self.scorer = Scorer(model, temperature=config.temperature)
        self.parts = parts or usual_parts(
            self.backend, self.scorer, task, method, config, reference=held, compute=compute, critic=critic
        )
        self.checkpoints: CheckpointKeeper = checkpoints or Checkpoints(folder / "checkpoints", self.parts)
        self.run = TrainingState(method.initial_state())

    @property
    def model(self) -> torch.nn.Module:
        """All that learns: the policy, with windows the critic too."""
        return self.parts.learner.model

    def prove(self, *, why: str | None = None) -> Proof:
        """Prove before the first step that what writes the tokens gives them the model's own log-probabilities.

        The gap is kept in the run's folder as `backend.json`, with `why` this backend writes.

        Raises:
            UnsupportedModelError: the backend refuses the model, or the gap is too large.
        """
        with self.compute():
            proof = prove(
                self.backend, self.scorer, [list(prompt) for prompt in self.task.prompts[:PROOF_PROMPTS]],
                cap=min(PROOF_TOKENS, self._cap()), temperature=self.config.temperature,
            )  # fmt: skip
        atomic_write_json(self.folder / PROOF, proof.to_dict() | ({} if why is None else {"why": why}))
        return proof

    def train(
        self,
        on_step: Callable[[dict[str, object]], None] | None = None,
        *,
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        """Run to `config.steps`, continuing from the newest sound checkpoint; `on_step` gets each step's metrics.

        `on_start` gets the number of steps that are done already.

        A step whose batch holds nothing worth learning from is skipped with a warning.

        Raises:
            TrainingError: `MOST_SKIPPED` steps in a row were skipped, or all that there are, or a number is not finite.
                The same call goes on: after skipped steps with the problems that follow.
        """
        for text in (
            schedule_warning(self.method.options, self.config.steps),
            order_warning(self.method, self._cap()),
            None if self.method.teacher is None else self.method.teacher.warning(),
        ):
            if text is not None:
                warnings.warn(text, LengthwiseWarning, stacklevel=2)
        self.run = self.checkpoints.load() or self.run
        if self.run.step:
            self._sync()
        if on_start is not None:
            on_start(self.run.step)
        log = RunLog(self.folder, step=self.run.step)
        try:
            while not self._finished():
                metrics = self.one_step()
                for text in _texts(metrics):
                    warnings.warn(f"step {self.run.step}: {text}", LengthwiseWarning, stacklevel=2)
                log.write(metrics)
                why = self._gives_up(metrics)
                if why is not None:
                    self.run.skipped = 0  # in the checkpoint, so that the same call goes on behind these problems
                if why is not None or self.run.step % self.config.checkpoint_every == 0 or self._finished():
                    self.checkpoints.save(self.run)
                if on_step is not None:
                    on_step(metrics)
                if why is not None:
                    raise TrainingError(why)
        finally:
            log.close()

    def one_step(self) -> dict[str, object]:
        """Collect, learn, hand the new weights to what writes the tokens; returns the step's metrics."""
        run, started = self.run, time.perf_counter()
        batch = self.parts.collector.collect(run)
        self.backend.rest()
        sampled = time.perf_counter()
        learnt = self.parts.learner.learn(batch, run)
        self._sync()
        run.step += 1
        ended = time.perf_counter()
        run.seconds += ended - started
        metrics = {
            "step": run.step,
            **learnt.metrics,
            "sampled_tokens": run.sampled_tokens,
            "lr": self.parts.learner.optimizer.param_groups[0]["lr"],
            "seconds_sample": sampled - started,
            "seconds_update": ended - sampled,
            "seconds": run.seconds,
        }
        found = [] if learnt.judged is None else run.watch.look({**metrics, **learnt.judged})
        metrics["warnings"] = [*learnt.said, *found]
        return metrics

    def _cap(self) -> int:
        """The cap of the first step."""
        return max(1, round_half_up(self.method.cap(0, self.method.initial_state())))

    def _sync(self) -> None:
        self.backend.sync(self.policy.named_parameters())

    def _gives_up(self, metrics: dict[str, object]) -> str | None:
        """Why a run ends that only skips: `MOST_SKIPPED` steps in a row, or all that it has."""
        skipped = self.run.skipped
        every = self._finished() and skipped == self.run.step
        if skipped < MOST_SKIPPED and not every:
            return None
        goes_on = "" if self._finished() else ". The same command goes on with the next problems"
        return f"{skipped} steps in a row had nothing to learn from. The last: {_texts(metrics)[0]}{goes_on}"

    def _finished(self) -> bool:
        budget = self.config.token_budget
        return self.run.step >= self.config.steps or (budget is not None and self.run.sampled_tokens >= budget)
