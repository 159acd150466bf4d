"""`lengthwise evaluate`: responses drawn from a model or a server into a folder, graded, and compared.

The folder holds every response that was drawn; the same call draws what is missing, and grades all of them anew.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lengthwise.config.commands.evaluation import EvaluateSettings, GradeSettings
from lengthwise.config.files import run_config
from lengthwise.config.groups.model import LambdaWindow
from lengthwise.config.groups.prompts import LogAnswers
from lengthwise.config.groups.sampling import Sampling
from lengthwise.context_length import reach
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import (
    Policy,
    dtype_words,
    load_policy,
    resolve_device,
    resolve_dtype,
)
from lengthwise.errors import InputError
from lengthwise.files import atomic_write_json, sha256_file
from lengthwise.folder_lock import writes
from lengthwise.generation.endpoint import Endpoint, ask_all
from lengthwise.generation.free_baselines import asking
from lengthwise.generation.response_log import OWN_COLUMNS, Completion, ResponseLog
from lengthwise.generation.sampling import (
    check_forcing,
    complete_all,
    context_of,
    source_name,
    tokenizer_name,
)
from lengthwise.grading.contract_choice import contract_for_model, contract_for_server, say_thinking
from lengthwise.grading.graders import grader_name, load_grader
from lengthwise.grading.problems import Problems, Questions, prepare, read_questions
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.lab.reasoner import SHIPPED, shipped_reasoner
from lengthwise.lab.shipped_models import model_folder
from lengthwise.logs.log_grading import grade_log
from lengthwise.logs.token_breakdown import load_words
from lengthwise.pretrained import empty_model, load_tokenizer, read_words
from lengthwise.reporting.grade_report import build_report
from lengthwise.runs.chains_demo import TEST_PROBLEMS, measured_chains
from lengthwise.runs.compare_records import load_record
from lengthwise.runs.evaluation_notes import notes_of, warn_of_unclosed
from lengthwise.runs.evaluation_summary import compare, drawn_facts, record_of_rows
from lengthwise.runs.measuring import cap_words, room, usual_cap
from lengthwise.runs.run_folder import environment, open_run
from lengthwise.statistics.records import Record, check_comparable
from lengthwise.threads import threads_for

RESPONSES, GRADED, SUMMARY = "responses.jsonl", "graded.jsonl", "summary.json"
RECORD, REPORT, COMPARISON = "record.json", "report.html", "comparison.html"

Listener = Callable[[str, Mapping[str, Any]], None]
"""Told of progress: (event, facts). Events: phase, drawn, waiting, rows, said (text)."""
Fill = Callable[[ResponseLog, Callable[[Sequence[Completion]], None], Listener], None]
"""Draws what a log lacks, and tells of what is drawn and of what goes on."""


@dataclass(frozen=True)
class Plan:
    """An evaluation with everything resolved: ``fill`` draws what a log lacks.

    ``facts`` decide whether a folder may be continued; ``context`` goes into the record. ``tokenizer`` is the
    folder of one, or None. ``cap_words``: the cap in words, and how to raise it.
    """

    questions: Questions
    sampling: Sampling
    name: str
    tokenizer: str | None
    facts: Mapping[str, Any]
    context: Mapping[str, Any]
    fill: Fill
    cap_words: str


def evaluate_model(settings: EvaluateSettings, *, listener: Listener | None = None) -> dict[str, Any]:
    """Draw, grade and report; returns the summary of `log_grading.grade_log` with what only an evaluation knows.

    Beside the summary: ``intervention``, ``forced`` (how many responses were ended), ``spent_tokens`` (of all that
    were written beside each other, with its interval), ``problems_left_out``, ``comparison`` (see
    `compare_records.compare_records`) and ``files``.

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
def _evaluate(settings: EvaluateSettings, out: Path, tell: Listener) -> dict[str, Any]:
    baseline = None if settings.baseline is None else load_record(str(settings.baseline))
    plan = _plan_model(settings) if settings.server.endpoint is None else _plan_endpoint(settings)
    if baseline is not None:
        _check_baseline(baseline, plan, str(settings.baseline))
    say_thinking(plan.questions.contract, tell)
    open_run(out, run_config(settings, **plan.facts), overwrite=settings.overwrite, compared=plan.facts)
    with ResponseLog(out / RESPONSES) as log:
        _draw(plan, log, tell)
    return _conclude(settings, out, plan, baseline, tell)


