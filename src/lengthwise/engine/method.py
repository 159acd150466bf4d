"""What a method may say: a frozen value of named parts, each with a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import AdaptationHere, Training
from lengthwise.engine.gates import Gate
from lengthwise.engine.ppo.windows import Windows
from lengthwise.engine.rollouts import OPTIONAL_FIELDS, Rollouts
from lengthwise.engine.teacher import Teacher
from lengthwise.engine.thinking_cuts import ThinkingCuts
from lengthwise.errors import ConfigError, TrainingError
from lengthwise.json_types import JsonValue

if TYPE_CHECKING:
    from lengthwise.engine.model_folders import Policy

State = Mapping[str, Any]
"""A method's memory between steps: JSON values only, saved in every checkpoint."""
Ask = Callable[[str], list[int]]
"""Words that are to stand before the problem -> the prompt's token ids; without words it is the bare prompt."""


class Asked(NamedTuple):
    """One of the prompts in which a problem is asked.

    `is_long` is the mode that it asks for, where there are modes, and `opener` the one token that opens it. With
    `opened` that token ends the prompt already, and is not sampled.
    """

    prompt: list[int]
    is_long: bool | None = None
    opener: str | None = None
    opened: bool = False


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


class BarePrompts(NamedTuple):
    """What an extra loss is given for one mini-batch of P prompts.

    `first_logits` float [P, V] predict the first token after each bare prompt; `rollouts` are all rows of the
    mini-batch, `rows` int [P] one of each prompt; `tokens` are the ids of the loss's words.
    """

    first_logits: Tensor
    rollouts: Rollouts
    rows: Tensor
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class ExtraLoss:
    """A loss beside the main one, once for each bare prompt of a mini-batch; `weight` times it is added.

    `words` are texts of one token each, of which the loss speaks; a model without them is refused. The method must
    need `bare_prompt_ids`.
    """

    name: str
    weight: float
    function: Callable[[BarePrompts], Tensor]
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ConfigError(f"the weight of the loss {self.name} is {self.weight}; give 0 or a positive number")


class Observation(NamedTuple):
    """A fixed set that is watched: every `every` steps `prompts` problems are sampled and told to the method.

    `update(state, rollouts)` gives the new state. These rollouts are never learnt from; their tokens count.
    """

    every: int
    prompts: int
    update: Callable[[State, Rollouts], State]


@dataclass(frozen=True)
class StageInputs:
    """What a stage is given: where it stands, what it may read, and where its model goes.

    `base` is the folder of the untouched model, `model` that of the model so far, both in Hugging Face format. The
    stage writes its own to `out`, whole or not at all. `work` is a folder of its own that survives a kill. `problems`
    are those trained on, as `grading.problems.Problems`; `train` and `runtime` are the run's own settings.
    `tell(text)` says what it is at. `attach` gives a policy that the stage loads what writes the run's tokens.
    """

    base: Path
    model: Path
    out: Path
    work: Path
    problems: Any
    cap: int
    train: Training
    runtime: TrainingRuntime
    tell: Callable[[str], None]
    attach: Callable[[Policy], Policy] = lambda policy: policy


@dataclass(frozen=True)
class Stage:
    """A stage before or after the loop: it makes one model folder of another.

    `run(inputs)` returns JSON facts that are kept with the run; `sampled_tokens` among them count as the run's. A
    stage whose `out` is there is finished; after a kill it is run again, with the same `work`.
    """

    name: str
    run: Callable[[StageInputs], Mapping[str, JsonValue]]


def finite(method: str, what: str, values: Tensor) -> Tensor:
    """The values of what a method says of rows, float [B] or [B, T].

    Raises:
        TrainingError: one is NaN or infinite; comparisons would take it for nothing to learn.
    """
    odd = (~values.isfinite()).nonzero()
    if len(odd):
        place = tuple(odd[0].tolist())
        raise TrainingError(
            f"the {what} of method {method!r} is {float(values[place]):g} for row {place[0]} of the batch; give every "
            "row a finite number, also in groups that are all right, all wrong or of one length"
        )
    return values


Control = Callable[..., Any]
"""Measures something beside the untouched model: (policy, problems, its record before, a log of its own) -> record."""
Loss = Callable[[LossInputs], tuple[Tensor, dict[str, Tensor]]]


def _ask_as_is(ask: Ask) -> list[Asked]:
    return [Asked(ask(""))]


def _no_state() -> dict[str, Any]:
    return {}


def _teacher_alone(inputs: LossInputs) -> tuple[Tensor, dict[str, Tensor]]:
    raise TrainingError("the method has a teacher and no loss of its own; its learner is engine.distillation's")


def _one(rollouts: Rollouts) -> float:
    return 1.0


def _same_state(state: State, rollouts: Rollouts) -> State:
    return state


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method by name, with stages: those of `prepare` run before the loop, those of `finish` after it.

    A plain `Recipe` has no loop: its stages are all there is. `one_cap` says why its cap may not move; None: it may.
    """

    name: str = ""
    paper: str = ""
    summary: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prepare: tuple[Stage, ...] = ()
    finish: tuple[Stage, ...] = ()
    one_cap: str | None = None

    @property
    def alone(self) -> Mapping[str, tuple[str, ...]]:
        """The stages that may be run alone, each with those that it reads; most methods have none."""
        return {}

    def staged(
        self, base: Path, runtime: TrainingRuntime, adaptation: AdaptationHere, *, trains: Callable[[str], bool]
    ) -> Recipe:
        """The recipe with the stages that depend on the untouched model's folder and on what it runs on.

        `trains(stage)` says whether a stage is still to be run, and so what it needs must be there.

        Raises:
            ConfigError: it cannot run there.
        """
        return self

    def controls(self, runtime: TrainingRuntime) -> Mapping[str, Control]:
        """What else is measured beside the untouched model, by name."""
        return {}

    @property
    def loop(self) -> Method | None:
        """The method's training loop; None where its stages are all there is."""
        return None


