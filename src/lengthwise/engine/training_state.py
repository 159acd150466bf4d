"""Where a run stands, what its parts promise each other, and what a step leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NotRequired, Protocol, TypedDict, TypeVar

import torch

from lengthwise.engine.method import State
from lengthwise.engine.step_warnings import Watch

B = TypeVar("B")
B_out = TypeVar("B_out", covariant=True)
B_in = TypeVar("B_in", contravariant=True)


class SavedState(TypedDict):
    """What the ``state.json`` of a checkpoint holds."""

    step: int
    cursor: int
    method: State
    sampled_tokens: int
    seconds: float
    watch: Mapping[str, int]
    skipped: NotRequired[int]
    collector: NotRequired[list[dict[str, object]]]


@dataclass
class TrainingState:
    """Where a run stands: what a checkpoint keeps beside weights, optimizer and what a collector holds.

    `step` counts finished steps and `cursor` problems that were read; `skipped` is how many steps in a row had nothing
    to learn from; `method` is the method's memory.
    """

    method: State
    step: int = 0
    cursor: int = 0
    sampled_tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    watch: Watch = field(default_factory=Watch)

    def to_dict(self) -> dict[str, object]:
        """Ready for JSON; the step is the checkpoint's own."""
        return {
            "cursor": self.cursor,
            "method": dict(self.method),
            "sampled_tokens": self.sampled_tokens,
            "seconds": self.seconds,
            "watch": self.watch.state,
            "skipped": self.skipped,
        }

    @classmethod
    def from_dict(cls, saved: SavedState) -> TrainingState:
        """The state that a checkpoint holds."""
        return cls(
            method=saved["method"],
            step=saved["step"],
            cursor=saved["cursor"],
            sampled_tokens=saved["sampled_tokens"],
            seconds=saved["seconds"],
            skipped=saved.get("skipped", 0),
            watch=Watch(saved["watch"]),
        )


@dataclass(frozen=True)
class Learnt:
    """What a step found: its `metrics`, what else warnings are looked for in (None: not in this step), and texts."""

    metrics: dict[str, object]
    judged: Mapping[str, object] | None
    said: tuple[str, ...] = ()


class Collector(Protocol[B_out]):
    """Draws the batch of a step: moves the run's cursor and counts its sampled tokens."""

    def collect(self, run: TrainingState) -> B_out:
        """The next batch."""

    @property
    def state(self) -> list[dict[str, object]] | None:
        """What it holds between steps, as JSON values; None for nothing."""

    def load_state(self, state: list[dict[str, object]]) -> None:
        """Take up what `state` was."""


class Learner(Protocol[B_in]):
    """Learns from a batch. `model` is all that learns, `optimizer` that of its parameters."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def learn(self, batch: B_in, run: TrainingState) -> Learnt:
        """Take the optimizer steps of one batch and update the method's memory."""


class CheckpointKeeper(Protocol):
    """Keeps a run so that it goes on after a kill."""

    def save(self, run: TrainingState) -> object:
        """Keep where the run stands, with what its parts learn and hold."""

    def load(self) -> TrainingState | None:
        """Go back to what was kept last; None where there is nothing."""


@dataclass(frozen=True)
class Parts(Generic[B]):
    """What a trainer is given."""

    collector: Collector[B]
    learner: Learner[B]
