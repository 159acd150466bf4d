"""T-PPO's collecting: write a window of every response, and let what is not done go on in the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lengthwise.config.groups.training import Training
from lengthwise.engine.backends.protocol import Backend, World
from lengthwise.engine.batches import Task, ask_problem, problem_at, step_generator, world_generator
from lengthwise.engine.groups import Compute
from lengthwise.engine.method import Method
from lengthwise.engine.ppo.rollout_buffer import Pool, Response, as_rollouts
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.training_state import TrainingState
from lengthwise.objectives import round_half_up

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class WindowBatch:
    """The responses of a step, each with its new window; so many of them `going_on` from earlier steps."""

    responses: list[Response]
    going_on: int

    @property
    def new(self) -> list[int]:
        """How many tokens each window has."""
        return [len(response.tokens) - response.start for response in self.responses]


class WindowCollector:
    """Writes `prompts * group_size` windows a step: responses that go on first, then new ones."""

    def __init__(
        self,
        backend: Backend,
        task: Task,
        method: Method,
        config: Training,
        compute: Compute,
        model_config: PreTrainedConfig,
    ) -> None:
        assert method.windows is not None, "the method has windows"
        self.window = method.windows.window
        self.backend, self.task, self.method, self.config, self.compute = backend, task, method, config, compute
        self.model_config = model_config
        self.longest_prompt = max(len(prompt) for prompt in task.prompts)
        self.pool = Pool()

    @property
    def state(self) -> list[dict[str, object]]:
        """The responses that wait."""
        return self.pool.state

    def load_state(self, state: list[dict[str, object]]) -> None:
        """Let these responses wait."""
        self.pool = Pool.from_state(state)

    def collect(self, run: TrainingState) -> WindowBatch:
        """The next windows; those of responses that are not done wait for the next step."""
        config = self.config
        responses = self.pool.take(config.prompts * config.group_size, lambda count: self._begin(count, run))
        batch = WindowBatch(responses, sum(bool(response.tokens) for response in responses))
        with self.compute():
            self._write(responses, run.step)
        run.sampled_tokens += sum(batch.new)
        self.pool.requeue(responses)
        return batch

    def _begin(self, count: int, run: TrainingState) -> list[Response]:
        """New responses, problem by problem: a group whose slots are not all free goes on in the next step."""
        size, seed, begun = self.config.group_size, self.config.seed, []
        cap = round_half_up(self.method.cap(run.step, run.method))
        check_learnable(self.model_config, self.longest_prompt + cap)
        for serial in range(run.cursor, run.cursor + count):
            group, sample = divmod(serial, size)
            problem = problem_at(group, len(self.task.prompts), seed)
            prompt = ask_problem(self.task, self.method, problem, size)[sample].prompt
            begun.append(Response(serial=serial, problem=problem, group=group, cap=cap, prompt=prompt))
        run.cursor += count
        return begun

    def _write(self, batch: list[Response], step: int) -> None:
        """Let the policy write the next window of every response."""
        config, backend = self.config, self.backend
        written = backend.resume(
            as_rollouts(batch, pad_id=backend.pad_id, device=backend.device),
            caps=[min(len(response.tokens) + self.window, response.cap) for response in batch],
            generator=step_generator(config.seed, step, 0, backend.device),
            temperature=config.temperature,
            policy_version=step,
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


def decode_steps(new: Sequence[int], max_rows: int) -> int:
    """Decode steps that write `new[i]` tokens in row i, `max_rows` rows at a time, part by part (0: all at once).

    Rows that may take the places of others before their part has ended need fewer.
    """
    rows = max_rows or len(new)
    return sum(max(new[at : at + rows]) for at in range(0, len(new), rows))