@dataclass(frozen=True, kw_only=True)
class Method(Recipe):
    """A method with a training loop, named by its parts. The engine calls them in this order in every step.

    `prompts(ask)` gives the prompts in which a problem is asked, `ask` being what renders it behind the method's own
    words (mode prefixes); a group is shared out among them evenly. `needs` names the optional fields of `Rollouts`
    that other parts read. `cap(step, state)` is the most response tokens, a real number that the engine rounds half
    up. `keep(rollouts)` is the bool [B] mask of rows worth learning from; groups are kept whole and drawn again until
    enough are found; None keeps all. `reward(rollouts, state)` gives float [B] over whole groups,
    `advantage(rewards, rollouts)` float [B] or [B, T] over the whole batch. `loss(inputs)` gives a scalar and
    statistics that add up over micro-batches; `normaliser(rollouts)` is its denominator over a mini-batch. `coupling`
    "group" keeps groups whole in a micro-batch. `takes_advantages` False says that the loss reads the rows itself and
    leaves `LossInputs.advantages` out, so that importance weights, which come through them, are refused; with
    `signal_alone` it still learns nothing from rows whose advantage is 0. `temperature` is the one sampling temperature
    that its loss is meant for; None: any.
    `shared(logp, old_logp, mask)` is a fact of the whole mini-batch under the present weights (a KL) that the loss of
    each of its parts is given; it costs a forward pass.
    `gate` says that the reward has a length term and which rows are paid by it; `reward` is then its `paid`.
    `measure(rollouts, state, advantages)` gives numbers of the method's own for the step log, of the kept rows.
    With a `teacher` its divergence is all the loss there is: `loss` and `normaliser` are left out.
    With `cuts` each rollout is a thinking that is cut at budgets, and its answers are the rows.
    `extra_losses` act on the bare prompts of a mini-batch. `kl_coef` and `kl_kind` add a penalty against the starting
    weights. `initial_state` and `update_state` carry memory from batch to batch (JSON values, saved in every
    checkpoint). `observe` watches a fixed set of problems every few steps, before the batch.

    With `windows` a step writes a window of each response and a critic learns beside the policy. `reward` then gets
    done responses only, one by one: it must not compare the rows of a group, which are done in different steps.
    `advantage` gets the extended GAE float [B, W] in place of rewards, and the windows with the policy's `train_mask`;
    `loss` gets token-level advantages. The state is updated after steps with a done response.
    """

    cap: Callable[[int, State], float]
    reward: Callable[[Rollouts, State], Tensor]
    advantage: Callable[[Tensor, Rollouts], Tensor]
    loss: Loss = _teacher_alone
    normaliser: Callable[[Rollouts], float] = _one
    prompts: Callable[[Ask], list[Asked]] = _ask_as_is
    needs: tuple[str, ...] = ()
    keep: Callable[[Rollouts], Tensor] | None = None
    coupling: Literal["row", "group"] = "row"
    takes_advantages: bool = True
    signal_alone: bool = False
    temperature: float | None = None
    gate: Gate | None = None
    measure: Callable[[Rollouts, State, Tensor], Mapping[str, float]] | None = None
    teacher: Teacher | None = None
    cuts: ThinkingCuts | None = None
    shared: Callable[[Tensor, Tensor, Tensor], Any] | None = None
    extra_losses: tuple[ExtraLoss, ...] = ()
    kl_coef: float = 0.0
    kl_kind: Literal["k1", "k2", "k3"] = "k2"
    initial_state: Callable[[], State] = _no_state
    update_state: Callable[[State, Rollouts], State] = _same_state
    observe: Observation | None = None
    windows: Windows | None = None

    @property
    def loop(self) -> Method:
        """The method itself."""
        return self

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
        if self.teacher is None and self.loss is _teacher_alone:
            raise ConfigError(f"method {self.name!r} has neither a loss nor a teacher; give one of them")
        if self.teacher is not None and (self.kl_coef or self.extra_losses or self.shared):
            raise ConfigError(
                f"method {self.name!r} has a teacher, whose divergence is all its loss; leave kl_coef, extra_losses "
                "and shared out"
            )
        if self.cuts is not None and (self.needs or self.teacher is not None):
            raise ConfigError(f"method {self.name!r} cuts thinking; leave needs and teacher out")
        for name in self.needs:
            if name not in OPTIONAL_FIELDS:
                raise ConfigError(f"needs names {name!r}; the optional fields are {', '.join(OPTIONAL_FIELDS)}")
        if self.extra_losses and "bare_prompt_ids" not in self.needs:
            raise ConfigError(
                f"method {self.name!r} has extra losses on the bare prompt; add 'bare_prompt_ids' to its needs"
            )
        if self.windows is not None:
            self._check_windows()

    def _check_windows(self) -> None:
        """Refuse parts for which windows have no place."""
        nothing = dict.fromkeys(("keep", "observe", "teacher", "cuts"))
        plain = {"coupling": "row", "needs": (), "extra_losses": (), **nothing}
        for name, kept in plain.items():
            if getattr(self, name) != kept:
                raise ConfigError(
                    f"method {self.name!r} has its own {name}, but windows train on every response and end a group's "
                    f"responses in different steps; leave {name} at {kept!r}, or use a method without windows"
                )
