"""`lengthwise evaluate`: responses drawn from a model or a server into a folder, graded, and compared.

The folder holds every response that was drawn; the same call draws what is missing, and grades all of them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lengthwise.config.groups.prompts import PromptOptions
from lengthwise.context_length import reach
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import (
    AUTO,
    Policy,
    check_dtype,
    dtype_words,
    load_policy,
    resolve_device,
    resolve_dtype,
)
from lengthwise.errors import ConfigError, InputError
from lengthwise.files import atomic_write_json, sha256_file
from lengthwise.folder_lock import writes
from lengthwise.generation.endpoint import Endpoint, ask_all
from lengthwise.generation.free_baselines import Intervention
from lengthwise.generation.response_log import OWN_COLUMNS, Completion, ResponseLog
from lengthwise.generation.sampling import (
    Sampling,
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
from lengthwise.logs.log_grading import GradeOptions, grade_log
from lengthwise.logs.token_breakdown import load_words
from lengthwise.pretrained import empty_model, load_tokenizer, read_words
from lengthwise.reporting.grade_report import build_report
from lengthwise.runs.compare_records import load_record
from lengthwise.runs.demo import TEST_PROBLEMS, measured_chains
from lengthwise.runs.evaluation_notes import notes_of, warn_of_unclosed
from lengthwise.runs.evaluation_summary import compare, drawn_facts, record_of_rows
from lengthwise.runs.measuring import cap_words, room, usual_cap
from lengthwise.runs.run_folder import environment, open_run
from lengthwise.statistics.records import Record, check_comparable
from lengthwise.threads import on_few_threads

CONFIG = "evaluation.json"  # another name than a training run's, so that neither is taken for the other
RESPONSES, GRADED, SUMMARY = "responses.jsonl", "graded.jsonl", "summary.json"
RECORD, REPORT, COMPARISON = "record.json", "report.html", "comparison.html"
SAMPLE_ROWS = 128

Listener = Callable[[str, Mapping[str, Any]], None]
"""Told of progress: (event, facts). Events: phase, drawn, waiting, rows, said (text)."""


@dataclass(frozen=True)
class Evaluation:
    """The command line's words, unresolved; see `lengthwise evaluate --help` for each.

    One of ``model`` (a folder) and ``endpoint`` is given. ``tokenizer``: folder of the model's own, for an endpoint.
    ``baseline``: file of a record. ``endless``: options of `lambda_attention`, under which the model then answers.
    """

    data: str
    out: Path
    contract: PromptOptions = field(default_factory=PromptOptions)
    model: str | None = None
    endpoint: Endpoint | None = None
    tokenizer: str | None = None
    cap: int | None = None
    samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    intervention: Intervention = field(default_factory=Intervention)
    baseline: Path | None = None
    sample_rows: int = SAMPLE_ROWS
    stop_repeats: bool = False
    endless: Mapping[str, Any] | None = None
    device: str = "auto"
    dtype: str = AUTO
    trust_remote_code: bool = False

    @property
    def folders(self) -> list[Path]:
        """The folders of the models that it computes with: none where a server does."""
        return [] if self.model is None else [model_folder(self.model)]

    def __post_init__(self) -> None:
        if (self.model is None) == (self.endpoint is None):
            given = "both" if self.model else "none"
            raise ConfigError(f"MODEL and --endpoint: {given} given; name a model's folder, or a server's URL")
        if self.tokenizer is not None and self.endpoint is None:
            raise ConfigError("tokenizer is for an endpoint; a model's folder has its own")
        if self.cap is not None and self.cap < 1:
            raise ConfigError(f"cap is {self.cap}; a response has at least 1 token")
        if self.endpoint is not None and self.cap is None:
            raise ConfigError("cap is not given; over an endpoint name the most response tokens (--cap N)")
        if self.endless is not None and self.endpoint is not None:
            raise ConfigError("--lambda changes a model that is loaded here, not one behind a server; give MODEL")
        if self.stop_repeats and self.endpoint is not None:
            raise ConfigError("stop_repeats looks at tokens as they are drawn here, not behind a server; leave it out")
        if self.sample_rows < 1:
            raise ConfigError(f"sample_rows is {self.sample_rows}; give the rows in flight, at least 1")
        check_dtype(self.dtype)

    def sampling(self, cap: int) -> Sampling:
        """How responses are drawn; over an endpoint without a seed of its own, by the server's."""
        seed = 0 if self.seed is None and self.endpoint is None else self.seed
        return Sampling(cap, self.temperature, self.top_p, self.samples, seed, self.stop_repeats)


