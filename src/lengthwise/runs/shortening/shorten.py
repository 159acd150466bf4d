"""The main job: measure a model, shorten it with a method, measure it again, and say what changed.

Every phase leaves files that are whole or absent, so the same call continues where a killed one stopped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lengthwise.config.groups.sampling import Sampling
from lengthwise.config.groups.training import Training
from lengthwise.engine.batches import check_needs
from lengthwise.engine.distillation import check_teacher
from lengthwise.engine.method import Method, Recipe
from lengthwise.engine.metrics_log import read_metrics
from lengthwise.engine.model_folders import Policy, save_policy, weights_sha
from lengthwise.engine.rotary_switch import check_learnable
from lengthwise.engine.trainer import Trainer
from lengthwise.errors import LengthwiseWarning
from lengthwise.files import atomic_write_json, atomic_write_text, read_json
from lengthwise.folder_lock import writes
from lengthwise.generation.measurement import Measured
from lengthwise.generation.measurement import measure as draw_and_grade
from lengthwise.generation.response_log import responses_in
from lengthwise.generation.sampling import ROWS_AT_ONCE, source_name
from lengthwise.grading.problems import Problems
from lengthwise.json_types import JsonObject
from lengthwise.reporting.run_report import build_report
from lengthwise.runs.run_folder import MODEL, OUTCOME, RECORDS, RESPONSES, TEXTS, open_run
from lengthwise.runs.shortening.job import Job, Listener, config_of, load, resolve_method, stage_inputs
from lengthwise.runs.shortening.outcome import Measurements, Outcome, measurements_of
from lengthwise.runs.shortening.stages import FOLDER, finished_stages, run_stages
from lengthwise.statistics.json_form import Result, plain
from lengthwise.statistics.records import Record
from lengthwise.threads import on_few_threads

KEPT_TEXTS = 40
SAMPLING, GREEDY = "", "-greedy"
TRAINED = "trained"
WHEN = ("before", "after")
TRUNCATE_IMPORTANCE = 2.0
"""Bound of importance weights unless it is given, where a backend with weights of its own writes."""
Control = Callable[[Policy, Problems, Record, Path], Record]
"""An extra measurement of the untouched model: (policy, problems, its record before, a log) -> record.

The log keeps its responses, so that one that was killed goes on.
"""


@dataclass(frozen=True, kw_only=True)
class KeptText(Result):
    """One response in words, beside what was asked."""

    problem: str
    answer: str
    level: str | None
    text: str
    num_tokens: int
    correct: bool
    finished: bool

    @property
    def question(self) -> JsonObject:
        """What is the same for every model."""
        return {"problem": self.problem, "answer": self.answer, "level": self.level}

    @property
    def response(self) -> JsonObject:
        """What this model wrote."""
        return {name: value for name, value in self.to_dict().items() if name not in self.question}


@on_few_threads("job.folders")
@writes("job.out")
def shorten(
    job: Job,
    train_problems: Problems,
    eval_problems: Problems,
    *,
    method: Recipe | None = None,
    controls: Mapping[str, Control] | None = None,
    extra_sets: Mapping[str, Problems] | None = None,
    oracle_tokens: float | None = None,
    levels_apart: Sequence[str] = (),
    measured: Path | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Shorten a model and return the outcome: the numbers before, after and of the controls, and the report.

    Evaluates at temperature 1 and greedily on `eval_problems`, before and after. `method` is a method of your own,
    in place of the job's named one; its stages run before and after the training. `extra_sets` are further sets
    measured at temperature 1 and reported apart; `controls` are measured on the untouched model. `oracle_tokens` is
    the mean length of the shortest sound answers, where it is known. `measured` is a folder in which `measure` has
    measured the untouched model for the same job, so that many runs from one base measure it once. An existing
    folder of the same config is continued.

    Raises:
        ConfigError: the folder holds another run, or options exclude each other.
        TrainingError: nothing to learn from, or a loss that is not finite.
        UnsupportedModelError: rotary factors under which so long responses cannot be scored as they were drawn.
    """
    tell = listener or (lambda event, facts: None)
    chosen = resolve_method(job, method)
    policy = load(job)
    if chosen.loop is not None:
        check_learnable(policy.model.config, max(map(len, train_problems.prompts)) + job.cap)
        task = train_problems.task()
        check_needs(task, chosen.loop, job.train.group_size)
        check_teacher(task, chosen.loop, policy.model.config)
    open_run(job.out, config_of(job, chosen, policy, train_problems, eval_problems), overwrite=job.settings.overwrite)
    if job.writer is not None:
        tell("said", {"text": job.writer.choice.line})
    if measured is not None:
        _take_over(measured, job.out)
    sets = {"": eval_problems, **{f"-{name}": problems for name, problems in (extra_sets or {}).items()}}
    sha_before = weights_sha(policy.model)
    before = measure(job, policy, sets, "before", tell)
    _forewarn(job, before[SAMPLING])
    for name, control in {**_own_controls(job, chosen), **(controls or {})}.items():
        path = job.out / RECORDS / f"control-{name}.json"
        if not path.is_file():
            log = job.out / RESPONSES / f"{path.stem}.jsonl"
            responses = len(eval_problems) * job.settings.measuring.eval_samples
            tell("phase", _drawing(f"control: {name}", responses, log))
            control(policy, eval_problems, before[SAMPLING], log).save(path)
    policy = _carry_out(job, chosen, policy, train_problems, eval_problems, tell)
    after = measure(job, policy, sets, "after", tell)
    sha_after = weights_sha(policy.model)
    if not (job.out / MODEL).is_dir():
        save_policy(policy, job.out / MODEL)
    budget = max(1, round(float(after[""].tokens.mean())))
    before[""].recut(budget).save(job.out / RECORDS / "control-cut.json")
    _write_samples(job.out)
    found = measurements_of(job.out, seed=job.train.seed, oracle_tokens=oracle_tokens, levels_apart=levels_apart)
    outcome = _outcome(job, chosen, found, (sha_before, sha_after))
    atomic_write_json(job.out / OUTCOME, outcome.to_dict())
    build_report([job.out])
    return outcome


