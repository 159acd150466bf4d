"""Ada-R1: merge a long and a short reasoner, then teach the merge which style a problem needs. arXiv 2504.21659.

Everything is offline: both models are sampled once, pairs of their responses are built at two levels (the style for
the problem, the response within the style), and the merge is trained on them by DPO against itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from lengthwise.engine.method import Recipe
from lengthwise.errors import ConfigError

LEVELS = ("both", "group", "instance")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True)
class BiLevel:
    """Ada-R1's settings.

    Merge: `short_model` is a folder, `alpha` the long model's share. Samples: `samples` of each model per problem, at
    `temperature` and `top_p`. Pairs: `epsilon` is the lead in accuracy that the long style needs (None: 1/(2 samples),
    any lead), `group_most` and `instance_most` the most pairs of each level per problem, `pairs` the levels used,
    `narrow` the authors' rule. DPO: `beta`, `lr`, pairs a `batch`, `epochs`, most tokens `max_length` of prompt and
    response together, learning-rate `schedule` after a warm-up over the share `warmup`, gradient norm `grad_clip`.
    """

    short_model: str
    alpha: float
    samples: int
    temperature: float
    top_p: float
    epsilon: float | None
    group_most: int
    instance_most: int
    pairs: Literal["both", "group", "instance"]
    narrow: bool
    beta: float
    lr: float
    batch: int
    epochs: int
    max_length: int
    schedule: Literal["constant", "cosine"]
    warmup: float
    grad_clip: float

    def __post_init__(self) -> None:
        for name in ("samples", "group_most", "instance_most", "batch", "epochs", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 1")
        for name in ("temperature", "beta", "lr", "grad_clip"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; give a positive number")
        for name in ("alpha", "top_p", "warmup", *(() if self.epsilon is None else ("epsilon",))):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a share from 0 to 1")
        for name, known in (("pairs", LEVELS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class AdaR1(Recipe):
    """Ada-R1 as its settings; the study makes its stages of them (merge, sample, pairs, dpo)."""

    settings: BiLevel


def ada_r1(
    *,
    cap: int,
    short_model: str = "",
    alpha: float = 0.8,
    samples: int = 12,
    temperature: float = 0.6,
    top_p: float = 0.95,
    epsilon: float | None = None,
    group_most: int = 4,
    instance_most: int = 2,
    pairs: Literal["both", "group", "instance"] = "both",
    narrow: bool = False,
    beta: float = 0.1,
    lr: float = 5e-7,
    batch: int = 32,
    epochs: int = 2,
    max_length: int = 4096,
    schedule: Literal["constant", "cosine"] = "constant",
    warmup: float = 0.1,
    grad_clip: float = 50.0,
) -> AdaR1:
    """Bi-level preferences between a long model and `short_model`; samples have at most `cap` tokens.

    The paper's settings of its 7B model; `alpha`, `epsilon`, `temperature`, `top_p`, `warmup` and `grad_clip` are the
    authors' code's, the paper prints none. Differs from that code: the paper's pair rule (`narrow` is the code's), and
    pairs of two equal texts are left out.
    """
    given: dict[str, Any] = locals()
    settings = BiLevel(**{field.name: given[field.name] for field in fields(BiLevel)})
    return AdaR1(
        name="ada-r1",
        paper="Ada-R1: Hybrid-CoT via Bi-Level Adaptive Reasoning Optimization, arXiv 2504.21659",
        summary="merge of a long and a short model, DPO on pairs between styles and within them",
        options={"cap": cap, **asdict(settings)},
        settings=settings,
    )
