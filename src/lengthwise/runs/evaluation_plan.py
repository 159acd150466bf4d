"""What an evaluation is before anything is drawn: the problems, how they are asked, and what draws the responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lengthwise.config.commands.evaluation import EvaluateSettings
from lengthwise.config.groups.model import LambdaWindow
from lengthwise.config.groups.sampling import Sampling
from lengthwise.context_length import reach
from lengthwise.data import read_rows
from lengthwise.engine.model_folders import Policy, load_policy, resolve_device, resolve_dtype
from lengthwise.files import atomic_write_json, sha256_file
from lengthwise.generation.endpoint import Endpoint
from lengthwise.generation.endpoint_sampling import ask_all
from lengthwise.generation.free_baselines import asking
from lengthwise.generation.response_log import Completion, ResponseLog
from lengthwise.generation.sampling import check_forcing, complete_all, context_of, source_name, tokenizer_name
from lengthwise.grading.contract_choice import contract_for_model, contract_for_server
from lengthwise.grading.graders import grader_name, load_grader
from lengthwise.grading.problems import Problems, Questions, prepare, read_questions
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.grading.think_auto import switched_off
from lengthwise.hub_models import hub_folder
from lengthwise.json_types import JsonObject
from lengthwise.lab.reasoner import SHIPPED, shipped_reasoner
from lengthwise.lab.shipped_models import model_folder
from lengthwise.logs.token_breakdown import load_words
from lengthwise.pretrained import empty_model, load_tokenizer, read_words
from lengthwise.runs.chains_demo import TEST_PROBLEMS, measured_chains
from lengthwise.runs.measuring import cap_words, room, usual_cap
from lengthwise.runs.run_folder import environment
from lengthwise.runs.writing import evaluation_writer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTROL = "native_budget.json"
"""What the trial of a native budget showed."""
Row = Mapping[str, object]
Heard = Callable[[Sequence[Completion]], None]
Listener = Callable[[str, Mapping[str, object]], None]
"""Told of progress: (event, facts). Events: phase, drawn, waiting, rows, said (text)."""
Fill = Callable[[ResponseLog, Heard, Listener], None]
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
    facts: Mapping[str, object]
    context: JsonObject
    fill: Fill
    cap_words: str


def _rows(settings: EvaluateSettings) -> Sequence[Row]:
    """The rows of the data; under the shipped reasoner's name, the problems that the demo measures on."""
    rows = [chain.row for chain in measured_chains(TEST_PROBLEMS)] if settings.data == SHIPPED else None
    return (rows or read_rows(settings.data))[: settings.limit]


def plan_model(settings: EvaluateSettings) -> Plan:
    """The plan for a model that is loaded here.

    Raises:
        InputError: problems or a model that cannot be read.
        ConfigError: options that the model cannot be measured under.
    """
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
    longest = max(map(len, problems.prompts)) + sampling.most_tokens
    writer = evaluation_writer(settings, folder, config, contract, dtype=dtype, tokens=longest)

    def fill(log: ResponseLog, heard: Heard, tell: Listener) -> None:
        policy = load_policy(folder, device=runtime.device, dtype=dtype, trust_remote_code=trusted, frozen=True)
        tell("said", {"text": writer.choice.line})
        with writer, _endless(writer.attach(policy), settings.endless) as policy:
            complete_all(policy, problems, sampling, log, intervention=settings.intervention, tell=heard)

    weights = {path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))}
    name = folder.name if Path(settings.model).is_dir() else settings.model  # one of the lab or of a hub
    words = cap_words(sampling.most_tokens, given, most, "--cap")
    facts = _facts(settings, contract, problems, sampling, tokenizer_name(tokenizer))
    own = facts.with_more(
        weights=weights,
        sample_rows=sampling.sample_rows,
        dtype=dtype,
        environment=environment(str(device)),
        **writer.facts,
    )
    return Plan(problems, sampling, name, str(folder), own, facts.context, fill, words)


