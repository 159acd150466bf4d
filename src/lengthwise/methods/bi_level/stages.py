"""Ada-R1's stages: merge the long and the short model, sample both, build pairs, train the merge on them.

The long model is the run's own, the short one a setting. Every stage stands in the run's folder under ``stages``; the
samples and pairs are JSON lines that can be read and changed between stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.config.commands import MergeSettings
from lengthwise.config.groups.model import TrainingRuntime
from lengthwise.config.groups.sampling import Intervention, Sampling
from lengthwise.config.groups.training import AdaptationHere
from lengthwise.engine.method import Stage, StageInputs
from lengthwise.engine.model_folders import Policy, load_policy
from lengthwise.errors import ConfigError
from lengthwise.generation.measurement import measure
from lengthwise.generation.response_log import ResponseLog
from lengthwise.generation.sampling import ROWS_AT_ONCE, complete_all
from lengthwise.grading.problems import Problems
from lengthwise.json_types import JsonObject
from lengthwise.lab.shipped_models import model_folder
from lengthwise.merging.folder_merge import merge_folders
from lengthwise.merging.merge_plan import Plan, preflight
from lengthwise.methods.bi_level.dpo import check_trl, pair_tokens, train_on_pairs
from lengthwise.methods.bi_level.pairs import graded_samples, read_pairs, write_pairs
from lengthwise.statistics.json_form import Result
from lengthwise.statistics.records import Record

if TYPE_CHECKING:
    from lengthwise.methods.papers.ada_r1 import BiLevel

MERGE, SAMPLE, PAIRS, DPO = "merge", "sample", "pairs", "dpo"
NEEDS = {MERGE: (), SAMPLE: (), PAIRS: (SAMPLE,), DPO: (MERGE, PAIRS)}
"""The stages that a stage reads."""
PAIRS_FILE = "pairs.jsonl"
SAMPLE_ROWS = 128
"""Rows in flight while sampling, where the run does not say."""


def short_folder(settings: BiLevel) -> Path:
    """The folder of the short model; ``lab:terse`` and the like are the shipped ones.

    Raises:
        ConfigError: none is named.
        InputError: no such model.
    """
    name = settings.short_model
    if not name:
        raise ConfigError("ada-r1 needs a short model beside MODEL, the long one; give --short-model FOLDER")
    return model_folder(name, in_its_world=True)  # what cannot be merged is said by the merge


@dataclass(frozen=True)
class Merged(Result):
    """What the merge found: the long model's share, tensors changed in all, and what was noted."""

    alpha: float
    changed: Mapping[str, object]
    notes: Sequence[str]


@dataclass(frozen=True)
class SampledModel(Result):
    """One model's samples: their accuracy, mean tokens, and tokens in all."""

    accuracy: float
    mean_tokens: float
    tokens: int


@dataclass(frozen=True)
class Sampled(Result):
    """The samples of both models, and the tokens that they took together."""

    long: SampledModel
    short: SampledModel

    def to_dict(self) -> JsonObject:
        """With the tokens that count as the run's."""
        return {**super().to_dict(), "sampled_tokens": self.long.tokens + self.short.tokens}


@dataclass(frozen=True)
class Stages:
    """Those before what is measured as "prepared", and those after it."""

    prepare: tuple[Stage, ...]
    finish: tuple[Stage, ...]


