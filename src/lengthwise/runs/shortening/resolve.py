"""From the settings of `lengthwise shorten` to a job: rows read, contract resolved, cap chosen, input refused."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lengthwise.config.commands import ShortenSettings
from lengthwise.config.groups.training import Batches
from lengthwise.context_length import reach
from lengthwise.data import read_rows, require_columns
from lengthwise.engine.backends.writer import Writer
from lengthwise.engine.method import Recipe
from lengthwise.engine.model_folders import load_policy, resolve_device
from lengthwise.errors import ConfigError, InputError
from lengthwise.folder_lock import alone_in
from lengthwise.grading.contract_choice import chosen_contract, contract_for_model, say_thinking
from lengthwise.grading.problems import Problems, prepare
from lengthwise.grading.prompt_contract import PromptContract
from lengthwise.lab.chains import Chain
from lengthwise.lab.shipped_models import model_folder
from lengthwise.methods import build_method, options_of, read_option
from lengthwise.methods.moving_cap import under_schedule
from lengthwise.pretrained import read_words
from lengthwise.runs.chains_demo import DATA, TEST_PROBLEMS, measured_chains, oracle_mean, training_chains
from lengthwise.runs.measuring import LONGEST_EVAL, cap_words, room, usual_cap
from lengthwise.runs.run_folder import check_run_folder
from lengthwise.runs.shortening.auto_cap import CapChoice, choose_cap
from lengthwise.runs.shortening.job import Job, Listener
from lengthwise.runs.shortening.outcome import Outcome
from lengthwise.runs.shortening.shorten import shorten
from lengthwise.runs.shortening.single_stage import run_one_stage
from lengthwise.runs.shortening.stages import OneStage
from lengthwise.runs.writing import writer_for
from lengthwise.threads import threads_for

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HELD_OUT_SHARE = 0.1
PROBED_PROBLEMS, PROBED_SAMPLES = 64, 4
WITHOUT_LOOP = ("seed", "micro_batch_tokens", "sample_rows", "checkpoint_every")
"""What a method without a training loop takes of `Training`."""
Rows = Sequence[Mapping[str, object]]


def shorten_by(settings: ShortenSettings, *, listener: Listener | None = None) -> Outcome | OneStage:
    """Resolve settings and shorten; the outcome has `cap_choice` where the cap was chosen by auto.

    With a `stage` that stage alone is run, and what it found is returned.

    Raises:
        ConfigError: settings that the method, the model or the folder do not bear.
        InputError: a model or data that cannot be read, or too few right answers to choose a cap from.
    """
    folder = model_folder(settings.model)
    with (
        threads_for(folder, wanted=settings.runtime.threads), alone_in(settings.out), contextlib.ExitStack() as opened
    ):  # fmt: skip
        check_run_folder(settings.out)  # `--cap auto` samples before the run begins
        tell = listener or (lambda event, facts: None)
        resolved = resolve(settings, tell, lambda given: opened.enter_context(_writer(given)))
        say_thinking(resolved.train.contract, tell)
        job, problems = resolved.job, (resolved.train, resolved.held_out)
        if resolved.first is not None:
            tell = _after(resolved.first, tell)
        if settings.stage is not None:
            return run_one_stage(job, settings.stage, *problems, listener=tell)
        outcome = shorten(
            job, *problems, oracle_tokens=_oracle(settings, resolved.held_out), listener=tell
        )  # fmt: skip
        return dataclasses.replace(outcome, cap_choice=resolved.choice)


@dataclass(frozen=True)
class Prepared:
    """What settings say before anything is sampled: the model's words, the problems, and how far they leave room.

    `options` are the method's own, as values. `train` is what is trained on; each leaves room for the cap where that is
    known, else for a token, as those of `held_out` do, which are measured.
    """

    settings: ShortenSettings
    folder: Path
    config: PretrainedConfig
    options: Mapping[str, object]
    contract: PromptContract
    train: Problems
    held_out: Problems

    @functools.cached_property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt of all."""
        return max(len(prompt) for prompt in (*self.train.prompts, *self.held_out.prompts))

    @property
    def most(self) -> int:
        """The longest response that may be measured."""
        return room(self.longest_prompt, reach(self.config))

    @property
    def eval_cap(self) -> int:
        """The cap in evaluation, before one in training is chosen."""
        return self.settings.measuring.eval_cap or usual_cap(self.most, self.settings.schedule.number)

    @property
    def evaluation(self) -> str:
        """The cap in evaluation in words."""
        return cap_words(self.eval_cap, self.settings.measuring.eval_cap, self.most, "--eval-cap")