@contextmanager
def _endless(policy: Policy, window: LambdaWindow) -> Iterator[Policy]:
    """The policy under Lambda attention, where that is asked for."""
    if not window.lambda_:
        yield policy
        return
    from lengthwise.context import lambda_attention

    with lambda_attention(policy.model, **window.options):
        yield replace(policy, endless=True)


def plan_endpoint(settings: EvaluateSettings) -> Plan:
    """The plan for a model behind a server.

    Raises:
        InputError: problems or a tokenizer that cannot be read.
        ConfigError: options that the server cannot be asked under.
    """
    server, sampling, counted, rows = settings.server, settings.sampling, "the server's own counts", _rows(settings)
    endpoint = Endpoint(server, settings.model)
    folder, trusted = server.tokenizer, settings.runtime.trust_remote_code
    if folder is None:
        contract = contract_for_server(settings.contract)
        read_as = switched_off(contract, None) if settings.intervention.no_think else contract
        questions = read_questions(
            rows, read_as, source=settings.data, skip_unreadable=True, asking=asking(settings.intervention, read_as)
        )
    else:
        folder = str(shipped_reasoner()) if folder == SHIPPED else hub_folder(folder, name="tokenizer", weights=False)
        load_words(folder, trust_remote_code=trusted)  # says what grading would not take
        tokenizer = load_tokenizer(folder, name="tokenizer", trust_remote_code=trusted)
        contract, counted = contract_for_model(settings.contract, Path(folder), tokenizer), tokenizer_name(tokenizer)
        questions = _prepare(settings, rows, contract, tokenizer, None)

    def fill(log: ResponseLog, heard: Heard, tell: Listener) -> None:
        control = ask_all(
            endpoint, questions, sampling, log, intervention=settings.intervention, tell=heard,
            waiting=lambda reason, seconds: tell("waiting", {"reason": reason, "seconds": seconds}),
        )  # fmt: skip
        if control is not None:
            atomic_write_json(log.path.parent / CONTROL, control.to_dict() | {"note": control.words()})

    words = cap_words(sampling.most_tokens, sampling.cap, sampling.most_tokens, "--cap")
    facts = _facts(settings, contract, questions, sampling, counted)
    own = facts.with_more(endpoint=endpoint.base, environment=environment("server"))
    return Plan(questions, sampling, settings.model, folder, own, facts.context, fill, words)


def _prepare(
    settings: EvaluateSettings,
    rows: Sequence[Row],
    contract: PromptContract,
    tokenizer: PreTrainedTokenizerBase,
    positions: int | None,
) -> Problems:
    contract = switched_off(contract, tokenizer) if settings.intervention.no_think else contract
    return prepare(
        rows, contract, tokenizer, cap=settings.sampling.cap or 1, positions=positions, source=settings.data,
        grader=settings.contract.grader, skip_unreadable=True, asking=asking(settings.intervention, contract),
    )  # fmt: skip


@dataclass(frozen=True)
class _Facts:
    """What decides whether a folder may be continued: the record's context, and the problems."""

    context: JsonObject
    problems: Mapping[str, object]

    def with_more(self, **more: object) -> dict[str, object]:
        """As the folder's config has them, with what only a model or only a server has."""
        return {"context": self.context, "problems": self.problems, **more}


def _facts(
    settings: EvaluateSettings, contract: PromptContract, questions: Questions, sampling: Sampling, counted: str
) -> _Facts:
    """The facts for a model and for a server; ``contract`` is the one without any intervention."""
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
    # A free baseline is compared with the model as it is, so records are named after how that is asked.
    context |= {"contract": contract.to_dict(), "template": contract.fingerprint()}
    if settings.endless.lambda_:
        context["lambda"] = cast(JsonObject, dict(settings.endless.options))
    if settings.server.extra:
        context["extra_body"] = settings.server.extra
    problems = {"count": len(questions), "fingerprint": questions.fingerprint(), "left_out": len(questions.left_out)}
    return _Facts(context, problems)