def _draw(plan: Plan, log: ResponseLog, tell: Listener) -> None:
    wanted = len(plan.questions) * plan.sampling.samples
    drawn, tokens, there = 0, 0, len(log.done)
    tell("phase", {"name": "sampling", "steps": wanted, "done": there, "cap": plan.cap_words})

    def heard(found: Sequence[Completion]) -> None:
        nonlocal drawn, tokens
        drawn, tokens = drawn + len(found), tokens + sum(one.num_tokens for one in found)
        tell("drawn", {"done": len(log.done), "of": wanted, "mean_tokens": tokens / drawn})

    if there < wanted:
        plan.fill(log, heard, tell)


def _rows(settings: EvaluateSettings) -> list[dict[str, Any]]:
    """The rows of the data; under the shipped reasoner's name, the problems that the demo measures on."""
    rows = [chain.row for chain in measured_chains(TEST_PROBLEMS)] if settings.data == SHIPPED else None
    return (rows or read_rows(settings.data))[: settings.limit]


def _plan_model(settings: EvaluateSettings) -> Plan:
    folder, device, runtime = model_folder(settings.model), resolve_device(settings.runtime.device), settings.runtime
    rows, trusted = _rows(settings), runtime.trust_remote_code
    (config, tokenizer), dtype = read_words(folder, trust_remote_code=trusted), resolve_dtype(folder, runtime.dtype)
    contract = contract_for_model(settings.contract, folder, tokenizer)
    empty_model(config, trust_remote_code=trusted)  # one that cannot be made is told before the folder is begun
    positions = reach(config)
    if settings.endless.lambda_:
        from lengthwise.context.lambda_shaped_attention.patching import rule_of

        rule_of(positions, **settings.endless.options)  # impossible numbers are a complaint now
        positions = None
    problems = _prepare(settings, rows, contract, tokenizer, positions)
    most = room(max(map(len, problems.prompts)), positions)
    given = settings.sampling.cap
    sampling = settings.sampling.replace(cap=given or usual_cap(most))

    def fill(log: ResponseLog, heard: Callable[[Sequence[Completion]], None], tell: Listener) -> None:
        policy = load_policy(folder, device=runtime.device, dtype=dtype, trust_remote_code=trusted, frozen=True)
        with _endless(policy, settings.endless) as policy:
            complete_all(policy, problems, sampling, log, intervention=settings.intervention, tell=heard)

    weights = {path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))}
    own = {"weights": weights, "sample_rows": sampling.sample_rows, "dtype": dtype}
    name = settings.model if settings.model == SHIPPED else folder.name
    words = cap_words(sampling.most_tokens, given, most, "--cap")
    facts = _facts(settings, problems, sampling, tokenizer_name(tokenizer))
    return Plan(
        problems, sampling, name, str(folder), facts | own | {"environment": environment(str(device))},
        facts["context"], fill, words,
    )  # fmt: skip


@contextmanager
def _endless(policy: Policy, window: LambdaWindow) -> Iterator[Policy]:
    """The policy under Lambda attention, where that is asked for."""
    if not window.lambda_:
        yield policy
        return
    from lengthwise.context import lambda_attention

    with lambda_attention(policy.model, **window.options):
        yield replace(policy, endless=True)


def _plan_endpoint(settings: EvaluateSettings) -> Plan:
    server, sampling, counted, rows = settings.server, settings.sampling, "the server's own counts", _rows(settings)
    assert server.endpoint is not None, "the caller has looked"
    endpoint = Endpoint(
        server.endpoint, settings.model, server.api_key_env, server.concurrency, server.retries, server.timeout
    )
    folder, trusted = server.tokenizer, settings.runtime.trust_remote_code
    if folder is None:
        contract = contract_for_server(settings.contract)
        questions = read_questions(
            rows, contract, source=settings.data, skip_unreadable=True,
            asking=asking(settings.intervention, contract),
        )  # fmt: skip
    else:
        folder = str(shipped_reasoner()) if folder == SHIPPED else folder
        load_words(folder, trust_remote_code=trusted)  # says what grading would not take
        tokenizer = load_tokenizer(folder, name="tokenizer", trust_remote_code=trusted)
        contract, counted = contract_for_model(settings.contract, Path(folder), tokenizer), tokenizer_name(tokenizer)
        questions = _prepare(settings, rows, contract, tokenizer, None)

    def fill(log: ResponseLog, heard: Callable[[Sequence[Completion]], None], tell: Listener) -> None:
        ask_all(
            endpoint, questions, sampling, log, intervention=settings.intervention, tell=heard,
            waiting=lambda reason, seconds: tell("waiting", {"reason": reason, "seconds": seconds}),
        )  # fmt: skip

    words = cap_words(sampling.most_tokens, sampling.cap, sampling.most_tokens, "--cap")
    facts = _facts(settings, questions, sampling, counted)
    own = {"endpoint": endpoint.base, "environment": environment("server")}
    return Plan(questions, sampling, settings.model, folder, facts | own, facts["context"], fill, words)