@dataclass(frozen=True)
class Plan:
    """An evaluation with everything resolved: ``fill`` draws what a log lacks.

    ``config`` decides whether a folder may be continued; ``context`` goes into the record. ``tokenizer`` is the
    folder of one, or None. ``cap_words``: the cap in words, and how to raise it.
    """

    questions: Questions
    sampling: Sampling
    name: str
    tokenizer: str | None
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    fill: Callable[[ResponseLog, Callable[[Sequence[Completion]], None], Listener], None]
    cap_words: str


@on_few_threads("asked.folders")
@writes("asked.out")
def evaluate_model(asked: Evaluation, *, overwrite: bool = False, listener: Listener | None = None) -> dict[str, Any]:
    """Draw, grade and report; returns the summary of `log_grading.grade_log` with what only an evaluation knows.

    Beside the summary: ``intervention``, ``forced`` (how many responses were ended), ``spent_tokens`` (of all that
    were written beside each other, with its interval), ``problems_left_out``, ``comparison`` (see
    `compare_records.compare_records`) and ``files``.

    Raises:
        InputError: data or a baseline that cannot be read, or a baseline that cannot be compared.
        ConfigError: options that exclude each other, or a folder that holds another evaluation.
        EndpointError: the server fails for good; the same call continues.
    """
    tell = listener or (lambda event, facts: None)
    baseline = None if asked.baseline is None else load_record(str(asked.baseline))
    plan = _plan_endpoint(asked, asked.endpoint) if asked.endpoint is not None else _plan_model(asked)
    if baseline is not None:
        _check_baseline(baseline, plan, str(asked.baseline))
    say_thinking(plan.questions.contract, tell)
    open_run(asked.out, plan.config, overwrite=overwrite, name=CONFIG)
    with ResponseLog(asked.out / RESPONSES) as log:
        _draw(plan, log, tell)
    return _conclude(asked, plan, baseline, tell)


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


def _rows(data: str) -> list[dict[str, Any]]:
    """The rows of a data source; under the shipped reasoner's name, the problems that the demo measures on."""
    return [chain.row for chain in measured_chains(TEST_PROBLEMS)] if data == SHIPPED else read_rows(data)


def _plan_model(asked: Evaluation) -> Plan:
    assert asked.model is not None, "checked when it was asked"
    folder, device = model_folder(asked.model), resolve_device(asked.device)
    rows, trusted = _rows(asked.data), asked.trust_remote_code
    (config, tokenizer), dtype = read_words(folder, trust_remote_code=trusted), resolve_dtype(folder, asked.dtype)
    contract = contract_for_model(asked.contract, folder, tokenizer)
    empty_model(config, trust_remote_code=trusted)  # one that cannot be made is told before the folder is begun
    positions = reach(config)
    if asked.endless is not None:
        from lengthwise.context.lambda_shaped_attention.patching import rule_of

        rule_of(positions, **asked.endless)  # impossible numbers are a complaint now
        positions = None
    problems = _prepare(asked, rows, contract, tokenizer, positions)
    most = room(max(map(len, problems.prompts)), positions)
    sampling = asked.sampling(asked.cap or usual_cap(most))

    def fill(log: ResponseLog, heard: Callable[[Sequence[Completion]], None], tell: Listener) -> None:
        policy = load_policy(folder, device=asked.device, dtype=dtype, trust_remote_code=trusted, frozen=True)
        with _endless(policy, asked.endless) as policy:
            complete_all(
                policy, problems, sampling, log, intervention=asked.intervention, rows_at_once=asked.sample_rows,
                tell=heard,
            )  # fmt: skip

    weights = {path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))}
    own = {"weights": weights, "sample_rows": asked.sample_rows, "dtype": dtype}
    name = asked.model if asked.model == SHIPPED else folder.name
    words = cap_words(sampling.cap, asked.cap, most, "--cap")
    return _plan(
        asked, problems, sampling, name, str(folder), tokenizer_name(tokenizer), fill, own, str(device), words
    )  # fmt: skip


@contextmanager
def _endless(policy: Policy, options: Mapping[str, Any] | None) -> Iterator[Policy]:
    """The policy under Lambda attention, where its options are given."""
    if options is None:
        yield policy
        return
    from lengthwise.context import lambda_attention

    with lambda_attention(policy.model, **options):
        yield replace(policy, endless=True)


