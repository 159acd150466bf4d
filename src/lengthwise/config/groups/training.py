"""How a method is carried out: batches, updates, the cap on responses, and the devices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lengthwise.config.definition import again, setting
from lengthwise.config.groups.common import Common
from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.settings import Settings
from lengthwise.errors import ConfigError

CYCLE = 640
"""Steps of a schedule's cycle unless it is given: SIRI's."""
SCHEDULES = ("cosine", "stair", "stair-cosine")
POSITIVE = "give a positive number"
Schedule = Literal["auto", "cosine", "stair", "stair-cosine"]
_RELATIVE = re.compile(r"p\d{1,2}|\d*\.?\d+(?:[eE][+-]?\d+)?L")


class Batches(Settings):
    """What a method takes in a step, and what it makes of it."""

    panel = "Training"
    steps: int = setting(200, ge=1, help="Training steps (batches).")
    prompts: int = setting(16, ge=1, help="Problems per step.")
    group_size: int = setting(
        8, ge=2, help="Rollouts per problem.", refusal="give at least 2; a group of one has no advantage"
    )
    updates: int = setting(2, ge=1, help="Optimizer steps per batch.")
    lr: float = setting(1e-6, gt=0, help="Learning rate (AdamW).")
    warmup_steps: int = setting(0, ge=0, help="Steps of linear warm-up.")
    weight_decay: float = setting(0.01, ge=0, help="Weight decay (AdamW).")
    grad_clip: float = setting(1.0, gt=0, help="Most norm of a gradient.")
    temperature: float = again(
        Sampling, "temperature", gt=0, ge=None, help="Sampling temperature in training.", panel=None, refusal=POSITIVE
    )
    max_draws: int = setting(8, ge=1, help="Draws of dynamic sampling before a smaller batch is taken.")
    checkpoint_every: int = setting(20, ge=1, help="Steps between checkpoints.")
    seed: int = again(Common, "seed", help="Seed of the run.", panel=None)

    def check(self) -> None:
        """Groups stay whole in an update."""
        super().check()
        if self.updates > self.prompts:
            raise ConfigError(
                f"updates is {self.updates} but a batch has {self.prompts} groups, and groups stay whole; "
                "give at most one update per prompt"
            )


class Training(Batches):
    """How a method is carried out on one device; what the method itself says is not repeated here."""

    truncate_importance: float | None = setting(
        None, gt=0, help="Bound of importance weights between sampler and trainer.",
        default_text="off; 2 where vLLM writes and the method's loss takes them",
        refusal="give a positive bound or leave it out",
    )  # fmt: skip
    micro_batch_tokens: int = setting(4_096, ge=1, help="Padded tokens of one forward and backward.")
    sample_rows: int = again(
        Sampling, "sample_rows", 0, ge=0, help="Rows in flight while sampling; 0: all.", panel=None, refusal=None
    )
    token_budget: int | None = setting(
        None, ge=1, help="End training once so many tokens were sampled.", default_text="no bound",
        refusal="give at least 1 token or leave it out",
    )  # fmt: skip


class SharedTraining(Training):
    """How all methods of a comparison are carried out."""

    steps: int = again(
        Training, "steps", 100, help="Batches of the untouched model's length that a run's tokens pay for."
    )
    lr: float = again(Training, "lr", default_text="1e-6, with a lab model 1e-4")
    token_budget: int | None = again(
        Training, "token_budget", help="Sampled tokens that each run may spend.", default_text="what --steps come to"
    )
    seed: int = again(Training, "seed", help="The first seed.")


class ClusterBatches(Batches):
    """Batches of a run that an engine with more devices carries out."""

    prompts: int = again(Batches, "prompts", 128)
    updates: int = again(Batches, "updates", 4)


class Adaptation(Settings):
    """Which weights are trained, and at what price in memory."""

    panel = "Training"
    lora: int = setting(0, ge=0, help="Rank of a LoRA adapter; 0 trains all weights.")
    gradient_checkpointing: bool = setting(False, help="Recompute activations: less memory, slower.")


class AdaptationHere(Adaptation):
    """Which weights our own engine trains, and with whose kernels."""

    liger: bool = setting(False, help="Liger's kernels for norms and MLPs, on a GPU.")


@dataclass(frozen=True)
class MovingCap:
    """How a cap moves: `shape` is one of `SCHEDULES`, `cycle` in steps; the longest cap is the run's own."""

    shape: str
    shortest: int
    cycle: int