def _prepare(
    settings: EvaluateSettings,
    rows: list[dict[str, Any]],
    contract: PromptContract,
    tokenizer: Any,
    positions: int | None,
) -> Problems:
    return prepare(
        rows, contract, tokenizer, cap=settings.sampling.cap or 1, positions=positions, source=settings.data,
        grader=settings.contract.grader, skip_unreadable=True, asking=asking(settings.intervention, contract),
    )  # fmt: skip


def _facts(settings: EvaluateSettings, questions: Questions, sampling: Sampling, counted: str) -> dict[str, Any]:
    """What decides whether a folder may be continued, for a model and for a server: the context and the problems."""
    check_forcing(questions, sampling, settings.intervention)
    grader = settings.contract.grader
    if grader is not None:
        load_grader(grader)  # a wrong name is a complaint now, not after hours of sampling
    context = context_of(
        questions,
        sampling,
        model=settings.model,
        data=source_name(settings.data),
        grader=grader or grader_name(questions.contract.answer_format),
        tokenizer=counted,
        intervention=settings.intervention.context(),
    )
    if settings.endless.lambda_:
        context["lambda"] = settings.endless.options
    problems = {"count": len(questions), "fingerprint": questions.fingerprint(), "left_out": len(questions.left_out)}
    return {"context": context, "problems": problems}


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


def _conclude(
    settings: EvaluateSettings, folder: Path, plan: Plan, baseline: Record | None, tell: Listener
) -> dict[str, Any]:
    """Grade all responses and write the summary, the record and the pages."""
    contract = plan.questions.contract
    grading = GradeSettings(
        log=folder / RESPONSES, contract=LogAnswers(**OWN_COLUMNS, grader=settings.contract.grader),
        tokenizer=plan.tokenizer, cap=plan.sampling.cap, out=folder / GRADED,
        trust_remote_code=settings.runtime.trust_remote_code,
    )  # fmt: skip
    tell("phase", {"name": "grading", "steps": len(plan.questions) * plan.sampling.samples, "done": 0})
    rows: list[dict[str, Any]] = []
    summary = grade_log(grading, contract=contract, on_row=rows.append, listener=tell)
    record = record_of_rows(plan.name, plan.questions, plan.context, rows)
    record.save(folder / RECORD)
    summary["context"] |= record.context
    summary |= drawn_facts(folder / RESPONSES, record)
    summary["intervention"] = record.context["intervention"]
    left_out = plan.questions.left_out
    summary["problems_left_out"] = {"problems": len(left_out), "first": left_out[0] if left_out else None}
    summary["dtype"] = plan.facts.get("dtype")
    summary["notes"] = [*notes_of(summary), *summary["notes"]]
    if settings.server.endpoint is None:
        summary["notes"].append(f"computed in {dtype_words(str(plan.tokenizer), settings.runtime.dtype)}")
    summary["comparison"] = None if baseline is None else compare(
        baseline, record, folder / COMPARISON, summary["notes"]
    )  # fmt: skip
    names = [RESPONSES, GRADED, SUMMARY, RECORD, REPORT, *([COMPARISON] if baseline is not None else [])]
    summary["files"] = {name.partition(".")[0]: str(folder / name) for name in names}
    warn_of_unclosed(folder / RESPONSES, contract, summary)
    atomic_write_json(folder / SUMMARY, summary)
    build_report(summary, folder / REPORT)
    return summary
