"""A run's settings with what was resolved from them, the method that they name, and what the run's folder keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lengthwise.config.command import Command
from lengthwise.config.commands import ShortenSettings
from lengthwise.config.files import run_config
from lengthwise.config.groups.training import MovingCap, Training
from lengthwise.engine.backends.writer import Writer
from lengthwise.engine.method import Recipe, Stage, StageInputs
from lengthwise.engine.model_folders import Policy, load_policy
from lengthwise.engine.trainer import check_method
from lengthwise.errors import ConfigError
from lengthwise.files import sha256_file
from lengthwise.grading.problems import Problems
from lengthwise.lab.shipped_models import LAB, model_folder
from lengthwise.methods import build_method
from lengthwise.methods.moving_cap import under_schedule
from lengthwise.methods.user_method import source_of
from lengthwise.runs.run_folder import PART, environment
from lengthwise.runs.shortening.stages import check_names, finished_stages, merge_back

Listener = Callable[[str, Mapping[str, object]], None]
"""Told of progress: (event, facts). Events: phase (name, steps, done of them, ends), step, said (text)."""


@dataclass(frozen=True)
class Job:
    """What `shorten` is asked to do: settings, and what was resolved from them.

    `cap` is the response cap in training, the longest one where it moves, and `eval_cap` that of every evaluation.
    `options` are the method's own, as values. The settings' `data` and `eval_data` only name the sources here; the
    problems themselves are passed beside. `command` holds the settings that the run's folder keeps so that `--config`
    takes them back; without it the run is a part of something else, or was called from Python with problems of its own.
    `writer` writes the tokens; without it every model writes its own.

    Raises:
        ConfigError: a cap below 1, or an evaluation cap below the training cap.
    """

    settings: ShortenSettings
    cap: int
    eval_cap: int
    options: Mapping[str, object] = field(default_factory=dict)
    command: Command | None = None
    writer: Writer | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise ConfigError(f"cap is {self.cap}; a response has at least 1 token")
        if self.eval_cap < self.cap:
            raise ConfigError(
                f"eval_cap is {self.eval_cap}, below the training cap {self.cap}; give at least the training cap, "
                "or answers that training allows are cut in evaluation"
            )

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.settings.out

    @property
    def train(self) -> Training:
        """How the method is carried out."""
        return self.settings.training

    @property
    def folder(self) -> Path:
        """The model's folder."""
        return model_folder(self.settings.model, in_its_world=True)

    @property
    def folders(self) -> list[Path]:
        """The folders of the models that it computes with."""
        return [self.folder]

    @property
    def eval_data(self) -> str:
        """Where the problems come from that are measured."""
        return self.settings.measuring.eval_data or self.settings.data

    @property
    def moving(self) -> MovingCap | None:
        """How the cap moves; None where it does not."""
        return self.settings.schedule.moving

    @property
    def lab(self) -> bool:
        """Whether it runs in the lab, on a shipped model or in one of its worlds."""
        return self.settings.model.startswith(LAB) or self.settings.data.startswith(LAB)


def resolve_method(job: Job, method: Recipe | None = None, *, only: str | None = None) -> Recipe:
    """The job's method, or one of your own, with all its stages.

    `only` names the one stage that is to be run, so that what others need need not be there; by default all that are
    not finished are.

    Raises:
        ConfigError: options that exclude each other, or stages that share a name; importance weights that the loss
            would leave out.
        MissingExtraError: a stage needs an extra.
    """
    settings = job.settings
    chosen = method or build_method(settings.method, cap=job.cap, **job.options)

    def trains(stage: str) -> bool:
        return stage == only if only is not None else not finished_stages((Stage(stage, lambda _: {}),), job.out)

    chosen = chosen.staged(job.folder, settings.runtime, settings.adaptation, trains=trains)
    if job.moving is not None:
        chosen = under_schedule(chosen, longest=job.cap, **asdict(job.moving))
    if settings.merge_back is not None:
        chosen = replace(chosen, finish=(*chosen.finish, merge_back(*settings.merge_back)))
    check_names((*chosen.prepare, *chosen.finish))
    if chosen.loop is not None:
        check_method(chosen.loop, job.train)
    return chosen


def load(job: Job, folder: Path | None = None, *, merged: bool = False) -> Policy:
    """The job's starting weights, or those in another folder, as the job wants them.

    `merged`: the folder holds an adapter's weights merged in, so none is put on it.
    """
    runtime, adaptation = job.settings.runtime, job.settings.adaptation
    policy = load_policy(
        folder or job.folder,
        device=runtime.device,
        dtype=runtime.dtype,
        lora_rank=0 if merged else adaptation.lora,
        gradient_checkpointing=adaptation.gradient_checkpointing,
        liger=adaptation.liger,
        trust_remote_code=runtime.trust_remote_code,
        seed=job.train.seed,
    )
    return policy if job.writer is None else job.writer.attach(policy)


def stage_inputs(job: Job, base: Path, problems: Problems, tell: Listener) -> Callable[[Path, Path, Path], StageInputs]:
    """What makes the inputs of a job's stages, from the model so far, where the new one goes, and a work folder."""

    def attach(policy: Policy) -> Policy:
        return policy if job.writer is None else job.writer.attach(policy)

    def given(model: Path, out: Path, work: Path) -> StageInputs:
        return StageInputs(
            base=base, model=model, out=out, work=work, problems=problems, cap=job.cap, train=job.train,
            runtime=job.settings.runtime, tell=lambda text: tell("phase", {"name": text}), attach=attach,
        )  # fmt: skip

    return given


def config_of(
    job: Job, method: Recipe, policy: Policy, train_problems: Problems, eval_problems: Problems
) -> dict[str, object]:
    """What the run's config.json says: the settings, and beside them what was resolved from them."""
    facts = {
        "model": job.settings.model,
        "method": {
            "name": method.name,
            "paper": method.paper,
            "summary": method.summary,
            "options": dict(method.options),
            **_own_source(job.settings.method),
        },
        "cap": job.cap,
        "eval_cap": job.eval_cap,
        "steps": job.train.steps,
        "seed": job.train.seed,
        "lab": job.lab,
        **({} if job.writer is None else job.writer.facts),
        "contract": train_problems.contract.to_dict(),
        "problems": {"train": len(train_problems), "eval": len(eval_problems)},
        "environment": environment(str(policy.device)),
    }
    return {PART: job.settings.recorded(), **facts} if job.command is None else run_config(job.command, **facts)


def _own_source(name: str) -> dict[str, str]:
    """What a method of one's own was when the run began: with another one it is another run."""
    path = source_of(name)
    return {} if path is None else {"source_sha256": sha256_file(path)}