def prepared(settings: ShortenSettings) -> Prepared:
    """Check settings against the method, the model's folder and the data; no weights are read."""
    resolve_device(settings.runtime.device)
    options, folder = method_options(settings), model_folder(settings.model)
    rows, held_rows = read_problems(settings, chosen_contract(settings.contract))
    config, tokenizer = read_words(folder, trust_remote_code=settings.runtime.trust_remote_code)
    contract = contract_for_model(settings.contract, folder, tokenizer)

    def fit(these: Rows, cap: int, source: str) -> Problems:
        return prepare(
            these, contract, tokenizer, cap=cap, positions=reach(config), source=source,
            grader=settings.contract.grader,
        )  # fmt: skip

    train = fit(rows, settings.schedule.number or 1, settings.data)
    held_out = fit(held_rows, 1, settings.measuring.eval_data or settings.data)
    return Prepared(settings, folder, config, options, contract, train, held_out)


@dataclass(frozen=True)
class Resolved:
    """A job with its problems: what is trained on, what is measured on, and how its cap was chosen.

    ``first``: the phase that is to be told before all others, if it was not told yet.
    """

    job: Job
    train: Problems
    held_out: Problems
    choice: CapChoice | None
    first: Mapping[str, object] | None


def _writer(given: Prepared) -> Writer:
    """What writes the tokens of the run."""
    settings, cap = given.settings, max(given.eval_cap, given.settings.schedule.number or 0)
    runtime = settings.runtime
    return writer_for(
        settings.writing, given.folder, given.config, given.contract, device=runtime.device, dtype=runtime.dtype,
        tokens=given.longest_prompt + cap, rows=settings.training.sample_rows, trains=True,
        trust_remote_code=runtime.trust_remote_code,
    )  # fmt: skip


def resolve(
    settings: ShortenSettings,
    tell: Listener = lambda event, facts: None,
    writer_of: Callable[[Prepared], Writer | None] = lambda given: None,
) -> Resolved:
    """Check and resolve everything before any long work; only `--cap auto` samples from the model.

    `writer_of` opens what writes the tokens, before any are wanted; by default every model writes its own.
    """
    given = prepared(settings)
    writer = writer_of(given)
    cap, choice, words = settings.schedule.number, None, {"name": f"evaluation: {given.evaluation}"}
    if cap is None and build_method(settings.method, cap=given.eval_cap, **given.options).loop is None:
        cap = given.eval_cap  # without a loop nothing is learnt from a cap, and samples are to end by themselves
    if cap is None:
        tell("phase", words)
        choice = _choose_cap(given, writer, tell)
        cap = choice.cap
    eval_cap = settings.measuring.eval_cap or max(given.eval_cap, cap)
    job = Job(settings, cap, eval_cap, given.options, command=settings, writer=writer)
    given.train.check_room(cap, reach(given.config), settings.data)
    given.held_out.check_room(job.eval_cap, reach(given.config), job.eval_data)
    return Resolved(job, given.train, given.held_out, choice, words if choice is None else None)


def _choose_cap(given: Prepared, writer: Writer | None, tell: Listener) -> CapChoice:
    probed = min(PROBED_PROBLEMS, len(given.train)) * PROBED_SAMPLES
    tell("phase", {"name": f"choosing the cap by {probed} responses", "steps": probed, "ends": True})
    runtime = given.settings.runtime
    policy = load_policy(
        given.folder, device=runtime.device, dtype=runtime.dtype, trust_remote_code=runtime.trust_remote_code
    )
    return choose_cap(
        policy if writer is None else writer.attach(policy), given.train.part(0, PROBED_PROBLEMS),
        eval_cap=given.eval_cap, samples=PROBED_SAMPLES,
        seed=given.settings.training.seed,
    )  # fmt: skip


def _after(first: Mapping[str, object], tell: Listener) -> Listener:
    """A listener that is told of a phase before it is told of anything else: once the run has begun."""
    phases = [first]

    def listen(event: str, facts: Mapping[str, object]) -> None:
        while phases:
            tell("phase", phases.pop())
        tell(event, facts)

    return listen