def _plan_endpoint(asked: Evaluation, endpoint: Endpoint) -> Plan:
    assert asked.cap is not None, "checked when it was asked"
    sampling, counted, rows = asked.sampling(asked.cap), "the server's own counts", _rows(asked.data)
    if asked.tokenizer is None:
        folder, contract = None, contract_for_server(asked.contract)
        questions = read_questions(
            rows, contract, source=asked.data, skip_unreadable=True,
            asking=asked.intervention.asking(contract),
        )  # fmt: skip
    else:
        folder = str(shipped_reasoner()) if asked.tokenizer == SHIPPED else asked.tokenizer
        load_words(folder, trust_remote_code=asked.trust_remote_code)  # says what grading would not take
        tokenizer = load_tokenizer(folder, name="tokenizer", trust_remote_code=asked.trust_remote_code)
        contract, counted = contract_for_model(asked.contract, Path(folder), tokenizer), tokenizer_name(tokenizer)
        questions = _prepare(asked, rows, contract, tokenizer, None)

    def fill(log: ResponseLog, heard: Callable[[Sequence[Completion]], None], tell: Listener) -> None:
        ask_all(
            endpoint, questions, sampling, log, intervention=asked.intervention, tell=heard,
            waiting=lambda reason, seconds: tell("waiting", {"reason": reason, "seconds": seconds}),
        )  # fmt: skip

    where = {"endpoint": endpoint.base}
    words = cap_words(asked.cap, asked.cap, asked.cap, "--cap")
    return _plan(asked, questions, sampling, endpoint.model, folder, counted, fill, where, "server", words)


def _prepare(
    asked: Evaluation, rows: list[dict[str, Any]], contract: PromptContract, tokenizer: Any, positions: int | None
) -> Problems:
    return prepare(
        rows, contract, tokenizer, cap=asked.cap or 1, positions=positions, source=asked.data,
        grader=asked.contract.grader, skip_unreadable=True, asking=asked.intervention.asking(contract),
    )  # fmt: skip


def _plan(
    asked: Evaluation,
    questions: Questions,
    sampling: Sampling,
    name: str,
    folder: str | None,
    counted: str,
    fill: Callable[[ResponseLog, Callable[[Sequence[Completion]], None], Listener], None],
    own: Mapping[str, Any],
    device: str,
    words: str,
) -> Plan:
    check_forcing(questions, sampling, asked.intervention)
    grader = asked.contract.grader
    if grader is not None:
        load_grader(grader)  # a wrong name is a complaint now, not after hours of sampling
    context = context_of(
        questions,
        sampling,
        model=asked.model or name,
        data=source_name(asked.data),
        grader=grader or grader_name(questions.contract.answer_format),
        tokenizer=counted,
        intervention=asked.intervention.to_dict(),
    )
    if asked.endless is not None:
        context["lambda"] = dict(asked.endless)
    problems = {"count": len(questions), "fingerprint": questions.fingerprint(), "left_out": len(questions.left_out)}
    config = {**context, "problems": problems, **own, "environment": environment(device)}
    return Plan(questions, sampling, name, folder, config, context, fill, words)


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


def _conclude(asked: Evaluation, plan: Plan, baseline: Record | None, tell: Listener) -> dict[str, Any]:
    """Grade all responses and write the summary, the record and the pages."""
    folder, contract = asked.out, plan.questions.contract
    options = GradeOptions(
        contract=contract, grader=asked.contract.grader, tokenizer=plan.tokenizer, cap=plan.sampling.cap,
        trust_remote_code=asked.trust_remote_code, **OWN_COLUMNS,
    )  # fmt: skip
    tell("phase", {"name": "grading", "steps": len(plan.questions) * plan.sampling.samples, "done": 0})
    rows: list[dict[str, Any]] = []
    summary = grade_log(folder / RESPONSES, options, out=folder / GRADED, on_row=rows.append, listener=tell)
    record = record_of_rows(plan.name, plan.questions, plan.context, rows)
    record.save(folder / RECORD)
    summary["context"] |= record.context
    summary |= drawn_facts(folder / RESPONSES, record)
    summary["intervention"] = record.context["intervention"]
    left_out = plan.questions.left_out
    summary["problems_left_out"] = {"problems": len(left_out), "first": left_out[0] if left_out else None}
    summary["dtype"] = plan.config.get("dtype")
    summary["notes"] = [*notes_of(summary), *summary["notes"]]
    if asked.endpoint is None:
        summary["notes"].append(f"computed in {dtype_words(str(plan.tokenizer), asked.dtype)}")
    summary["comparison"] = None if baseline is None else compare(
        baseline, record, folder / COMPARISON, summary["notes"]
    )  # fmt: skip
    names = [RESPONSES, GRADED, SUMMARY, RECORD, REPORT, *([COMPARISON] if baseline is not None else [])]
    summary["files"] = {name.partition(".")[0]: str(folder / name) for name in names}
    warn_of_unclosed(folder / RESPONSES, contract, summary)
    atomic_write_json(folder / SUMMARY, summary)
    build_report(summary, folder / REPORT)
    return summary