class CapSchedule(Settings):
    """The cap on responses in training, and how it moves."""

    panel = "Method"
    cap: int | Schedule = again(
        Sampling, "cap", "auto", help="Most response tokens in training, auto, or a schedule that moves it.",
        panel=None, default_text=None, wanted="a whole number of tokens, auto, or cosine, stair, stair-cosine",
    )  # fmt: skip
    longest: int | None = setting(None, ge=1, help="Longest cap of a schedule.")
    shortest: int | None = setting(
        None, ge=1, help="Shortest cap of a schedule.", default_text="half of the longest"
    )  # fmt: skip
    cycle: int | None = setting(None, ge=1, help="Steps of a schedule's cycle.", default_text=str(CYCLE))

    def check(self) -> None:
        """A schedule has its longest cap, and nothing else has any of its numbers."""
        super().check()
        if self.cap in SCHEDULES:
            if self.longest is None:
                raise ConfigError(
                    f"cap is {self.cap!r}, a schedule, and its longest cap is not given; add --longest TOKENS (and "
                    f"--shortest, default half of it, and --cycle STEPS, default {CYCLE})"
                )
            return
        for name in ("longest", "shortest", "cycle"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} but the cap is {self.cap!r}, which does not move; give --cap "
                    f"{', '.join(SCHEDULES)}, or leave --{name} out"
                )

    @property
    def number(self) -> int | None:
        """The cap as a number, the longest one of a schedule; None where it is chosen by auto."""
        return self.longest if self.cap in SCHEDULES else self.cap if isinstance(self.cap, int) else None

    @property
    def moving(self) -> MovingCap | None:
        """How the cap moves; None where it does not."""
        if self.longest is None:
            return None
        return MovingCap(str(self.cap), self.shortest or -(-self.longest // 2), self.cycle or CYCLE)


class RelativeCap(Settings):
    """The training cap of a comparison's methods, a number of tokens or relative to the untouched model's lengths."""

    panel = "Method"
    cap: int | str = again(
        Sampling, "cap", "p95", help="Training cap of methods whose knob is another: tokens, p95, 0.8L.", panel=None,
        default_text=None, metavar="tokens",
    )  # fmt: skip

    def check(self) -> None:
        """A number of tokens, a quantile, or a share of the mean length."""
        super().check()
        if isinstance(self.cap, str) and not _RELATIVE.fullmatch(self.cap):
            raise ConfigError(f"cap is {self.cap!r}; give a whole number of tokens, at least 1, or p95, or 0.8L")


class Cluster(Settings):
    """The devices that an exported run takes."""

    panel = "Training"
    devices: int = setting(1, ge=1, help="GPUs a node.")
    nodes: int = setting(1, ge=1, help="Nodes.")
    micro_batch_rows: int | None = setting(
        None, ge=1, help="Responses that one device learns from at a time.", default_text="8, or what divides"
    )
    vllm: bool = setting(False, help="TRL: sample with vLLM on the training devices.")
    sharding: Literal["none", "zero2", "zero3", "fsdp"] = setting("none", help="TRL: how weights are shared out.")
    tensor_parallel: int = setting(1, ge=1, help="verl: devices over which vLLM spreads a model.")

    def check(self) -> None:
        """Sharding needs more than one device."""
        super().check()
        if self.sharding != "none" and self.processes == 1:
            raise ConfigError(f"sharding is {self.sharding!r} on one device; give --devices, or leave sharding at none")
        if self.devices % self.tensor_parallel:
            raise ConfigError(
                f"tensor_parallel is {self.tensor_parallel}, no divisor of the {self.devices} devices of a node; "
                "give one that divides them"
            )

    @property
    def processes(self) -> int:
        """One a device."""
        return self.devices * self.nodes