def method_options(settings: ShortenSettings) -> dict[str, object]:
    """The method's own options as values, after a look at whether the method bears them and the other settings.

    Raises:
        ConfigError: no such method or option, a cap that the method does not let move, or a setting that it could not
            use.
    """
    found = read_own_options(settings.method, settings.option, settings.gate)
    if settings.short_model is not None:
        if "short_model" not in options_of(settings.method):
            raise ConfigError(f"short_model is for ada-r1, but method is {settings.method!r}; leave it out")
        found["short_model"] = settings.short_model
    cap, moving = settings.schedule.number or LONGEST_EVAL, settings.schedule.moving
    made = build_method(settings.method, cap=cap, **found)
    if moving is not None:
        under_schedule(made, longest=cap, **dataclasses.asdict(moving))
    check_used(settings.method, made, settings.training)
    if settings.stage is not None and made.loop is not None:
        raise ConfigError(
            f"stage is {settings.stage!r}, but method {settings.method!r} has no stages to run alone; leave it out"
        )
    return found


def read_own_options(method: str, pairs: Sequence[str], gate: str | None = None) -> dict[str, object]:
    """`--option name=value` pairs and `--gate`, read as the types that the method's options are annotated with.

    Raises:
        ConfigError: a pair that is none, one that is given twice, or an option that the method does not have.
    """
    found = dict[str, object]()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"option is {pair!r}; write name=value")
        if name == "cap":
            raise ConfigError("option names cap; give it as --cap")
        if name in found:
            raise ConfigError(f"option names {name} twice; give it once")
        found[name] = read_option(method, name, text)
    return found if gate is None else {**found, "gate": _own_gate(method, found, gate)}


def _own_gate(method: str, found: Mapping[str, object], gate: str) -> str:
    """The gate of `--gate`, after a look at whether the method has a use for one."""
    if "gate" in found:
        raise ConfigError(f"gate is given as --gate {gate} and as --option gate={found['gate']}; give it once")
    if "gate" not in options_of(method):
        raise ConfigError(
            f"gate is {gate!r}, but the reward of method {method!r} has no length term that a gate could keep back; "
            "leave --gate out"
        )
    return gate


def check_used(name: str, method: Recipe, training: Batches) -> None:
    """Refuse settings of a training loop that a method has none for, or none that could use them.

    Raises:
        ConfigError: one of them is not its default.
    """
    if method.loop is not None:
        if method.loop.keep is None and "max_draws" in training.changed():
            raise ConfigError(
                f"max_draws is {training.max_draws}, but method {name!r} keeps whatever it draws, so each "
                "batch is drawn once; leave it out"
            )
        return
    for setting, given in training.changed().items():
        if setting not in WITHOUT_LOOP:
            raise ConfigError(
                f"{setting} is {given}, but method {name!r} has no training loop that it could change; "
                f"leave it out. `lengthwise methods` lists the method's own options"
            )


def read_problems(settings: ShortenSettings, contract: PromptContract) -> tuple[Rows, Rows]:
    """Rows to train on and rows to measure on; without `eval_data` a tenth is held out by a hash of the problem.

    Raises:
        InputError: the file, a row or a column is not what is wanted, or too few rows to hold any out.
    """
    columns, most = [contract.problem_column, contract.answer_column], settings.measuring.eval_limit
    given = settings.measuring.eval_data
    source = DATA if given is None and settings.data == DATA else given
    rows = require_columns(_rows(settings.data, training_chains, settings.training.seed), columns, settings.data)
    if source is not None:
        return rows, require_columns(_rows(source, measured_chains, TEST_PROBLEMS), columns, source)[:most]
    shares = [share_of(str(row[contract.problem_column])) for row in rows]
    held = [row for row, share in zip(rows, shares, strict=True) if share < HELD_OUT_SHARE]
    kept = [row for row, share in zip(rows, shares, strict=True) if share >= HELD_OUT_SHARE]
    if not held or not kept:
        raise InputError(
            f"data is {settings.data!r} with {len(rows)} rows, too few to hold a tenth out; name problems to measure "
            "on with --eval-data"
        )
    return kept, held[:most]


def _rows(source: str, lab: Callable[[int], Sequence[Chain]], number: int) -> Rows:
    """The rows of a source; under the shipped reasoner's name, the demo's."""
    return [chain.row for chain in lab(number)] if source == DATA else read_rows(source)


def _oracle(settings: ShortenSettings, held_out: Problems) -> float | None:
    """Mean length of the shortest sound answers, where what is measured on is the lab's."""
    return oracle_mean(held_out) if (settings.measuring.eval_data or settings.data) == DATA else None


def share_of(text: str) -> float:
    """Where a text stands in [0, 1) by its hash: the same for ever, so that a split is."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
