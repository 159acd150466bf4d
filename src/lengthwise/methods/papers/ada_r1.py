"""Ada-R1: merge a long and a short reasoner, then teach the merge which style a problem needs. arXiv 2504.21659.

Everything is offline: both models are sampled once, pairs of their responses are built at two levels (the style for
the problem, the response within the style), and the merge is trained on them by DPO against itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lengthwise.config.definition import setting
from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.training import AdaptationHere
from lengthwise.engine.method import Control, Recipe
from lengthwise.errors import ConfigError
from lengthwise.methods.bi_level import stages
from lengthwise.methods.declaration import Options, declare


class BiLevel(Options):
    """Ada-R1's options: the merge, the samples, the pairs and DPO.

    `epsilon` None is 1/(2 samples), any lead. `narrow` is the pair rule of the authors' code.
    """

    short_model: str = setting("", help="Folder of the short model, or a shipped one such as lab:terse.")
    alpha: float = setting(0.8, ge=0, le=1, help="The long model's share in the merge.")
    samples: int = setting(12, ge=1, help="Samples of each model per problem.")
    temperature: float = setting(0.6, gt=0, help="Sampling temperature.")
    top_p: float = setting(0.95, ge=0, le=1, help="Share of the probability that is sampled from.")
    epsilon: float | None = setting(
        None, ge=0, le=1, help="Lead in accuracy that the long style needs.", default_text="1/(2 samples)"
    )  # fmt: skip
    group_most: int = setting(4, ge=1, help="Most pairs of the group level per problem.")
    instance_most: int = setting(2, ge=1, help="Most pairs of the instance level per problem.")
    pairs: Literal["both", "group", "instance"] = setting("both", help="Levels of which pairs are trained on.")
    narrow: bool = setting(False, help="Pair as the authors' code does, not as the paper says.")
    beta: float = setting(0.1, gt=0, help="DPO: strength of the pull towards the merge.")
    lr: float = setting(5e-7, gt=0, help="DPO: learning rate.")
    batch: int = setting(32, ge=1, help="DPO: pairs per step.")
    epochs: int = setting(2, ge=1, help="DPO: passes over the pairs.")
    max_length: int = setting(4096, ge=1, help="DPO: most tokens of prompt and response together.")
    schedule: Literal["constant", "cosine"] = setting("constant", help="DPO: learning rate after the warm-up.")
    warmup: float = setting(0.1, ge=0, le=1, help="DPO: share of the steps that warm up.")
    grad_clip: float = setting(50.0, gt=0, help="DPO: most norm of a gradient.")


@dataclass(frozen=True, kw_only=True)
class AdaR1(Recipe):
    """Ada-R1 as its settings, of which its stages are made: merge, sample, pairs, dpo."""

    settings: BiLevel

    @property
    def alone(self) -> Mapping[str, tuple[str, ...]]:
        """Every stage with those that it reads."""
        return stages.NEEDS

    def staged(
        self, base: Path, runtime: TrainingRuntime, adaptation: AdaptationHere, *, trains: Callable[[str], bool]
    ) -> AdaR1:
        """With its stages, after a look at what they need: both models fit, and TRL is there where DPO is to be run.

        Raises:
            ConfigError: an adapter, no short model, or one that cannot be merged with the long one.
            MissingExtraError: no TRL.
        """
        if adaptation.lora:
            raise ConfigError(
                f"lora is {adaptation.lora}, but ada-r1 trains the merged weights themselves; leave it at 0"
            )
        made = stages.stages_of(self.settings, base, runtime, adaptation, train_here=trains(stages.DPO))
        return replace(self, prepare=made.prepare, finish=made.finish)

    def controls(self, runtime: TrainingRuntime) -> Mapping[str, Control]:
        """The short model, measured as the long one was before."""
        return {"short": stages.measure_short(self.settings, runtime)}


@declare(
    "ada-r1",
    BiLevel,
    paper="Ada-R1: Hybrid-CoT via Bi-Level Adaptive Reasoning Optimization, arXiv 2504.21659",
    summary="merge of a long and a short model, DPO on pairs between styles and within them",
)
def ada_r1(options: BiLevel) -> AdaR1:
    """Bi-level preferences between a long model and `short_model`; samples have at most `cap` tokens.

    The paper's settings of its 7B model; `alpha`, `epsilon`, `temperature`, `top_p`, `warmup` and `grad_clip` are the
    authors' code's, the paper prints none. Differs from that code: the paper's pair rule (`narrow` is the code's), and
    pairs of two equal texts are left out.
    """
    return AdaR1(settings=options)