def stages_of(
    settings: BiLevel, base: Path, runtime: TrainingRuntime, adaptation: AdaptationHere, *, train_here: bool = True
) -> Stages:
    """The stages, after a look at what they need: both models fit, and TRL is there.

    The merge comes before what is measured as "prepared", the others after it. Without `train_here` TRL may be missing.

    Raises:
        ConfigError: no short model, or one that cannot be merged with the long one.
        MissingExtraError: no TRL.
    """
    short = short_folder(settings)
    _merge_plan(_merge_settings(settings, base, short, base / "nothing"))
    if train_here:
        check_trl(runtime.device)

    def merge(inputs: StageInputs) -> JsonObject:
        asked = _merge_settings(settings, inputs.base, short, inputs.out)
        report = merge_folders(asked, plan=_merge_plan(asked))
        return Merged(settings.alpha, report.total.to_dict(), report.notes).to_dict()

    def sample(inputs: StageInputs) -> JsonObject:
        models = {"long": inputs.base, "short": short}
        found = {name: _sample(name, folder, inputs, settings) for name, folder in models.items()}
        return Sampled(**found).to_dict()

    def pairs(inputs: StageInputs) -> JsonObject:
        long, other = (_log(inputs.work.parent.parent / SAMPLE / "work", name) for name in ("long", "short"))
        return write_pairs(
            inputs.work / PAIRS_FILE, inputs.problems, long, other, settings, inputs.train.seed
        ).to_dict()

    def dpo(inputs: StageInputs) -> JsonObject:
        path = inputs.work.parent.parent / PAIRS / "work" / PAIRS_FILE
        rows, changed = pair_tokens(read_pairs(path), inputs.problems)
        inputs.tell(f"DPO on {len(rows)} pairs")
        found = train_on_pairs(
            inputs.model, inputs.out, inputs.work, rows, settings, inputs.train, inputs.runtime, adaptation
        )  # fmt: skip
        return {**found.to_dict(), "retokenised_unlike": changed}

    later = (Stage(SAMPLE, sample), Stage(PAIRS, pairs), Stage(DPO, dpo))
    return Stages((Stage(MERGE, merge),), later)


def _merge_settings(settings: BiLevel, base: Path, short: Path, out: Path) -> MergeSettings:
    merged = {"method": "linear", "weights": (settings.alpha, 1 - settings.alpha)}
    return MergeSettings.from_dict({**merged, "models": (str(base), str(short)), "out": out, "overwrite": True})


def _merge_plan(asked: MergeSettings) -> Plan:
    plan = preflight(asked)
    if plan.errors:
        more = f" (and {len(plan.errors) - 1} more)" if len(plan.errors) > 1 else ""
        raise ConfigError(
            f"short_model is {asked.models[1]!r}, which cannot be merged with the long one: {plan.errors[0]}{more}"
        )
    return plan


def _log(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"


def _sample(name: str, folder: Path, inputs: StageInputs, settings: BiLevel) -> SampledModel:
    """Draw what the log of one model lacks; the accuracy and tokens of all of it."""
    problems: Problems = inputs.problems
    sampling = Sampling(
        cap=inputs.cap, temperature=settings.temperature, top_p=settings.top_p, samples=settings.samples,
        seed=inputs.train.seed, sample_rows=inputs.train.sample_rows or SAMPLE_ROWS,
    )  # fmt: skip
    path = _log(inputs.work, name)
    inputs.tell(f"sampling the {name} model")
    with ResponseLog(path) as log:
        if log.missing(problems, sampling.samples):
            runtime = inputs.runtime
            policy = inputs.attach(
                load_policy(
                    folder, device=runtime.device, dtype=runtime.dtype, trust_remote_code=runtime.trust_remote_code
                )
            )
            complete_all(policy, problems, sampling, log, intervention=Intervention(), tell=lambda found: None)
            if policy.backend is not None:
                policy.backend.rest()  # the next model's weights wake it
    rows = [row for found in graded_samples(path, problems, sampling.samples).values() for row in found]
    tokens = sum(row["num_tokens"] for row in rows)
    right = sum(row["correct"] for row in rows)
    return SampledModel(right / len(rows), tokens / len(rows), tokens)


def measure_short(settings: BiLevel, runtime: TrainingRuntime) -> Callable[[Policy, Problems, Record, Path], Record]:
    """A control of a run: the short model, measured as the long one was before."""

    def control(policy: Policy, problems: Problems, before: Record, log: Path) -> Record:
        short = load_policy(
            short_folder(settings), device=runtime.device, dtype=runtime.dtype,
            trust_remote_code=runtime.trust_remote_code,
        )  # fmt: skip
        sampling, data = Sampling.of(before.context, sample_rows=ROWS_AT_ONCE), str(before.context["data"])
        return measure(short, problems, sampling, log, name="control: short model", data=data).record

    return control
