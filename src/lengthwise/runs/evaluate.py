"""`lengthwise evaluate`: responses drawn from a model or a server into a folder, graded, and compared.

The folder holds every response that was drawn; the same call draws what is missing, and grades all of them anew.
"""

from __future__ import annotations

import secrets
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lengthwise.config.commands.evaluation import EvaluateSettings, GradeSettings
from lengthwise.config.files import run_config
from lengthwise.config.groups.prompts import LogAnswers
from lengthwise.engine.model_folders import dtype_words
from lengthwise.errors import InputError, LengthwiseWarning
from lengthwise.files import atomic_write_json, read_json
from lengthwise.folder_lock import writes
from lengthwise.generation.measurement import drawn, measured
from lengthwise.generation.native_budgets import broken_budget
from lengthwise.generation.response_log import OWN_COLUMNS, Completion, ResponseLog
from lengthwise.grading.contract_choice import say_thinking
from lengthwise.lab.shipped_models import model_folder
from lengthwise.logs.log_grading import grade_log
from lengthwise.logs.log_numbers import GradeSummary
from lengthwise.reporting.grade_report import build_report
from lengthwise.runs.compare_records import load_record
from lengthwise.runs.evaluation_notes import warn_of_unclosed
from lengthwise.runs.evaluation_plan import CONTROL, Listener, Plan, plan_endpoint, plan_model
from lengthwise.runs.evaluation_result import Evaluation, compared
from lengthwise.runs.run_folder import open_run
from lengthwise.statistics.records import Record, check_comparable
from lengthwise.threads import threads_for

RESPONSES, GRADED, SUMMARY = "responses.jsonl", "graded.jsonl", "summary.json"
RECORD, REPORT, COMPARISON = "record.json", "report.html", "comparison.html"


def evaluate_model(settings: EvaluateSettings, *, listener: Listener | None = None) -> Evaluation:
    """Draw, grade and report.

    Raises:
        InputError: data or a baseline that cannot be read, or a baseline that cannot be compared.
        ConfigError: options that exclude each other, or a folder that holds another evaluation.
        EndpointError: the server fails for good; the same call continues.
    """
    out = settings.out or Path(tempfile.gettempdir(), f"lengthwise-evaluate-{secrets.token_hex(4)}")
    models = [] if settings.server.endpoint is not None else [model_folder(settings.model)]
    with threads_for(*models, wanted=settings.runtime.threads):
        return _evaluate(settings, out, listener or (lambda event, facts: None))


@writes("out")
def _evaluate(settings: EvaluateSettings, out: Path, tell: Listener) -> Evaluation:
    baseline = None if settings.baseline is None else load_record(str(settings.baseline))
    plan = plan_model(settings) if settings.server.endpoint is None else plan_endpoint(settings)
    if baseline is not None:
        _check_baseline(baseline, plan, str(settings.baseline))
    say_thinking(plan.questions.contract, tell)
    open_run(out, run_config(settings, **plan.facts), overwrite=settings.overwrite, compared=plan.facts)
    grading = _Grading(settings, plan, out, tell)
    found = measured(
        out / RESPONSES, plan.questions, plan.sampling, fill=lambda log: _draw(plan, log, tell), grade=grading,
        name=plan.name, context=plan.context,
    )  # fmt: skip
    return _conclude(settings, out, plan, grading.summary, found.record, found.responses, baseline)


def _draw(plan: Plan, log: ResponseLog, tell: Listener) -> None:
    wanted = len(plan.questions) * plan.sampling.samples
    count, tokens, there = 0, 0, len(log.done)
    tell("phase", {"name": "sampling", "steps": wanted, "done": there, "cap": plan.cap_words})

    def heard(found: Sequence[Completion]) -> None:
        nonlocal count, tokens
        count, tokens = count + len(found), tokens + sum(one.num_tokens for one in found)
        tell("drawn", {"done": len(log.done), "of": wanted, "mean_tokens": tokens / count})

    if there < wanted:
        plan.fill(log, heard, tell)


