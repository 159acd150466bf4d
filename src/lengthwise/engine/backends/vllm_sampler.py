"""The backend that lets vLLM write: for models of real size, on a GPU or a CPU, in our own process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lengthwise.engine import listening
from lengthwise.engine.backends.arguments import BROKEN_WEIGHTS, check_arguments, numbered
from lengthwise.engine.backends.partial_rollouts import Written
from lengthwise.engine.backends.protocol import World
from lengthwise.engine.backends.vllm_engine import Answer, Asked, Serving, VllmEngine
from lengthwise.engine.backends.vllm_weights import lora_scaling, served_weights, tied_names
from lengthwise.engine.repeating import EVERY, WINDOW, repeats
from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import BackendError, ConfigError, TrainingError, UnsupportedModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUND = 512
"""Tokens after which responses are looked at, where those that go round in a circle are to be stopped."""


class Served:
    """One vLLM for all policies of a run, started when the first tokens or weights are wanted.

    `holder` is the sampler whose weights it has; at first None, and the weights are those of the folder.
    """

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.holder: VllmSampler | None = None
        self.started: VllmEngine | None = None
        self._closed = False

    @property
    def engine(self) -> VllmEngine:
        """The started vLLM.

        Raises:
            BackendError: it was ended, or cannot be started.
        """
        if self._closed:
            raise BackendError("vLLM was ended; open a new one")
        if self.started is None:
            self.started = VllmEngine(self.serving)
        return self.started

    def close(self) -> None:
        """End it."""
        if self.started is not None:
            self.started.close()
        self.started, self.holder, self._closed = None, None, True


class VllmSampler:
    """Draws responses through vLLM, which holds a copy of the policy's weights: those of the last `sync`.

    `model` is the policy. Where vLLM holds another one's weights, the policy's are handed over before the first tokens;
    with `as_in_folder` those that vLLM starts with will do. On a CPU rows draw from one seed of the whole call, on a
    GPU each from its own.
    """

    name, shares_weights = "vllm", False

    def __init__(
        self,
        model: PreTrainedModel,
        served: Served,
        *,
        eos_ids: Sequence[int],
        pad_id: int,
        as_in_folder: bool = False,
    ) -> None:
        if not eos_ids:
            raise ConfigError("eos_ids is empty; name at least one token that ends a response")
        self.model, self.served, self.as_in_folder = model, served, as_in_folder
        self.eos_ids, self.pad_id = sorted(set(eos_ids)), pad_id
        self.tied, self.scaling = tied_names(model), lora_scaling(model)

    @property
    def device(self) -> torch.device:
        """Where rollouts lie."""
        return self.served.serving.device

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        caps: int | Sequence[int],
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        group_ids: Sequence[int] | None = None,
        problem_ids: Sequence[int] | None = None,
        policy_version: int = 0,
        world: World | None = None,
        stop_repeats: bool = False,
    ) -> Rollouts:
        """As `Sampler.generate`, but with `top_p` below 1 `logp` is the log-probability after it.

        Raises:
            UnsupportedModelError: a world, which writes into responses.
            BackendError: vLLM cannot be started, or stopped.
            ConfigError, InputError, TrainingError: as there.
        """
        cap = [caps] * len(prompts) if isinstance(caps, int) else list(caps)
        self._check(prompts, cap, temperature, top_p, world)
        groups = list(group_ids) if group_ids is not None else numbered(prompts)
        problems = list(problem_ids) if problem_ids is not None else groups
        state = Written([list(p) for p in prompts], [[] for _ in prompts], cap, stop_repeats=stop_repeats)
        self._write(state, generator, temperature, top_p)
        return state.rollouts(groups, problems, policy_version, pad_id=self.pad_id, device=self.device)

    def resume(
        self,
        rollouts: Rollouts,
        *,
        caps: int | Sequence[int],
        generator: torch.Generator,
        temperature: float = 1.0,
        top_p: float = 1.0,
        policy_version: int = 0,
        world: World | None = None,
    ) -> Rollouts:
        """As `Sampler.resume`; what vLLM has cached of these rows under the same weights is not read again."""
        cap = [caps] * len(rollouts) if isinstance(caps, int) else list(caps)
        prompts = [rollouts.prompt(row) for row in range(len(rollouts))]
        self._check(prompts, cap, temperature, top_p, world)
        state = Written.of(rollouts, prompts, cap)
        self._write(state, generator, temperature, top_p)
        resumed = state.rollouts(
            rollouts.group_ids.tolist(), rollouts.problem_ids.tolist(), policy_version, pad_id=self.pad_id,
            device=self.device,
        )  # fmt: skip
        unchanged = resumed.num_tokens == rollouts.num_tokens
        return resumed.with_fields(answer_correct=rollouts.answer_correct & unchanged)

    def sync(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Hand all weights over, an adapter's merged; what was cached under the old ones is forgotten."""
        dtype: torch.dtype = getattr(torch, self.served.serving.dtype)
        self.served.engine.load(served_weights(weights, dtype=dtype, scaling=self.scaling, tied=self.tied))
        self.served.holder = self

    def rest(self) -> None:
        """On a GPU give weights and cache back until the next weights come."""
        if self.served.started is not None:
            self.served.started.sleep()

    def check(self) -> None:
        """Nothing: what vLLM cannot serve is refused where it is chosen, and `protocol.prove` compares its numbers."""

    def close(self) -> None:
        """End vLLM, for all policies that it wrote for."""
        self.served.close()

    def _check(
        self, prompts: Sequence[Sequence[int]], caps: list[int], temperature: float, top_p: float, world: World | None
    ) -> None:
        check_arguments(prompts, caps, temperature, top_p, limit=self.served.serving.positions)
        if world is not None:
            raise UnsupportedModelError(
                "vLLM cannot let a world (a stop string, a forced ending, the lab's readings) write into a response "
                "while it is drawn; give --backend transformers"
            )

    def _write(self, state: Written, generator: torch.Generator, temperature: float, top_p: float) -> None:
        """Continue all rows; in rounds where circles are to be stopped: what was cached is not read again."""
        engine = self._with_my_weights()
        while rows := state.open_rows:
            rooms = [min(state.room(row), ROUND) if state.stop_repeats else state.room(row) for row in rows]
            seeds = self._seeds(len(rows), generator)
            asked = [
                Asked(state.prompts[row] + state.responses[row], room, seed)
                for row, room, seed in zip(rows, rooms, seeds, strict=True)
            ]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
                answers = engine.write(asked, temperature=temperature, top_p=top_p, stop_ids=self.eos_ids)
                for answer in answers:
                    self._take(state, rows[answer.row], answer, most=max(rooms))

    def _with_my_weights(self) -> VllmEngine:
        engine = self.served.engine
        if self.served.holder is None and self.as_in_folder:
            self.served.holder = self
        if self.served.holder is not self:
            self.sync(self.model.named_parameters())
        return engine

    def _seeds(self, rows: int, generator: torch.Generator) -> list[int] | list[None]:
        """A seed of each row; on a CPU none, where vLLM refuses them and draws from the process's own numbers."""
        if self.device.type == "cpu":
            return [None] * rows
        return torch.randint(2**31, (rows,), generator=generator, device=generator.device).tolist()

    def _take(self, state: Written, row: int, answer: Answer, *, most: int) -> None:
        """Add what was drawn of a row to what there is."""
        tokens, logps = answer.tokens, answer.logps
        if any(logp != logp for logp in logps):
            raise TrainingError(BROKEN_WEIGHTS)
        finished = bool(tokens) and tokens[-1] in self.eos_ids
        if state.stop_repeats:
            stop = circle_after(state.responses[row], tokens, finished=finished)
            if stop is not None:
                tokens, logps, finished = tokens[:stop], logps[:stop], False
                state.stopped.add(row)
        state.responses[row] += tokens
        state.logps[row] += logps
        state.trained[row] += [True] * len(tokens)
        state.finished[row] = finished
        listening.tell(len(tokens), 1, most)


def circle_after(before: Sequence[int], new: Sequence[int], *, finished: bool) -> int | None:
    """How many of some new tokens are kept of a response that goes round in a circle; None where it does not.

    Looked at every `EVERY` tokens, as `repeating.Recent` does; the token that finishes a response ends it itself.
    """
    whole = [*range(-WINDOW, 0), *before, *new]
    kept = [n for n in range(EVERY, len(new) + 1, EVERY) if not (finished and n == len(new))]
    if not kept:
        return None
    ends = [len(whole) - len(new) + n for n in kept]
    found = repeats(torch.tensor([whole[end - WINDOW : end] for end in ends]))
    return next((n for n, circles in zip(kept, found.tolist(), strict=True) if circles), None)