def _outcome(job: Job, chosen: Recipe, measured: Measurements, weights: tuple[str, str]) -> Outcome:
    """With what the run cost; `weights` are the checksums before and after."""
    metrics, stages = read_metrics(job.out), finished_stages((*chosen.prepare, *chosen.finish), job.out)
    last = metrics[-1] if metrics else {"seconds": 0.0, "sampled_tokens": 0}
    seconds, tokens = last["seconds"], last["sampled_tokens"]
    assert isinstance(seconds, float) and isinstance(tokens, int), "as the trainer wrote them"
    return Outcome(
        **vars(measured),
        weights_sha_before=weights[0],
        weights_sha_after=weights[1],
        train_seconds=seconds + sum(stage.seconds for stage in stages.values()),
        sampled_tokens=tokens + sum(stage.sampled_tokens for stage in stages.values()),
        skipped_steps=sum("skipped" in row for row in metrics),
        stages=stages,
        model=str(job.out / MODEL),
        report=str(job.out / "report.html"),
    )


def _carry_out(
    job: Job, chosen: Recipe, policy: Policy, problems: Problems, eval_problems: Problems, tell: Listener
) -> Policy:
    """The stages before, the training loop if there is one, the stages after; what is finished is not done again."""
    given = stage_inputs(job, policy.folder, problems, tell)
    if chosen.prepare:
        policy = load(job, run_stages(chosen.prepare, policy.folder, job.out, given))
        _measure(job, policy, eval_problems, "prepared", 1.0, tell)
    if chosen.loop is not None:
        _train(job, chosen.loop, policy, problems, tell)
    if chosen.finish:
        trained = job.out / FOLDER / TRAINED / MODEL if chosen.loop is not None else policy.folder
        if not trained.is_dir():
            save_policy(policy, trained)
        # An adapter was merged when the model was saved.
        policy = load(job, run_stages(chosen.finish, trained, job.out, given), merged=True)
    return policy


def _own_controls(job: Job, chosen: Recipe) -> dict[str, Control]:
    return dict(chosen.controls(job.settings.runtime))


def measure(job: Job, policy: Policy, sets: Mapping[str, Problems], when: str, tell: Listener) -> dict[str, Record]:
    """Records of every set by sampling, and of the main one greedily, by suffix; those already there are read back."""
    records = {}
    plans = [(suffix, 1.0) for suffix in sets] + [(GREEDY, 0.0)]
    for suffix, temperature in plans:
        problems = sets[SAMPLING if suffix == GREEDY else suffix]
        records[suffix] = _measure(
            job, policy, problems, f"{when}{suffix}", temperature, tell, texts=suffix == SAMPLING
        )
    return records


