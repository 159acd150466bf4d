"""`shorten --stage`: one stage of Ada-R1 alone, in the run's folder, after those that it reads."""

from __future__ import annotations

from lengthwise.errors import ConfigError
from lengthwise.folder_lock import writes
from lengthwise.grading.problems import Problems
from lengthwise.runs.run_folder import open_run
from lengthwise.runs.shortening.job import Job, Listener, config_of, load, resolve_method, stage_inputs
from lengthwise.runs.shortening.outcome import Outcome
from lengthwise.runs.shortening.shorten import shorten
from lengthwise.runs.shortening.stages import OneStage, finished_stages, run_stages
from lengthwise.threads import on_few_threads

EVALUATE = "evaluate"


@on_few_threads("job.folders")
@writes("job.out")
def run_one_stage(
    job: Job,
    name: str,
    train_problems: Problems,
    eval_problems: Problems,
    *,
    listener: Listener | None = None,
) -> OneStage | Outcome:
    """Run a stage and return what it found, or what it found before if it is finished.

    ``evaluate`` measures, once all stages are finished, and returns the outcome that `shorten` returns.

    Raises:
        ConfigError: no such stage, a method without them, or a stage that it reads is not finished.
    """
    tell = listener or (lambda event, facts: None)
    method = resolve_method(job, only=name)
    if not method.alone:
        raise ConfigError(
            f"stage is {name!r}, but method {job.settings.method!r} has no stages to run alone; leave it out"
        )
    if name not in (*method.alone, EVALUATE):
        raise ConfigError(f"stage is {name!r}; choose one of {', '.join((*method.alone, EVALUATE))}")
    stages = {stage.name: stage for stage in (*method.prepare, *method.finish)}
    needed = tuple(method.alone) if name == EVALUATE else method.alone[name]
    policy = load(job)
    open_run(job.out, config_of(job, method, policy, train_problems, eval_problems), overwrite=job.settings.overwrite)
    done = finished_stages([stages[need] for need in needed], job.out)
    missing = [need for need in needed if need not in done]
    if missing:
        raise ConfigError(
            f"stage {name} reads what {' and '.join(missing)} left, which {'is' if len(missing) == 1 else 'are'} not "
            f"finished in {str(job.out)!r}; run --stage {missing[0]} first, or leave --stage out to run all"
        )
    if name == EVALUATE:
        return shorten(job, train_problems, eval_problems, listener=listener)
    tell("phase", {"name": f"stage {name}"})
    run_stages(
        [stages[one] for one in (*needed, name)], policy.folder, job.out,
        stage_inputs(job, policy.folder, train_problems, tell),
    )  # fmt: skip
    return OneStage(**vars(finished_stages([stages[name]], job.out)[name]), stage=name, folder=str(job.out))