def _check_baseline(baseline: Record, plan: Plan, file: str) -> None:
    """Refuse before hours of sampling what could not be compared afterwards."""
    ids, samples = plan.questions.ids, plan.sampling.samples
    nothing = [[False] * samples] * len(ids)
    this = Record("this evaluation", plan.context, ids, None, nothing, nothing, [[1] * samples] * len(ids))
    try:
        check_comparable(baseline, this, allow=("model",))
    except InputError as error:
        raise InputError(
            f"baseline is {file!r}: {error}; or leave --baseline out, and see what `lengthwise compare-records` allows"
        ) from error


class _Grading:
    """Grades the log of an evaluation as `lengthwise grade` does, so that the tokens are told apart on the way.

    ``summary`` is there once it was called.
    """

    def __init__(self, settings: EvaluateSettings, plan: Plan, folder: Path, tell: Listener) -> None:
        self._settings, self._plan, self._folder, self._tell = settings, plan, folder, tell
        self._summary: GradeSummary | None = None

    @property
    def summary(self) -> GradeSummary:
        """What it found."""
        assert self._summary is not None, "it was called"
        return self._summary

    def __call__(self, found: Sequence[Completion]) -> list[bool | None]:
        """The verdicts, problem by problem; None for a row that the log's reader refuses."""
        plan, verdicts = self._plan, dict[tuple[object, object], bool]()
        grading = GradeSettings(
            log=(str(self._folder / RESPONSES),),
            contract=LogAnswers(**OWN_COLUMNS, grader=self._settings.contract.grader),
            tokenizer=plan.tokenizer, cap=plan.sampling.cap, out=self._folder / GRADED,
            trust_remote_code=self._settings.runtime.trust_remote_code,
        )  # fmt: skip
        self._tell("phase", {"name": "grading", "steps": len(found), "done": 0})
        found_in_log = grade_log(
            grading, contract=plan.questions.contract, listener=self._tell,
            on_row=lambda row: verdicts.update({(row.problem_id, row.sample): row.answer_correct}),
        )  # fmt: skip
        assert isinstance(found_in_log, GradeSummary), "our own log has right answers"
        self._summary = found_in_log
        if self._settings.server.endpoint is None:
            steps = [step.about(self._settings.model, self._settings.data) for step in found_in_log.next_steps]
            self._summary = replace(found_in_log, next_steps=steps)
        samples = range(plan.sampling.samples)
        return [verdicts.get((name, sample)) for name in plan.questions.ids for sample in samples]


def _conclude(
    settings: EvaluateSettings,
    folder: Path,
    plan: Plan,
    summary: GradeSummary,
    record: Record,
    responses: Sequence[Completion],
    baseline: Record | None,
) -> Evaluation:
    """Write the summary, the record and the pages."""
    record.save(folder / RECORD)
    names = [RESPONSES, GRADED, SUMMARY, RECORD, REPORT, *([COMPARISON] if baseline is not None else [])]
    here, budget = settings.server.endpoint is None, settings.intervention.native_budget
    found = Evaluation(
        graded=summary,
        record=record,
        drawn=drawn(plan.questions.ids, plan.sampling.samples, responses, record),
        problems_left_out=plan.questions.left_out,
        dtype=str(plan.facts["dtype"]) if here else None,
        computed_in=dtype_words(str(plan.tokenizer), settings.runtime.dtype) if here else None,
        native_budget=None if budget is None else read_json(folder / CONTROL),
        budget_broken=None if budget is None else broken_budget(budget, responses, plan.questions.contract),
        comparison=None if baseline is None else compared(baseline, record, folder / COMPARISON),
        files={name.partition(".")[0]: str(folder / name) for name in names},
    )
    if found.budget_broken is not None:
        warnings.warn(found.budget_broken, LengthwiseWarning, stacklevel=2)
    warn_of_unclosed(folder / RESPONSES, plan.questions.contract, found.unclosed_rate)
    written = found.to_dict()
    atomic_write_json(folder / SUMMARY, written)
    build_report(written, folder / REPORT)
    return found