def _measure(
    job: Job, policy: Policy, problems: Problems, name: str, temperature: float, tell: Listener, *, texts: bool = False
) -> Record:
    """One record by its name, read back if it is there; with `texts` some responses are kept as text."""
    path = job.out / RECORDS / f"{name}.json"
    if path.is_file():
        return Record.load(path)
    samples = 1 if temperature == 0 else job.settings.measuring.eval_samples
    log, data = job.out / RESPONSES / f"{name}.jsonl", source_name(job.eval_data)
    tell("phase", _drawing(f"measuring {name}{'-sampling' if texts else ''}", len(problems) * samples, log))
    sampling = Sampling(
        cap=job.eval_cap, temperature=temperature, samples=samples, seed=job.train.seed, sample_rows=ROWS_AT_ONCE,
        stop_repeats=job.settings.measuring.stop_repeats,
    )  # fmt: skip
    measured = draw_and_grade(policy, problems, sampling, log, name=name, data=data)
    if texts:
        atomic_write_json(job.out / TEXTS / f"{name}.json", plain(_texts(measured, problems, samples)))
    measured.record.save(path)
    return measured.record


def _drawing(name: str, responses: int, log: Path) -> dict[str, object]:
    """A phase that draws responses into a log, in which some may be already."""
    return {"name": name, "steps": responses, "done": responses_in(log), "ends": True}


def _forewarn(job: Job, before: Record) -> None:
    """Say before the training that no answer may be right within the cap."""
    rows = zip(before.num_tokens, before.correct, strict=True)
    lengths = [n for row, right in rows for n, ok in zip(row, right, strict=True) if ok]
    cap = job.cap if job.moving is None else job.moving.shortest
    if lengths and cap < min(lengths):
        warnings.warn(
            f"the cap is {cap} tokens, below the shortest of the {len(lengths)} right answers of the untouched model "
            f"({min(lengths)}): hardly an answer can be right within it; raise the cap, or let --cap auto choose it",
            LengthwiseWarning,
            stacklevel=3,
        )


def _take_over(measured: Path, out: Path) -> None:
    """Copy what was measured of the untouched model and is not there yet."""
    for part in (RECORDS, TEXTS):
        for found in sorted((measured / part).glob("before*.json")):
            if not (out / part / found.name).is_file():
                atomic_write_text(out / part / found.name, found.read_text(encoding="utf-8"))


def _corrected(training: Training, method: Method, policy: Policy) -> Training:
    """With importance weights by default, where other numbers write the tokens than learn from them."""
    if policy.backend is None or policy.backend.shares_weights or "truncate_importance" in training.changed():
        return training
    return training.replace(truncate_importance=TRUNCATE_IMPORTANCE) if method.takes_advantages else training


def _train(job: Job, method: Method, policy: Policy, problems: Problems, tell: Listener) -> None:
    reference = None
    if method.kl_coef > 0 and not job.settings.adaptation.lora:
        # With LoRA the starting weights are the policy's own, its adapter switched off. Without, the run continues from
        # checkpoints, so the reference is always loaded anew from the starting weights.
        reference = load(job, policy.folder).model
        reference.requires_grad_(False)
    trainer = Trainer(
        policy.model,
        method=method,
        task=problems.task(),
        config=_corrected(job.train, method, policy),
        folder=job.out,
        eos_ids=list(problems.contract.eos_ids),
        pad_id=policy.pad_id,
        reference=reference,
        compute=policy.compute,
        backend=policy.backend,
    )
    proof = trainer.prove(why=None if job.writer is None else job.writer.choice.why)
    if not trainer.backend.shares_weights:
        tell("said", {"text": proof.line()})

    def begins(done: int) -> None:
        tell("phase", {"name": "training", "steps": job.train.steps, "done": done})

    try:
        trainer.train(lambda metrics: tell("step", metrics), on_start=begins)
    finally:
        if policy.backend is None:  # else it writes on, and is closed by who opened it
            trainer.backend.close()


def _texts(measured: Measured, problems: Problems, samples: int) -> list[KeptText]:
    found = list(zip(measured.responses, measured.answer_correct, strict=True))
    return [
        KeptText(
            problem=problems.texts[problem],
            answer=problems.answers[problem],
            level=problems.categories[problem] if problems.categories else None,
            text=response.text,
            num_tokens=response.num_tokens,
            correct=right and response.finished,
            finished=response.finished,
        )
        for problem, (response, right) in enumerate(found[::samples][:KEPT_TEXTS])
    ]


def _write_samples(folder: Path) -> None:
    """Three problems side by side: the shortest, the median and the longest answer of the model before."""
    before, after = ([KeptText(**row) for row in read_json(folder / TEXTS / f"{when}.json")] for when in WHEN)
    pairs = sorted(zip(before, after, strict=True), key=lambda pair: pair[0].num_tokens)
    chosen = [pairs[i] for i in sorted({0, len(pairs) // 2, len(pairs) - 1})]
    samples = [{**b.question, "before": b.response, "after": a.response} for b, a in chosen]
    atomic_write_json(folder / "samples.json", samples)
