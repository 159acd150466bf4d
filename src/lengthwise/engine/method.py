"""What a method may say: a frozen value of named parts, each with a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import Tensor

from lengthwise.engine.rollouts import Rollouts
from lengthwise.errors import ConfigError

State = Mapping[str, Any]
"""A method's memory between steps: JSON values only, saved in every checkpoint."""


class LossInputs(NamedTuple):
    """What a loss is given for one micro-batch.

    `normaliser` is the denominator of its whole mini-batch, `shared` what the method's `shared` found over it.
    """

    logp: Tensor  # [B, T] with gradient
    old_logp: Tensor  # [B, T]
    advantages: Tensor  # [B] or [B, T]
    mask: Tensor  # bool [B, T], the tokens learnt from
    rollouts: Rollouts
    normaliser: float
    shared: Any = None


class Observation(NamedTuple):
    """A fixed set that is watched: every `every` steps `prompts` problems are sampled and told to the method.

    `update(state, rollouts)` gives the new state. These rollouts are never learnt from; their tokens count.
    """

    every: int
    prompts: int
    update: Callable[[State, Rollouts], State]


Loss = Callable[[LossInputs], tuple[Tensor, dict[str, Tensor]]]


def _ask_as_is(prompt: list[int]) -> list[list[int]]:
    return [prompt]


def _no_state() -> dict[str, Any]:
    return {}


def _same_state(state: State, rollouts: Rollouts) -> State:
    return state


@dataclass(frozen=True)
class Method:
    """A method, named by its parts. The engine calls them in this order in every step.

    `prompts` turns one prompt into the prompts actually asked (mode prefixes). `cap(step, state)` is the most
    response tokens, a real number that the engine rounds half up. `keep(rollouts)` is the bool [B] mask of rows
    worth learning from; groups are kept whole and drawn again until enough are found; None keeps all.
    `reward(rollouts, state)` gives float [B] over whole groups, `advantage(rewards, rollouts)` float [B] or [B, T]
    over the whole batch. `loss(inputs)` gives a scalar and statistics that add up over micro-batches;
    `normaliser(rollouts)` is its denominator over a mini-batch. `coupling` "group" keeps groups whole in a
    micro-batch. `shared(logp, old_logp, mask)` is a fact of the whole
    mini-batch under the present weights (a KL) that the loss of each of its parts is given; it costs a forward pass.
    `kl_coef` and `kl_kind` add a penalty against the starting weights. `initial_state` and
    `update_state` carry memory from batch to batch (JSON values, saved in every checkpoint). `observe` watches a
    fixed set of problems every few steps, before the batch.
    """

    name: str
    paper: str
    summary: str
    cap: Callable[[int, State], float]
    reward: Callable[[Rollouts, State], Tensor]
    advantage: Callable[[Tensor, Rollouts], Tensor]
    loss: Loss
    normaliser: Callable[[Rollouts], float]
    options: Mapping[str, Any] = field(default_factory=dict)
    prompts: Callable[[list[int]], list[list[int]]] = _ask_as_is
    keep: Callable[[Rollouts], Tensor] | None = None
    coupling: Literal["row", "group"] = "row"
    shared: Callable[[Tensor, Tensor, Tensor], Any] | None = None
    kl_coef: float = 0.0
    kl_kind: Literal["k1", "k2", "k3"] = "k2"
    initial_state: Callable[[], State] = _no_state
    update_state: Callable[[State, Rollouts], State] = _same_state
    observe: Observation | None = None

    def __post_init__(self) -> None:
        if not self.kl_coef >= 0:
            raise ConfigError(f"kl_coef is {self.kl_coef}; give 0 (no penalty) or a positive number")
        if self.coupling not in ("row", "group"):
            raise ConfigError(f"coupling is {self.coupling!r}; choose 'row' or 'group'")
        if self.kl_kind not in ("k1", "k2", "k3"):
            raise ConfigError(f"kl_kind is {self.kl_kind!r}; choose 'k1', 'k2' or 'k3'")
        if self.observe is not None and (self.observe.every < 1 or self.observe.prompts < 1):
            raise ConfigError(
                f"observe is every {self.observe.every} steps of {self.observe.prompts} prompts; at least 1"
            )
